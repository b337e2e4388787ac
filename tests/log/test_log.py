"""The whole log: what stands in the files, and that nothing can hold up whoever logs."""

import json
import logging
import os
import sys
import threading
from pathlib import Path

import pytest
from loguru import logger
from support.eventually import poll_until
from support.log_folder import LogFolder

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.log import open_log
from mt5_bridge.settings import SecretStr, Settings


def test_people_and_machines_each_get_their_line(folder: LogFolder) -> None:
    with folder.open():
        logger.bind(event="order_placed", symbol="EURUSD", volume=0.1, legs=(1, {"a": None})).info("Order placed")
        logger.bind(message="mine").error("ERROR {}", "grün")
    first, second = folder.human.splitlines()
    assert first.endswith(" INFO     Order placed")
    assert second.endswith(" ERROR    ERROR grün")
    record, other = folder.machine
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "INFO",
        "event": "order_placed",
        "message": "Order placed",
        "module": __name__,
        "symbol": "EURUSD",
        "volume": 0.1,
        "legs": [1, {"a": None}],
    }
    assert (other["event"], other["message"], other["message_"]) == ("log", "ERROR grün", "mine")


def test_what_is_quoted_cannot_pass_for_a_line_of_its_own(folder: LogFolder) -> None:
    reason = "news\n2026-01-01 00:00:00.000 INFO     Trading is active: fine\r\x1b[2J\u202e\u2028x\ty"
    with folder.open():
        logger.warning("Trading is halted: {reason}", reason=reason)
        logger.info("next")
    first, second, last = folder.human.splitlines()
    assert first.endswith("Trading is halted: news")
    assert second == "    2026-01-01 00:00:00.000 INFO     Trading is active: fine\\r\\x1b[2J\\u202e\\u2028x\ty"
    assert last.endswith(" next")
    assert folder.machine[0]["message"] == f"Trading is halted: {reason}"


def test_a_field_is_written_as_it_was_when_logged(folder: LogFolder) -> None:
    tickets = [1]
    with folder.open():
        logger.bind(tickets=tickets, where=Path("x")).info("now")
        tickets.append(2)
    assert folder.machine[0]["tickets"] == [1]
    assert folder.machine[0]["where"] == "x"


def test_the_level_is_a_setting(folder: LogFolder) -> None:
    with folder.open(log_level="WARNING"):
        logger.info("quiet")
        logger.warning("loud")
    with folder.open(debug_mode=True):
        logger.trace("too much")
        logger.debug("debugging")
    assert [line["message"] for line in folder.machine] == ["loud", "debugging"]


def test_no_secret_is_written_anywhere(folder: LogFolder) -> None:
    secret, token = 'hunter2"\\secret', "tokenvalue1234"
    read, write = os.pipe()
    settings = {"mt5_password": SecretStr(secret), "backend_auth_token": SecretStr(token)}
    with folder.open(console=write, **settings):
        logger.bind(password=secret, note=secret, deep={"x": [secret]}).info("Login with {}", secret)
        logger.info("Authorization: Bearer {}", token)
        logging.getLogger("lib").warning("connect to ws://bridge:%s@host/ with %r", token, secret)
        logger.opt(exception=ValueError(f"bad {secret}")).error("It failed")
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        console = pipe.read().decode()
    everything = folder.human + (folder.path / "mt5_bridge.jsonl").read_text(encoding="utf-8") + console
    assert len(folder.machine) == 4
    for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], token, "hunter2"):
        assert form not in everything
    assert "It failed" in console
    assert folder.machine[3]["error"] == "ValueError: bad ***"
    assert "ValueError: bad ***" in folder.machine[3]["traceback"]


def test_a_console_nobody_reads_holds_nobody_up(folder: LogFolder) -> None:
    read, write = os.pipe()
    logs = folder.open(console=write)
    for number in range(6000):  # a call that waited for the reader would wait for ever
        logger.info("line {} {}", number, "x" * 100)
    assert poll_until(lambda: logs.stats.console_dropped > 0)
    logs.close()  # neither does this
    assert "line 5999 " in folder.human
    # Read at last: the lines that waited, and how many did not get a place.
    os.set_blocking(read, False)
    seen = bytearray()

    def drained() -> bool:
        try:
            seen.extend(os.read(read, 1 << 16))
        except BlockingIOError:
            return b"lines were dropped" in seen
        return False

    assert poll_until(drained)
    assert b"line 0 " in seen
    assert poll_until(lambda: not any_thread("log-console"))
    os.close(read)
    os.close(write)


def any_thread(name: str) -> bool:
    return any(thread.name == name for thread in threading.enumerate())


def test_a_console_that_went_away_is_left_alone(folder: LogFolder) -> None:
    read, write = os.pipe()
    os.close(read)
    with folder.open(console=write):
        for number in range(100):
            logger.info("line {}", number)
    os.close(write)
    assert len(folder.machine) == 100


def test_without_a_console(folder: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with folder.open(console=2) as logs:
        logger.info("nobody sees this on a console")
        assert logs.stats.console_dropped == 0
    assert len(folder.machine) == 1


def test_a_full_disk_is_survived_and_told(folder: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    opened = Path.open

    def full(path: Path, *args: str, **more: object) -> object:
        if path.name.startswith("mt5_bridge."):
            raise OSError(28, "No space left on device")
        return opened(path, *args, **more)  # type: ignore[call-overload]  # passed on as it came

    monkeypatch.setattr(Path, "open", full)
    with folder.open(console=write) as logs:
        logger.info("lost")
        assert poll_until(lambda: logs.stats.file_lost >= 2)
        assert logs.stats.file_errors >= 2
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert b"The log files cannot be written: No space left on device" in pipe.read()


def test_a_slow_disk_drops_and_says_so(folder: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from mt5_bridge import log

    monkeypatch.setattr(log, "CAPACITY", 0)
    logs = folder.open()
    logger.info("no room")
    assert logs.stats.file_dropped == 1
    monkeypatch.setattr(logs._files, "_capacity", 10)
    logger.info("room")
    logs.close()
    assert folder.human.splitlines()[0] == "… 1 lines were dropped: the disk is too slow"


def test_libraries_speak_at_a_bounded_rate(folder: LogFolder) -> None:
    root, library = logging.getLogger(), logging.getLogger("a_library")  # nobody else's: real ones may be silenced
    level = root.level
    with folder.open() as logs:
        for number in range(20):
            library.error("Unable to connect %s", number)
        library.info("chatter")
        assert logs.stats.suppressed == 15
    assert root.level == level
    assert [line["message"] for line in folder.machine] == [f"a_library: Unable to connect {n}" for n in range(5)]
    assert folder.machine[0]["library"] == "a_library"


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="DATA_DIR"):
        open_log(Settings(data_dir=tmp_path / "file" / "x"))


def test_closing_twice_is_closing_once(folder: LogFolder) -> None:
    logs = folder.open()
    logs.close()
    logs.close()

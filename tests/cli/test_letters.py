"""What a person sees of dead letters."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from support.broker import bootstrap, free_port, mock_broker, new_topic

from mt5_bridge import cli
from mt5_bridge.cli import letters
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.redpanda.letters import Letter
from mt5_bridge.redpanda.reader import Record
from mt5_bridge.settings import Settings
from mt5_bridge.settings.secret import SecretStr

__all__ = ["bootstrap", "mock_broker", "new_topic"]

SECRET = "s3cret-of-ours-ü"
OURS = (
    ("schema", b"dead_letter/1"),
    ("bridge", b"pc-1"),
    ("account", b"1001"),
    ("reason", b"invalid"),
    ("detail", b"volume must be above 0"),
    ("source", b"trading_signals/0/7"),
)


def letter(value: bytes = b"{}", *more: tuple[str, bytes], key: bytes | None = b"EURUSD", size: int = 0) -> Letter:
    record = Record("t.dlq", 0, 12, key, value, (*more, *OURS), 1_767_607_200_000)
    return Letter(record, size or len(value))


@pytest.fixture
def shown() -> letters.Shown:
    return letters.Shown(Settings(mt5_password=SecretStr(SECRET)))


def test_a_line_says_where_when_why_and_whose(shown: letters.Shown) -> None:
    row = dict(zip(letters.HEAD, shown.row(letter()), strict=True))
    assert row == {
        "place": "0:12",
        "time": "2026-01-05T10:00:00.000Z",
        "reason": "invalid",
        "from": "trading_signals/0/7",
        "key": "EURUSD",
        "bytes": "2",
        "detail": "volume must be above 0",
    }


def test_what_the_sender_called_reason_is_not_the_reason(shown: letters.Shown) -> None:
    assert shown.facts(letter(b"{}", ("reason", b"none at all")))["reason"] == "invalid"


def test_a_record_of_somebody_else_is_shown_as_far_as_it_goes(shown: letters.Shown) -> None:
    bare = Letter(Record("t.dlq", 1, 0, None, None, (), -1), 0)
    assert shown.row(bare) == ("1:0", "-", "-", "-", "-", "0", "-")
    assert list(shown.lines(bare))[-1] == "  "


def test_nothing_that_a_terminal_obeys_is_printed(shown: letters.Shown) -> None:
    evil = b'\x1b[2Jgone \xe2\x80\xae\r\nvalue, 0 bytes:\n{"a": "\x07"}'
    one = letter(evil, ("x\x1b[31m", b"\x1b]0;title\x07\n"), key=b"k\x1b[1m\n")
    for text in (*shown.row(one), *shown.lines(one)):
        assert text.isprintable(), text
    assert "\\x1b[2Jgone \\u202e\\r" in "\n".join(shown.lines(one))
    assert "  value, 0 bytes:" in list(shown.lines(one)), "what is of the letter stands indented"
    assert letters.as_json(one, shown).isascii()


def test_bytes_that_are_no_text_are_dumped(shown: letters.Shown) -> None:
    value = bytes(range(250, 256)) + b"0123456789abcdef"
    lines = list(shown.lines(letter(value, key=b"\xff\x00")))
    assert lines[-2:] == [
        "  00000000  fa fb fc fd fe ff 30 31 32 33 34 35 36 37 38 39  ......0123456789",
        "  00000010  61 62 63 64 65 66                                abcdef",
    ]
    assert "key: \\xff\\x00" in lines
    whole = shown.whole(letter(value))
    assert base64.b64decode(whole["value_base64"]) == value


@pytest.mark.parametrize(
    "value",
    [
        SECRET.encode(),
        json.dumps({"comment": SECRET}).encode(),
        b"\xff" + SECRET.encode(),
        b"\xff\xfe" + SECRET.encode("utf-16-le"),
        b'{"password": "hunter2-of-somebody"}',
        b"\xff password=hunter2-of-somebody",
    ],
)
def test_secrets_are_blanked(shown: letters.Shown, value: bytes) -> None:
    one = letter(value, ("signature", b"0123abcd"), ("trace", value), key=value)
    told = "\n".join([*shown.row(one), *shown.lines(one), letters.as_json(one, shown)])
    whole = shown.whole(one)
    told += base64.b64decode(whole.get("value_base64", "")).decode("latin-1")
    for hidden in ("s3cret", "hunter2", "0123abcd", "73 33 63 72", "73 00 33 00"):
        assert hidden not in told, told


def test_a_letter_that_was_too_large_says_so(shown: letters.Shown) -> None:
    headers = (*OURS, ("sha256", b"ab" * 32), ("length", b"2000000"))
    cut = Letter(Record("t.dlq", 0, 1, None, b"x" * 9, headers, 1), 9)
    assert shown.row(cut)[5] == "9+"
    lines = list(shown.lines(cut))
    assert "value, 9 bytes, the beginning of what was too large for the broker:" in lines
    assert "  length: 2000000" in lines


@pytest.mark.parametrize("text", ["", "1", "1:", ":1", "a:1", "-1:1", "1:2:3", "1:9999999999999999999", "٣:1x"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(SettingsError, match="partition:offset"):
        letters.place_of(text)


# --- the command


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = cli.main(("dlq", *arguments))
        self.out, self.err = self._capsys.readouterr()
        return code


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def filled(bootstrap: str, new_topic: Callable[[], str], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dead letter topic of three letters, and settings that lead there; its name."""
    signals = new_topic()
    monkeypatch.setenv("REDPANDA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("REDPANDA_SIGNAL_TOPIC", signals)
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for number in range(3):
        headers: Any = [*OURS, ("reason", b"invalid-%d" % number)]
        stamp = 1_767_607_200_000 + number
        producer.produce(f"{signals}.dlq", b'{"number": %d}' % number, b"k", 0, timestamp=stamp, headers=headers)
    assert producer.flush(10) == 0
    return f"{signals}.dlq"


def test_the_list_is_newest_first(shell: Shell, filled: str) -> None:
    assert shell() == 0, shell.err
    lines = shell.out.splitlines()
    assert tuple(lines[0].split()) == letters.HEAD
    assert [line.split()[2] for line in lines[1:]] == ["invalid-2", "invalid-1", "invalid-0"]
    assert shell("--limit", "1", "--json") == 0
    (only,) = json.loads(shell.out)
    assert (only["place"], only["reason"], only["bytes"]) == ("0:2", "invalid-2", 13)


def test_one_in_full(shell: Shell, filled: str) -> None:
    assert shell("0:1") == 0, shell.err
    assert shell.out.splitlines()[-1] == '  {"number": 1}'
    assert shell("0:1", "--json") == 0
    whole = json.loads(shell.out)
    assert whole["value"] == '{"number": 1}'
    assert {"name": "source", "value": "trading_signals/0/7"} in whole["headers"]


def test_a_place_where_nothing_is(shell: Shell, filled: str) -> None:
    for place, words in (("0:3", "it holds 0 to 2"), ("1:0", "it holds none"), ("77:0", "has no partition 77")):
        assert shell(place) == 1
        assert shell.err.startswith("ERROR ")
        assert words in shell.err


def test_no_letters_and_no_topic(shell: Shell, filled: str) -> None:
    assert shell("--set", f"REDPANDA_SIGNAL_TOPIC={filled}") == 1
    assert "there is no topic" in shell.err
    assert len(shell.err.splitlines()) == 1


def test_an_empty_topic(shell: Shell, bootstrap: str, new_topic: Callable[[], str]) -> None:
    signals = new_topic()
    Producer({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(f"{signals}.dlq", timeout=10)
    where = ("--set", f"REDPANDA_BOOTSTRAP_SERVERS={bootstrap}", "--set", f"REDPANDA_SIGNAL_TOPIC={signals}")
    assert shell(*where) == 0
    assert shell.out == f"No dead letters in {signals}.dlq\n"
    assert shell("--json", *where) == 0
    assert json.loads(shell.out) == []


def test_a_broker_that_is_down_is_one_line_with_the_remedy(shell: Shell) -> None:
    address = f"127.0.0.1:{free_port()}"
    for more in ((), ("0:1",)):
        assert shell("--set", f"REDPANDA_BOOTSTRAP_SERVERS={address}", *more) == 1
        assert (shell.out, len(shell.err.splitlines())) == ("", 1)
        assert shell.err.startswith(f"ERROR {address}: ")
        assert "start-redpanda.sh" in shell.err


@pytest.mark.parametrize("wrong", [("here",), ("--limit", "0"), ("--limit", "1001"), ("--set", "MT5_MAGIC=0")])
def test_wrong_arguments_and_settings_end_with_2(shell: Shell, wrong: tuple[str, ...]) -> None:
    assert shell(*wrong) == 2

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loguru import logger
from support.backend import Backend
from support.eventually import eventually

from mt5_bridge.app import run as module
from mt5_bridge.app import run_bridge
from mt5_bridge.app.bridge import JOURNAL_FILE, Bridge
from mt5_bridge.cli.interrupts import Early
from mt5_bridge.core.errors import InstanceError, JournalError, MT5AuthError, MT5InitError, SettingsError
from mt5_bridge.settings import Loaded, SecretStr, Settings, load
from mt5_bridge.terminal.session import MT5SessionManager


def loaded(folder: Path, **env: str) -> Loaded:
    told = {"DATA_DIR": str(folder), "TERMINAL": "paper", "MODE": "standard", "BACKEND_WS_URL": "ws://127.0.0.1:9/"}
    return load(env={**told, **env}, cwd=folder)


def _to_stderr(line: str) -> None:
    """To whatever it is then: a captured one is closed with its test."""
    sys.stderr.write(line)


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.unfreeze()
    logger.remove()
    logger.add(_to_stderr)


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend() as backend:
        yield backend


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to processes there: tests/windows")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_of_the_system_ends_it_in_order(tmp_path: Path, backend: Backend, number: int) -> None:
    task = asyncio.create_task(module._run(loaded(tmp_path, BACKEND_WS_URL=backend.url).settings))
    await backend.frame("positions", timeout=10)
    os.kill(os.getpid(), number)
    async with asyncio.timeout(10):
        assert await task == module.OK


@pytest.mark.parametrize(
    ("error", "opened", "code"),
    [
        (InstanceError("another"), False, module.INSTANCE),
        (InstanceError("another"), True, module.INSTANCE),
        (JournalError("damaged"), False, module.CONFIGURATION),
        (JournalError("later"), True, module.DEFECT),
        (SettingsError("wrong"), False, module.CONFIGURATION),
        (MT5AuthError("password", code=-6), True, module.TERMINAL),
        (MT5InitError("path", code=-10003), True, module.TERMINAL),
        (ZeroDivisionError(), True, module.DEFECT),
        (ExceptionGroup("flows", [ExceptionGroup("inner", [MT5AuthError("x", code=-6)])]), True, module.TERMINAL),
    ],
)
async def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, opened: bool, code: int
) -> None:
    async def fail(bridge: Bridge) -> None:
        bridge.opened = opened
        raise error

    monkeypatch.setattr(Bridge, "run", fail)
    assert await module._run(loaded(tmp_path).settings) == code


async def test_it_begins_anew_with_another_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logins: list[int | None] = []
    hidden: list[str] = []

    async def brief(bridge: Bridge) -> None:
        logins.append(bridge.settings.mt5_login)
        if len(logins) == 1:
            told = {"mt5_login": 77, "mt5_password": SecretStr("of-77")}
            bridge.successor = msgspec.structs.replace(bridge.settings, **told)

    monkeypatch.setattr(Bridge, "run", brief)
    assert await module._run(loaded(tmp_path).settings, None, hidden.append) == module.OK
    assert (logins[1:], hidden) == ([77], ["of-77"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to processes there: tests/windows")
@pytest.mark.parametrize("while_it_runs", [True, False])
async def test_who_is_told_to_end_does_not_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, while_it_runs: bool
) -> None:
    lives: list[Bridge] = []
    between = module.Interrupts.between

    async def brief(bridge: Bridge) -> None:
        lives.append(bridge)
        bridge.successor = bridge.settings
        if while_it_runs:
            os.kill(os.getpid(), signal.SIGINT)
            await bridge._stop.wait()

    def press(interrupts: module.Interrupts) -> None:
        between(interrupts)
        if not while_it_runs:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Bridge, "run", brief)
    monkeypatch.setattr(module.Interrupts, "between", press)
    assert await module._run(loaded(tmp_path).settings) == module.OK
    assert len(lives) == 1


def test_runs_with_logs_and_tells_doubts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def brief(settings: Any, *more: object) -> int:
        return 3

    monkeypatch.setattr(module, "_run", brief)
    assert run_bridge(loaded(tmp_path)) == 3
    assert "BACKEND_AUTH_TOKEN" in (tmp_path / "mt5_bridge.log").read_text()


def test_a_token_read_anew_is_kept_out_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def brief(settings: Any, reread: Any, *more: object) -> int:
        assert reread("BACKEND_AUTH_TOKEN").get_secret_value() == "replaced-token"
        assert reread("HEARTBEAT_INTERVAL") == 5.0
        logger.info("The backend was sent replaced-token")
        return 0

    monkeypatch.setattr(module, "_run", brief)
    told = loaded(tmp_path)
    values = {"BACKEND_AUTH_TOKEN": SecretStr("replaced-token"), "HEARTBEAT_INTERVAL": 5.0}
    assert run_bridge(msgspec.structs.replace(told, reread=values.__getitem__)) == 0
    assert "was sent ***" in (tmp_path / "mt5_bridge.log").read_text()
    assert module._rereading(msgspec.structs.replace(told, reread=None), None) is None  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_is_a_matter_of_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = loaded(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    settings = msgspec.structs.replace(told.settings, data_dir=blocked / "data")
    assert run_bridge(msgspec.structs.replace(told, settings=settings)) == module.CONFIGURATION
    assert "DATA_DIR" in capsys.readouterr().err


class Asked:
    """A bridge that only hears what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def request_stop(self) -> None:
        self.asked.append("stop")

    def emergency_break(self) -> None:
        self.asked.append("emergency")


class WindowsSignals:
    """`signal` as Windows has it."""

    SIGINT, SIGTERM, SIGBREAK = 2, 15, 21

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}

    def signal(self, number: int, handler: Any) -> Any:
        former, self.handlers[number] = self.handlers.get(number), handler
        return former

    def raised(self, *numbers: int) -> None:
        for number in numbers:
            self.handlers[number](number, None)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> WindowsSignals:
    signals = WindowsSignals()
    monkeypatch.setattr(module, "signal", signals)
    return signals


@pytest.mark.parametrize("emergency", [False, True])
async def test_on_windows_break_may_be_an_emergency(signals: WindowsSignals, emergency: bool) -> None:
    interrupts = module.Interrupts(break_is_emergency=emergency)
    bridge: Any = Asked()
    interrupts.pass_to(bridge)
    signals.raised(signals.SIGINT, signals.SIGTERM, signals.SIGBREAK)
    await eventually(lambda: len(bridge.asked) == 3, 5)
    assert bridge.asked == ["stop", "stop", "emergency" if emergency else "stop"]


async def test_what_is_asked_before_there_is_a_bridge_is_not_lost(signals: WindowsSignals) -> None:
    interrupts = module.Interrupts(break_is_emergency=True)
    assert not interrupts.ended
    signals.raised(signals.SIGTERM)
    assert interrupts.ended
    signals.raised(signals.SIGBREAK)
    assert not interrupts.ended, "what was stopped for comes first"
    bridge: Any = Asked()
    interrupts.pass_to(bridge)
    assert bridge.asked == ["stop", "emergency"]


@pytest.mark.parametrize("emergency", [False, True])
async def test_break_while_the_program_was_loading_is_not_lost(signals: WindowsSignals, emergency: bool) -> None:
    early = Early(keep_break=True)
    early.pressed = True
    signals.handlers = {signals.SIGINT: early, signals.SIGBREAK: early}
    interrupts = module.Interrupts(break_is_emergency=emergency)
    assert interrupts.ended is not emergency
    bridge: Any = Asked()
    interrupts.pass_to(bridge)
    assert bridge.asked == ["emergency" if emergency else "stop"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to processes there: tests/windows")
def test_asked_to_end_while_the_bridge_is_loaded_it_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(session: MT5SessionManager) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(MT5SessionManager, "warm_up", asked)
    assert run_bridge(loaded(tmp_path)) == module.OK
    assert not (tmp_path / JOURNAL_FILE).exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to processes there: tests/windows")
def test_asked_again_while_the_logs_are_closed_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def brief(settings: Settings, *more: object) -> int:
        module.Interrupts(break_is_emergency=False).pass_to(Asked())  # type: ignore[arg-type]  # only hears
        return 3

    class Logs:
        def __enter__(self) -> None: ...

        def hide(self, secret: str) -> None: ...

        def __exit__(self, *error: object) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)

    monkeypatch.setattr("mt5_bridge.log.open_log", lambda settings: Logs())
    monkeypatch.setattr(module, "_run", brief)
    assert run_bridge(loaded(tmp_path)) == 3

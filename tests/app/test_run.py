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
from mt5_bridge.app.bridge import Bridge
from mt5_bridge.core.errors import InstanceError, JournalError, MT5AuthError, MT5InitError, SettingsError
from mt5_bridge.settings import Loaded, load


def loaded(folder: Path, **env: str) -> Loaded:
    told = {"DATA_DIR": str(folder), "TERMINAL": "paper", "MODE": "standard", "BACKEND_WS_URL": "ws://127.0.0.1:9/"}
    return load(env={**told, **env}, cwd=folder)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    logger.remove()
    logger.add(sys.stderr)


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


def test_runs_with_logs_and_tells_doubts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def brief(settings: Any) -> int:
        return 3

    monkeypatch.setattr(module, "_run", brief)
    assert run_bridge(loaded(tmp_path)) == 3
    assert "BACKEND_AUTH_TOKEN" in (tmp_path / "mt5_bridge.log").read_text()


def test_a_folder_that_cannot_be_written_is_a_matter_of_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = loaded(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    settings = msgspec.structs.replace(told.settings, data_dir=blocked / "data")
    assert run_bridge(msgspec.structs.replace(told, settings=settings)) == module.CONFIGURATION
    assert "DATA_DIR" in capsys.readouterr().err


class WindowsSignals:
    """`signal` as Windows has it."""

    SIGINT, SIGTERM, SIGBREAK = 2, 15, 21

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}

    def signal(self, number: int, handler: Any) -> None:
        self.handlers[number] = handler


@pytest.mark.parametrize("emergency", [False, True])
async def test_on_windows_break_may_be_an_emergency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emergency: bool
) -> None:
    signals = WindowsSignals()
    monkeypatch.setattr(module, "signal", signals)
    monkeypatch.setattr("sys.platform", "win32")
    bridge = Bridge(loaded(tmp_path, BREAK_IS_EMERGENCY=str(emergency)).settings)
    called: list[str] = []
    bridge.request_stop = lambda: called.append("stop")  # type: ignore[method-assign]  # only heard here
    bridge.emergency_break = lambda: called.append("emergency")  # type: ignore[method-assign]  # only heard here
    module._listen(bridge)
    for number in (signals.SIGINT, signals.SIGTERM, signals.SIGBREAK):
        signals.handlers[number](number, None)
    monkeypatch.undo()
    await eventually(lambda: len(called) == 3, 5)
    assert called == ["stop", "stop", "emergency" if emergency else "stop"]

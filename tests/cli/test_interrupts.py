"""Ctrl+C and SIGTERM in the first moments: real processes, signalled while they load, start, and run."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.daemon import HYBRID, STANDARD, Daemon
from support.eventually import eventually

from mt5_bridge.cli import interrupts

ROOT = Path(__file__).parents[2]
RUN = ("-m", "mt5_bridge", "run", "--mode", "hybrid")
DEMO = ("-m", "mt5_bridge", "demo")
NOBODY = {"REDPANDA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "BACKEND_WS_URL": "ws://127.0.0.1:9/"}
MOMENTS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.8, 1.2, 2.0)
AT_ONCE = 3

unix = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to processes there: tests/windows")


@pytest.fixture(autouse=True)
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage has a handler of SIGTERM of its own, from the interpreter's first moment on."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def started(folder: Path, command: Sequence[str]) -> AsyncIterator[Daemon]:
    await asyncio.to_thread(folder.mkdir)
    daemon = Daemon(folder, NOBODY, command)
    daemon.start()
    try:
        await eventually(lambda: daemon.hears(signal.SIGTERM), 10)
        yield daemon
    finally:
        await asyncio.to_thread(daemon.close)


async def all_end_in_peace(folder: Path, command: Sequence[str], moments: Sequence[float]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def end(moment: float, number: int) -> None:
        async with places, started(folder / f"{moment}-{number}", command) as daemon:
            await asyncio.sleep(moment)  # the moment is what is tried out
            await daemon.stop(number)
            assert "Traceback" not in daemon.console, daemon.console
            assert "Exception ignored" not in daemon.console, daemon.console

    async with asyncio.TaskGroup() as group:
        for index, moment in enumerate(moments):
            group.create_task(end(moment, (signal.SIGINT, signal.SIGTERM)[index % 2]))


@unix
async def test_the_hybrid_bridge_ends_in_peace_at_any_moment(tmp_path: Path) -> None:
    await all_end_in_peace(tmp_path, HYBRID, MOMENTS)


@unix
@pytest.mark.parametrize("command", [STANDARD, RUN, DEMO])
async def test_so_does_every_other_program(tmp_path: Path, command: Sequence[str]) -> None:
    await all_end_in_peace(tmp_path, command, MOMENTS[::4])


@unix
async def test_asking_again_and_again_changes_nothing(tmp_path: Path) -> None:
    async with started(tmp_path / "one", HYBRID) as daemon:
        await eventually(daemon.hosts, 10)
        while daemon.ended is None:
            daemon.ask_to_stop(signal.SIGINT)
            daemon.ask_to_stop(signal.SIGTERM)
            await asyncio.sleep(0.01)
        assert daemon.ended == 0, daemon.console
        assert "Traceback" not in daemon.console, daemon.console


@pytest.mark.parametrize("arguments", [["hybrid_bridge.py"], ["run_bridge.py"], ["-m", "mt5_bridge", "run"]])
def test_somebody_listens_before_anything_is_loaded(tmp_path: Path, arguments: list[str]) -> None:
    """All that is imported until then is what the interpreter needs to come up, and a handful of small modules."""
    spy = (
        "import os, pkgutil, runpy, signal, sys\n"
        "known = set(sys.modules)\n"
        "def heard(number, handler):\n"
        "    loaded = sorted(set(sys.modules) - known)\n"
        "    sys.stdout.write(' '.join(loaded)); sys.stdout.flush(); os._exit(0)\n"
        "signal.signal = heard\n"
        f"sys.argv = {arguments[-1:]!r} + {arguments[2:]!r}\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        + (
            "runpy.run_module('mt5_bridge', run_name='__main__', alter_sys=False)"
            if arguments[0] == "-m"
            else f"runpy.run_path({str(ROOT / arguments[0])!r}, run_name='__main__')"
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", spy], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    ours = {"mt5_bridge", "mt5_bridge.cli", "mt5_bridge.cli.interrupts", "mt5_bridge.__main__"}
    assert set(done.stdout.split()) <= ours


class Ended(Exception):
    pass


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`signal` as Windows has it, and an end that only says so."""
    system = SimpleNamespace(handlers={}, codes=[], SIGINT=2, SIGTERM=15, SIGBREAK=21, SIG_IGN="ignored")
    system.signal = system.handlers.__setitem__

    def end(code: int) -> None:
        system.codes.append(code)
        raise Ended

    monkeypatch.setattr(interrupts, "signal", system)
    monkeypatch.setattr(os, "_exit", end)
    return system


@pytest.mark.parametrize(
    ("arguments", "number", "code"),
    [
        (["run"], 2, 0),
        (["run", "--mode", "hybrid"], 15, 0),
        (["demo"], 21, 0),
        (["demo", "--data-dir", "x"], 2, 0),
        (["demo", "--duration", "9"], 2, 130),
        (["backend"], 15, 0),
    ],
)
def test_a_program_ends_on_the_spot(system: Any, arguments: list[str], number: int, code: int) -> None:
    interrupts.arm_for(arguments)
    with pytest.raises(Ended):
        system.handlers[number](number, None)
    assert system.codes == [code]


@pytest.mark.parametrize("arguments", [["run"], ["demo"], ["backend"]])
def test_only_the_daemon_hears_the_keys_of_other_systems(system: Any, arguments: list[str]) -> None:
    del system.SIGBREAK
    system.SIGQUIT = 3
    interrupts.arm_for(arguments)
    assert set(system.handlers) == ({2, 3, 15} if arguments == ["run"] else {2, 15})


@pytest.mark.parametrize("number", [21, 3])
def test_break_may_mean_an_emergency_and_is_kept_for_the_bridge(system: Any, number: int) -> None:
    system.SIGQUIT = 3
    interrupts.arm_for(["run"])
    early = system.handlers[number]
    assert not early.pressed
    early(number, None)
    assert early.pressed
    assert not system.codes


@pytest.mark.parametrize("arguments", [[], ["status"], ["init"]])
def test_other_commands_answer_as_commands_do(system: Any, arguments: list[str]) -> None:
    interrupts.arm_for(arguments)
    assert not system.handlers


def test_a_program_that_ends_is_not_asked_again(system: Any) -> None:
    interrupts.ignore()
    assert system.handlers == {2: "ignored", 15: "ignored", 21: "ignored"}

"""The demo as a whole, with a stand-in for the bridge: real processes, real sockets."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.eventually import wait_for

from mt5_bridge.demo.children import _KILL_GRACE, Child
from mt5_bridge.demo.run import Demo, Options, _own_environment, run_demo

FAKE = Path(__file__).parents[1] / "support" / "fake_bridge.py"
START = (
    "import sys; from mt5_bridge.demo import run; run.DASHBOARD_NEEDS = 'no_such_module'; "
    "sys.exit(run.run_demo(sys.argv[2:], bridge=(sys.argv[1],)))"
)


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The demo as a program of its own; whatever it leaves behind is ended, and is a failure."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(FAKE), "--data-dir", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    try:
        yield process
    finally:
        family = descendants(process)
        process.kill()
        process.communicate()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def all_gone(family: list[psutil.Process]) -> bool:
    return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family)


def read_until(process: "subprocess.Popen[str]", word: str) -> str:
    assert process.stdout is not None
    said = ""
    while word not in said:
        line = process.stdout.readline()
        assert line, f"the demo ended without {word!r}:\n{said}"
        said += line
    return said


def _only_when_killed(child: Child, seconds: float) -> bool:
    """Nobody waits for the program to end by itself; once killed it is waited for."""
    return seconds == _KILL_GRACE and child.process.wait() is not None


async def play(folder: Path, stop: asyncio.Event | None = None, bridge: Path = FAKE, **options: Any) -> int:
    """The demo inside this process; its programs are real all the same."""
    here = Demo(Options(plain=True, bridge=(str(bridge),), **options), folder, stop or asyncio.Event())
    try:
        return await here.run()
    finally:
        here.end()


@pytest.fixture(autouse=True)
def without_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tests have a browser, and are elsewhere; here it would cost each test seconds."""
    monkeypatch.setattr("mt5_bridge.demo.run.DASHBOARD_NEEDS", "no_such_module")


@pytest.fixture
def signals_restored() -> Iterator[None]:
    """The demo takes over the process's signals."""
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.usefixtures("signals_restored")
def test_all_is_seen_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt5_bridge.demo.run.SIGNAL_INTERVAL", 0.1)
    monkeypatch.setattr("mt5_bridge.demo.run.tempfile.mkdtemp", lambda prefix: str(tmp_path / prefix))
    assert run_demo(["--duration", "1"], bridge=(str(FAKE),)) == 0
    said = capsys.readouterr().out
    assert "-m mt5_bridge stop --data-dir" in said
    assert "yes  the stop answered" in said
    assert "NO " not in said
    assert all_gone(psutil.Process().children(recursive=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("signals_restored")
def test_what_failed_keeps_its_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt5_bridge.demo.run.READY_TIMEOUT", 0.0)
    monkeypatch.setattr("mt5_bridge.demo.children._gone", _only_when_killed)
    assert run_demo(["--data-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"Logs and journal: {tmp_path}" in said
    assert "broker did not end by itself" in said


async def test_what_was_not_seen_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt5_bridge.demo.run.PATIENCE", 0.1)
    monkeypatch.setattr("mt5_bridge.demo.run.SIGNAL_INTERVAL", 60.0)
    assert await play(tmp_path, duration=0.1) == 1
    assert "NO   a fill" in capsys.readouterr().out


async def test_a_bridge_that_never_comes_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = tmp_path / "idle.py"
    idle.write_text("import sys; sys.stdin.read()", encoding="utf-8")
    monkeypatch.setattr("mt5_bridge.demo.run.READY_TIMEOUT", 3.0)
    assert await play(tmp_path, bridge=idle) == 1
    assert "did not come up within 3 s" in capsys.readouterr().out


async def test_a_program_that_is_never_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt5_bridge.demo.run.READY_TIMEOUT", 0.0)
    assert await play(tmp_path) == 1
    assert "The broker was not ready within 0 s" in capsys.readouterr().out


async def test_a_program_that_dies_is_named_with_its_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dying = tmp_path / "dying.py"
    dying.write_text("import sys; sys.exit('my last words')", encoding="utf-8")
    assert await play(tmp_path, bridge=dying) == 1
    said = capsys.readouterr().out
    assert "The bridge ended unexpectedly with code 1" in said
    assert "my last words" in said


async def test_asked_to_stop_before_it_began(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop = asyncio.Event()
    stop.set()
    assert await play(tmp_path, stop) == 0
    assert "Stopped while starting" in capsys.readouterr().out


def test_settings_of_a_real_bridge_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MT5_LOGIN", "TERMINAL", "SIGNAL_HMAC_KEY", "REDPANDA_SASL_PASSWORD"):
        monkeypatch.setenv(name, "real")
    assert "real" not in _own_environment().values()


@pytest.mark.parametrize(
    ("word", "how", "arguments", "code"),
    [
        ("Starting the embedded broker", signal.SIGINT, (), 0),
        ("Starting the bridge", signal.SIGTERM, (), 0),
        ("backend=connected", signal.SIGINT, (), 0),
        ("backend=connected", signal.SIGINT, ("--duration", "60"), 130),
    ],
)
def test_an_interruption_at_any_time_leaves_nothing(
    tmp_path: Path, word: str, how: signal.Signals, arguments: tuple[str, ...], code: int
) -> None:
    with demo(tmp_path, *arguments) as process:
        read_until(process, word)
        family = wait_for(lambda: descendants(process))
        process.send_signal(how)
        process.communicate(timeout=20)
        assert process.returncode == code
        assert all_gone(family)


def test_a_killed_demo_takes_its_programs_with_it(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        read_until(process, "backend=connected")
        family = descendants(process)
        process.kill()
        assert len(family) == 3
        wait_for(lambda: all_gone(family), 15, why="the end of all programs")


def test_a_program_killed_later_ends_the_demo(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        read_until(process, "backend=connected")
        family = descendants(process)
        backend = next(child for child in family if "mt5_bridge.demo.backend" in child.cmdline())
        backend.kill()
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "The backend ended unexpectedly" in said
        assert all_gone(family)

"""The demo as a whole, with a stand-in for the bridge: real processes, real sockets."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.eventually import wait_for

FAKE = Path(__file__).parents[1] / "support" / "fake_bridge.py"
START = "import sys; from mt5_bridge.demo.run import run_demo; sys.exit(run_demo(sys.argv[2:], bridge=(sys.argv[1],)))"


@contextmanager
def demo(folder: Path, *arguments: str, bridge: Path = FAKE, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """The demo as a program of its own; whatever it leaves behind is ended, and is a failure."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(bridge), "--data-dir", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"} | environment,
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


def test_all_is_seen_and_nothing_is_left(tmp_path: Path) -> None:
    with demo(tmp_path, "--duration", "4") as process:
        said = read_until(process, "backend=connected")
        family = descendants(process)
        assert len(family) == 3
        rest, _ = process.communicate(timeout=40)
        assert process.returncode == 0, said + rest
        assert f"DATA_DIR={tmp_path}" in said
        assert "trading=halted" in rest
        assert "NO " not in rest
        assert all_gone(family)


@pytest.mark.parametrize("word", ["Starting the embedded broker", "Starting the bridge", "backend=connected"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_at_any_time_leaves_nothing(tmp_path: Path, word: str, how: signal.Signals) -> None:
    with demo(tmp_path) as process:
        read_until(process, word)
        family = wait_for(lambda: descendants(process))
        process.send_signal(how)
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert all_gone(family)


def test_an_interrupted_duration_is_no_success(tmp_path: Path) -> None:
    with demo(tmp_path, "--duration", "60") as process:
        read_until(process, "backend=connected")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "NO   the stop answered" in rest


def test_a_killed_demo_takes_its_programs_with_it(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        read_until(process, "backend=connected")
        family = descendants(process)
        process.kill()
        assert len(family) == 3
        wait_for(lambda: all_gone(family), 15, why="the end of all programs")


def test_a_program_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    with demo(tmp_path, FAKE_BRIDGE_DIES="1", PYTHONFAKE="1") as process:
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "The bridge ended unexpectedly" in said


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

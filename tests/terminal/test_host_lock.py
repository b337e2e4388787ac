"""Two live hosts of a folder: the second waits, and ends the first where that hangs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.eventually import wait_for

from mt5_bridge.terminal.frames import HostError
from mt5_bridge.terminal.host_lock import HostLock
from mt5_bridge.terminal.process import child_environment

HOLDER = """
import sys, time
from pathlib import Path
from mt5_bridge.terminal.host_lock import HostLock
lock = HostLock(Path(sys.argv[1]))
lock.patience_s = float(sys.argv[2])
lock.take(5)
print("held", flush=True)
for _ in range(int(sys.argv[3])):
    time.sleep(0.05)
    lock.step()
if sys.argv[4] == "hang":
    time.sleep(3600)
"""

Holder = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "host.lock"


@pytest.fixture
def holder(file: Path) -> Iterator[Holder]:
    started: list[subprocess.Popen[bytes]] = []

    def start(patience: float, steps: int, then: str = "end") -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", HOLDER, str(file), str(patience), str(steps), then]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment())
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def lock(file: Path) -> Iterator[HostLock]:
    made = HostLock(file)
    yield made
    made.release()


def test_one_that_goes_on_is_waited_for(holder: Holder, lock: HostLock) -> None:
    first = holder(2.0, 60)
    lock.take(30.0)
    assert first.wait(30) == 0, "it ended by itself, long after its patience"


def test_one_that_hangs_is_killed(holder: Holder, lock: HostLock) -> None:
    first = holder(0.2, 0, "hang")
    lock.take(10.0)
    assert first.wait(5) != 0


def test_one_whose_process_died_is_no_obstacle(holder: Holder, lock: HostLock) -> None:
    first = holder(100, 0, "hang")
    first.kill()
    first.wait()
    lock.take(2.0)


def test_who_waits_in_vain_says_for_whom_and_goes_on_counting(holder: Holder, lock: HostLock) -> None:
    first = holder(0.5, 0, "hang")
    for _ in range(3):
        with pytest.raises(HostError, match=f"earlier bridge still runs: process {first.pid}"):
            lock.take(0.1)
    lock.take(5.0)
    assert not psutil.pid_exists(first.pid) or first.wait(5) != 0


def test_the_holder_says_who_it_is(lock: HostLock, file: Path) -> None:
    lock.take(0.0)
    lock.take(0.0)
    lock.step()
    pid, patience, steps = file.read_text().split()
    assert (psutil.Process().pid, float(patience), int(steps)) == (int(pid), 2.0, 1)


def test_a_file_that_nobody_can_open_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot be opened"):
        HostLock(tmp_path / "file" / "host.lock").take(0.0)


def test_a_text_that_is_no_holders_kills_nobody(holder: Holder, lock: HostLock, file: Path) -> None:
    first = holder(0.05, 0, "hang")
    file.write_bytes(b"7 x")
    with pytest.raises(HostError):
        lock.take(0.3)
    assert first.poll() is None


def test_a_killed_one_whose_lock_the_system_keeps_is_passed_by(
    holder: Holder, lock: HostLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process stuck in a driver stays, but never runs again."""
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: killed.append(pid))
    first = holder(0.1, 0, "hang")
    began = time.monotonic()
    lock.take(10.0)
    assert killed == [first.pid]
    assert time.monotonic() - began >= 2.0
    assert wait_for(lambda: first.poll() is None)


def test_an_old_text_with_our_own_number_kills_nobody(
    holder: Holder, lock: HostLock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of processes come again."""
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: killed.append(pid))
    holder(100, 0, "hang")
    file.write_text(f"{os.getpid()} 0.05 1")
    with pytest.raises(HostError):
        lock.take(0.5)
    assert not killed


def test_one_that_may_not_be_ended_keeps_its_lock(
    holder: Holder, lock: HostLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may belong to another user, and still act: two at once is worse than none."""

    def refused(pid: int, number: int) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr("os.kill", refused)
    first = holder(0.1, 0, "hang")
    with pytest.raises(HostError, match="still runs"):
        lock.take(3.0)
    assert first.poll() is None


def test_a_step_without_the_lock_is_nothing(lock: HostLock, file: Path) -> None:
    lock.step()
    assert not file.exists()

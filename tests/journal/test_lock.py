"""One holder at a time, known by its process id, gone with its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mt5_bridge.core.errors import InstanceError
from mt5_bridge.journal.lock import InstanceLock, account_lock_path

HOLD = """
import sys
from pathlib import Path
from mt5_bridge.journal.lock import InstanceLock
InstanceLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_is_refused_with_the_firsts_pid(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.lock"
    with InstanceLock(path) as lock:
        assert lock.held
        lock.acquire()
        with pytest.raises(InstanceError, match=str(os.getpid())):
            InstanceLock(path).acquire()
    assert not lock.held
    lock.release()
    with InstanceLock(path):
        pass


def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"held"
        with pytest.raises(InstanceError, match=str(child.pid)):
            InstanceLock(path).acquire()
    finally:
        child.kill()
        child.communicate()
    with InstanceLock(path):
        assert path.read_text().strip() == str(os.getpid())


def test_a_lock_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InstanceError, match="cannot be opened"):
        InstanceLock(tmp_path / "file" / "x.lock").acquire()


def test_an_accounts_lock_is_the_same_for_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert account_lock_path("1@Live", tmp_path) == account_lock_path("1@Live", tmp_path)
    assert account_lock_path("1@Live", tmp_path) != account_lock_path("1@Demo", tmp_path)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert account_lock_path("1@Live").parent == tmp_path / ".mt5-bridge"

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert account_lock_path("1@Live").name.startswith("account-")

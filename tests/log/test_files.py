"""A log file that turns itself over and survives a bad disk."""

from pathlib import Path

import pytest

from mt5_bridge.log.files import RETRY_S, RotatingFile


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_appends_and_turns_over(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a.log", max_bytes=10, keep=2)
    for line in (b"one\n", b"two-two\n", b"three-three\n", b"four-four-four\n", b"five\n"):
        file.write([line])
    file.close()
    file.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a.log": b"five\n",
        "a.log.1": b"four-four-four\n",
        "a.log.2": b"three-three\n",
    }


def test_it_goes_on_where_an_earlier_run_ended(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        file = RotatingFile(tmp_path / "a.log", max_bytes=100, keep=2)
        file.write([line])
        file.close()
    assert (tmp_path / "a.log").read_bytes() == b"one\ntwo\n"


def test_a_disk_that_refuses_is_tried_again_after_a_pause(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "gone" / "a.log"
    file = RotatingFile(path, max_bytes=100, keep=2, monotonic=clock)
    file.write([b"one\n"])
    assert file.failure == "No such file or directory"
    path.parent.mkdir()
    file.write([b"two\n"])
    assert (file.errors, file.lost) == (1, 2)
    clock.now += RETRY_S
    file.write([b"three\n"])
    file.close()
    assert file.failure is None
    assert path.read_bytes() == b"three\n"


def test_a_turn_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(path: Path, target: Path) -> None:
        raise PermissionError(13, "used by another process")

    monkeypatch.setattr(Path, "replace", held)
    file = RotatingFile(tmp_path / "a.log", max_bytes=1, keep=2)
    file.write([b"one\n"])
    file.write([b"two\n"])
    file.close()
    assert (tmp_path / "a.log").read_bytes() == b"one\ntwo\n"
    assert file.errors == 2
    assert file.lost == 0


def test_a_close_that_fails_is_counted(tmp_path: Path) -> None:
    class Refusing:
        def close(self) -> None:
            raise OSError(28, "No space left on device")

    file = RotatingFile(tmp_path / "a.log", max_bytes=1, keep=2)
    file._file = Refusing()  # type: ignore[assignment]  # as much of a file as is needed
    file.close()
    assert file.errors == 1

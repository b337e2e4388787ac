"""The latch survives torn writes, and what cannot be read counts as halted."""

import os
from pathlib import Path

import pytest

from mt5_bridge.core.errors import JournalError
from mt5_bridge.journal.latchfile import LatchFile, LatchRecord


def test_the_last_state_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "halt.latch"
    latch = LatchFile(path)
    assert latch.read() is None
    for turn, state in enumerate(("halted", "active", "reducing"), 1):
        latch.write(state, "r", "me", 5)
        assert latch.read() == LatchRecord(state, "r", "me", 5, turn)
    latch.close()
    latch.close()
    again = LatchFile(path)
    assert again.read() == LatchRecord("reducing", "r", "me", 5, 3)
    again.write("halted", "", "", 6)
    assert again.read() == LatchRecord("halted", "", "", 6, 4)
    again.close()


def test_who_reads_meanwhile_does_not_move_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latch = LatchFile(tmp_path / "x")
    write = os.write

    def slow(fd: int, data: bytes) -> int:
        assert latch.read() is None
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", slow)
        latch.write("halted", "r", "me", 5)
    assert latch.read() == LatchRecord("halted", "r", "me", 5, 1)
    latch.close()


def test_the_file_never_grows(tmp_path: Path) -> None:
    latch = LatchFile(tmp_path / "x")
    size = (tmp_path / "x").stat().st_size
    latch.write("halted", '\N{BELL}\x00"' * 5_000, "\U0001f6d1" * 5_000, 1)
    assert (tmp_path / "x").stat().st_size == size
    record = latch.read()
    assert record is not None
    assert record.state == "halted"
    latch.close()


def test_a_torn_write_leaves_the_state_before(tmp_path: Path) -> None:
    latch = LatchFile(tmp_path / "x")
    latch.write("active", "", "", 1)
    latch.write("halted", "", "", 2)
    latch.close()
    content = bytearray((tmp_path / "x").read_bytes())
    slot = content.index(b'"halted"') // 2048
    content[slot * 2048 + 20] ^= 0xFF
    (tmp_path / "x").write_bytes(content)
    again = LatchFile(tmp_path / "x")
    record = again.read()
    assert record is not None
    assert record.state == "active"
    again.close()


def test_what_cannot_be_read_is_halted(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x05\0\0\0\0\0\0\0garbage")
    latch = LatchFile(path)
    record = latch.read()
    assert record is not None
    assert record.state == "halted"
    latch.write("active", "", "", 1)
    assert latch.read() == LatchRecord("active", "", "", 1, 1)
    latch.close()


def test_a_checksum_over_nonsense_is_nonsense(tmp_path: Path) -> None:
    import zlib

    body = b"[1]"
    (tmp_path / "x").write_bytes(len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body)
    latch = LatchFile(tmp_path / "x")
    record = latch.read()
    assert record is not None
    assert record.reason == "latch file unreadable"
    latch.close()


def test_a_disk_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="allocated"):
        LatchFile(tmp_path / "file" / "x")
    latch = LatchFile(tmp_path / "x")
    latch.write("active", "", "", 1)

    def fails(fd: int) -> None:
        raise OSError("I/O error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(JournalError, match="written"):
        latch.write("halted", "", "", 2)
    latch.close()

"""The halt latch on a small file of fixed size: written in one call, without SQLite, even when the disk is full.

Two slots are written in turn, each with a checksum, so a write torn by a power cut leaves the one before it.
"""

import os
import zlib
from pathlib import Path

import msgspec

from mt5_bridge.core.errors import JournalError

_SLOT = 2048
_HEAD = 8  # length and CRC-32
_TEXT = 400


class LatchRecord(msgspec.Struct, frozen=True):
    """The halt state last latched; `at_msc` is UTC in milliseconds, `turn` numbers the writes."""

    state: str
    reason: str
    by: str
    at_msc: int
    turn: int = 0


class LatchFile:
    """Keeps the last halt state. The file is allocated when opened, so that a later write needs no space.

    Raises:
        JournalError: the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            missing = 2 * _SLOT - os.fstat(self._fd).st_size
            if missing > 0:
                os.lseek(self._fd, 0, os.SEEK_END)
                os.write(self._fd, bytes(missing))
                os.fsync(self._fd)
            last = self.read()
        except OSError as error:
            raise JournalError(f"latch file {path}: cannot be allocated: {error}") from error
        self._turn = last.turn if last is not None else 0

    def write(self, state: str, reason: str, by: str, at_msc: int) -> None:
        """Puts the state on the disk, fsync included; long texts are cut.

        Raises:
            JournalError: the disk did not take it; the state before it is still readable.
        """
        turn = self._turn + 1
        body = msgspec.json.encode(LatchRecord(state, reason[:_TEXT], by[:_TEXT], at_msc, turn))
        if len(body) > _SLOT - _HEAD:  # escapes can make text six times as long
            body = msgspec.json.encode(LatchRecord(state, ascii(reason)[:_TEXT], ascii(by)[:_TEXT], at_msc, turn))
        slot = len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body
        try:
            os.lseek(self._fd, (turn % 2) * _SLOT, os.SEEK_SET)
            os.write(self._fd, slot)
            os.fsync(self._fd)
        except OSError as error:
            raise JournalError(f"latch file {self.path}: cannot be written: {error}") from error
        self._turn = turn

    def read(self) -> LatchRecord | None:
        """The state last written, None when none ever was.

        A file in which nothing can be read although something was written counts as halted: a latch that may have been
        set is set.
        """
        content = self.path.read_bytes()  # opened anew: who writes in a thread has moved to its slot
        slots = [content[:_SLOT], content[_SLOT : 2 * _SLOT]]
        found = [record for record in map(_decode, slots) if record is not None]
        if found:
            return max(found, key=lambda record: record.turn)
        if any(content):
            return LatchRecord("halted", "latch file unreadable", "bridge", 0)
        return None

    def close(self) -> None:
        """Closes the file; the content stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _decode(slot: bytes) -> LatchRecord | None:
    length = int.from_bytes(slot[:4], "little")
    body = slot[_HEAD : _HEAD + length]
    if not length or len(body) != length or zlib.crc32(body) != int.from_bytes(slot[4:_HEAD], "little"):
        return None
    try:
        return msgspec.json.decode(body, type=LatchRecord)
    except msgspec.DecodeError:
        return None

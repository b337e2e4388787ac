"""`hybrid_bridge.py`, in a process that kills itself at a point asked for: as kill -9, at a moment no test could hit.

The points are put around the daemon's own functions from here, when `MT5_BRIDGE_CRASH_AT` names a file: nothing of it
is in the package, so no setting and no mistake can switch it on. While that file exists, points count; its text names
the one to die at, as `POINT:N` for the N-th time it is passed. What is passed is noted down in `<file>.passed`: a line
a place, with all its names.

    journal.<change>.before|after       a transaction with such a change: not begun, durable but nobody told
    latch.before|torn|after             the latch file: not written, half written, durable
    terminal.<operation>.before|sent|after    a call: not handed over, handed over, answered but not read
    stop_file.before|after              the file EMERGENCY_STOP is renamed
"""

import functools
import os
import runpy
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mt5_bridge.flows.watch import STOP_FILE
from mt5_bridge.journal import latchfile
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.journal.writer import Writer
from mt5_bridge.terminal.client import HostClient
from mt5_bridge.terminal.frames import FrameReader, Request
from mt5_bridge.terminal.process import HostProcess

CRASH_AT = "MT5_BRIDGE_CRASH_AT"
RECORD = "nowhere"
"""In place of a point: note down what is passed, and go on."""
PROGRAM = (str(Path(__file__).resolve()),)
"""Arguments of Python, for `support.daemon.Daemon`."""

_COMMON = frozenset({"CursorMoved", "OffsetMoved", "Announced", "OutboxDone"})
"""Changes of many transactions: better known by what else is in them."""


class Points:
    """Counts what is passed, and dies.

    Args:
        file: named by the environment; points count while it exists.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._passed = file.with_name(file.name + ".passed")
        self._target = ""
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def at(self, *names: str, last: Callable[[], object] = lambda: None) -> None:
        """The daemon is at a place with these names; `last` is done before it dies there."""
        with self._lock:  # the loop and two threads pass points: after the last one nobody does
            try:
                target = self._file.read_text(encoding="utf-8")
            except OSError:
                return
            if target != self._target:
                self._target, self._counts = target, Counter()
            self._counts.update(names)
            points = [f"{name}:{self._counts[name]}" for name in names]
            with self._passed.open("a", encoding="utf-8") as passed:
                passed.write(" ".join(points) + "\n")
            if target in points:
                last()
                die()


def die() -> None:
    """Without a last word. On Windows SIGTERM is TerminateProcess."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def arm(points: Points) -> None:
    """Puts the points around every durable write and every call of a terminal."""
    _around_transactions(points)
    _around_the_latch_file(points)
    _around_calls(points)
    _around_the_stop_file(points)


def changes(jobs: list[Any]) -> list[str]:
    """The kinds of changes in a transaction, rare ones first; of notes, and of what is no change, the name."""
    kinds: set[str] = set()
    for job in jobs:
        given = getattr(job.work, "keywords", {})
        if "items" not in given:
            kinds.add(getattr(getattr(job.work, "func", job.work), "__name__", "work"))
        for change in given.get("items", ()):
            kind = type(change).__name__
            kinds.add(f"Memo-{change.name}" if kind == "Memo" else kind)
    return sorted(kinds, key=lambda kind: (kind in _COMMON, kind))


def _around_transactions(points: Points) -> None:
    written = Writer._group

    @functools.wraps(written)
    def group(writer: Writer, jobs: list[Any]) -> Any:
        kinds = changes(jobs)
        points.at(*(f"journal.{kind}.before" for kind in kinds))
        outcomes = written(writer, jobs)
        points.at(*(f"journal.{kind}.after" for kind in kinds))
        return outcomes

    Writer._group = group  # type: ignore[assignment,method-assign]  # that is what this file is for, here and below


def _around_the_latch_file(points: Points) -> None:
    written = LatchFile.write

    @functools.wraps(written)
    def write(latch: LatchFile, *record: Any) -> None:
        def torn() -> None:
            # The slot's length has changed, its content has not: its checksum cannot be right.
            os.lseek(latch._fd, ((latch._turn + 1) % 2) * latchfile._SLOT, os.SEEK_SET)
            os.write(latch._fd, (99).to_bytes(4, "little") + b"torn")

        points.at("latch.before")
        points.at("latch.torn", last=torn)
        written(latch, *record)
        points.at("latch.after")

    LatchFile.write = write  # type: ignore[assignment,method-assign]


def _around_calls(points: Points) -> None:
    handed, received = HostProcess.write, HostClient._received

    @functools.wraps(handed)
    def write(process: HostProcess, frame: bytes | bytearray) -> None:
        (payload,) = FrameReader().feed(bytes(frame))
        name = f"terminal.{msgspec.msgpack.decode(payload, type=Request).op}"
        points.at(f"{name}.before")
        handed(process, frame)
        points.at(f"{name}.sent")

    @functools.wraps(received)
    def read(client: HostClient, payload: bytes) -> None:
        if client.in_flight is not None:
            points.at(f"terminal.{client.in_flight.op}.after")
        received(client, payload)

    HostProcess.write = write  # type: ignore[assignment,method-assign]
    HostClient._received = read  # type: ignore[assignment,method-assign]


def _around_the_stop_file(points: Points) -> None:
    replaced = Path.replace

    @functools.wraps(replaced)
    def replace(path: Path, target: Any) -> Path:
        if path.name != STOP_FILE:
            return replaced(path, target)
        points.at("stop_file.before")
        moved = replaced(path, target)
        points.at("stop_file.after")
        return moved

    Path.replace = replace  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    arm(Points(Path(os.environ[CRASH_AT])))
    root = Path(__file__).resolve().parents[2]
    sys.argv = [str(root / "hybrid_bridge.py")]
    runpy.run_path(sys.argv[0], run_name="__main__")

"""Moving the write-ahead log into the database beside the writer, so that no call pays for it with latency."""

import sqlite3
import threading
from pathlib import Path

from mt5_bridge.journal.schema import connect_reader

EVERY_CHANGES = 5_000


class Checkpointer:
    """A thread that runs passive checkpoints; passive ones never make the writer wait.

    SQLite's own automatic checkpoint stays on as a backstop at a size that this thread normally never lets it reach.
    """

    def __init__(self, path: Path, *, every_changes: int = EVERY_CHANGES) -> None:
        self.failures = 0
        self.runs = 0
        self._path = path
        self._every = every_changes
        self._last = 0
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="journal-checkpoint", daemon=True)
        self._thread.start()

    def wrote(self, total_changes: int) -> None:
        """Tells how many rows the writer has changed since it opened the database."""
        if total_changes - self._last >= self._every:
            self._last = total_changes
            self._wake.set()

    def stop(self) -> None:
        """Ends the thread; a checkpoint that runs is finished first."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _main(self) -> None:
        db = connect_reader(self._path)
        try:
            while True:
                self._wake.wait()
                if self._stopping:
                    return
                self._wake.clear()
                self._checkpoint(db)
        finally:
            db.close()

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.runs += 1
        except sqlite3.Error:
            # The log only grows; the writer meets the same disk and reports it.
            self.failures += 1

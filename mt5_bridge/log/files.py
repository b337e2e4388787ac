"""A log file that turns itself over, and whose disk may be full without harm to anyone."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

RETRY_S = 1.0
"""How long a file that could not be written is left alone."""


class RotatingFile:
    """Appends to a file; beyond `max_bytes` it becomes `NAME.1`, the older ones `NAME.2` and so on.

    Args:
        path: the file.
        max_bytes: size at which it is turned over.
        keep: how many old ones stay.
        monotonic: clock in seconds, for the pause after a failure.

    Attributes:
        errors: writes and turns that the disk refused.
        lost: lines not written because of that.
        failure: why nothing can be written now; None: all is well.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, keep: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self.errors = 0
        self.lost = 0
        self.failure: str | None = None
        self._max_bytes = max_bytes
        self._keep = keep
        self._monotonic = monotonic
        self._retry_at = 0.0
        self._file: BinaryIO | None = None

    def write(self, lines: list[bytes]) -> None:
        """Writes whole lines and flushes; what the disk refuses is counted, never raised."""
        if self.failure and self._monotonic() < self._retry_at:
            self.lost += len(lines)
            return
        try:
            file = self._open()
            file.write(b"".join(lines))
            file.flush()
        except OSError as error:
            self._fail(error)
            self.lost += len(lines)
            return
        self.failure = None
        if file.tell() >= self._max_bytes:
            self._turn()

    def close(self) -> None:
        """Closes the file; idempotent."""
        if self._file:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:  # the buffered rest did not fit on the disk
                self._fail(error)

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._file = self.path.open("ab")
        return self._file

    def _fail(self, error: OSError) -> None:
        self.errors += 1
        self.failure = error.strerror or str(error)
        self._retry_at = self._monotonic() + RETRY_S
        self.close()

    def _turn(self) -> None:
        self.close()
        try:
            for number in range(self._keep - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            self.path.replace(self._numbered(1))
        except OSError:  # on Windows somebody may have it open: it grows on and is turned over later
            self.errors += 1

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

"""One live host per data folder: a new one waits for the lock of the old one, which may still be acting by itself.

The system gives the lock back when its process dies, however. The holder writes into the file who it is and counts its
steps; one whose count stands still hangs in a call that its bridge did not outlive, and is killed for the lock.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mt5_bridge.terminal.frames import Failure, HostError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PATIENCE_S = 2.0
"""A host without a dead-man's switch ends within a second of its daemon."""
ACTING_PATIENCE_S = 10.0
"""One with it may be in an `order_send` that takes its time."""
_AFTER_KILL_S = 2.0
"""A killed process never runs again, but the system may keep its lock while a driver holds on to it."""
_POLL_S = 0.02
_FAR = 1 << 30  # Windows forbids others to read a locked byte: lock one far behind the text
_TEXT = 64


class HostLock:
    """The lock of a data folder's live host. It is held until the process ends.

    Args:
        path: the file.
        monotonic: seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.patience_s = PATIENCE_S
        self._path = path
        self._monotonic = monotonic
        self._sleep = sleep
        self._fd: int | None = None
        self._held = False
        self._steps = 0
        self._seen = b""
        self._since = 0.0
        self._killed_at: float | None = None

    def take(self, within_s: float) -> None:
        """Take the lock, waiting for a holder that acts, and killing one that hangs.

        Raises:
            HostError: not within that time; a later call goes on with what this one saw.
        """
        until = self._monotonic() + within_s
        while not self._taken():
            if self._monotonic() >= until:
                text = f"the terminal's host of an earlier bridge still runs: {self._holder()}"
                raise HostError(Failure("busy", None, text))
            self._watch_holder()
            self._sleep(_POLL_S)

    def step(self) -> None:
        """The holder lives and goes on."""
        self._steps += 1
        self._sign()

    def release(self) -> None:
        """Give it back."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._held = None, False

    def _taken(self) -> bool:
        if self._held:
            return True
        try:
            if self._fd is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        except OSError as error:
            raise HostError(Failure("busy", None, f"lock {self._path}: cannot be opened: {error}")) from error
        overdue = self._killed_at is not None and self._monotonic() - self._killed_at >= _AFTER_KILL_S
        if not _try_lock(self._fd) and not overdue:
            return False
        self._held = True
        self._sign()
        return True

    def _sign(self) -> None:
        if self._fd is None:
            return
        text = f"{os.getpid()} {self.patience_s:g} {self._steps}".ljust(_TEXT - 1) + "\n"
        # A full disk must not keep a terminal from being closed: only the right to be waited for is lost.
        with contextlib.suppress(OSError):
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(self._fd, text.encode("ascii"))

    def _read(self) -> bytes:
        assert self._fd is not None
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.read(self._fd, _TEXT)

    def _holder(self) -> str:
        return f"process {self._read().split(b' ')[0].decode('ascii', 'replace') or 'unknown'}"

    def _watch_holder(self) -> None:
        text, now = self._read(), self._monotonic()
        if text != self._seen:
            self._seen, self._since = text, now
            return
        try:
            pid, patience, _ = text.split()
            overdue = now - self._since >= float(patience)
            holder = int(pid)
        except ValueError:
            return  # just being written, or never
        if overdue and self._killed_at is None and holder != os.getpid():
            # One that is gone gives its lock back by itself; one that may not be ended may still act, and keeps it.
            with contextlib.suppress(OSError):
                os.kill(holder, getattr(signal, "SIGKILL", signal.SIGTERM))
                self._killed_at = now


if sys.platform == "win32":

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

"""One bridge per folder and per real account: a lock that the system releases when its process dies, however."""

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from mt5_bridge.core.errors import InstanceError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FAR = 1 << 30  # Windows forbids others to read a locked byte: lock one far behind the text


class InstanceLock:
    """An exclusive lock on a file, which holds the owner's process id for people.

    The file stays after the release: removing it could take the lock away from a process that just opened it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        return self._fd is not None

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            InstanceError: another process (or another lock of this one) holds it, or the file cannot be opened.
        """
        if self._fd is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise InstanceError(f"lock {self.path}: cannot be opened: {error}") from error
        if not _try_lock(fd):
            owner = os.read(fd, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise InstanceError(f"another bridge, process {owner}, holds {self.path}")
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode("ascii"))
        self._fd = fd

    def release(self) -> None:
        """Gives the lock back; nothing happens when it is not held."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        os.ftruncate(fd, 0)
        _unlock(fd)
        os.close(fd)

    def __enter__(self) -> "InstanceLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def account_lock_path(account: str, folder: Path | None = None) -> Path:
    """The lock file of a real account (say `12345@Broker-Live`), the same whatever DATA_DIR a bridge uses.

    Args:
        folder: where such locks live; by default a folder of the user, else of the system's temporary files.
    """
    digest = hashlib.sha256(account.encode("utf-8")).hexdigest()[:16]
    return (folder or _user_folder()) / f"account-{digest}.lock"


def _user_folder() -> Path:
    try:
        home = Path.home()
    except RuntimeError:  # no home known
        home = Path(tempfile.gettempdir())
    return (home if os.access(home, os.W_OK) else Path(tempfile.gettempdir())) / ".mt5-bridge"


if sys.platform == "win32":

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(fd, 0, os.SEEK_SET)
        return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, _FAR, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)

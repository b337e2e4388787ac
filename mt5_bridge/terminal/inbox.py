"""What the parent sends the terminal host: requests one after the other, signs of life, the end.

On Linux whoever serves the requests reads them himself: a thread in between has to be woken for each. Windows lets
nobody wait for a pipe with a time limit, and macOS tells of no hang-up alone, so a thread reads there.
"""

import collections
import contextlib
import os
import queue
import select
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from mt5_bridge.terminal.frames import BEAT, BYE, FrameError, FrameReader, payload_of, recalled

_BEAT, _BYE = payload_of(BEAT), payload_of(BYE)
_MOST_AT_ONCE = 65536
_LET_READ_S = 0.001
"""The official package lets no other thread run during its calls: so long the one that reads has to take in what came.
"""
_LET_READ_TURNS = 5


class Inbox(ABC):
    """The reading end of the parent's pipe.

    Args:
        fd: its descriptor, which stays the caller's.

    Attributes:
        reads: how often anything came from the parent.
        dismissed: the parent ends in order: nothing is to be done.
        recalled: the numbers of requests whose orders were taken back.
    """

    def __init__(self, fd: int) -> None:
        self.reads = 0
        self.dismissed = False
        self.recalled: set[int] = set()
        self._fd = fd
        self._frames = FrameReader()

    @abstractmethod
    def get(self, timeout: float | None) -> bytes | None:
        """The next request's payload. None: the parent is gone.

        Args:
            timeout: seconds to wait at most, where nothing comes at all; None: for ever.

        Raises:
            queue.Empty: there was none in that time.
            FrameError: what comes cannot be read.
        """

    @abstractmethod
    def look(self) -> None:
        """Take in what has come meanwhile, without waiting for more.

        Raises:
            FrameError: it cannot be read.
        """

    @abstractmethod
    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone`, in a thread of its own, when no more can be heard of the parent, whatever is being served."""

    def _read(self, put: Callable[[bytes | None], object]) -> bool:
        """Hand on what comes next. False: nothing will."""
        try:
            data = os.read(self._fd, _MOST_AT_ONCE)
        except OSError:  # whoever cannot be heard any more is gone
            data = b""
        if not data:
            put(None)
            return False
        self.reads += 1
        for payload in self._frames.feed(data):
            if payload == _BYE:
                self.dismissed = True
            elif (number := recalled(payload)) is not None:
                self.recalled.add(number)
            elif payload != _BEAT:
                put(payload)
        return True


class ThreadInbox(Inbox):
    """Read by a thread, which runs from `watch` on."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._waiting: queue.SimpleQueue[bytes | FrameError | None] = queue.SimpleQueue()

    def get(self, timeout: float | None) -> bytes | None:
        """See `Inbox.get`."""
        heard = self._waiting.get(timeout=timeout)
        if isinstance(heard, FrameError):
            raise heard
        return heard

    def look(self) -> None:
        """Let the thread take it in."""
        for _ in range(_LET_READ_TURNS):
            before = self.reads
            time.sleep(_LET_READ_S)
            if self.reads == before:
                return

    def watch(self, gone: Callable[[], None]) -> None:
        """See `Inbox.watch`."""

        def read() -> None:
            try:
                while self._read(self._waiting.put):
                    continue
            except FrameError as error:
                self._waiting.put(error)
            gone()

        threading.Thread(target=read, name="requests", daemon=True).start()


class DirectInbox(Inbox):
    """Read by the thread that asks for the next request, and to its end by one that waits for that."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._waiting: collections.deque[bytes | None] = collections.deque()
        self._there = select.poll()
        self._there.register(fd, select.POLLIN)
        self._reading = threading.Lock()

    def get(self, timeout: float | None) -> bytes | None:
        """See `Inbox.get`."""
        while not self._waiting:
            if timeout is not None and not self._there.poll(timeout * 1000):
                raise queue.Empty
            self._take()
        return self._waiting.popleft()

    def look(self) -> None:
        """See `Inbox.look`."""
        while self._there.poll(0) and self._take():
            continue

    def watch(self, gone: Callable[[], None]) -> None:
        """See `Inbox.watch`."""

        def wait() -> None:
            hung_up = select.poll()
            hung_up.register(self._fd, 0)  # that the other end is closed is always told
            hung_up.poll()
            # A word of parting may lie there while a call hangs that nothing would be read behind.
            with contextlib.suppress(FrameError):
                while self._take():
                    continue
            gone()

        threading.Thread(target=wait, name="parent", daemon=True).start()

    def _take(self) -> bool:
        with self._reading:
            return self._read(self._waiting.append)


PipeInbox: type[Inbox] = DirectInbox if sys.platform == "linux" else ThreadInbox

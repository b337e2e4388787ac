"""A bounded queue with a thread of its own: whoever puts never waits, what does not fit is dropped and counted."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class DroppingQueue(Generic[T]):
    """Hands items to `work` in a daemon thread, in order.

    Args:
        name: of the thread.
        work: called with up to `BATCH` items and the number dropped just before them. It may block for ever; it must
            not raise.
        capacity: items that may wait.
    """

    BATCH = 256
    PAUSE_S = 0.02
    """Between batches: lines of a flood are written together. What comes after a pause is written at once."""

    def __init__(self, name: str, work: Callable[[list[T], int], None], capacity: int) -> None:
        self.dropped = 0
        self._work = work
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._told = 0
        self._closing = threading.Event()
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Takes an item; never waits for the work."""
        with self._change:
            if len(self._items) >= self._capacity:
                self.dropped += 1
                return
            self._items.append(item)
            self._change.notify()

    def close(self, timeout: float) -> bool:
        """Works off what waits, for at most `timeout` seconds; False when the thread still hangs in its work."""
        with self._change:
            self._closing.set()
            self._change.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._items and not self._closing.is_set():
                    self._change.wait()
                if not self._items:
                    return
                batch = [self._items.popleft() for _ in range(min(self.BATCH, len(self._items)))]
                dropped, self._told = self.dropped - self._told, self.dropped
            self._work(batch, dropped)
            self._closing.wait(0.0 if len(batch) == self.BATCH else self.PAUSE_S)

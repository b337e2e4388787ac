"""What waits for one client: bounded, events and answers in order, only the newest of what has a newer. No I/O.

Two lanes, served in this order:
    ordered   events and answers, first in, first out. Full, it takes nothing more: the client is then dropped, so that
              it knows that it missed something and reads the state anew. Nothing of this lane is lost in silence.
    latest    one frame per slot (a symbol's tick, the account, the positions ...); a newer one replaces it in place

What a client has not read yet must not pile up in buffers where nothing replaces it any more: the latest lane stands
still while more than a window of bytes is on its way, until the client has confirmed what came before.
"""

from collections import deque
from dataclasses import dataclass

MAX_FRAMES = 1024
MAX_BYTES = 4 << 20
SPARE_FRAMES = 64
WINDOW = 64 << 10
BATCH = 64 << 10


@dataclass(slots=True)
class QueueStats:
    """Counters of one client's queue."""

    sent: int = 0
    sent_bytes: int = 0
    conflated: int = 0
    """Frames replaced by a newer one of their slot before they were sent."""


class ClientQueue:
    """The two lanes of a client.

    Args:
        max_frames: bound of the ordered lane, frames.
        max_bytes: bound of the ordered lane, bytes; a frame alone may be larger.
        window: bytes that may be on their way unconfirmed before the latest lane stands still.
    """

    __slots__ = (
        "_asked",
        "_bytes",
        "_confirmed",
        "_latest",
        "_max_bytes",
        "_max_frames",
        "_ordered",
        "_window",
        "stats",
    )

    def __init__(self, *, max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES, window: int = WINDOW) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._window = window
        self._ordered: deque[bytes] = deque()
        self._bytes = 0
        self._latest: dict[tuple[str, str], bytes] = {}
        self._asked = 0
        self._confirmed = 0
        self.stats = QueueStats()

    def __len__(self) -> int:
        return len(self._ordered) + len(self._latest)

    def put(self, frame: bytes) -> bool:
        """Queue in order; False when there is no room: the client cannot be told everything any more."""
        if self._ordered and (len(self._ordered) >= self._max_frames or self._bytes + len(frame) > self._max_bytes):
            return False
        self._ordered.append(frame)
        self._bytes += len(frame)
        return True

    def put_first(self, frame: bytes) -> bool:
        """Ahead of all that waits, with room of its own: the answer to a stop. False when even that is full."""
        if len(self._ordered) >= self._max_frames + SPARE_FRAMES:
            return False
        self._ordered.appendleft(frame)
        self._bytes += len(frame)
        return True

    def put_latest(self, channel: str, slot: str, frame: bytes) -> None:
        """Keep the newest frame of the slot; it keeps the slot's place in the lane."""
        key = (channel, slot)
        if key in self._latest:
            self.stats.conflated += 1
        self._latest[key] = frame

    def forget(self, channel: str, slot: str | None = None) -> None:
        """Drop what waits of a channel, or of one of its slots, in the latest lane."""
        for key in [key for key in self._latest if key[0] == channel and slot in (None, key[1])]:
            del self._latest[key]

    def passes(self, count: int, size: int) -> bool:
        """Count frames that need not wait here, because nothing else does and they may leave; False when they must."""
        if self._ordered or self._latest or size > min(BATCH, self._confirmed + self._window - self.stats.sent_bytes):
            return False
        self.stats.sent += count
        self.stats.sent_bytes += size
        return True

    def take(self) -> list[bytes]:
        """The next frames in the order of the lanes, about `BATCH` bytes of them; none when nothing may leave."""
        batch: list[bytes] = []
        size = 0
        while size < BATCH and self._ordered:
            frame = self._ordered.popleft()
            self._bytes -= len(frame)
            size += len(frame)
            batch.append(frame)
        open_until = self._confirmed + self._window - self.stats.sent_bytes
        while self._latest and size < min(BATCH, open_until):
            frame = self._latest.pop(next(iter(self._latest)))
            size += len(frame)
            batch.append(frame)
        self.stats.sent += len(batch)
        self.stats.sent_bytes += size
        return batch

    def to_confirm(self) -> int | None:
        """The mark to be sent behind what was taken, when it is time for one; to be given back to `confirmed`."""
        if self.stats.sent_bytes - self._asked < self._window // 4:
            return None
        self._asked = self.stats.sent_bytes
        return self._asked

    def confirmed(self, mark: int) -> None:
        """The client has what was sent before the mark; one that was never asked for counts for nothing."""
        if self._confirmed < mark <= self._asked:
            self._confirmed = mark

"""What waits to be sent: bounded, in order, with the newest value only where only the newest counts. No I/O.

Three lanes, served in this order:
    urgent    answers to an emergency stop; few
    ordered   first in, first out; when it is full the newest frame is refused, so that what is promised stays promised
    latest    one frame per slot, a newer one replaces it in place; when there are too many slots the oldest goes

The ordered lane lives as long as the connection. The latest lane outlives it: after a reconnect the newest quote or
account is what the backend wants. It is closed while a handful of its frames is on its way: what a slow backend has not
read yet must not pile up in buffers where nothing replaces it any more.
"""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass

from mt5_bridge.core.errors import ChannelClosedError

SPARE_FRAMES = 256
SPARE_BYTES = 16_384
"""So many frames more, none larger than this, find room when the ordered lane is full: whoever asked is told that it
is."""


@dataclass(slots=True)
class OutboundStats:
    """Counters of the send side."""

    refused: int = 0
    """Frames refused because the ordered lane was full, or there was no connection."""
    conflated: int = 0
    """Frames replaced by a newer one of their slot before they were sent."""
    evicted: int = 0
    """Oldest slots dropped because there were too many."""
    lost: int = 0
    """Ordered frames that were waiting when the connection went away."""


@dataclass(slots=True, eq=False)
class Parcel:
    """A frame on its way; `written` is told the pong waiter of a ping sent after it. `latest`: from that lane."""

    frame: bytes
    written: "asyncio.Future[asyncio.Future[float]] | None" = None
    latest: bool = False

    def fail(self, why: str) -> None:
        """Tell whoever waits that the frame was not known to arrive."""
        if self.written is not None and not self.written.done():
            self.written.set_exception(ChannelClosedError(why))


class Outbound:
    """The three lanes.

    Args:
        max_frames: bound of the ordered lane, frames.
        max_bytes: bound of the ordered lane, bytes.
        max_urgent: bound of the urgent lane, frames; beyond it a frame takes the ordered lane.
        max_slots: bound of the latest lane, slots.
    """

    def __init__(self, *, max_frames: int, max_bytes: int, max_urgent: int = 64, max_slots: int = 4096) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._max_urgent = max_urgent
        self._max_slots = max_slots
        self._urgent: deque[Parcel] = deque()
        self._ordered: deque[Parcel] = deque()
        self._bytes = 0
        self._latest: OrderedDict[str, bytes] = OrderedDict()
        self._latest_open = True
        self._filled = asyncio.Event()
        self.stats = OutboundStats()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._ordered) + len(self._latest)

    @property
    def ordered_empty(self) -> bool:
        """True when nothing waits that would be lost with the connection."""
        return not self._urgent and not self._ordered

    def put(self, parcel: Parcel, *, urgent: bool = False, brief: bool = False) -> bool:
        """Queue in order; False when the lane is full (the newest is refused). `brief` may use the spare room."""
        if urgent and len(self._urgent) < self._max_urgent:
            self._urgent.append(parcel)
        elif not self._fits(parcel.frame, spare=urgent or brief):
            self.stats.refused += 1
            return False
        else:
            self._ordered.append(parcel)
            self._bytes += len(parcel.frame)
        self._filled.set()
        return True

    def _fits(self, frame: bytes, *, spare: bool) -> bool:
        if spare and len(frame) <= SPARE_BYTES:
            return len(self._ordered) < self._max_frames + SPARE_FRAMES
        return len(self._ordered) < self._max_frames and self._bytes + len(frame) <= self._max_bytes

    def put_latest(self, slot: str, frame: bytes) -> None:
        """Keep the newest frame of the slot; it keeps the slot's place in the lane."""
        if slot in self._latest:
            self.stats.conflated += 1
        elif len(self._latest) >= self._max_slots:
            self._latest.popitem(last=False)
            self.stats.evicted += 1
        self._latest[slot] = frame
        self._filled.set()

    def take(self, limit: int, max_bytes: int) -> list[Parcel]:
        """The next parcels in the order of the lanes: up to `limit`, and no more once they hold `max_bytes`."""
        batch: list[Parcel] = []
        size = 0
        while len(batch) < limit and size < max_bytes:
            parcel = self._next()
            if parcel is None:
                self._filled.clear()
                break
            size += len(parcel.frame)
            batch.append(parcel)
        return batch

    def _next(self) -> Parcel | None:
        if self._urgent:
            return self._urgent.popleft()
        if self._ordered:
            parcel = self._ordered.popleft()
            self._bytes -= len(parcel.frame)
            return parcel
        if self._latest and self._latest_open:
            return Parcel(self._latest.popitem(last=False)[1], latest=True)
        return None

    def hold_latest(self) -> None:
        """Frames of the latest lane are on their way: no more of them before these have arrived."""
        self._latest_open = False

    def open_latest(self) -> None:
        """They have arrived, or never will."""
        self._latest_open = True
        self._filled.set()

    async def filled(self) -> None:
        """Wait until there may be something to take."""
        await self._filled.wait()

    def connection_lost(self, why: str) -> None:
        """Give up what belonged to the connection that is gone."""
        for parcel in (*self._urgent, *self._ordered):
            self.stats.lost += 1
            parcel.fail(why)
        self._urgent.clear()
        self._ordered.clear()
        self._bytes = 0

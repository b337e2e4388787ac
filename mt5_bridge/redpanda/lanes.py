"""What waits to be published, one lane a partition: order within a lane is the order of `add`, whatever fails.

No I/O: the producer takes batches out, and tells which arrived.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from mt5_bridge.core.ticks import Framed
from mt5_bridge.redpanda.batch import FramedBatch, Headers, Record, RecordBatch
from mt5_bridge.redpanda.compress import Codec


@dataclass(slots=True, eq=False)
class Parcel:
    """One call of `publish`. `future` is done when all of it is acknowledged, or any of it failed."""

    key: bytes | None
    records: Sequence[Record]
    headers: list[tuple[str, bytes]]
    future: "asyncio.Future[None]"
    serial: int
    taken: int = 0
    arrived: int = 0
    tries: int = 0
    """Batches it was in that failed."""
    alone: bool = False
    """Travels in batches of its own: one of those it travelled with was refused."""
    framed: Sequence[Framed] = ()
    """Whole batches, in place of records: each travels as it is."""

    def __len__(self) -> int:
        return len(self.framed) or len(self.records)


@dataclass(slots=True)
class Share:
    """The part of a parcel that is in one batch."""

    parcel: Parcel
    start: int
    end: int

    @property
    def count(self) -> int:
        """How many records it has."""
        return sum(each.count for each in self.parcel.framed[self.start : self.end]) or self.end - self.start


@dataclass(slots=True, eq=False)
class Lane:
    """The parcels for one partition, oldest first."""

    topic: str
    partition: int
    waiting: deque[Parcel] = field(default_factory=deque)
    task: "asyncio.Task[None] | None" = None
    _serial: int = 0

    def add(
        self, key: bytes | None, records: Sequence[Record], headers: Headers, future: "asyncio.Future[None]"
    ) -> Parcel:
        """Puts a parcel at the end."""
        self._serial += 1
        parcel = Parcel(key, records, list(headers), future, self._serial)
        self.waiting.append(parcel)
        return parcel

    def add_framed(self, framed: Sequence[Framed], future: "asyncio.Future[None]") -> Parcel:
        """Puts a parcel of whole batches at the end."""
        self._serial += 1
        parcel = Parcel(None, (), [], future, self._serial, framed=framed)
        self.waiting.append(parcel)
        return parcel

    def take(self, limit: int, codec: Codec | None = None) -> tuple[RecordBatch | FramedBatch, list[Share]]:
        """Fills a batch from the front. Its shares are empty when nothing waits."""
        batch = RecordBatch(limit, codec)
        shares: list[Share] = []
        while self.waiting:
            parcel = self.waiting[0]
            if parcel.future.done():
                self.waiting.popleft()  # failed, or its caller was cancelled before it left
                continue
            if shares and (parcel.alone or parcel.framed):
                break
            if parcel.framed:
                return self._take_framed(parcel, codec)
            start = parcel.taken
            parcel.taken = batch.extend(parcel.key, parcel.headers, parcel.records, start)
            if parcel.taken > start:
                shares.append(Share(parcel, start, parcel.taken))
            if parcel.taken < len(parcel):
                break
            self.waiting.popleft()
            if parcel.alone:
                break
        batch.close()
        return batch, shares

    def _take_framed(self, parcel: Parcel, codec: Codec | None) -> tuple[FramedBatch, list[Share]]:
        share = Share(parcel, parcel.taken, parcel.taken + 1)
        parcel.taken += 1
        if parcel.taken == len(parcel):
            self.waiting.popleft()
        return FramedBatch(parcel.framed[share.start], codec), [share]

    def fail(self, error: Exception) -> None:
        """Nothing that waits here will be sent."""
        for parcel in self.waiting:
            if not parcel.future.done():
                parcel.future.set_exception(error)
        self.waiting.clear()

    def put_back(self, shares: Sequence[Share]) -> None:
        """Returns what did not arrive to its old place."""
        for share in shares:
            parcel = share.parcel
            if parcel.future.done():
                continue
            parcel.taken = min(parcel.taken, share.start)
            if parcel not in self.waiting:
                self.waiting.append(parcel)
        self.waiting = deque(sorted(self.waiting, key=lambda parcel: parcel.serial))


def arrive(shares: Sequence[Share]) -> None:
    """The batch with these shares was acknowledged."""
    for share in shares:
        parcel = share.parcel
        parcel.arrived += share.end - share.start
        if parcel.arrived >= len(parcel) and not parcel.future.done():
            parcel.future.set_result(None)


def fail(shares: Sequence[Share], error: Exception) -> None:
    """The batch with these shares will never be acknowledged."""
    for share in shares:
        if not share.parcel.future.done():
            share.parcel.future.set_exception(error)

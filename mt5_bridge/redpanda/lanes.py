"""What waits to be published, one lane a partition: order within a key is the order of `add`, whatever fails.

Whole batches, the ticks of hours ago, let everything else pass: what is live must not stand behind a catch-up. So a
key's records come either way, but not both ways at a time.

No I/O: the producer takes batches out, and tells which arrived.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from mt5_bridge.core.ticks import Framed
from mt5_bridge.redpanda.batch import FramedBatch, Headers, Keyed, RecordBatch, split
from mt5_bridge.redpanda.compress import Codec


@dataclass(slots=True, eq=False)
class Parcel:
    """What was given at once. `future` is done when all of it is acknowledged, or any of it failed."""

    records: Sequence[Keyed]
    headers: list[tuple[str, bytes]]
    future: "asyncio.Future[None]"
    serial: int
    taken: int = 0
    out: "list[Share]" = field(default_factory=list)
    """What was taken and has neither arrived nor come back, in order."""
    tries: int = 0
    """Batches it was in that failed."""
    alone: bool = False
    """Travels in batches of its own: one of those it travelled with was refused."""
    framed: Sequence[Framed] = ()
    """Whole batches, in place of records: each travels as it is."""

    def __len__(self) -> int:
        return len(self.framed) or len(self.records)

    @property
    def mixed(self) -> bool:
        """It holds records of several keys, which may be given again one by one."""
        return len({key for _, _, key in self.records}) > 1

    def share(self, start: int) -> "Share":
        """What was just taken, from `start` on."""
        share = Share(self, start, self.taken)
        self.out.append(share)
        return share


@dataclass(slots=True, eq=False)
class Share:
    """The part of a parcel that is in one batch; `count` is how many records it has."""

    parcel: Parcel
    start: int
    end: int
    count: int = field(init=False)

    def __post_init__(self) -> None:
        # Now: a batch that is split later moves those behind it.
        framed = self.parcel.framed[self.start : self.end]
        self.count = sum(each.count for each in framed) or self.end - self.start


@dataclass(slots=True, eq=False)
class Lane:
    """The parcels for one partition, oldest first.

    Attributes:
        waiting: single records.
        bulk: whole batches, which go when nothing waits.
    """

    topic: str
    partition: int
    waiting: deque[Parcel] = field(default_factory=deque)
    bulk: deque[Parcel] = field(default_factory=deque)
    task: "asyncio.Task[None] | None" = None
    _serial: int = 0

    def add(self, records: Sequence[Keyed], headers: Headers, future: "asyncio.Future[None]") -> Parcel:
        """Puts a parcel at the end."""
        self._serial += 1
        parcel = Parcel(records, list(headers), future, self._serial)
        self.waiting.append(parcel)
        return parcel

    def add_framed(self, framed: Sequence[Framed], future: "asyncio.Future[None]") -> Parcel:
        """Puts a parcel of whole batches at the end."""
        self._serial += 1
        parcel = Parcel((), [], future, self._serial, framed=framed)
        self.bulk.append(parcel)
        return parcel

    def __len__(self) -> int:
        return len(self.waiting) + len(self.bulk)

    def take(self, limit: int, codec: Codec | None = None) -> tuple[RecordBatch | FramedBatch, list[Share]]:
        """Fills a batch from the front. Its shares are empty when nothing waits."""
        batch = RecordBatch(limit, codec)
        shares: list[Share] = []
        while (parcel := _first(self.waiting)) is not None:
            if shares and parcel.alone:
                break
            start = parcel.taken
            parcel.taken = batch.extend(parcel.headers, parcel.records, start)
            if parcel.taken > start:
                shares.append(parcel.share(start))
            if parcel.taken < len(parcel):
                break
            self.waiting.popleft()
            if parcel.alone:
                break
        if not shares and (parcel := _first(self.bulk)) is not None:
            return self._take_framed(parcel, limit, codec)
        batch.close()
        return batch, shares

    def _take_framed(self, parcel: Parcel, limit: int, codec: Codec | None) -> tuple[FramedBatch, list[Share]]:
        while (next_one := parcel.framed[parcel.taken]).count > 1 and FramedBatch(next_one).size() > limit:
            at = parcel.taken
            parcel.framed = [*parcel.framed[:at], *split(next_one), *parcel.framed[at + 1 :]]
        parcel.taken += 1
        share = parcel.share(parcel.taken - 1)
        if parcel.taken == len(parcel):
            self.bulk.popleft()
        return FramedBatch(parcel.framed[share.start], codec), [share]

    def fail(self, error: Exception) -> None:
        """Nothing that waits here will be sent."""
        for parcel in (*self.waiting, *self.bulk):
            if not parcel.future.done():
                parcel.future.set_exception(error)
        self.clear()

    def clear(self) -> None:
        """Nothing waits any more."""
        self.waiting.clear()
        self.bulk.clear()

    def put_back(self, shares: Sequence[Share]) -> None:
        """Returns what did not arrive to its old place, with all that was taken behind it: order is kept by sending
        that again, too, whatever becomes of it."""
        there = {parcel.serial for parcel in (*self.waiting, *self.bulk)}
        for share in shares:
            parcel = share.parcel
            if parcel.future.done() or share not in parcel.out:
                continue
            del parcel.out[parcel.out.index(share) :]
            parcel.taken = share.start
            if parcel.serial not in there:
                there.add(parcel.serial)
                (self.bulk if parcel.framed else self.waiting).append(parcel)
        self.waiting = _by_age(self.waiting)
        self.bulk = _by_age(self.bulk)


def _first(queue: deque[Parcel]) -> Parcel | None:
    """The oldest that is still wanted: others failed, or their caller was cancelled before they left."""
    while queue:
        if not queue[0].future.done():
            return queue[0]
        queue.popleft()
    return None


def _by_age(queue: deque[Parcel]) -> deque[Parcel]:
    return deque(sorted(queue, key=lambda parcel: parcel.serial))


def arrive(shares: Sequence[Share]) -> None:
    """The batch with these shares was acknowledged."""
    for share in shares:
        parcel = share.parcel
        if share not in parcel.out:
            continue  # it is sent again, with what was before it
        parcel.out.remove(share)
        if not parcel.out and parcel.taken >= len(parcel) and not parcel.future.done():
            parcel.future.set_result(None)


def fail(shares: Sequence[Share], error: Exception) -> None:
    """The batch with these shares will never be acknowledged."""
    for share in shares:
        if not share.parcel.future.done():
            share.parcel.future.set_exception(error)

"""Records on their way from the topic into the inbox: parts that share a commit, no offset before what lies below it.

Of a flood, a part is sorted while the disk takes the two before it. It is written with what these must have made
durable by then, so that the journal refuses it when the disk refused one of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from loguru import logger

from mt5_bridge.core.errors import JournalError
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.sorting import Record, Sorted, Sorter, pieces
from mt5_bridge.journal import JournalConflict, NotEntered, changes

COMMIT = 250
"""Records of a flood that share a look-up and a commit."""
PASSED_S = 1.0
"""How often the offset behind records of others becomes durable."""
_RETRY_S = 0.5

Place = tuple[str, int]
"""A topic and one of its partitions."""
OnEntered = Callable[[Mapping[Place, int]], object]
"""Called with the offsets behind records, when these are durable or for others."""


class Enter(Protocol):
    """Enters what was sorted; returns when it is durable.

    Args:
        unseen: the inbox need not be asked about a backlog; a `JournalConflict` tells that it should have been.

    Raises:
        JournalError: nothing of it was entered.
    """

    def __call__(self, work: Sorted, *, unseen: bool) -> Awaitable[object]: ...


class Part:
    """Records that share a look-up and a commit, on their way in.

    Attributes:
        behind: the offsets behind them.
        before: those that came before them, while they are on their way in, too.
        required: the offsets that are durable once those are.
        written: whether there is anything to write now.
        reached: the offsets that are durable once these are, if they are written.
        durable: set when they are durable themselves, or none of ours.
    """

    def __init__(
        self,
        records: Sequence[Record],
        received: int,
        behind: Mapping[Place, int],
        before: "Part | None",
        *,
        written: bool,
    ) -> None:
        self.records = records
        self.received = received
        self.behind = behind
        self.before = before
        self.written = written
        self.required: Mapping[Place, int] = {} if before is None else before.reached
        self.reached: Mapping[Place, int] = {**self.required, **behind} if written else self.required
        self.durable = asyncio.Event()


class Parts:
    """The order in which records and the offsets behind them become durable."""

    def __init__(self, sorter: Sorter, enter: Enter, clock: Clock) -> None:
        self._sorter = sorter
        self._enter = enter
        self._clock = clock
        self._last: Part | None = None
        self._resets: dict[Place, int] = {}
        self._moved: dict[Place, float] = {}
        """When the offset of a partition became durable last (monotonic seconds)."""

    async def begin_anew(self, place: Place, offset: int) -> None:
        """Let a partition's offsets begin at one that may mean another record than it did.

        Returns when nothing is on its way in that was read earlier.
        """
        if self._last is not None:
            await self._last.durable.wait()
        self._resets[place] = offset

    async def take(self, batch: Sequence[Record], received: int, group: asyncio.TaskGroup, entered: OnEntered) -> None:
        """Enter a batch of records; returns when it is time for the next.

        What comes by ones is durable by then. Of a flood the last two parts may still be on their way.

        Args:
            received: UTC ms.
            group: where it goes on.
        """
        part, work = await self._part(batch[:COMMIT], received)
        if len(batch) <= COMMIT:
            await self._take(part, work, entered)
            return
        for some in pieces(batch[COMMIT:], COMMIT):
            group.create_task(self._take(part, work, entered), name="signals-enter")
            part, work = await self._part(some, received)
        group.create_task(self._take(part, work, entered), name="signals-enter")
        if part.before is not None and part.before.before is not None:
            await part.before.before.durable.wait()

    async def _part(self, records: Sequence[Record], received: int) -> tuple[Part, Sorted]:
        work = await self._sorter.records(records, received)
        before = None if self._last is None or self._last.durable.is_set() else self._last
        behind = {(record.topic, record.partition): record.offset + 1 for record in records}
        written = bool(work.entries or work.beside) or not self._moved_lately(behind)
        self._last = Part(records, received, behind, before, written=written)
        return self._last, work

    async def _take(self, part: Part, work: Sorted, entered: OnEntered) -> None:
        if part.written:
            await self._write(part, work)
        if part.before is not None:
            await part.before.durable.wait()
        part.durable.set()
        part.before = None
        entered(part.behind)

    async def _write(self, part: Part, work: Sorted) -> None:
        unseen = True
        while True:
            work.beside += [*await self._required(part), *self._positions(part.behind)]
            try:
                await self._enter(work, unseen=unseen)
            except JournalError as error:
                if isinstance(error, JournalConflict) and unseen:
                    unseen = False
                elif not isinstance(error, NotEntered):
                    count = len(part.records)
                    logger.bind(event="signals_not_journalled", count=count).error(
                        "ERROR {count} signals wait, the journal cannot be written: {error}", count=count, error=error
                    )
                    await asyncio.sleep(_RETRY_S)
                if part.before is not None:
                    await part.before.durable.wait()
                work = await self._sorter.records(part.records, part.received)
            else:
                for place in part.behind:
                    self._resets.pop(place, None)
                    self._moved[place] = self._clock.monotonic()
                return

    async def _required(self, part: Part) -> list[changes.Change]:
        """What the journal must hold before it takes a part: nobody waits to hear that it does."""
        if part.before is None or part.before.durable.is_set():
            return []
        if self._resets.keys() & part.required.keys():
            await part.before.durable.wait()  # how far a topic was read before it was made anew tells nothing
            return []
        return [changes.OffsetReached(*place, offset) for place, offset in part.required.items()]

    def _moved_lately(self, places: Iterable[Place]) -> bool:
        """Whether the offset behind records of others can wait for the next record of their partition.

        To read them again would do no harm, and on a topic of many accounts nearly all records are of this kind: each
        would cost a sync.
        """
        due = self._clock.monotonic() - PASSED_S
        return all(place not in self._resets and self._moved.get(place, due) > due for place in places)

    def _positions(self, behind: Mapping[Place, int]) -> list[changes.Change]:
        moves: list[changes.Change] = [
            # Offsets never move back, but for a topic made anew.
            changes.TopicReset(topic=topic, partition=partition, next_offset=self._resets[topic, partition])
            for topic, partition in behind
            if (topic, partition) in self._resets
        ]
        moves += [
            changes.OffsetMoved(topic=topic, partition=partition, next_offset=offset)
            for (topic, partition), offset in behind.items()
        ]
        return moves

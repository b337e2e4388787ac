"""The broker: topics in memory, which forgets, goes down and comes back."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from support.simulation.weather import Weather
from support.simulation.world import World, answer

from mt5_bridge.redpanda.reader import Record

MAX_AGE_MS = 5000
"""SIGNAL_MAX_AGE_MS of all runs."""
SIGNALS, TICKS, EVENTS, DLQ = "trading_signals", "tick_data", "mt5_events", "trading_signals.dlq"
PARTITIONS = 2
Pairs = Sequence[tuple[str, bytes]]
Plain = tuple[int | None, bytes | None]


@dataclass
class Log:
    """A partition of the signal topic.

    Attributes:
        begin: records before it are gone.
        excused: records before it need not be read: they are gone, or were too old where reading had to begin anew.
    """

    records: list[Record] = field(default_factory=list)
    begin: int = 0
    excused: int = 0

    @property
    def end(self) -> int:
        return len(self.records)


class Producing(Protocol):
    """What the broker needs of a producer."""

    def lose(self) -> None:
        """The broker is gone."""

    def find(self) -> None:
        """The broker is there."""


class Broker:
    """What is in the topics.

    Attributes:
        signals: the signal topic, by partition.
        published: topic → what the broker has of it, in order: key, value, timestamp.
        up: whether it answers at all.
    """

    def __init__(self, world: World, weather: Weather) -> None:
        self.world, self.weather = world, weather
        self.signals = {partition: Log() for partition in range(PARTITIONS)}
        self.published: dict[str, list[tuple[bytes | None, bytes | None, int | None]]] = {}
        self.up = True
        self.on_taken: Callable[[str, bytes | None, bytes | None], None] = lambda *record: None
        self.producers: list[Producing] = []
        self._waiting: set[asyncio.Future[None]] = set()

    def append(
        self, partition: int, value: bytes | None, *, key: bytes | None, timestamp_ms: int, headers: Pairs = ()
    ) -> Record:
        """Somebody publishes a signal."""
        log = self.signals[partition]
        record = Record(SIGNALS, partition, log.end, key, value, tuple(headers), timestamp_ms)
        log.records.append(record)
        self.world.note("record", partition, record.offset, value)
        self.wake()
        return record

    def wake(self) -> None:
        """Fetches that wait look again."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            answer(future, None)

    async def news(self, seconds: float) -> None:
        """Wait for a record, but not for ever."""
        future: asyncio.Future[None] = self.world.loop.create_future()
        self._waiting.add(future)
        timer = self.world.after(seconds, answer, future, None)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def go_down(self, seconds: float) -> None:
        """Nothing is taken or given for a while."""
        if self.up:
            self.up = False
            self.world.note("broker_down")
            for producer in self.producers:
                producer.lose()
            self.wake()
            self.world.after(seconds, self._come_up)

    def _come_up(self) -> None:
        self.up = True
        self.world.note("broker_up")
        for producer in self.producers:
            producer.find()

    def forget(self, partition: int) -> None:
        """Retention takes away all but the newest record."""
        log = self.signals[partition]
        log.begin = log.excused = max(log.begin, log.end - 1)
        self.world.note("retention", partition, log.begin)

    def begun_anew(self, partition: int, offset: int, why: str, stored: int | None) -> None:
        """A reader says that it begins elsewhere than at its stored offset; whether it may, and leaves out nothing."""
        log = self.signals[partition]
        self.world.note("begun_anew", partition, offset, why)
        if not (why == "first_time" and stored is None) and not (why == "expired" and (stored or 0) < log.begin):
            self.world.breach(
                "offsets", f"partition {partition} is begun anew at {offset} though {stored} is stored: {why}"
            )
        young = self.world.now_ms() - MAX_AGE_MS
        left_out = [
            record for record in log.records[max(log.begin, stored or 0) : offset] if record.timestamp_ms > young
        ]
        if left_out:
            self.world.breach("offsets", f"partition {partition} is begun at {offset}, and {left_out[0]} left out")
        log.excused = log.end  # what is there by now may be too old when it is read

    def take(self, topic: str, key: bytes | None, records: Iterable[Plain]) -> None:
        """Records have arrived."""
        log = self.published.setdefault(topic, [])
        for stamp, value in records:
            log.append((key, value, stamp))
            self.world.note("published", topic, key, value)
            self.on_taken(topic, key, value)

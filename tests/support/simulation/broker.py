"""The broker: topics in memory, read by the bridge's own consumer over a fake reader, written by a fake producer."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import NodeNotReadyError, RequestTimedOutError
from aiokafka.record.default_records import DefaultRecordBatch
from support.simulation.weather import Weather
from support.simulation.world import World, spread

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.core.ticks import Framed
from mt5_bridge.redpanda.batch import stored
from mt5_bridge.redpanda.config import LinkState, OnState, RedpandaConfig
from mt5_bridge.redpanda.reader import Fetched, Record

MAX_AGE_MS = 5000
"""SIGNAL_MAX_AGE_MS of all runs."""
SIGNALS, TICKS, EVENTS, DLQ = "trading_signals", "tick_data", "mt5_events", "trading_signals.dlq"
PARTITIONS = 2
_OUT_OF_RANGE = 1
_MOST_FETCHED = 20
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
        self.producers: list[SimProducer] = []
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
            if not future.done():
                future.set_result(None)

    async def news(self, seconds: float) -> None:
        """Wait for a record, but not for ever."""
        future: asyncio.Future[None] = self.world.loop.create_future()
        self._waiting.add(future)
        timer = self.world.after(seconds, lambda: future.done() or future.set_result(None))
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


class SimReader:
    """Has the manners of `redpanda.reader.Reader`."""

    broker: Broker

    def __init__(self, options: dict[str, Any], topic: str) -> None:
        self.topic = topic

    async def _ask(self, least: float = 0.0005, most: float = 0.01) -> None:
        broker = self.broker
        random = broker.world.random("reader")
        await asyncio.sleep(spread(random, least, most))
        if not broker.up:
            raise NodeNotReadyError
        if broker.weather.strikes("fetch", 0.004, random):
            raise RequestTimedOutError
        if broker.weather.strikes("fetch", 0.01, random):
            await asyncio.sleep(spread(random, 0.05, 2.0))

    async def connect(self) -> None:
        await self._ask()

    async def partitions(self) -> frozenset[int]:
        await self._ask()
        return frozenset(self.broker.signals)

    def leader(self, partition: int) -> int | None:
        return 1

    async def bounds(self, partitions: Iterable[int], since_ms: int) -> dict[int, tuple[int, int, int | None]]:
        await self._ask()
        found = {}
        for partition in partitions:
            log = self.broker.signals[partition]
            young = [r.offset for r in log.records[log.begin :] if r.timestamp_ms >= since_ms]
            found[partition] = (log.begin, log.end, young[0] if young else None)
        return found

    async def fetch(self, node: int, positions: Mapping[int, int], wait_ms: int) -> list[Fetched]:
        await self._ask()
        if not any(self.broker.signals[p].end > offset for p, offset in positions.items()):
            await self.broker.news(wait_ms / 1000)
            if not self.broker.up:
                raise NodeNotReadyError
        random = self.broker.world.random("reader")
        found = []
        for partition, offset in sorted(positions.items(), key=lambda _: random.random()):
            log = self.broker.signals[partition]
            if not log.begin <= offset <= log.end:
                found.append(Fetched(partition, offset, [], offset, error=_OUT_OF_RANGE))
                continue
            records = log.records[offset:][: random.randint(1, _MOST_FETCHED)]
            after = records[-1].offset + 1 if records else offset
            found.append(Fetched(partition, offset, records, after))
        return found

    async def commit(self, group: str, offsets: Mapping[int, int]) -> None:
        await self._ask()
        self.broker.world.note("commit", sorted(offsets.items()))

    async def close(self) -> None:
        await asyncio.sleep(0)


class SimProducer:
    """Has the manners of `redpanda.producer.Producer`: order per key, an answer for everything in bounded time."""

    broker: Broker

    def __init__(self, config: RedpandaConfig, *, on_state: OnState | None = None) -> None:
        self.state = LinkState.DISCONNECTED
        self.refusing: tuple[str, ...] = ()
        self.alive = True
        self._on_state = on_state
        self._connected = asyncio.Event()
        self._lanes: dict[tuple[str, bytes | None], float] = {}
        self._open: dict[asyncio.Future[None], tuple[str, bytes | None, list[Plain]]] = {}
        self.broker.producers.append(self)

    def start(self) -> None:
        """Begins to connect."""
        self._become(LinkState.CONNECTING)
        self.broker.world.after(0.05, self.find)

    @property
    def connected(self) -> bool:
        """Whether there is a broker."""
        return self._connected.is_set()

    async def wait_connected(self) -> None:
        """Returns when there is a broker."""
        await self._connected.wait()

    def find(self) -> None:
        """The broker is there."""
        if self.alive and self.broker.up and self.state is not LinkState.CONNECTED:
            self._connected.set()
            self._become(LinkState.CONNECTED)

    def lose(self) -> None:
        """The broker is gone: of what was under way nobody knows whether it arrived, but in order."""
        self._connected.clear()
        arrived: dict[tuple[str, bytes | None], bool] = {}
        random = self.broker.world.random("producer")
        for future, (topic, key, records) in list(self._open.items()):
            lane = (topic, key)
            arrived[lane] = arrived.get(lane, True) and random.random() < 0.5
            if arrived[lane]:
                self.broker.take(topic, key, records)
            if not future.done():
                future.set_exception(BrokerError("the broker is gone"))
        self._open.clear()
        if self.alive:
            self._become(LinkState.DISCONNECTED)

    def _become(self, state: LinkState) -> None:
        if state is not self.state:
            self.state = state
            if self._on_state is not None:
                self._on_state(state, "simulated")

    def _begin(self, topic: str, key: bytes | None, records: Sequence[Plain]) -> "asyncio.Future[None]":
        world, weather = self.broker.world, self.broker.weather
        future: asyncio.Future[None] = world.loop.create_future()
        if not self.alive:
            return future  # the dead publish nothing
        if not self.connected:
            future.set_exception(BrokerError("there is no broker"))
            future.exception()  # whoever does not look has been told by the state
            return future
        random = world.random("producer")
        pause = spread(random, 0.0005, 0.01)
        if weather.strikes("broker", 0.02, random):
            pause = spread(random, 0.05, 3.0)
        due = self._lanes[topic, key] = max(self._lanes.get((topic, key), 0.0), world.monotonic() + pause)
        self._open[future] = (topic, key, list(records))
        world.loop.call_at(due, self._arrive, future)
        return future

    def _arrive(self, future: "asyncio.Future[None]") -> None:
        entry = self._open.pop(future, None)
        if entry is None:
            return
        topic, key, records = entry
        weather, random = self.broker.weather, self.broker.world.random("producer")
        lost = weather.strikes("broker", 0.004, random)
        if not lost or random.random() < 0.5:
            self.broker.take(topic, key, records)
        if future.done():
            return
        if lost:
            future.set_exception(BrokerError("no acknowledgement came"))
        else:
            future.set_result(None)

    async def publish(self, topic: str, key: bytes | None, records: Sequence[Plain], headers: Pairs = ()) -> None:
        """See `Producer.publish`."""
        if records:
            await self._begin(topic, key, records)

    async def publish_framed(self, topic: str, key: bytes, batches: Sequence[Framed]) -> None:
        """See `Producer.publish_framed`."""
        records = [(r.timestamp, r.value) for batch in batches for r in DefaultRecordBatch(bytes(stored(batch)))]
        await self.publish(topic, key, records)

    def offer(
        self, topic: str, key: bytes | None, records: Sequence[Plain], headers: Pairs = ()
    ) -> "asyncio.Future[None] | None":
        """See `Producer.offer`."""
        if not self.connected or self.broker.world.random("producer").random() < 0.05:
            return None
        return self._begin(topic, key, records)

    async def publish_one(
        self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int | None = None, headers: Pairs = ()
    ) -> None:
        """See `Producer.publish_one`."""
        await self.publish(topic, key, [(timestamp_ms, value)], headers)

    async def stop(self, timeout: float) -> bool:
        """See `Producer.stop`."""
        self.die()
        await asyncio.sleep(0)
        return True

    def die(self) -> None:
        """The process is gone: what was under way may have arrived."""
        if self.alive:
            self.alive = False
            self.lose()
            self.broker.producers.remove(self)


async def ensure_topics(config: RedpandaConfig, specs: Sequence[Any], *, timeout: float = 15.0) -> list[str]:
    """In place of `topics.ensure_topics`: they are there."""
    await asyncio.sleep(0.01)
    return []

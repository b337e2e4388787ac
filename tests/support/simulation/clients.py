"""The bridge's ends of the broker: a reader for its own consumer, and a producer, on a line that is slow and breaks."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from aiokafka.errors import NodeNotReadyError, RequestTimedOutError
from aiokafka.record.default_records import DefaultRecordBatch
from support.simulation.broker import Broker, Pairs, Plain
from support.simulation.world import spread

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.core.reminder import Reminder
from mt5_bridge.core.ticks import Framed
from mt5_bridge.redpanda.batch import stored
from mt5_bridge.redpanda.causes import Cause
from mt5_bridge.redpanda.config import LinkState, OnState, RedpandaConfig
from mt5_bridge.redpanda.faults import describe
from mt5_bridge.redpanda.reader import Fetched
from mt5_bridge.redpanda.security import Access

_OUT_OF_RANGE = 1
_MOST_FETCHED = 20


class SimReader:
    """Has the manners of `redpanda.reader.Reader`."""

    broker: Broker

    def __init__(self, options: dict[str, Any], topic: str) -> None:
        self.topic = topic

    def throttled_for(self) -> float:
        """There are no quotas here."""
        return 0.0

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

    def __init__(
        self, config: RedpandaConfig, *, on_state: OnState | None = None, told: Reminder | None = None
    ) -> None:
        self.access = Access(config)
        self.state = LinkState.DISCONNECTED
        self.refusing: tuple[str, ...] = ()
        self.alive = True
        self._started = False
        self._on_state = on_state
        self._connected = asyncio.Event()
        self._lanes: dict[tuple[str, bytes | None], float] = {}
        self._open: dict[asyncio.Future[None], tuple[str, bytes | None, list[Plain]]] = {}
        self.broker.producers.append(self)

    def start(self) -> None:
        """Begins to connect."""
        self._started = True
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
        if self._started and self.alive and self.broker.up and self.state is not LinkState.CONNECTED:
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
        self, topic: str, parts: Sequence[tuple[bytes | None, Sequence[Plain]]], headers: Pairs = ()
    ) -> "list[tuple[asyncio.Future[None], list[int]]]":
        """See `Producer.offer`; those of one partition are here those whose keys begin alike."""
        together: dict[bytes, list[int]] = {}
        for index, (key, _) in enumerate(parts):
            if self.connected and self.broker.world.random("producer").random() >= 0.05:
                together.setdefault((key or b"")[:1], []).append(index)
        return [
            (
                cast("asyncio.Future[None]", asyncio.gather(*(self._begin(topic, *parts[index]) for index in indices))),
                indices,
            )
            for indices in together.values()
        ]

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


async def diagnose(error: BaseException, config: RedpandaConfig, options: dict[str, Any], timeout: float) -> Cause:
    """In place of `inquiry.diagnose`, which looks a second time, at real sockets."""
    return Cause(describe(error), lasting=False)

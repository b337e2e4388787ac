"""The topics as a backend not of this project sees them: librdkafka's client, recording and sending."""

import asyncio
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from support.broker import TEST_BROKER
from support.eventually import eventually

Frame = dict[str, Any]
Headers = Mapping[str, bytes | str | None]

_FETCH_WAIT_MS = 20
"""The embedded broker holds an empty fetch as long as it may."""
_CREATE_S = 10.0
_SENT_S = 60.0


class Record:
    """One record, its value decoded when it is JSON."""

    def __init__(self, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        self.topic = message.topic() or ""
        self.partition, self.offset = partition, offset
        self.key = message.key()
        self.timestamp_ms = message.timestamp()[1]
        self.headers = dict(message.headers() or ())
        self.raw: bytes = message.value() or b""

    @property
    def frame(self) -> Frame:
        found: Frame = json.loads(self.raw)
        return found

    @property
    def data(self) -> Frame:
        found: Frame = self.frame["data"]
        return found


class Topics:
    """A set of topics nobody else uses, everything on the outgoing ones recorded from the start.

    Args:
        bootstrap: the broker.
        make: whether to have them made now, by their first use; else the bridge has to.
        bars: whether there is a topic of bars.
        tag: names them; None: a new one.
    """

    def __init__(self, bootstrap: str, *, make: bool = True, bars: bool = False, tag: str | None = None) -> None:
        self.tag = tag = tag or uuid.uuid4().hex[:8]
        self.bootstrap = bootstrap
        self.tick_topic, self.event_topic = f"tick-{tag}", f"event-{tag}"
        self.bar_topic, self.signal_topic = f"bar-{tag}", f"signal-{tag}"
        self.dlq_topic = f"{self.signal_topic}.dlq"
        self.records: dict[str, list[Record]] = {self.tick_topic: [], self.event_topic: [], self.dlq_topic: []}
        if bars:
            self.records[self.bar_topic] = []
        self._make = make
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "topic.metadata.refresh.interval.ms": 1000,
                "message.max.bytes": 8_000_000,
                "log_level": 0,
            }
        )
        self._ending = threading.Event()
        self._reader: threading.Thread | None = None
        self._fault: BaseException | None = None

    @property
    def env(self) -> dict[str, str]:
        """The settings that name them."""
        return {
            "REDPANDA_BOOTSTRAP_SERVERS": self.bootstrap,
            "REDPANDA_TICK_TOPIC": self.tick_topic,
            "REDPANDA_EVENT_TOPIC": self.event_topic,
            "REDPANDA_BAR_TOPIC": self.bar_topic,
            "REDPANDA_SIGNAL_TOPIC": self.signal_topic,
        }

    async def __aenter__(self) -> Self:
        if self._make:
            await asyncio.to_thread(self.make)
        self._reader = threading.Thread(target=self._read, name="topics-reader")
        self._reader.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._reader is not None:
            await asyncio.to_thread(self._reader.join)
        self._producer.purge()
        await asyncio.to_thread(self._producer.flush, 1.0)
        if self._fault is not None:
            raise self._fault

    def make(self) -> None:
        """Has the broker make the topics, of 4 partitions: the embedded one does so when they are asked for."""
        names = (*self.records, self.signal_topic)
        if os.environ.get(TEST_BROKER) == self.bootstrap:
            admin = AdminClient({"bootstrap.servers": self.bootstrap})
            made = admin.create_topics([NewTopic(name, num_partitions=4, replication_factor=1) for name in names])
            for future in made.values():
                future.result(_CREATE_S)
        for name in names:
            self._producer.list_topics(name, timeout=_CREATE_S)

    # --- what came

    @property
    def ticks(self) -> list[Record]:
        return self.records[self.tick_topic]

    @property
    def bars(self) -> list[Record]:
        return self.records[self.bar_topic]

    @property
    def events(self) -> list[Record]:
        return self.records[self.event_topic]

    @property
    def dead(self) -> list[Record]:
        return self.records[self.dlq_topic]

    def of(self, type: str) -> list[Frame]:
        """The events of a type, as envelopes."""
        return [frame for frame in (record.frame for record in list(self.events)) if frame["type"] == type]

    def results(self, signal_id: str) -> list[Frame]:
        """The `order_result`s of a signal, interim ones included."""
        return [frame for frame in self.of("order_result") if frame["data"]["signal_id"] == signal_id]

    def finals(self, signal_id: str) -> list[Frame]:
        """Its final results."""
        return [frame for frame in self.results(signal_id) if frame["data"]["status"] != "unknown"]

    async def result(self, signal_id: str, timeout: float = 10.0) -> Frame:
        """The `data` of a signal's first final result."""
        found = await eventually(lambda: self.finals(signal_id), timeout, f"result of {signal_id} on the topic")
        data: Frame = found[0]["data"]
        return data

    async def event(
        self, type: str, where: Callable[[Frame], bool] = lambda data: True, timeout: float = 10.0
    ) -> Frame:
        """The `data` of the first event of a type that satisfies `where`."""

        def found() -> Frame | None:
            return next((frame["data"] for frame in self.of(type) if where(frame["data"])), None)

        return await eventually(found, timeout, f"event {type}")

    def last_tick(self, symbol: str) -> Frame | None:
        """The `data` of the newest tick of a symbol."""
        key = symbol.encode()
        return next((record.data for record in reversed(self.ticks) if record.key == key), None)

    async def quote(self, symbol: str, timeout: float = 15.0) -> Frame:
        """The newest tick of a symbol, once there is one."""
        return await eventually(lambda: self.last_tick(symbol), timeout, f"a tick of {symbol}")

    def ticks_of(self, symbol: str) -> list[tuple[int, int]]:
        """`(time_msc, seq)` of a symbol's ticks in the order in which they came."""
        key = symbol.encode()
        return [(t["time_msc"], t["seq"]) for t in (r.data for r in list(self.ticks) if r.key == key)]

    # --- what goes

    async def send(
        self,
        value: bytes | None,
        *,
        key: str | None = None,
        headers: Headers | None = None,
        timestamp_ms: int = 0,
        partition: int = -1,
    ) -> None:
        """One record to the signal topic; returns when the broker has it."""
        await self.send_all([value], key=key, headers=headers, timestamp_ms=timestamp_ms, partition=partition)

    async def send_all(
        self,
        values: Iterable[bytes | None],
        *,
        key: str | None = None,
        headers: Headers | None = None,
        timestamp_ms: int = 0,
        partition: int = -1,
    ) -> None:
        """Many at once; -1 leaves the partition to the key."""
        for value in values:
            self._producer.produce(
                self.signal_topic, value, key, partition, headers=list((headers or {}).items()), timestamp=timestamp_ms
            )
        left = await asyncio.to_thread(self._producer.flush, _SENT_S)
        assert left == 0, f"{left} records did not reach the broker"

    async def signal(self, signal_id: str | None, symbol: str, action: str, **fields: Any) -> None:
        """A trading_signal, keyed by its symbol."""
        await self.send(trading_signal(signal_id, symbol, action, **fields), key=symbol)

    def _read(self) -> None:
        try:
            with_group = {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"watch-{self.tick_topic}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": _FETCH_WAIT_MS,
                "topic.metadata.refresh.interval.ms": 500,
                "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
            consumer = Consumer(with_group)
            try:
                self._follow(consumer)
            finally:
                consumer.close()
        except BaseException as error:  # noqa: BLE001  told to the test when it ends
            self._fault = error

    def _follow(self, consumer: Consumer) -> None:
        known: set[tuple[str, int]] = set()
        while not self._ending.is_set():
            if not known:
                known = self._partitions(consumer)
                consumer.assign([TopicPartition(topic, number, 0) for topic, number in sorted(known)])
            for message in consumer.consume(1000, 0.05) if known else ():
                if message.error() is None:
                    self.records[message.topic() or ""].append(Record(message))

    def _partitions(self, consumer: Consumer) -> set[tuple[str, int]]:
        """All partitions of all topics, once they exist."""
        try:
            topics = consumer.list_topics(timeout=0.5).topics
        except KafkaException:
            return set()
        found = {(name, number) for name in self.records if name in topics for number in topics[name].partitions}
        return found if {name for name, _ in found} == set(self.records) else set()


def trading_signal(signal_id: str | None, symbol: str, action: str, **fields: Any) -> bytes:
    """The bytes of a trading_signal; None as id leaves it out."""
    data: Frame = {"symbol": symbol, "action": action, **fields}
    if signal_id is not None:
        data["signal_id"] = signal_id
    return json.dumps({"type": "trading_signal", "data": data}).encode()


def unique(prefix: str = "s") -> str:
    """A signal id nobody has used."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}-{os.getpid()}"

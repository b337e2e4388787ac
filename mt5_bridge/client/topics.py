"""The topics from the backend's side: ticks and events in, signals out."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Literal, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from mt5_bridge.client.signals import encode_signal, sign
from mt5_bridge.core.backoff import BackoffPolicy, delays
from mt5_bridge.core.errors import BrokerError
from mt5_bridge.core.messages import TradingSignal

SEND_TIMEOUT = 10.0
STOP_TIMEOUT = 3.0
REMEMBERED = 100_000
"""Ticks, and events, that are known again when they are delivered again: more than a bridge ever sends twice."""
_FETCH_WAIT_MS = 20
_METADATA_MS = 5_000
"""How soon a partition is noticed that was added."""
_RETRY = BackoffPolicy(first=0.2, cap=5.0)


class TopicNames(msgspec.Struct, frozen=True, kw_only=True):
    """What the topics are called; the defaults are the contract's."""

    ticks: str = "tick_data"
    bars: str = "bar_data"
    events: str = "mt5_events"
    signals: str = "trading_signals"
    dead_letters: str = "trading_signals.dlq"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the bridge. `type` is empty and `data` None when its value is not the contract's envelope."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]
    type: str = ""
    data: Any = None
    event_id: str | None = None


class _Envelope(msgspec.Struct):
    type: str
    data: Any
    event_id: str | None = None


_envelope = msgspec.json.Decoder(_Envelope)


class BridgeTopics:
    """A consumer of what bridges publish and a producer of signals.

    Args:
        bootstrap: `host:port`, comma-separated.
        names: the topics' names.
        start: where to begin reading: `latest` or `earliest`.
        hmac_key: signals are signed with it when given.
        security: further arguments of the aiokafka clients, e.g. `security_protocol`, `sasl_mechanism`, `ssl_context`.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        names: TopicNames | None = None,
        start: Literal["latest", "earliest"] = "latest",
        hmac_key: str | None = None,
        security: Mapping[str, Any] | None = None,
    ) -> None:
        self.names = names or TopicNames()
        self._start = start
        self._hmac_key = hmac_key
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap, **(security or {})}
        self._producer: AIOKafkaProducer | None = None
        self._consumers: list[AIOKafkaConsumer] = []
        self._opening = asyncio.Lock()
        self.stumbles = 0
        """How often the broker failed the reader."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the broker; bounded."""
        await self._drop_consumers()
        await self._drop_producer()

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _bounded_stop(producer)

    async def ticks(self) -> AsyncGenerator[Message]:
        """Every tick, for ever, each once for every bridge that sends it; see `messages`."""
        async with aclosing(self.messages([self.names.ticks])) as messages:
            async for message in _once(messages, tick_identity):
                yield message

    async def events(self) -> AsyncGenerator[Message]:
        """Every event, for ever, each once and those of an account in their order; see `messages`."""
        async with aclosing(self.messages([self.names.events])) as messages:
            async for message in _once(messages, lambda message: message.event_id):
                yield message

    async def messages(self, topics: Sequence[str] | None = None) -> AsyncGenerator[Message]:
        """Every record of the topics (default: ticks and events) for ever, over outages of the broker.

        As it stands on the topic: at least once. Partitions that are added meanwhile are read from their beginning.
        A topic that does not exist yet is waited for, not created: the bridge knows how many partitions it wants.
        """
        wanted = list(topics or (self.names.ticks, self.names.events))
        waits = delays(_RETRY, lambda: 1.0)
        positions: dict[TopicPartition, int] = {}
        while True:
            consumer = self._consumer(wanted)
            try:
                await self._wait_for(wanted)
                await consumer.start()
                assigned = await _place(consumer, positions)
                while True:
                    found = await consumer.getmany(timeout_ms=1000)
                    if consumer.assignment() != assigned:
                        # What was just read may come from where aiokafka begins by itself.
                        assigned = await _place(consumer, positions)
                        continue
                    for partition, records in found.items():
                        waits = delays(_RETRY, lambda: 1.0)
                        for record in records:
                            positions[partition] = record.offset + 1
                            yield _message(record)
            except (KafkaError, OSError):
                self.stumbles += 1
            await self._drop(consumer)
            await asyncio.sleep(next(waits))

    def _consumer(self, topics: list[str]) -> AIOKafkaConsumer:
        # Without a group aiokafka assigns every partition itself, later ones too, and never waits for a rebalance.
        consumer = AIOKafkaConsumer(
            *topics,
            group_id=None,
            auto_offset_reset=self._start,
            enable_auto_commit=False,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            metadata_max_age_ms=_METADATA_MS,
            **self._options,
        )
        # Stopped by `close` as well: a generator that its reader breaks out of cannot await.
        self._consumers.append(consumer)
        return consumer

    async def _wait_for(self, topics: list[str]) -> None:
        admin = AIOKafkaAdminClient(**self._options)
        try:
            await admin.start()
            for wait in delays(_RETRY, lambda: 1.0):
                if set(topics) <= set(await admin.list_topics()):
                    return
                await asyncio.sleep(wait)
        finally:
            await admin.close()

    async def _drop_consumers(self) -> None:
        while self._consumers:
            await self._drop(self._consumers[-1])

    async def _drop(self, consumer: AIOKafkaConsumer) -> None:
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            await _bounded_stop(consumer)

    async def send_signal(self, signal: TradingSignal | Mapping[str, Any], *, key: str | None = None) -> int:
        """Publish a signal; returns its offset once the broker has it.

        Args:
            signal: the contract's fields.
            key: record key; default the signal's symbol, so that a symbol's signals keep their order.

        Raises:
            BrokerError: not acknowledged in time. It may have arrived: send it again only with the same `signal_id`.
        """
        value = encode_signal(signal, now_msc=time.time_ns() // 1_000_000)
        symbol = signal.get("symbol", "") if isinstance(signal, Mapping) else signal.symbol
        return await self.send_raw(value, key=key or str(symbol))

    async def send_raw(self, value: bytes, *, key: str | None = None) -> int:
        """Publish bytes on the signal topic as they are; see `send_signal`."""
        headers = [("signature", sign(value, self._hmac_key).encode())] if self._hmac_key else []
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                producer = await self._open()
                sent = await producer.send_and_wait(
                    self.names.signals, value, key=key.encode() if key else None, headers=headers
                )
        except (KafkaError, OSError, TimeoutError) as error:
            await self._drop_producer()
            raise BrokerError(f"signal not acknowledged: {error or 'no answer from the broker'}") from error
        return int(sent.offset)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(acks="all", enable_idempotence=True, **self._options)
                try:
                    await producer.start()
                except BaseException:
                    await _bounded_stop(producer)
                    raise
                self._producer = producer
            return self._producer


async def _place(consumer: AIOKafkaConsumer, positions: dict[TopicPartition, int]) -> frozenset[TopicPartition]:
    """Goes on where the reader was; aiokafka forgets that whenever the partitions change."""
    assigned = frozenset(consumer.assignment())
    fresh = assigned - positions.keys()
    if positions and fresh:
        begin = await consumer.beginning_offsets(list(fresh))
    else:
        begin = {each: await consumer.position(each) for each in fresh}
    # Of those without a record, too: one that comes while the broker is away is not passed over.
    positions.update(begin)
    for each in assigned:
        consumer.seek(each, positions[each])
    return assigned


def tick_identity(message: Message) -> tuple[object, ...] | None:
    """What makes a tick one and the same: the bridge it is from, symbol, time and number; None: it is no tick."""
    if message.type != "tick_data" or not isinstance(message.data, dict):
        return None
    tick = message.data
    origin = message.headers.get("bridge"), message.headers.get("account")
    return (*origin, tick.get("symbol"), tick.get("time_msc"), tick.get("seq"))


async def _once(
    messages: AsyncIterator[Message], identity: Callable[[Message], Hashable | None]
) -> AsyncGenerator[Message]:
    """Those that did not come lately; what has no identity is passed on as it is."""
    seen: OrderedDict[Hashable, None] = OrderedDict()
    async for message in messages:
        name = identity(message)
        if name is not None:
            if name in seen:
                continue
            seen[name] = None
            if len(seen) > REMEMBERED:
                seen.popitem(last=False)
        yield message


def _message(record: Any) -> Message:
    known = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": record.key,
        "value": record.value or b"",
        "headers": {name: bytes(value or b"") for name, value in record.headers},
    }
    try:
        envelope = _envelope.decode(known["value"])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Message(**known)
    return Message(**known, type=envelope.type, data=envelope.data, event_id=envelope.event_id)


async def _bounded_stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """`stop()` may hang on a dead broker, or raise what it was interrupted by."""
    stopping = asyncio.ensure_future(client.stop())
    with suppress(KafkaError, OSError):
        done, _ = await asyncio.wait({stopping}, timeout=STOP_TIMEOUT)
        if not done:
            stopping.cancel()
            await asyncio.wait({stopping}, timeout=STOP_TIMEOUT)

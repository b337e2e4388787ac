"""The backend's side of the topics, on the embedded broker."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaConnectionError
from support.eventually import eventually

from mt5_bridge.client import BridgeTopics, Message, TopicNames, sign
from mt5_bridge.client import topics as client_topics
from mt5_bridge.core.errors import BrokerError
from mt5_bridge.demo.broker import EmbeddedBroker

NAMES = TopicNames()


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@pytest.fixture
async def producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    yield producer
    await producer.stop()


async def take(topics: BridgeTopics, names: list[str], count: int) -> list[Message]:
    found: list[Message] = []
    async with asyncio.timeout(10), aclosing(topics.messages(names)) as messages:
        async for message in messages:
            found.append(message)
            if len(found) == count:
                break
    return found


async def test_reads_what_the_bridge_publishes(bootstrap: str, producer: AIOKafkaProducer) -> None:
    topic = "events-read"
    async with BridgeTopics(bootstrap, start="earliest") as topics:
        reading = asyncio.create_task(take(topics, [topic], 2))
        # The embedded broker makes a topic when it is first asked for; the reader itself must not ask.
        await producer.partitions_for(topic)
        value = msgspec.json.encode({"type": "order_result", "event_id": "e1", "data": {"status": "filled"}})
        await producer.send_and_wait(topic, value, key=b"1", headers=[("schema", b"order_result/1")], partition=0)
        await producer.send_and_wait(topic, b"nonsense", partition=0)
        first, second = await reading
    assert (first.type, first.data, first.event_id) == ("order_result", {"status": "filled"}, "e1")
    assert (first.key, first.headers, first.offset) == (b"1", {"schema": b"order_result/1"}, 0)
    assert (second.type, second.data, second.value) == ("", None, b"nonsense")


def tick(number: int, *, msc: int = 1) -> bytes:
    return msgspec.json.encode({"type": "tick_data", "data": {"symbol": "EURUSD", "time_msc": msc, "seq": number}})


async def test_a_tick_and_an_event_come_once_whatever_is_delivered_again(
    bootstrap: str, producer: AIOKafkaProducer
) -> None:
    names = TopicNames(ticks="once-ticks", events="once-events")
    for topic in (names.ticks, names.events):
        await producer.partitions_for(topic)
    one, other = [("bridge", b"a"), ("account", b"1")], [("bridge", b"b"), ("account", b"2")]
    for value, headers in ((tick(0), one), (tick(1), one), (tick(0), one), (tick(0), other), (b"no tick", one)):
        await producer.send_and_wait(names.ticks, value, partition=0, headers=headers)
    for event_id in ("e1", "e1", None, "e2", "e1", None):
        event: dict[str, Any] = {"type": "order_result", "data": {}, **({"event_id": event_id} if event_id else {})}
        await producer.send_and_wait(names.events, msgspec.json.encode(event), partition=0)

    async def first(messages: AsyncGenerator[Message], count: int) -> list[Message]:
        found: list[Message] = []
        async with asyncio.timeout(10), aclosing(messages):
            async for message in messages:
                found.append(message)
                if len(found) == count:
                    break
        return found

    async with BridgeTopics(bootstrap, names=names, start="earliest") as topics:
        # Two readers of one client, side by side.
        ticks, events = await asyncio.gather(first(topics.ticks(), 4), first(topics.events(), 4))
    assert [message.offset for message in ticks] == [0, 1, 3, 4]
    assert [message.event_id for message in events] == ["e1", None, "e2", None]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_topics, "REMEMBERED", 2)

    async def run() -> list[int]:
        async def numbers() -> AsyncIterator[Message]:
            for each in (1, 2, 1, 3, 4, 1):
                yield Message(topic="t", partition=0, offset=each, timestamp_ms=0, key=None, value=b"", headers={})

        return [message.offset async for message in client_topics._once(numbers(), lambda message: message.offset)]

    assert asyncio.run(run()) == [1, 2, 3, 4, 1]


async def test_what_comes_during_an_outage_is_read_after_it_though_nothing_came_before(
    bootstrap: str, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins at the latest begins there once."""
    topic = "events-outage"
    await producer.partitions_for(topic)
    await producer.send_and_wait(topic, b"before", partition=1)
    getmany = AIOKafkaConsumer.getmany
    failures = [KafkaConnectionError()]

    async def fail_once(self: AIOKafkaConsumer, **named: Any) -> Any:
        if failures:
            await producer.send_and_wait(topic, b"meanwhile", partition=0)
            raise failures.pop()
        return await getmany(self, **named)

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", fail_once)
    async with BridgeTopics(bootstrap) as topics:
        (only,) = await take(topics, [topic], 1)
    assert (only.value, topics.stumbles) == (b"meanwhile", 1)


async def test_partitions_added_later_are_read_from_their_beginning_and_the_others_on(
    bootstrap: str, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded broker adds none, so all but one are kept from sight at first."""
    monkeypatch.setattr(client_topics, "_METADATA_MS", 200)
    topic = "events-grown"
    visible = {0}
    partitions = ClusterMetadata.partitions_for_topic

    def some(self: ClusterMetadata, name: str) -> Any:
        found = partitions(self, name)
        return found & visible if found and name == topic else found

    await producer.partitions_for(topic)
    await producer.send_and_wait(topic, b"0", partition=0)
    await producer.send_and_wait(topic, b"early", partition=1)
    monkeypatch.setattr(ClusterMetadata, "partitions_for_topic", some)
    heard: list[bytes] = []
    hear = heard.append

    async def listen(topics: BridgeTopics) -> None:
        async with aclosing(topics.messages([topic])) as messages:
            async for message in messages:
                hear(message.value)

    async with BridgeTopics(bootstrap, start="earliest") as topics:
        listening = asyncio.create_task(listen(topics))
        await eventually(lambda: heard == [b"0"], 10)
        visible.add(1)
        await eventually(lambda: b"early" in heard, 10)
        await producer.send_and_wait(topic, b"late", partition=1)
        await eventually(lambda: b"late" in heard, 10)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
    assert heard == [b"0", b"early", b"late"]
    assert topics.stumbles == 0


async def test_signals_are_keyed_by_symbol_and_signed(bootstrap: str) -> None:
    async with BridgeTopics(bootstrap, hmac_key="key") as topics:
        assert await topics.send_signal({"symbol": "EURUSD", "action": "BUY"}) == 0
        assert await topics.send_signal({"symbol": "EURUSD", "action": "SELL"}, key="5000001") in (0, 1)
    consumer = AIOKafkaConsumer(NAMES.signals, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    records = [await consumer.getone() for _ in range(2)]
    await consumer.stop()
    assert {record.key for record in records} == {b"EURUSD", b"5000001"}
    for record in records:
        assert record.headers == (("signature", sign(record.value, "key").encode()),)


async def test_a_broker_that_is_away_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with BridgeTopics("127.0.0.1:9") as topics:
        with pytest.raises(BrokerError, match="not acknowledged"):
            await topics.send_signal({"symbol": "EURUSD", "action": "BUY"})


async def test_the_reader_waits_for_a_broker() -> None:
    topics = BridgeTopics("127.0.0.1:9")
    reading = asyncio.create_task(take(topics, ["any"], 1))
    await eventually(lambda: topics.stumbles)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

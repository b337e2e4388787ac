"""The backend's side of the topics, on the embedded broker."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from support.eventually import eventually

from mt5_bridge.client import BridgeTopics, Message, TopicNames, sign
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

"""A look into a topic from its end."""

from collections.abc import Callable

import pytest
from aiokafka.errors import NotLeaderForPartitionError
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from support.broker import MockBroker, free_port

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.redpanda import RedpandaConfig, letters
from mt5_bridge.redpanda.letters import Letter
from mt5_bridge.redpanda.reader import Fetched, Reader, Record

FETCH, METADATA = 1, 3


def fill(bootstrap: str, topic: str, *records: tuple[int, int, bytes]) -> None:
    """(partition, time in ms, value) of each."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0})
    for partition, stamp, value in records:
        producer.produce(topic, value, b"key", partition, timestamp=stamp, headers=[("reason", b"invalid")])
        assert producer.flush(10) == 0


def config(bootstrap: str) -> RedpandaConfig:
    return RedpandaConfig(bootstrap=bootstrap, request_timeout=3.0)


async def test_the_newest_come_first_over_all_partitions_and_are_cut(
    bootstrap: str, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    fill(bootstrap, topic, (0, 1_000, b"a"), (2, 3_000, b"c" * 10), (0, 2_000, b"b"), (2, 4_000, b"d"))
    found = await letters.newest(config(bootstrap), topic, 3, keep_bytes=4)
    assert [(each.record.value, each.size) for each in found] == [(b"d", 1), (b"cccc", 10), (b"b", 1)]
    first = found[0].record
    assert (first.partition, first.offset, first.key, first.timestamp_ms) == (2, 1, b"key", 4_000)
    assert first.headers == (("reason", b"invalid"),)
    assert len(await letters.newest(config(bootstrap), topic, 10)) == 4


async def test_an_overview_keeps_little_of_large_records_and_the_last_headers(
    bootstrap: str, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    theirs: list[tuple[str, str | bytes | None]] = [(f"h{number}", b"x" * 5_000) for number in range(30)]
    producer.produce(topic, b"v" * 9_000, b"k" * 9_000, 0, headers=[*theirs, ("reason", b"invalid")])
    assert producer.flush(10) == 0
    (found,) = await letters.newest(config(bootstrap), topic, 3)
    record = found.record
    assert (len(record.value or b""), len(record.key or b""), found.size) == (256, 256, 9_000)
    assert len(record.headers) == 16
    assert record.headers[-1] == ("reason", b"invalid")
    assert {len(content) for _, content in record.headers[:-1]} == {2_000}
    whole = await letters.one(config(bootstrap), topic, 0, 0)
    assert isinstance(whole, Letter)
    assert (len(whole.record.key or b""), len(whole.record.headers)) == (9_000, 31)


async def test_one_is_whole(bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    fill(bootstrap, topic, (1, 1_000, b"a"), (1, 1_001, b"b" * 5000))
    found = await letters.one(config(bootstrap), topic, 1, 1)
    assert isinstance(found, Letter)
    assert (found.record.value, found.size) == (b"b" * 5000, 5000)
    assert await letters.one(config(bootstrap), topic, 1, 2) == (0, 2)
    assert await letters.one(config(bootstrap), topic, 0, 0) == (0, 0)
    assert await letters.one(config(bootstrap), topic, 9, 0) is None


async def test_a_topic_without_records_and_one_that_is_not_there(bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    with pytest.raises(letters.NoTopic, match="there is no topic"):
        await letters.newest(config(bootstrap), topic, 3)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    assert topic not in admin.list_topics(timeout=10).topics, "a look makes no topic"
    admin.list_topics(topic, timeout=10)  # the embedded broker makes what is asked for by name
    assert await letters.newest(config(bootstrap), topic, 3) == []


async def test_gaps_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 offsets a compacted topic still has three."""
    kept = (2, 50, 51)

    async def fetch(self: Reader, node: int, positions: dict[int, int], wait_ms: int) -> list[Fetched]:
        (start,) = positions.values()
        later = [offset for offset in kept if offset >= start]
        records = [Record("t", 0, offset, None, b"x", (), 1) for offset in later[:1]]
        return [Fetched(0, start, records, records[0].offset + 1 if records else 100)]

    monkeypatch.setattr(Reader, "fetch", fetch)
    monkeypatch.setattr(Reader, "leader", lambda self, partition: 1)
    reader = Reader({"bootstrap_servers": ["h:1"]}, "t", all_topics=True)
    look = letters._Look(reader)
    assert [each.record.offset for each in await look.last(0, 0, 100, 2, 9)] == [50, 51]
    assert [each.record.offset for each in await look.last(0, 0, 100, 9, 9)] == [2, 50, 51]
    assert [each.record.offset for each in await look.read(0, 51, 52, None)] == [51]
    monkeypatch.setattr(Reader, "leader", lambda self, partition: None)
    with pytest.raises(BrokerError, match="no leader"):
        await look.read(0, 0, 1, None)
    await reader.close()


async def test_an_end_that_is_never_reached_is_no_endless_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(self: Reader, node: int, positions: dict[int, int], wait_ms: int) -> list[Fetched]:
        return [Fetched(0, positions[0], [], positions[0])]

    monkeypatch.setattr(Reader, "fetch", fetch)
    monkeypatch.setattr(Reader, "leader", lambda self, partition: 1)
    reader = Reader({"bootstrap_servers": ["h:1"]}, "t", all_topics=True)
    assert await letters._Look(reader).last(0, 0, 100, 5, 9) == []
    await reader.close()


async def test_a_broker_that_is_down_is_told_with_its_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError, match=address):
        await letters.newest(config(address), "t", 3)


async def test_a_broker_that_hangs_is_given_up(mock_broker: MockBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "LOOK_S", 0.2)
    mock_broker.slow(5_000)
    with pytest.raises(BrokerError, match="does not answer"):
        await letters.newest(config(mock_broker.bootstrap), "t", 3)


@pytest.mark.parametrize(
    ("code", "words"),
    [(29, "READ on topic t is not granted; grant READ"), (NotLeaderForPartitionError.errno, "NotLeader")],
)
async def test_a_refused_read_is_told(mock_broker: MockBroker, code: int, words: str) -> None:
    mock_broker.create_topic("t", 1)
    fill(mock_broker.bootstrap, "t", (0, 1_000, b"a"))
    mock_broker.fail_next(FETCH, code)
    with pytest.raises(BrokerError, match=words):
        await letters.newest(config(mock_broker.bootstrap), "t", 3)

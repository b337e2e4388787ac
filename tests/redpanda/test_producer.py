"""The producer against the embedded broker: what arrives, in which order, and what happens when the broker does not."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ClusterAuthorizationFailedError
from support.broker import BrokerProcess, MockBroker
from support.eventually import eventually
from support.proxy import FaultyProxy

from mt5_bridge.core.backoff import BackoffPolicy
from mt5_bridge.core.errors import BrokerError
from mt5_bridge.core.model import TICK_RECORD
from mt5_bridge.core.ticks import Label, TickFramer
from mt5_bridge.redpanda import LinkState, Producer, RecordRefused, RedpandaConfig

QUICK = BackoffPolicy(first=0.05, cap=0.2, floor=0.02, min_uptime=1.0)
HEADERS = (("schema", b"tick_data/1"), ("bridge", b"pc"), ("account", b"1"))


def quick(
    bootstrap: str,
    *,
    request_timeout: float = 2.0,
    ack_timeout: float = 1.5,
    max_batch_bytes: int = 500_000,
    max_record_bytes: int = 1_000_000,
    max_pending_bytes: int = 16_000_000,
) -> RedpandaConfig:
    return RedpandaConfig(
        bootstrap=bootstrap,
        backoff=QUICK,
        request_timeout=request_timeout,
        ack_timeout=ack_timeout,
        max_batch_bytes=max_batch_bytes,
        max_record_bytes=max_record_bytes,
        max_pending_bytes=max_pending_bytes,
    )


@pytest.fixture
async def producer(bootstrap: str) -> AsyncIterator[Producer]:
    made = Producer(quick(bootstrap))
    made.start()
    yield made
    await made.stop(1.0)


@pytest.fixture
async def mocked(mock_broker: MockBroker) -> AsyncIterator[Producer]:
    """Connected to a broker that fails as it is told."""
    made = Producer(quick(mock_broker.bootstrap))
    made.start()
    await made.wait_connected()
    yield made
    await made.stop(1.0)


async def read_all(bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes | None, bytes | None, int]]:
    """Everything on the topic once it holds `count` records: (partition, key, value, timestamp)."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=20)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, each) for each in consumer.partitions_for_topic(topic) or ()]
        if not partitions:
            await consumer._client.force_metadata_update()
            partitions = [TopicPartition(topic, each) for each in await _partitions(bootstrap, topic)]
        consumer.assign(partitions)
        found: list[tuple[int, bytes | None, bytes | None, int]] = []

        async def more() -> bool:
            for rows in (await consumer.getmany(timeout_ms=100)).values():
                found.extend((row.partition, row.key, row.value, row.timestamp) for row in rows)
            return len(found) >= count

        await eventually(more, 10.0, f"{count} records on {topic}")
        return found
    finally:
        await consumer.stop()


async def _partitions(bootstrap: str, topic: str) -> set[int]:
    client = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await client.start()
    try:
        return set(await client.partitions_for(topic))
    finally:
        await client.stop()


async def test_all_of_a_publish_arrives_in_order_with_its_times(
    producer: Producer, bootstrap: str, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    await producer.wait_connected()
    records = [(1_700_000_000_000 + i, b"%d" % i) for i in range(5_000)]
    await producer.publish(topic, b"EURUSD", records, HEADERS)
    found = await read_all(bootstrap, topic, 5_000)
    assert [row[2] for row in found] == [value for _, value in records]
    assert [row[3] for row in found] == [time_ms for time_ms, _ in records]
    assert {row[0] for row in found} == {found[0][0]}
    assert producer.stats.records == 5_000


async def test_framed_ticks_arrive_in_order_and_let_other_keys_pass(
    producer: Producer, bootstrap: str, new_topic: Callable[[], str]
) -> None:
    topic, start = new_topic(), 1_700_000_000_000
    pack = struct.Struct(TICK_RECORD).pack
    data = b"".join(pack(0, 1.1, 1.2, 0.0, 0, start + n, 6, 0.0) for n in range(3_000))
    batches = list(TickFramer(Label("EURUSD", 0.01, list(HEADERS)), first_seq=0, now_msc=start).frame(data, 0))
    assert len(batches) > 2
    await producer.wait_connected()
    await producer.publish_framed(topic, b"EURUSD", [])
    await asyncio.gather(
        producer.publish_framed(topic, b"EURUSD", batches),
        *(producer.publish_one(topic, b"LIVE", b"live", start + n, HEADERS) for n in range(10)),
    )
    found = await read_all(bootstrap, topic, 3_010)
    assert [row[3] for row in found if row[1] == b"EURUSD"] == [start + n for n in range(3_000)]
    assert [row[3] for row in found if row[1] == b"LIVE"] == [start + n for n in range(10)]
    assert producer.stats.records == 3_010


async def test_headers_and_tombstones_arrive(producer: Producer, bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    await producer.wait_connected()
    await producer.publish_one(topic, b"k", None, 5, HEADERS)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        row = await consumer.getone()
    finally:
        await consumer.stop()
    assert (row.key, row.value, row.timestamp, tuple(row.headers)) == (b"k", None, 5, HEADERS)


async def test_a_key_goes_where_java_puts_it(producer: Producer, bootstrap: str, new_topic: Callable[[], str]) -> None:
    # Values of murmur2 from Kafka's own UtilsTest, modulo 4 partitions.
    murmur2 = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    topic = new_topic()
    await producer.wait_connected()
    for key in murmur2:
        await producer.publish_one(topic, key, b"v")
    count = len(await _partitions(bootstrap, topic))
    found = await read_all(bootstrap, topic, 3)
    assert {row[1]: row[0] for row in found} == {key: (value & 0x7FFFFFFF) % count for key, value in murmur2.items()}


async def test_concurrent_publishes_of_a_key_keep_their_order(
    producer: Producer, bootstrap: str, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    await producer.wait_connected()
    await asyncio.gather(
        *[producer.publish(topic, b"k", [(None, b"%d-%d" % (i, j)) for j in range(20)]) for i in range(100)]
    )
    found = await read_all(bootstrap, topic, 2_000)
    assert [row[2] for row in found] == [b"%d-%d" % (i, j) for i in range(100) for j in range(20)]
    assert producer.stats.batches < 100  # they shared batches


async def test_pending_bytes_are_bounded_and_order_kept(bootstrap: str, new_topic: Callable[[], str]) -> None:
    producer = Producer(quick(bootstrap, max_pending_bytes=20_000, max_batch_bytes=5_000))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        sends = [asyncio.ensure_future(producer.publish_one(topic, b"k", b"%04d" % i + b"." * 996)) for i in range(60)]
        pending: list[int] = []
        for each in sends:
            each.add_done_callback(lambda _: pending.append(producer.stats.pending_bytes))
        await asyncio.gather(*sends)
        assert 0 < max(pending) <= 20_000
        found = await read_all(bootstrap, topic, 60)
        assert [(row[2] or b"")[:4] for row in found] == [b"%04d" % i for i in range(60)]
        assert producer.stats.pending_bytes == 0
    finally:
        await producer.stop(1.0)


async def test_what_is_offered_is_taken_at_once_or_not_at_all(bootstrap: str, new_topic: Callable[[], str]) -> None:
    producer = Producer(quick(bootstrap, max_pending_bytes=20_000, max_record_bytes=15_000))
    topic = new_topic()
    assert producer.offer(topic, [(b"k", [(None, b"0")])]) == [], "no broker"
    producer.start()
    try:
        await producer.wait_connected()
        assert producer.offer(topic, [(b"k", [(None, b"0")])]) == [], "the topic is not known"
        await producer.publish_one(topic, b"k", b"1")
        parts = [(b"k", [(None, b"%d" % i + b"." * 7_000)]) for i in (2, 3, 4)]
        ((sent, indices),) = producer.offer(topic, parts)
        later = asyncio.ensure_future(producer.publish_one(topic, b"k", b"5" + b"." * 7_000))
        assert indices == [0, 1], "the buffer is full"
        assert producer.offer(topic, [(b"k", [])]) == []
        assert producer.offer(topic, [(b"k", [(None, b"." * 15_000)])]) == [], "too large"
        await asyncio.sleep(0)
        assert producer.offer(topic, [(b"k", [(None, b"6")])]) == [], "nothing overtakes what waits for room"
        await asyncio.gather(sent, later)
        assert [(row[2] or b"")[:1] for row in await read_all(bootstrap, topic, 4)] == [b"1", b"2", b"3", b"5"]
        assert producer.stats.pending_bytes == 0
    finally:
        await producer.stop(1.0)


@pytest.mark.parametrize("how", ["offer", "publish"])
async def test_nothing_passes_a_first_batch_before_it_is_known_what_became_of_it(
    mocked: Producer, mock_broker: MockBroker, new_topic: Callable[[], str], how: str
) -> None:
    """Its future is done a turn of the loop before the producer hears of it."""
    topic = new_topic()
    session = mocked._session
    assert session is not None
    await session.partition(topic, b"k", 5.0)
    mock_broker.fail_next(PRODUCE, MESSAGE_TOO_LARGE)
    one = asyncio.ensure_future(mocked.publish(topic, b"k", [(1, b"1"), (2, b"2")]))
    while not session._first:  # noqa: ASYNC110 - the very turn of the loop is looked for
        await asyncio.sleep(0)
    (first,) = session._first.values()
    while not first.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert mocked._ended is not None
    assert not mocked._ended.done(), "this is the moment"
    if how == "offer":
        ((two, _),) = mocked.offer(topic, [(b"k", [(3, b"3")])])
    else:
        two = asyncio.ensure_future(mocked.publish(topic, b"k", [(3, b"3")]))
    await asyncio.wait_for(asyncio.gather(one, two), 10.0)
    assert [row[2] for row in await read_all(mock_broker.bootstrap, topic, 3)] == [b"1", b"2", b"3"]


async def test_a_session_that_ends_is_given_nothing_more(mocked: Producer, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    await mocked.publish_one(topic, b"k", b"0")
    session = mocked._session
    assert session is not None
    assert mocked._ended is not None
    mocked._ended.set_result("a batch is missing")
    ((offered, _),) = mocked.offer(topic, [(b"k", [(1, b"1")])])
    assert not session._due
    await asyncio.wait_for(offered, 10.0)
    assert mocked.stats.sessions == 2


async def test_a_defect_in_one_lane_leaves_the_others_alone(producer: Producer, new_topic: Callable[[], str]) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    bad, good = new_topic(), new_topic()
    await producer.wait_connected()
    for topic in (bad, good):
        await producer.publish_one(topic, b"k", b"0")
    never = asyncio.ensure_future(producer.publish_one(bad, b"k", b"1", 2**63))
    await asyncio.wait_for(producer.publish_one(good, b"k", b"1"), 5.0)
    assert [type(error) for error in told] == [OverflowError]
    never.cancel()


async def test_what_is_offered_together_shares_a_future_where_it_shares_a_partition(
    mocked: Producer, mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    await mocked.publish_one(topic, b"0", b"first")
    keys = [b"%d" % number for number in range(12)]
    offered = mocked.offer(topic, [(key, [(1, key + b"a"), (2, key + b"b")]) for key in keys], HEADERS)
    assert sorted(index for _, indices in offered for index in indices) == list(range(12))
    await asyncio.wait_for(asyncio.gather(*(future for future, _ in offered)), 10.0)
    rows = [row for row in await read_all(mock_broker.bootstrap, topic, 25) if row[2] != b"first"]
    partitions = {row[1]: row[0] for row in rows}
    assert [{partitions[keys[index]] for index in indices} for _, indices in offered] == [
        {partition} for partition in dict.fromkeys(partitions[keys[indices[0]]] for _, indices in offered)
    ]
    for key in keys:
        assert [row[2] for row in rows if row[1] == key] == [key + b"a", key + b"b"]
    mock_broker.fail_next(PRODUCE, INVALID_TIMESTAMP)
    ((refused, _),) = mocked.offer(topic, [(key, [(1, b"x")]) for key in keys if partitions[key] == 0])
    with pytest.raises(RecordRefused):
        await asyncio.wait_for(refused, 10.0)
    assert mocked.stats.refused == 0, "nobody knows yet which of them it was"


async def test_a_large_record_travels_alone_and_a_huge_one_is_refused(
    bootstrap: str, new_topic: Callable[[], str]
) -> None:
    producer = Producer(quick(bootstrap, max_batch_bytes=2_000, max_record_bytes=100_000))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        large = b"x" * 50_000
        await asyncio.gather(*[producer.publish_one(topic, b"k", each) for each in (b"1", large, b"2")])
        assert [row[2] for row in await read_all(bootstrap, topic, 3)] == [b"1", large, b"2"]
        with pytest.raises(RecordRefused) as refused:
            await producer.publish_one(topic, b"k", b"x" * 100_000)
        assert refused.value.reason == "too_large"
        assert not refused.value.retriable
    finally:
        await producer.stop(1.0)


async def test_without_a_broker_publishing_fails_at_once_and_stop_is_quick() -> None:
    producer = Producer(quick("127.0.0.1:9"))
    states: list[LinkState] = []
    producer._on_state = lambda state, _: states.append(state)
    producer.start()
    with pytest.raises(BrokerError):
        await producer.publish_one("t", b"k", b"v")
    await eventually(lambda: LinkState.DISCONNECTED in states, 5.0)
    assert "127.0.0.1:9" in producer.detail
    async with asyncio.timeout(5.0):
        await producer.stop(0.5)
    assert await producer.flush(0.1)


async def test_a_short_outage_is_bridged(mock_broker: MockBroker, new_topic: Callable[[], str]) -> None:
    producer = Producer(quick(mock_broker.bootstrap, ack_timeout=10.0))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        await producer.publish_one(topic, b"k", b"0")
        mock_broker.down()
        later = [asyncio.ensure_future(producer.publish_one(topic, b"k", b"%d" % i)) for i in range(1, 4)]
        done, _ = await asyncio.wait(later, timeout=0.5)
        assert not done
        mock_broker.up()
        await asyncio.wait_for(asyncio.gather(*later), 5.0)
        found = await read_all(mock_broker.bootstrap, topic, 4)
        assert [row[2] for row in found] == [b"0", b"1", b"2", b"3"]
        assert producer.stats.sessions == 1
    finally:
        await producer.stop(1.0)


async def test_a_long_outage_fails_what_waits_and_builds_the_producer_anew(
    mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    producer = Producer(quick(mock_broker.bootstrap, ack_timeout=0.5))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        await producer.publish_one(topic, b"k", b"0")
        mock_broker.down()
        with pytest.raises(BrokerError):
            await asyncio.wait_for(producer.publish_one(topic, b"k", b"lost"), 10.0)
        assert producer.state is not LinkState.CONNECTED
        assert producer.stats.pending_bytes == 0
        mock_broker.up()
        await asyncio.wait_for(producer.wait_connected(), 5.0)
        await producer.publish_one(topic, b"k", b"1")
        found = await read_all(mock_broker.bootstrap, topic, 2)
        assert [row[2] for row in found] == [b"0", b"1"]
        assert producer.stats.sessions == 2
    finally:
        await producer.stop(1.0)


async def test_a_broker_that_hangs_is_noticed(mock_broker: MockBroker, new_topic: Callable[[], str]) -> None:
    async with await FaultyProxy.in_front_of_broker(mock_broker.port) as proxy:
        producer = Producer(quick(proxy.bootstrap, ack_timeout=0.5, request_timeout=1.0))
        producer.start()
        topic = new_topic()
        try:
            await producer.wait_connected()
            await producer.publish_one(topic, b"k", b"0")
            proxy.hang()
            with pytest.raises(BrokerError):
                await asyncio.wait_for(producer.publish_one(topic, b"k", b"1"), 10.0)
            proxy.heal()
            await asyncio.wait_for(producer.wait_connected(), 10.0)
            await producer.publish_one(topic, b"k", b"2")
        finally:
            async with asyncio.timeout(6.0):
                await producer.stop(1.0)


async def test_stop_is_bounded_while_the_broker_is_dead(mock_broker: MockBroker, new_topic: Callable[[], str]) -> None:
    producer = Producer(quick(mock_broker.bootstrap, ack_timeout=60.0))
    producer.start()
    await producer.wait_connected()
    topic = new_topic()
    await producer.publish_one(topic, b"k", b"0")
    mock_broker.down()
    send = asyncio.ensure_future(producer.publish_one(topic, b"k", b"1"))
    await eventually(lambda: producer.stats.pending_bytes > 0)
    async with asyncio.timeout(6.0):
        assert await producer.stop(0.3) is False
    with pytest.raises(BrokerError):
        await send


async def test_a_killed_broker_comes_back_on_the_same_port(new_topic: Callable[[], str]) -> None:
    with BrokerProcess() as broker:
        producer = Producer(quick(broker.bootstrap))
        producer.start()
        topic = new_topic()
        try:
            await producer.wait_connected()
            await producer.publish_one(topic, b"k", b"0")
            broker.kill()
            with pytest.raises(BrokerError):
                await asyncio.wait_for(producer.publish_one(topic, b"k", b"1"), 10.0)
            broker.start()
            await asyncio.wait_for(producer.wait_connected(), 10.0)
            await producer.publish_one(topic, b"k", b"2")
            assert [row[2] for row in await read_all(broker.bootstrap, topic, 1)] == [b"2"]
        finally:
            await producer.stop(1.0)


PRODUCE = 0
MESSAGE_TOO_LARGE, INVALID_TIMESTAMP, OUT_OF_ORDER = 10, 32, 45


async def test_a_refused_record_fails_alone(
    mocked: Producer, mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    await mocked.publish_one(topic, b"k", b"0")
    mock_broker.fail_next(PRODUCE, INVALID_TIMESTAMP)
    with pytest.raises(RecordRefused) as refused:
        await mocked.publish_one(topic, b"k", b"bad")
    assert refused.value.reason == "timestamp"
    await asyncio.wait_for(mocked.wait_connected(), 5.0)
    await mocked.publish_one(topic, b"k", b"1")
    assert [row[2] for row in await read_all(mock_broker.bootstrap, topic, 2)] == [b"0", b"1"]


async def test_a_batch_too_large_for_the_topic_is_split(
    mocked: Producer, mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    """Records and framed ticks alike: all arrive, once and in order, in batches that the topic takes."""
    topic, start = new_topic(), 1_700_000_000_000
    pack = struct.Struct(TICK_RECORD).pack
    data = b"".join(pack(0, 1.1, 1.2, 0.0, 0, start + n, 6, 0.0) for n in range(1_000))
    batches = list(TickFramer(Label("EURUSD", 0.01, list(HEADERS)), first_seq=0, now_msc=start).frame(data, 0))
    mock_broker.fail_next(PRODUCE, MESSAGE_TOO_LARGE, MESSAGE_TOO_LARGE)
    await mocked.publish_framed(topic, b"EURUSD", batches)
    assert mocked.stats.batches >= 4
    mock_broker.fail_next(PRODUCE, *[MESSAGE_TOO_LARGE] * 6)  # more often than a batch may fail otherwise
    await mocked.publish(topic, b"EURUSD", [(start + 1_000 + n, b"%d" % n) for n in range(1_000)], HEADERS)
    found = await read_all(mock_broker.bootstrap, topic, 2_000)
    assert [row[3] for row in found] == [start + n for n in range(2_000)]
    assert (mocked.stats.refused, mocked.stats.failed) == (0, 0)


@pytest.mark.parametrize("refused", [1, 2, 3])
async def test_nothing_passes_a_refused_first_batch(
    mock_broker: MockBroker, new_topic: Callable[[], str], refused: int
) -> None:
    """Where a broker knows nothing of a producer, it takes any sequence number of it."""
    producer = Producer(quick(mock_broker.bootstrap, max_batch_bytes=5_000))
    producer.start()
    topic = new_topic()
    values = [b"%03d" % n + b"." * 200 for n in range(60)]
    try:
        await producer.wait_connected()
        mock_broker.fail_next(PRODUCE, *[MESSAGE_TOO_LARGE] * refused)
        parts = [[(1, value) for value in values[first : first + 20]] for first in (0, 20, 40)]
        await asyncio.gather(*[producer.publish(topic, b"k", part) for part in parts])
        assert [row[2] for row in await read_all(mock_broker.bootstrap, topic, 60)] == values
        assert (producer.stats.records, producer.stats.failed) == (60, 0)
    finally:
        await producer.stop(1.0)


async def test_what_a_quota_makes_wait_is_no_silence(mock_broker: MockBroker, new_topic: Callable[[], str]) -> None:
    producer = Producer(quick(mock_broker.bootstrap, ack_timeout=0.5))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        await producer.publish_one(topic, b"k", b"0")
        session = producer._session
        assert session is not None
        session._throttle._until[1] = time.monotonic() + 3_600
        waiting = asyncio.ensure_future(producer.publish_one(topic, b"k", b"1"))
        await eventually(lambda: session._due)
        assert await session.alive(0.0)
        done, _ = await asyncio.wait([waiting], timeout=1.5)  # three times as long as it waits for a silent broker
        assert not done
        assert session.silent_for() == 0.0
        session._throttle._until.clear()
        with pytest.raises(BrokerError):
            await asyncio.wait_for(waiting, 10.0)
    finally:
        await producer.stop(1.0)


async def test_those_who_travelled_with_a_refused_record_arrive(
    mocked: Producer, mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    await mocked.publish_one(topic, b"k", b"first")
    # The shared batch is refused, then the first of its parcels; the others are fine.
    mock_broker.fail_next(PRODUCE, INVALID_TIMESTAMP, INVALID_TIMESTAMP)
    answers = await asyncio.wait_for(
        asyncio.gather(*[mocked.publish_one(topic, b"k", b"%d" % i) for i in range(4)], return_exceptions=True),
        10.0,
    )
    assert isinstance(answers[0], RecordRefused)
    assert answers[1:] == [None, None, None]
    found = await read_all(mock_broker.bootstrap, topic, 4)
    assert [row[2] for row in found] == [b"first", b"1", b"2", b"3"]


async def test_a_lost_sequence_is_mended_by_a_new_session(
    mocked: Producer, mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    await mocked.publish_one(topic, b"k", b"0")
    mock_broker.fail_next(PRODUCE, OUT_OF_ORDER)
    await asyncio.wait_for(mocked.publish_one(topic, b"k", b"1"), 10.0)
    assert [row[2] for row in await read_all(mock_broker.bootstrap, topic, 2)] == [b"0", b"1"]
    assert mocked.stats.sessions == 2


async def test_a_lane_whose_task_was_cancelled_before_it_ran_goes_on(
    producer: Producer, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    await producer.wait_connected()
    await producer.publish_one(topic, b"k", b"0")
    session = producer._session
    assert session is not None
    session._first.clear()  # as in a new session: the lane must wait, in a task of its own
    ((offered, _),) = producer.offer(topic, [(b"k", [(1, b"1")])])
    await asyncio.create_task(producer._halt_lanes())  # begins in the turn in which the lane's task is made
    await asyncio.wait_for(producer.publish_one(topic, b"k", b"2"), 5.0)
    await asyncio.wait_for(offered, 5.0)


async def test_what_fails_again_and_again_is_given_up(
    mocked: Producer, mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    mock_broker.fail_next(PRODUCE, *[OUT_OF_ORDER] * 10)
    with pytest.raises(BrokerError, match="tries"):
        await asyncio.wait_for(mocked.publish_one(topic, b"k", b"1"), 20.0)


async def test_a_cancelled_publish_leaves_nothing_behind(
    producer: Producer, bootstrap: str, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    await producer.wait_connected()
    send = asyncio.ensure_future(producer.publish_one(topic, b"k", b"1"))
    await asyncio.sleep(0)
    send.cancel()
    with pytest.raises(asyncio.CancelledError):
        await send
    await producer.publish_one(topic, b"k", b"2")
    assert producer.stats.pending_bytes == 0


async def test_nothing_to_publish_is_published_at_once(producer: Producer) -> None:
    await producer.publish("t", b"k", [])
    assert producer.stats.records == 0


async def test_an_idle_producer_notices_that_its_broker_died(
    mock_broker: MockBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt5_bridge.redpanda.producer._IDLE_SECONDS", 0.05)
    monkeypatch.setattr("mt5_bridge.redpanda.producer._WATCH_SECONDS", 0.05)
    producer = Producer(quick(mock_broker.bootstrap))
    producer.start()
    try:
        await producer.wait_connected()
        mock_broker.down()
        await eventually(lambda: producer.state is LinkState.DISCONNECTED)
        mock_broker.up()
        await asyncio.wait_for(producer.wait_connected(), 5.0)
    finally:
        await producer.stop(1.0)


async def test_a_slow_broker_is_told_as_unsure_and_sure_again(
    mock_broker: MockBroker, monkeypatch: pytest.MonkeyPatch, new_topic: Callable[[], str]
) -> None:
    monkeypatch.setattr("mt5_bridge.redpanda.producer._UNSURE_SECONDS", 0.1)
    monkeypatch.setattr("mt5_bridge.redpanda.producer._WATCH_SECONDS", 0.02)
    states: list[LinkState] = []
    producer = Producer(quick(mock_broker.bootstrap, ack_timeout=10.0), on_state=lambda state, _: states.append(state))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        await producer.publish_one(topic, b"k", b"0")
        mock_broker.slow(400)
        await producer.publish_one(topic, b"k", b"1")
        await eventually(lambda: producer.state is LinkState.CONNECTED)
        assert states == [LinkState.CONNECTING, LinkState.CONNECTED, LinkState.CONNECTING, LinkState.CONNECTED]
    finally:
        await producer.stop(1.0)


NOT_AUTHORIZED = 29


async def test_a_topic_we_may_not_see_is_that_topics_trouble(
    mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    producer = Producer(quick(mock_broker.bootstrap, ack_timeout=0.5))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        await producer.publish_one(topic, b"k", b"0")
        mock_broker.topic_error("hidden", NOT_AUTHORIZED)
        with pytest.raises(BrokerError, match="hidden"):
            await producer.publish_one("hidden", b"k", b"1")
        await producer.publish_one(topic, b"k", b"2")
        assert producer.stats.sessions == 1
    finally:
        await producer.stop(1.0)


async def test_a_topic_we_may_not_write_waits_and_does_not_hold_up_the_others(
    mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    producer = Producer(quick(mock_broker.bootstrap), random=lambda: 0.0)
    producer.start()
    free, shut = new_topic(), new_topic()
    try:
        await producer.wait_connected()
        for topic in (free, shut):
            await producer.publish_one(topic, b"k", b"0")
        mock_broker.fail_next(PRODUCE, NOT_AUTHORIZED)
        answers = await asyncio.gather(
            *[producer.publish_one(shut, b"k", b"lost %d" % i) for i in range(50)], return_exceptions=True
        )
        assert all(isinstance(each, RecordRefused) and each.retriable for each in answers)
        assert {each.reason for each in answers if isinstance(each, RecordRefused)} == {"not_allowed"}
        assert (producer.stats.held, producer.stats.refused) == (1, 0), "the first answer is the answer to all"
        again = asyncio.ensure_future(producer.publish_one(shut, b"k", b"1"))
        await producer.publish_one(free, b"k", b"1")
        assert not again.done(), "it waits until the topic is tried again"
        assert producer.offer(shut, [(b"k", [(None, b"2")])]) == []
        await asyncio.wait_for(again, 5.0)
        assert [row[2] for row in await read_all(mock_broker.bootstrap, shut, 2)] == [b"0", b"1"]
        assert producer.stats.sessions == 2
    finally:
        await producer.stop(1.0)


async def test_a_topic_that_is_not_there_is_said_to_be_missing(mock_broker: MockBroker) -> None:
    unknown_topic = 3
    producer = Producer(quick(mock_broker.bootstrap, ack_timeout=0.3), random=lambda: 0.0)
    producer.start()
    try:
        await producer.wait_connected()
        mock_broker.topic_error("later", unknown_topic)
        with pytest.raises(RecordRefused, match="does not have it") as refused:
            await producer.publish_one("later", b"k", b"1")
        assert (refused.value.reason, refused.value.retriable) == ("topic", True)
        mock_broker.topic_error("later", 0)
        await asyncio.wait_for(producer.publish_one("later", b"k", b"1"), 5.0)
        assert (producer.stats.held, producer.stats.sessions) == (1, 1)
    finally:
        await producer.stop(1.0)


async def test_a_record_that_is_damaged_again_and_again_is_poison(
    mock_broker: MockBroker, new_topic: Callable[[], str]
) -> None:
    corrupt, invalid = 2, 87
    producer = Producer(quick(mock_broker.bootstrap))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        mock_broker.fail_next(PRODUCE, corrupt)
        await asyncio.wait_for(producer.publish_one(topic, b"k", b"once"), 10.0)
        for codes in ([corrupt] * 5, [invalid]):
            mock_broker.fail_next(PRODUCE, *codes)
            with pytest.raises(RecordRefused) as refused:
                await asyncio.wait_for(producer.publish_one(topic, b"k", b"always"), 20.0)
            assert (refused.value.reason, refused.value.retriable) == ("invalid", False)
    finally:
        await producer.stop(1.0)


async def test_a_producer_whose_sender_died_is_built_anew(bootstrap: str, new_topic: Callable[[], str]) -> None:
    producer = Producer(quick(bootstrap))
    producer.start()
    topic = new_topic()
    try:
        await producer.wait_connected()
        await producer.publish_one(topic, b"k", b"0")
        session = producer._session
        assert session is not None
        assert session.broken() is None
        sender = session._producer._sender
        sender.sender_task.cancel()
        await eventually(sender.sender_task.done)
        sender._sender_task = asyncio.ensure_future(_die())
        await eventually(lambda: producer.stats.sessions == 2, 10.0)
        await asyncio.wait_for(producer.wait_connected(), 5.0)
        await producer.publish_one(topic, b"k", b"1")
    finally:
        await producer.stop(1.0)


async def _die() -> None:
    raise ClusterAuthorizationFailedError


async def test_a_keyless_record_goes_somewhere(producer: Producer, new_topic: Callable[[], str]) -> None:
    await producer.wait_connected()
    await producer.publish_one(new_topic(), None, b"v")
    assert producer.stats.records == 1

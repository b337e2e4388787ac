"""The consumer against the embedded broker: where it begins, what it survives, how soon it hears."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from support.broker import BrokerProcess, MockBroker
from support.certificates import Authority
from support.eventually import eventually
from support.logged import logged
from support.proxy import FaultyProxy

from mt5_bridge.core.backoff import Backoff, BackoffPolicy
from mt5_bridge.redpanda import LinkState, Record, RedpandaConfig, SignalConsumer
from mt5_bridge.redpanda.reader import Reader
from mt5_bridge.redpanda.security import Access

QUICK = BackoffPolicy(first=0.05, cap=0.2, floor=0.02, min_uptime=1.0)
MAX_AGE_MS = 5_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Listener:
    """A consumer, and what it heard."""

    def __init__(self, bootstrap: str, topic: str, offsets: Mapping[int, int]) -> None:
        self.heard: list[Record] = []
        self.resets: list[tuple[int, int, str]] = []
        config = RedpandaConfig(bootstrap=bootstrap, backoff=QUICK, patience=QUICK, request_timeout=2.0)
        self.consumer = SignalConsumer(
            config,
            topic,
            "group",
            offsets,
            MAX_AGE_MS,
            on_reset=self._begun_elsewhere,
        )

    async def _begun_elsewhere(self, _: str, partition: int, offset: int, why: str) -> None:
        self.resets.append((partition, offset, why))

    async def listen(self) -> None:
        async for records in self.consumer.records():
            self.heard.extend(records)

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.heard]


@asynccontextmanager
async def listening(bootstrap: str, topic: str, offsets: Mapping[int, int] | None = None) -> AsyncIterator[Listener]:
    listener = Listener(bootstrap, topic, offsets or {})
    listener.consumer.start()
    task = asyncio.create_task(listener.listen())
    try:
        yield listener
    finally:
        task.cancel()
        async with asyncio.timeout(5.0):
            await asyncio.gather(task, return_exceptions=True)
            await listener.consumer.stop(4.0)


async def send(
    bootstrap: str, topic: str, *values: bytes, partition: int | None = 0, timestamp_ms: int | None = None
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for value in values:
            headers = [("signature", b"s")]
            await producer.send_and_wait(
                topic, value, b"key", partition=partition, timestamp_ms=timestamp_ms, headers=headers
            )
    finally:
        await producer.stop()


async def test_files_that_are_just_being_renewed_do_not_matter_to_one_that_begins_late(tmp_path: Path) -> None:
    """It begins when the account is known, hours after the start where the terminal is late."""
    file = Authority(tmp_path).certificate
    config = RedpandaConfig(security_protocol="SSL", ca_file=str(file))
    access = Access(config)
    file.unlink()
    SignalConsumer(config, "s", "group", {}, MAX_AGE_MS, access=access)
    assert access.options()["ssl_context"]


async def test_what_is_sent_is_heard_as_it_was_sent(bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    stamp = now_ms()
    async with listening(bootstrap, topic) as listener:
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        await send(bootstrap, topic, b"one", partition=0, timestamp_ms=stamp)
        await eventually(lambda: listener.heard)
        record = listener.heard[0]
        assert record == Record(topic, 0, 0, b"key", b"one", (("signature", b"s"),), stamp)
        assert listener.consumer.state is LinkState.CONNECTED


def _has_come(consumer: SignalConsumer, records: int) -> bool:
    return consumer.stats.records == records


async def test_what_came_meanwhile_is_handed_on_together(bootstrap: str, new_topic: Callable[[], str]) -> None:
    """From whatever partition, behind the news of where reading begins: each hand-over costs a commit."""
    resets: list[int] = []

    async def begun_elsewhere(_: str, partition: int, offset: int, why: str) -> None:
        resets.append(partition)

    consumer = SignalConsumer(
        RedpandaConfig(bootstrap=bootstrap, request_timeout=2.0),
        topic := new_topic(),
        "group",
        {},
        MAX_AGE_MS,
        on_reset=begun_elsewhere,
    )
    consumer.start()
    try:
        await asyncio.wait_for(consumer.ready.wait(), 5.0)
        for number in range(4):
            await send(bootstrap, topic, b"%d" % number, partition=number % 2)
            await eventually(partial(_has_come, consumer, number + 1))
        batch = await asyncio.wait_for(anext(aiter(consumer.records())), 5.0)
        assert [(record.partition, record.value) for record in batch] == [(0, b"0"), (1, b"1"), (0, b"2"), (1, b"3")]
        assert set(resets) >= {0, 1}
    finally:
        await consumer.stop(4.0)


async def test_who_takes_a_record_that_came_by_itself_goes_on_before_the_next_fetch(
    bootstrap: str, new_topic: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fetch = Reader.fetch

    async def noted(self: Reader, *about: Any) -> Any:
        order.append("asked")
        found = await fetch(self, *about)
        order.extend("came" for each in found if each.records)
        return found

    class Taken(list[Record]):
        def extend(self, records: Any) -> None:
            order.append("taken")
            super().extend(records)

    monkeypatch.setattr(Reader, "fetch", noted)
    async with listening(bootstrap, topic := new_topic()) as listener:
        listener.heard = Taken()
        await listener.consumer.ready.wait()
        await send(bootstrap, topic, b"alone")
        await eventually(lambda: "taken" in order and order[-1] == "asked")
        assert order[order.index("came") + 1] == "taken"


async def test_a_record_that_cannot_be_decoded_holds_up_nobody(
    bootstrap: str, new_topic: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header's name that is no text: it was counted, told, and the others are heard."""
    decode = PartitionRecords._consumer_record

    def consumer_record(self: PartitionRecords, place: TopicPartition, record: Any) -> Any:
        if record.value == b"evil":
            b"\xff".decode()
        return decode(self, place, record)

    monkeypatch.setattr(PartitionRecords, "_consumer_record", consumer_record)
    topic = new_topic()
    await send(bootstrap, topic, b"before", b"evil", b"after")
    async with listening(bootstrap, topic) as listener:
        await eventually(lambda: b"after" in listener.values)
        assert listener.values == [b"before", b"after"]
        assert listener.consumer.stats.corrupt == 1
        assert listener.consumer.stats.sessions == 1


async def test_a_defect_of_the_reading_is_heard_of(
    bootstrap: str, new_topic: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence would look like peace."""

    async def partitions(self: Reader) -> frozenset[int]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Reader, "partitions", partitions)
    listener = Listener(bootstrap, new_topic(), {})
    listener.consumer.start()
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(listener.listen(), 10.0)
    await listener.consumer.stop(1.0)


async def test_every_partition_is_read_in_order(bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    async with listening(bootstrap, topic) as listener:
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        for partition in range(3):
            await send(bootstrap, topic, *[b"%d-%d" % (partition, i) for i in range(10)], partition=partition)
        await eventually(lambda: len(listener.heard) == 30)
        for partition in range(3):
            mine = [record for record in listener.heard if record.partition == partition]
            assert [record.offset for record in mine] == list(range(10))
            assert [record.value for record in mine] == [b"%d-%d" % (partition, i) for i in range(10)]


async def test_reading_begins_at_the_journals_offset(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    await send(mock_broker.bootstrap, "s", b"0", b"1", b"2", b"3", timestamp_ms=1)
    async with listening(mock_broker.bootstrap, "s", {0: 2}) as listener:
        await eventually(lambda: len(listener.heard) == 2)
        assert listener.values == [b"2", b"3"]  # however old: the journal knows what it has not seen
        assert not listener.resets


async def test_without_an_offset_only_young_records_are_heard(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    await send(mock_broker.bootstrap, "s", b"old", timestamp_ms=now_ms() - 60_000)
    await send(mock_broker.bootstrap, "s", b"young", timestamp_ms=now_ms() - 100)
    async with listening(mock_broker.bootstrap, "s") as listener:
        await eventually(lambda: listener.heard)
        # Sent when reading has begun: its age is the caller's business.
        await send(mock_broker.bootstrap, "s", b"late", timestamp_ms=now_ms() - 60_000)
        await eventually(lambda: len(listener.heard) == 2)
        assert listener.values == [b"young", b"late"]
        assert [why for _, _, why in listener.resets] == ["first_time"]
        assert listener.consumer.stats.too_old == 1


async def test_a_topic_made_anew_with_more_than_the_old_one_had_is_read_from_its_beginning(
    mock_broker: MockBroker,
) -> None:
    """The offset reached in the old one is there in the new one, and means nothing."""
    mock_broker.create_topic("s", 1)
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await send(mock_broker.bootstrap, "s", b"old 0", b"old 1")
        await eventually(lambda: len(listener.heard) == 2)
        mock_broker.topic_error("s", UNKNOWN_TOPIC)  # as long as it is gone
        await eventually(lambda: not listener.consumer.ready.is_set(), 10.0)
        mock_broker.delete_topic("s")
        mock_broker.create_topic("s", 1)
        mock_broker.topic_error("s", UNKNOWN_TOPIC)
        new = [b"new %d" % number for number in range(4)]
        mock_broker.topic_error("s", 0)
        await send(mock_broker.bootstrap, "s", *new)
        await eventually(lambda: listener.values[-1] == new[-1], 10.0)
        assert listener.values[2:] == new
        assert [why for _, _, why in listener.resets] == ["topic_made_anew"]


async def test_a_topic_made_anew_is_read_from_its_young_records(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    await send(mock_broker.bootstrap, "s", b"new")
    async with listening(mock_broker.bootstrap, "s", {0: 500}) as listener:
        await eventually(lambda: listener.heard)
        assert listener.values == [b"new"]
        assert listener.resets == [(0, 0, "topic_made_anew")]


async def test_a_topic_deleted_and_made_again_while_reading(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await send(mock_broker.bootstrap, "s", b"0", b"1", b"2")
        await eventually(lambda: len(listener.heard) == 3)
        mock_broker.delete_topic("s")
        mock_broker.create_topic("s", 1)
        await send(mock_broker.bootstrap, "s", b"again")
        await eventually(lambda: len(listener.heard) == 4, 10.0)
        assert listener.values[-1] == b"again"
        assert [why for _, _, why in listener.resets] == ["topic_made_anew"]


async def test_poison_is_only_bytes(bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    poison = [b"", b"\x00\xff", b"{" * 50_000, b"not json"]
    async with listening(bootstrap, topic) as listener:
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        await send(bootstrap, topic, *poison, b"fine")
        await eventually(lambda: len(listener.heard) == 5)
        assert listener.values == [*poison, b"fine"]


async def test_a_signal_is_heard_within_milliseconds_when_signals_are_frequent(
    bootstrap: str, new_topic: Callable[[], str]
) -> None:
    topic = new_topic()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        async with listening(bootstrap, topic) as listener:
            await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
            delays: list[float] = []
            for count in range(1, 51):
                await producer.send_and_wait(topic, b"x", partition=0)
                sent = time.perf_counter()
                await eventually(lambda count=count: len(listener.heard) == count)  # type: ignore[misc]
                delays.append(time.perf_counter() - sent)
            assert sorted(delays)[25] < 0.25  # no fetch is waited out; the figure itself is measured by the benchmarks
    finally:
        await producer.stop()


async def test_the_broker_may_come_later(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    mock_broker.down()
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await eventually(
            lambda: (
                listener.consumer.state is LinkState.DISCONNECTED and mock_broker.bootstrap in listener.consumer.detail
            )
        )
        mock_broker.up()
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        await send(mock_broker.bootstrap, "s", b"1")
        await eventually(lambda: listener.heard)


async def test_an_outage_loses_and_repeats_nothing(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await send(mock_broker.bootstrap, "s", b"0", b"1")
        await eventually(lambda: len(listener.heard) == 2)
        mock_broker.down()
        await eventually(lambda: not listener.consumer.ready.is_set())
        mock_broker.up()
        await send(mock_broker.bootstrap, "s", b"2")
        await eventually(lambda: len(listener.heard) == 3)
        assert listener.values == [b"0", b"1", b"2"]
        assert not listener.resets


async def test_after_a_long_outage_it_listens_again(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    config = RedpandaConfig(bootstrap=mock_broker.bootstrap)
    consumer = SignalConsumer(config, "s", "group", {0: 0}, MAX_AGE_MS, random=lambda: 0.999)
    states: list[LinkState] = []
    consumer._on_state = lambda state, _: states.append(state)
    consumer.start()
    try:
        await asyncio.wait_for(consumer.ready.wait(), 5.0)
        mock_broker.down()
        # As many failures as make any back-off reach its longest.
        await eventually(lambda: states.count(LinkState.DISCONNECTED) >= 6, 15.0)
        mock_broker.up()
        await asyncio.wait_for(consumer.ready.wait(), 15.0)
    finally:
        await consumer.stop(1.0)


def test_a_dead_broker_is_not_hammered() -> None:
    policy = RedpandaConfig().backoff
    waits = [Backoff(policy, failures).delay(jitter) for failures in range(1, 50) for jitter in (0.0, 0.5, 0.999)]
    assert min(waits) >= 0.1
    assert max(waits) <= 1.0


async def test_a_hanging_broker_is_noticed_and_does_not_hold_up_the_stop(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    async with (
        await FaultyProxy.in_front_of_broker(mock_broker.port) as proxy,
        listening(proxy.bootstrap, "s", {0: 0}) as listener,
    ):
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        proxy.hang()
        await eventually(lambda: not listener.consumer.ready.is_set(), 5.0)


async def test_a_killed_broker_that_lost_everything_is_read_from_its_new_beginning() -> None:
    with BrokerProcess() as broker:
        async with listening(broker.bootstrap, "s", {0: 0}) as listener:
            await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
            await send(broker.bootstrap, "s", b"0", b"1", partition=0)
            await eventually(lambda: len(listener.heard) == 2)
            broker.kill()
            await eventually(lambda: not listener.consumer.ready.is_set())
            broker.start()
            await send(broker.bootstrap, "s", b"2", partition=0)
            await eventually(lambda: len(listener.heard) == 3, 10.0)
            assert (0, 0, "topic_made_anew") in listener.resets


async def test_offsets_reach_the_group_for_lag_monitoring(bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    async with listening(bootstrap, topic) as listener:
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        await send(bootstrap, topic, b"0", b"1")
        await eventually(lambda: len(listener.heard) == 2)
        listener.consumer.commit({0: 2})
        watcher = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id="group", enable_auto_commit=False)
        await watcher.start()
        try:
            watcher.assign([TopicPartition(topic, 0)])

            async def committed() -> bool:
                return bool(await watcher.committed(TopicPartition(topic, 0)) == 2)

            await eventually(committed, 15.0)  # a real broker's coordinator may need a moment, once
        finally:
            await watcher.stop()


async def test_the_lag_is_what_has_come_and_is_not_entered(bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    await send(bootstrap, topic, b"old", timestamp_ms=now_ms() - 2 * MAX_AGE_MS)
    async with listening(bootstrap, topic) as listener:
        assert listener.consumer.lag == {}, "nothing is known before it is connected"
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        none = dict.fromkeys(range(4), 0)
        await eventually(lambda: listener.consumer.lag == none, why="what is too old is no backlog")
        await send(bootstrap, topic, b"1", b"2", b"3")
        await eventually(lambda: len(listener.heard) == 3)
        await eventually(lambda: listener.consumer.lag[0] == 3)
        listener.consumer.commit({0: 3})
        assert listener.consumer.lag == {0: 1, 1: 0, 2: 0, 3: 0}
        listener.consumer.commit({0: 9})
        assert listener.consumer.lag[0] == 0, "never less than nothing"


FIND_COORDINATOR, NOT_COORDINATOR = 10, 16


async def test_a_refused_commit_is_counted_and_stops_nothing(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        mock_broker.fail_next(FIND_COORDINATOR, NOT_COORDINATOR)
        listener.consumer.commit({0: 1})
        await eventually(lambda: listener.consumer.stats.commit_failures == 1)
        await send(mock_broker.bootstrap, "s", b"0")
        await eventually(lambda: listener.heard)


GROUP_NOT_AUTHORIZED = 30


async def test_a_group_we_may_not_use_is_told_once_and_stops_nothing(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    with logged(level="WARNING") as told:
        async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
            await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
            mock_broker.fail_next(FIND_COORDINATOR, GROUP_NOT_AUTHORIZED, GROUP_NOT_AUTHORIZED)
            listener.consumer.commit({0: 1})
            await eventually(lambda: listener.consumer.stats.commits, 20.0)
            assert listener.consumer.stats.commit_failures == 2
    [line] = told
    assert "READ on group group is not granted; grant READ" in line


FETCH, NOT_LEADER = 1, 6


async def test_a_failed_fetch_is_tried_again_from_the_same_place(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await send(mock_broker.bootstrap, "s", b"0")
        await eventually(lambda: listener.heard)
        mock_broker.fail_next(FETCH, NOT_LEADER, NOT_LEADER)
        await send(mock_broker.bootstrap, "s", b"1")
        await eventually(lambda: len(listener.heard) == 2)
        assert listener.values == [b"0", b"1"]
        assert not listener.resets


async def test_stop_before_start_and_twice() -> None:
    listener = Listener("127.0.0.1:9", "s", {})
    await listener.consumer.stop(1.0)
    listener.consumer.start()
    await listener.consumer.stop(1.0)
    await listener.consumer.stop(1.0)
    assert listener.consumer.state is LinkState.DISCONNECTED


UNKNOWN_TOPIC = 3


async def test_a_topic_that_comes_later_is_waited_for(mock_broker: MockBroker) -> None:
    mock_broker.topic_error("s", UNKNOWN_TOPIC)
    async with listening(mock_broker.bootstrap, "s") as listener:
        await eventually(lambda: "no topic s" in listener.consumer.detail)
        assert not listener.consumer.ready.is_set()
        mock_broker.topic_error("s", 0)
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        await send(mock_broker.bootstrap, "s", b"0")
        await eventually(lambda: listener.heard)


NOT_AUTHORIZED = 29


async def test_a_topic_we_may_not_read_is_told_and_heard_when_we_may(mock_broker: MockBroker) -> None:
    mock_broker.create_topic("s", 1)
    mock_broker.topic_error("s", NOT_AUTHORIZED)
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await eventually(lambda: "READ on topic s is not granted; grant" in listener.consumer.detail)
        assert not listener.consumer.ready.is_set()
        mock_broker.topic_error("s", 0)
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        await send(mock_broker.bootstrap, "s", b"0")
        await eventually(lambda: listener.heard)
        sessions = listener.consumer.stats.sessions
        mock_broker.fail_next(FETCH, NOT_AUTHORIZED)
        await send(mock_broker.bootstrap, "s", b"1")
        await eventually(lambda: listener.consumer.stats.sessions > sessions)
        await eventually(lambda: len(listener.heard) == 2)
        assert listener.values == [b"0", b"1"]


async def test_partitions_added_later_are_read_from_their_young_records(
    bootstrap: str, new_topic: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded broker adds none, so two of its four are kept from sight at first."""
    monkeypatch.setattr("mt5_bridge.redpanda.consumer._REFRESH_SECONDS", 0.05)
    visible = {0, 1}
    ask = Reader.partitions

    async def partitions(self: Reader) -> frozenset[int]:
        return await ask(self) & visible

    monkeypatch.setattr(Reader, "partitions", partitions)
    topic = new_topic()
    await send(bootstrap, topic, b"known", partition=0)
    await send(bootstrap, topic, b"old", partition=2, timestamp_ms=now_ms() - 60_000)
    await send(bootstrap, topic, b"young", partition=2)
    async with listening(bootstrap, topic, {0: 0, 1: 0}) as listener:
        await eventually(lambda: listener.values == [b"known"])
        visible |= {2, 3}
        await eventually(lambda: b"young" in listener.values)
        assert [partition for partition, _, _ in listener.resets] == [2, 3], "each is told, what it brings is suspect"
        await send(bootstrap, topic, b"more", partition=3)
        await send(bootstrap, topic, b"still", partition=0)
        await eventually(lambda: {b"more", b"still"} <= set(listener.values))
        assert b"old" not in listener.values
        assert listener.consumer.stats.sessions == 1, "without a new connection"


async def test_several_bridges_hear_all_of_one_topic(bootstrap: str, new_topic: Callable[[], str]) -> None:
    topic = new_topic()
    async with listening(bootstrap, topic) as one, listening(bootstrap, topic) as other:
        await asyncio.wait_for(one.consumer.ready.wait(), 5.0)
        await asyncio.wait_for(other.consumer.ready.wait(), 5.0)
        for partition in range(4):
            await send(bootstrap, topic, b"%d" % partition, partition=partition)
        everything = {b"0", b"1", b"2", b"3"}
        await eventually(lambda: set(one.values) == set(other.values) == everything)


async def test_a_topic_that_vanishes_is_noticed(mock_broker: MockBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.redpanda.consumer._REFRESH_SECONDS", 0.05)
    mock_broker.create_topic("s", 1)
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        mock_broker.topic_error("s", UNKNOWN_TOPIC)
        await eventually(lambda: not listener.consumer.ready.is_set())
        mock_broker.topic_error("s", 0)
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)


async def test_a_commit_that_is_refused_is_made_again(mock_broker: MockBroker) -> None:
    offset_commit = 8
    mock_broker.create_topic("s", 1)
    async with listening(mock_broker.bootstrap, "s", {0: 0}) as listener:
        await asyncio.wait_for(listener.consumer.ready.wait(), 5.0)
        mock_broker.fail_next(offset_commit, NOT_COORDINATOR)
        listener.consumer.commit({0: 1})
        await eventually(lambda: listener.consumer.stats.commit_failures == 1)
        await eventually(lambda: listener.consumer.stats.commits == 1)

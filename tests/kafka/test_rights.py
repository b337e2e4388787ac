"""Rights that a broker does not grant: told once with their names, and used as soon as they are granted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from support.eventually import eventually
from support.kafka import KafkaBroker

from mt5_bridge.core.backoff import BackoffPolicy
from mt5_bridge.core.errors import BrokerError
from mt5_bridge.redpanda import Producer, RecordRefused, RedpandaConfig, SignalConsumer, TopicSpec, ensure_topics
from mt5_bridge.redpanda.rights import missing_rights
from mt5_bridge.redpanda.security import client_options

SOON = BackoffPolicy(first=0.2, cap=0.4, floor=0.1)
PATIENT_S = 60.0
TICKS, EVENTS, SIGNALS, GROUP = "ticks", "events", "signals", "bridge-1"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("guarded"), acl=True) as broker:
        for topic in (TICKS, EVENTS, SIGNALS):
            broker.create_topic(topic)
        yield broker


@pytest.fixture
def user(broker: KafkaBroker) -> str:
    """Somebody new, who may do nothing."""
    name = f"user-{uuid4().hex[:8]}"
    broker.set_password(name, f"{name}-secret")
    return name


def config_of(broker: KafkaBroker, user: str) -> RedpandaConfig:
    return RedpandaConfig(
        bootstrap=broker.sasl_bootstrap,
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        username=user,
        password=f"{user}-secret",
        ca_file=broker.ca,
        backoff=SOON,
        patience=SOON,
    )


@asynccontextmanager
async def producing(config: RedpandaConfig) -> AsyncIterator[Producer]:
    producer = Producer(config)
    producer.start()
    try:
        yield producer
    finally:
        await producer.stop(0.0)


@asynccontextmanager
async def hearing(config: RedpandaConfig) -> AsyncIterator[tuple[SignalConsumer, list[bytes | None], list[str]]]:
    states: list[str] = []
    heard: list[bytes | None] = []
    consumer = SignalConsumer(
        config, SIGNALS, GROUP, {0: 0}, 60_000, on_state=lambda state, detail: states.append(state.value)
    )

    async def listen() -> None:
        async for records in consumer.records():
            heard.extend(record.value for record in records)

    consumer.start()
    task = asyncio.create_task(listen())
    try:
        yield consumer, heard, states
    finally:
        task.cancel()
        await consumer.stop(10.0)


async def test_nothing_may_be_written_at_all(broker: KafkaBroker, user: str, lines: list[str]) -> None:
    """The producer's number is the first thing that it asks for."""
    async with producing(config_of(broker, user)) as producer:
        await eventually(lambda: lines, PATIENT_S)
        assert (
            f"IDEMPOTENT_WRITE on the cluster is not granted; grant IDEMPOTENT_WRITE on the cluster to User:{user}"
            in (lines[0])
        )
        await asyncio.to_thread(broker.allow, f"User:{user}", TICKS, "WRITE")
        await asyncio.wait_for(producer.wait_connected(), PATIENT_S)
        await producer.publish_one(TICKS, b"EURUSD", b"tick")
    assert len(lines) == 1, lines


async def test_a_number_of_the_cluster_is_enough_to_connect(broker: KafkaBroker, user: str, lines: list[str]) -> None:
    broker.allow_cluster(f"User:{user}", "IDEMPOTENT_WRITE")
    async with producing(config_of(broker, user)) as producer:
        await asyncio.wait_for(producer.wait_connected(), PATIENT_S)
    assert lines == []


async def test_one_topic_may_not_be_written(broker: KafkaBroker, user: str, lines: list[str]) -> None:
    broker.allow(f"User:{user}", TICKS, "WRITE")
    broker.allow(f"User:{user}", EVENTS, "DESCRIBE")
    async with producing(config_of(broker, user)) as producer:
        await asyncio.wait_for(producer.wait_connected(), PATIENT_S)
        for _ in range(3):
            with pytest.raises(RecordRefused) as refused:
                await producer.publish_one(EVENTS, b"1", b"event")
            assert refused.value.retriable
            await producer.publish_one(TICKS, b"EURUSD", b"tick")
        assert producer.refusing == (EVENTS,)
        assert len(lines) == 1, lines
        assert "takes nothing from us" in lines[0]
        assert f"WRITE on topic {EVENTS} is not granted; grant WRITE on topic {EVENTS} to User:{user}" in lines[0]
        await asyncio.to_thread(broker.allow, f"User:{user}", EVENTS, "WRITE")

        async def taken() -> bool:
            try:
                await producer.publish_one(EVENTS, b"1", b"event")
            except RecordRefused:
                return False
            return True

        await eventually(taken, PATIENT_S)
        assert not producer.refusing


async def test_signals_may_be_seen_and_not_read(broker: KafkaBroker, user: str, lines: list[str]) -> None:
    broker.allow(f"User:{user}", SIGNALS, "DESCRIBE")
    async with hearing(config_of(broker, user)) as (consumer, heard, states):
        await eventually(lambda: states.count("disconnected") >= 4, PATIENT_S)
        assert "connected" not in states, "what cannot be heard is not announced as heard"
        assert len(lines) == 1, lines
        assert f"READ on topic {SIGNALS} is not granted; grant READ on topic {SIGNALS} to User:{user}" in lines[0]
        await asyncio.to_thread(broker.allow, f"User:{user}", SIGNALS, "READ")
        await asyncio.wait_for(consumer.ready.wait(), PATIENT_S)
        async with producing(RedpandaConfig(bootstrap=broker.bootstrap)) as producer:
            await asyncio.wait_for(producer.wait_connected(), PATIENT_S)
            await producer.publish_one(SIGNALS, b"1", b"signal")
        await eventually(lambda: heard, PATIENT_S)


async def test_the_group_is_only_for_who_watches_the_lag(broker: KafkaBroker, user: str, lines: list[str]) -> None:
    broker.allow(f"User:{user}", SIGNALS, "READ")
    async with hearing(config_of(broker, user)) as (consumer, _, _):
        await asyncio.wait_for(consumer.ready.wait(), PATIENT_S)
        consumer.commit({0: 0})
        await eventually(lambda: consumer.stats.commit_failures >= 2, PATIENT_S)
        assert consumer.ready.is_set()
        assert len(lines) == 1, lines
        assert f"READ on group {GROUP} is not granted" in lines[0]
        await asyncio.to_thread(broker.allow_group, f"User:{user}", GROUP, "READ")
        await eventually(lambda: consumer.stats.commits, PATIENT_S)


async def test_topics_may_not_be_made(broker: KafkaBroker, user: str) -> None:
    name = f"made-{user}"
    spec = TopicSpec(name=name, partitions=1, retention_ms=-1)
    config = config_of(broker, user)
    with pytest.raises(BrokerError, match=f"CREATE on topic {name} is not granted; grant .*REDPANDA_CREATE_TOPICS"):
        await ensure_topics(config, [spec])
    broker.allow(f"User:{user}", name, "CREATE", "DESCRIBE")

    async def made() -> bool:
        try:
            await ensure_topics(config, [spec])
        except BrokerError:
            return False
        return name in broker.admin().list_topics(timeout=10).topics

    await eventually(made, PATIENT_S)


async def test_the_doctor_finds_each_missing_right(broker: KafkaBroker, user: str) -> None:
    config = config_of(broker, user)

    async def found(**options: bool) -> list[str]:
        causes = await missing_rights(
            config, client_options(config), writes=[TICKS, EVENTS], reads=SIGNALS, group=GROUP,
            **{"may_be_missing": True, **options},
        )  # fmt: skip
        return [cause.what for cause in causes]

    hidden = [f"topic {topic} is not there, or may not be seen" for topic in (TICKS, EVENTS, SIGNALS)]
    number, group = "IDEMPOTENT_WRITE on the cluster is not granted", f"READ on group {GROUP} is not granted"
    assert await found(may_be_missing=False) == [*hidden, number, group]
    assert await found() == [number, group]
    for topic in (TICKS, EVENTS, SIGNALS):
        broker.allow(f"User:{user}", topic, "DESCRIBE")
    written = [f"WRITE on topic {topic} is not granted" for topic in (TICKS, EVENTS)]
    every = [*written, f"READ on topic {SIGNALS} is not granted", number, group]

    async def told(wanted: list[str]) -> bool:
        return await found() == wanted

    await eventually(lambda: told(every), PATIENT_S)
    before = broker.admin().list_topics(timeout=10).topics.keys()
    for topic in (TICKS, EVENTS):
        broker.allow(f"User:{user}", topic, "WRITE")
    broker.allow(f"User:{user}", SIGNALS, "READ")
    broker.allow_group(f"User:{user}", GROUP, "READ")
    await eventually(lambda: told([]), PATIENT_S)
    assert broker.admin().list_topics(timeout=10).topics.keys() == before

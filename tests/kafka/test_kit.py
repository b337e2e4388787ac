"""The kit itself: its brokers let in whom they should, keep their data through death, and know rules and bounds."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from kafka.kit import install
from support.eventually import eventually
from support.kafka import USERS, KafkaBroker

from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.redpanda.security import client_options
from mt5_bridge.redpanda.throttle import Throttle


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("guarded"), acl=True) as broker:
        broker.create_topic("t", partitions=1)
        for principal in ("User:bridge", "User:CN=bridge"):
            broker.allow(principal, "t", "WRITE", "DESCRIBE")
        yield broker


async def send(**options: object) -> int:
    """The offset of one record sent."""
    async with AIOKafkaProducer(**options) as producer:
        return int((await producer.send_and_wait("t", b"x", partition=0)).offset)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_password_opens_and_a_rule_decides(broker: KafkaBroker, mechanism: str) -> None:
    def options(user: str) -> dict[str, object]:
        config = RedpandaConfig(
            bootstrap=broker.sasl_bootstrap,
            security_protocol="SASL_SSL",
            sasl_mechanism=mechanism,
            username=user,
            password=USERS[user],
            ca_file=broker.ca,
        )
        return client_options(config)

    assert await send(**options("bridge")) >= 0
    with pytest.raises(TopicAuthorizationFailedError):
        await send(**options("stranger"))


async def test_a_certificate_opens(broker: KafkaBroker) -> None:
    certificate = broker.client_certificate()
    context = ssl.create_default_context(cafile=broker.ca)
    context.load_cert_chain(certificate.certificate, certificate.key)
    assert await send(bootstrap_servers=broker.ssl_bootstrap, security_protocol="SSL", ssl_context=context) >= 0


async def test_data_outlive_a_death_and_not_a_wipe(broker: KafkaBroker) -> None:
    before = await send(bootstrap_servers=broker.bootstrap)
    broker.kill()
    broker.start()
    assert await send(bootstrap_servers=broker.bootstrap) == before + 1
    broker.stop()
    broker.wipe()
    broker.start()
    broker.create_topic("t", partitions=1)
    assert await send(bootstrap_servers=broker.bootstrap) == 0


async def test_a_frozen_one_answers_when_it_is_thawed(broker: KafkaBroker) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        await producer.send_and_wait("t", b"x", partition=0)
        broker.pause()
        sent = await producer.send("t", b"x", partition=0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sent), 0.5)
        broker.resume()
        await asyncio.wait_for(sent, 30)


async def test_a_bound_slows_a_sender_and_can_be_lifted(broker: KafkaBroker) -> None:
    async def told_to_wait() -> bool:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, client_id="bound") as producer:
            throttle = Throttle(producer.client, "Sender")
            await producer.send_and_wait("t", bytes(100_000), partition=0)
            return throttle.until() > 0

    assert not await told_to_wait()
    broker.throttle(produce=1_000, client="bound")
    assert await told_to_wait()
    broker.throttle(client="bound")
    assert not await told_to_wait()


async def test_topics_grow_and_go(broker: KafkaBroker) -> None:
    broker.create_topic("passing", partitions=1, max_message_bytes="1000")
    broker.add_partitions("passing", 3)
    admin = broker.admin()
    await eventually(lambda: len(admin.list_topics(timeout=5).topics["passing"].partitions) == 3, 30)
    broker.delete_topic("passing")
    assert "passing" not in admin.list_topics(timeout=5).topics


def test_jars_of_another_content_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    assert install.differing() == []
    (tmp_path / "stranger.jar").write_bytes(b"")
    monkeypatch.setattr(install, "JARS", tmp_path)
    assert "stranger.jar" in install.differing()
    assert "kafka-clients-4.1.1.jar" in install.differing()

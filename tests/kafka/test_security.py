"""Who is let in by a guarded broker; what a person is told who is not; and that nothing waits for a restart."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.certificates import Authority, Certificate
from support.eventually import eventually
from support.kafka import USERS, KafkaBroker

from mt5_bridge.core.backoff import BackoffPolicy
from mt5_bridge.core.reminder import Reminder
from mt5_bridge.redpanda.config import LinkState, RedpandaConfig
from mt5_bridge.redpanda.consumer import SignalConsumer
from mt5_bridge.redpanda.inquiry import inquire
from mt5_bridge.redpanda.producer import Producer
from mt5_bridge.redpanda.security import client_options

SOON = BackoffPolicy(first=0.2, cap=0.4, floor=0.1)
TICKS, SIGNALS, GROUP = "ticks", "signals", "bridge-1"
PATIENT_S = 60.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("guarded"), acl=True) as broker:
        for topic in (TICKS, SIGNALS):
            broker.create_topic(topic)
        for principal in ("User:bridge", "User:CN=bridge"):
            grant(broker, principal)
        yield broker


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def grant(broker: KafkaBroker, principal: str) -> None:
    broker.allow(principal, TICKS, "WRITE")
    broker.allow(principal, SIGNALS, "READ")
    broker.allow_group(principal, GROUP, "READ")


def with_password(broker: KafkaBroker, **changes: Any) -> RedpandaConfig:
    config = RedpandaConfig(
        bootstrap=broker.sasl_bootstrap,
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        username="bridge",
        password=USERS["bridge"],
        ca_file=broker.ca,
        backoff=SOON,
        patience=SOON,
    )
    return msgspec.structs.replace(config, **changes)


def with_certificate(broker: KafkaBroker, shown: Certificate | None, **changes: Any) -> RedpandaConfig:
    pair = {} if shown is None else {"cert_file": str(shown.certificate), "key_file": str(shown.key)}
    config = RedpandaConfig(
        bootstrap=broker.ssl_bootstrap, security_protocol="SSL", ca_file=broker.ca, backoff=SOON, patience=SOON
    )
    return msgspec.structs.replace(config, **pair, **changes)


@dataclass
class Link:
    """A producer and the signals' consumer as the bridge has them, and how often they were refused."""

    producer: Producer
    consumer: SignalConsumer
    refused: int = 0

    @property
    def connected(self) -> bool:
        return self.producer.connected and self.consumer.ready.is_set()


@asynccontextmanager
async def linked(config: RedpandaConfig) -> AsyncIterator[Link]:
    told = Reminder(every=3600.0)
    link: Link

    def count(state: LinkState, detail: str) -> None:
        link.refused += state is LinkState.DISCONNECTED

    producer = Producer(config, on_state=count, told=told)
    consumer = SignalConsumer(config, SIGNALS, GROUP, {0: 0}, 60_000, on_state=count, told=told)
    link = Link(producer, consumer)
    producer.start()
    consumer.start()
    try:
        yield link
    finally:
        await consumer.stop(10.0)
        await producer.stop(0.0)


async def goes(link: Link) -> None:
    """A record goes out, and what was sent to the signals' topic comes in."""
    await eventually(lambda: link.connected, PATIENT_S)
    await link.producer.publish_one(TICKS, b"EURUSD", b"tick")


async def told_once(config: RedpandaConfig, lines: list[str], mend: Callable[[], object]) -> str:
    """The one line that some refusals make, and that all goes on when the broker's side is put right."""
    async with linked(config) as link:
        await eventually(lambda: link.refused >= 6, PATIENT_S)
        found = list(lines)
        await asyncio.to_thread(mend)
        await goes(link)
    assert len(found) == 1, found
    assert str(await inquire(config, client_options(config))) == "None", "all is well now"
    return found[0]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_password_lets_in(broker: KafkaBroker, mechanism: str, lines: list[str]) -> None:
    async with linked(with_password(broker, sasl_mechanism=mechanism)) as link:
        await goes(link)
    assert lines == []


@pytest.mark.parametrize("key_password", [None, "key-secret"])
async def test_a_certificate_lets_in(broker: KafkaBroker, key_password: str | None, lines: list[str]) -> None:
    shown = broker.authority.issue("bridge", password=key_password)
    async with linked(with_certificate(broker, shown, key_password=key_password)) as link:
        await goes(link)
    assert lines == []


async def test_a_wrong_password(broker: KafkaBroker, lines: list[str]) -> None:
    config = with_password(broker, password="new-secret")
    try:
        line = await told_once(config, lines, lambda: broker.set_password("bridge", "new-secret"))
    finally:
        broker.set_password("bridge", USERS["bridge"])
    assert "refused the credentials of user 'bridge' (SCRAM-SHA-256)" in line
    assert "REDPANDA_SASL_PASSWORD" in line
    assert "secret" not in line


@pytest.fixture
def shown_meanwhile(broker: KafkaBroker) -> Iterator[Callable[..., Callable[[], None]]]:
    """Has the broker show a certificate; what it gives has it show its own again."""
    good = broker.certificate

    def show(name: str, *hosts: str, expired: bool = False) -> Callable[[], None]:
        broker.show(broker.authority.issue(name, *hosts, expired=expired))
        return lambda: broker.show(good)

    yield show
    if broker.certificate is not good:
        broker.show(good)


async def test_an_expired_certificate_of_the_broker(
    broker: KafkaBroker, shown_meanwhile: Callable[..., Callable[[], None]], lines: list[str]
) -> None:
    line = await told_once(with_password(broker), lines, shown_meanwhile("expired", "IP:127.0.0.1", expired=True))
    assert "the broker's certificate has expired; renew it on the broker" in line


async def test_a_certificate_for_another_host(
    broker: KafkaBroker, shown_meanwhile: Callable[..., Callable[[], None]], lines: list[str]
) -> None:
    line = await told_once(with_password(broker), lines, shown_meanwhile("elsewhere", "DNS:broker.example"))
    assert "for another host" in line
    assert "not valid for '127.0.0.1'" in line


async def test_a_certificate_of_an_unknown_authority(
    broker: KafkaBroker, stranger: Authority, tmp_path: Path, lines: list[str]
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(stranger.certificate.read_bytes())
    config = with_password(broker, ca_file=str(ca))
    line = await told_once(config, lines, lambda: ca.write_bytes(broker.authority.certificate.read_bytes()))
    assert f"not signed by the CA in {ca}" in line


async def test_no_client_certificate(broker: KafkaBroker, lines: list[str]) -> None:
    config = with_certificate(broker, None)
    async with linked(config) as link:
        await eventually(lambda: link.refused >= 6, PATIENT_S)
    assert len(lines) == 1
    assert "wants a client certificate, and none is set; set REDPANDA_SSL_CERT_FILE" in lines[0]


async def test_an_expired_client_certificate_and_its_renewal(
    broker: KafkaBroker, tmp_path: Path, lines: list[str]
) -> None:
    shown = copied(broker.client_certificate(expired=True), tmp_path)
    line = await told_once(
        with_certificate(broker, shown), lines, lambda: copied(broker.client_certificate(), tmp_path)
    )
    assert f"the client certificate {shown.certificate} has expired; renew it" in line


async def test_a_client_certificate_of_another_authority(
    broker: KafkaBroker, stranger: Authority, tmp_path: Path, lines: list[str]
) -> None:
    shown = copied(stranger.issue("bridge"), tmp_path)
    line = await told_once(
        with_certificate(broker, shown), lines, lambda: copied(broker.client_certificate(), tmp_path)
    )
    assert f"the broker refuses the client certificate {shown.certificate}" in line


def copied(certificate: Certificate, folder: Path) -> Certificate:
    """The pair under names that stay, as whoever renews a certificate does it."""
    target = Certificate(folder / "shown.pem", folder / "shown.key", folder / "unused")
    target.certificate.write_bytes(certificate.certificate.read_bytes())
    target.key.write_bytes(certificate.key.read_bytes())
    return target


@pytest.mark.parametrize(
    ("listener", "changes", "words"),
    [
        ("ssl_bootstrap", {"security_protocol": "PLAINTEXT"}, "speaks TLS, and REDPANDA_SECURITY_PROTOCOL=PLAINTEXT"),
        ("sasl_bootstrap", {"security_protocol": "SASL_PLAINTEXT"}, "does not; set it to SASL_SSL"),
        ("bootstrap", {"security_protocol": "SSL"}, "does not speak TLS, and REDPANDA_SECURITY_PROTOCOL=SSL does"),
        ("bootstrap", {"security_protocol": "SASL_SSL"}, "or set it to SASL_PLAINTEXT"),
        ("bootstrap", {"security_protocol": "SASL_PLAINTEXT"}, "takes no user and password"),
        ("sasl_bootstrap", {"security_protocol": "SSL"}, "wants a user and a password; set REDPANDA_SECURITY_PROTOCOL"),
    ],
)
async def test_the_wrong_protocol(
    broker: KafkaBroker, listener: str, changes: dict[str, str], words: str, lines: list[str]
) -> None:
    config = with_password(broker, bootstrap=getattr(broker, listener), **changes)
    async with linked(config) as link:
        await eventually(lambda: link.refused >= 4, PATIENT_S)
    assert len(lines) == 1, lines
    assert words in lines[0]

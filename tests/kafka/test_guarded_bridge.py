"""The whole bridge before a broker that does not let it in: everything else works, and it needs no restart after."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import cli
from support.eventually import eventually
from support.kafka import KafkaBroker
from support.topics import unique
from support.world import World, check_ticks, world

from mt5_bridge.core.reminder import EVERY_S

LATER = "password-of-later"
PATIENT_S = 60.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("guarded"), acl=True) as broker:
        yield broker


def settings_of(broker: KafkaBroker, user: str, password: str) -> dict[str, str]:
    return {
        "REDPANDA_BOOTSTRAP_SERVERS": broker.sasl_bootstrap,
        "REDPANDA_SECURITY_PROTOCOL": "SASL_SSL",
        "REDPANDA_SASL_MECHANISM": "SCRAM-SHA-256",
        "REDPANDA_SASL_USERNAME": user,
        "REDPANDA_SASL_PASSWORD": password,
        "REDPANDA_SSL_CA_FILE": broker.ca,
    }


def prepare(broker: KafkaBroker, made: World, user: str, but: str = "") -> None:
    """The world's topics, and every right on them but to write one."""
    topics = made.topics
    for topic in (topics.tick_topic, topics.event_topic, topics.signal_topic, topics.dlq_topic):
        broker.create_topic(topic, partitions=1)
        right = "READ" if topic == topics.signal_topic else "DESCRIBE" if topic == but else "WRITE"
        broker.allow(f"User:{user}", topic, right)
    broker.allow_group(f"User:{user}", "*", "READ")


async def test_a_wrong_password_costs_nothing_but_the_topics(broker: KafkaBroker, tmp_path: Path) -> None:
    settings = settings_of(broker, "first", LATER)
    broker.set_password("first", "password-of-today")
    async with world(tmp_path, broker.bootstrap, make_topics=False, **settings) as made:
        prepare(broker, made, "first")
        began = time.monotonic()
        await made.start()
        await eventually(lambda: "refused the credentials" in made.daemon.console, PATIENT_S)
        signal_id = await trade(made)
        assert (await made.ask("get_status"))["channels"]["redpanda"] != "connected"
        await emergency(made)
        code, doctor = await cli("doctor", *options(settings), folder=tmp_path, timeout=120.0)
        assert code == 1
        assert "refused the credentials of user 'first'" in " ".join(doctor.split())
        reminders = (time.monotonic() - began) // EVERY_S
        assert 1 <= made.daemon.console.count("refused the credentials") <= 1 + reminders

        broker.set_password("first", LATER)
        await made.flowing(timeout=PATIENT_S)
        assert (await made.topics.result(signal_id))["status"] == "filled"
        await check_ticks(made)
        await made.daemon.stop()
        written = b"".join(path.read_bytes() for path in made.daemon.data.rglob("*") if path.is_file())
        assert LATER not in made.daemon.console + doctor
        assert LATER.encode() not in written


async def test_a_missing_right_costs_nothing_but_its_topic(broker: KafkaBroker, tmp_path: Path) -> None:
    broker.set_password("second", "second-secret")
    settings = settings_of(broker, "second", "second-secret")
    async with world(tmp_path, broker.bootstrap, make_topics=False, **settings) as made:
        events = made.topics.event_topic
        prepare(broker, made, "second", but=events)
        began = time.monotonic()
        await made.start()
        await made.flowing(timeout=PATIENT_S)
        missing = f"WRITE on topic {events} is not granted; grant WRITE on topic {events} to User:second"
        await eventually(lambda: missing in made.daemon.console, PATIENT_S)
        signal_id = await trade(made)
        await emergency(made)
        await made.flowing(timeout=PATIENT_S)
        assert made.topics.results(signal_id) == []
        reminders = (time.monotonic() - began) // EVERY_S
        assert 1 <= made.daemon.console.count("is not granted") <= 1 + reminders

        broker.allow("User:second", events, "WRITE")
        await eventually(lambda: made.topics.results(signal_id), PATIENT_S)
        await check_ticks(made)
        await made.daemon.stop()


async def trade(made: World) -> str:
    """An order by the socket, and its result there."""
    signal_id = unique()
    data = {"signal_id": signal_id, "symbol": "AUDUSD", "action": "BUY", "volume": 0.01, "stop_loss": 0.1}
    await made.backend.send("trading_signal", data)
    result = await made.backend.frame("order_result", timeout=PATIENT_S)
    assert result["data"]["status"] == "filled", result
    return signal_id


async def emergency(made: World) -> None:
    """A stop to the end, and a resume."""
    assert (await made.command("emergency_stop", {"reason": "test"}, timeout=PATIENT_S))["success"]
    assert (await made.halted("done", timeout=PATIENT_S))["survivors"] == []
    resumed = await made.command("resume_trading", {"reason": "test", "by": "test", "force": True}, timeout=PATIENT_S)
    assert resumed["success"]


def options(settings: dict[str, str]) -> list[str]:
    pairs = {"TERMINAL": "paper", "MODE": "hybrid", **settings}
    return [word for name, value in pairs.items() for word in ("--set", f"{name}={value}")]

"""The whole bridge before a broker that does not let it in: everything else works, and it needs no restart after."""

from pathlib import Path

from support.daemon import cli
from support.eventually import eventually
from support.kafka import KafkaBroker
from support.topics import unique
from support.world import World, check_ticks, world

LATER = "password-of-later"
PATIENT_S = 60.0


def prepare(broker: KafkaBroker, made: World) -> None:
    """The world's topics, and every right on them."""
    topics = made.topics
    for topic in (topics.tick_topic, topics.event_topic, topics.signal_topic, topics.dlq_topic):
        broker.create_topic(topic, partitions=1)
        broker.allow("User:bridge", topic, "READ" if topic == topics.signal_topic else "WRITE")
    broker.allow_group("User:bridge", "*", "READ")


async def test_a_wrong_password_costs_nothing_but_the_topics(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path / "broker", acl=True) as broker:
        settings = {
            "REDPANDA_BOOTSTRAP_SERVERS": broker.sasl_bootstrap,
            "REDPANDA_SECURITY_PROTOCOL": "SASL_SSL",
            "REDPANDA_SASL_MECHANISM": "SCRAM-SHA-256",
            "REDPANDA_SASL_USERNAME": "bridge",
            "REDPANDA_SASL_PASSWORD": LATER,
            "REDPANDA_SSL_CA_FILE": broker.ca,
        }
        folder = tmp_path / "bridge"
        folder.mkdir()
        async with world(folder, broker.bootstrap, make_topics=False, **settings) as made:
            prepare(broker, made)
            await made.start()
            await eventually(lambda: "refused the credentials" in made.daemon.console, PATIENT_S)
            signal_id = await trade(made)
            await emergency(made)
            code, doctor = await cli("doctor", *options(settings), folder=folder, timeout=120.0)
            assert code == 1
            assert "refused the credentials of user 'bridge'" in " ".join(doctor.split())

            broker.set_password("bridge", LATER)
            await made.flowing(timeout=PATIENT_S)
            assert (await made.topics.result(signal_id))["status"] == "filled"
            await check_ticks(made)
            await made.daemon.stop()
            told = made.daemon.console
            assert told.count("refused the credentials") == told.count("Producer disconnected: 127") + told.count(
                "Signals disconnected: 127"
            )
            assert 1 <= told.count("refused the credentials") <= 3, "once, and a reminder a minute"
            written = b"".join(path.read_bytes() for path in made.daemon.data.rglob("*") if path.is_file())
            assert LATER not in told + doctor
            assert LATER.encode() not in written


async def trade(made: World) -> str:
    signal_id = unique()
    data = {"signal_id": signal_id, "symbol": "AUDUSD", "action": "BUY", "volume": 0.01, "stop_loss": 0.1}
    await made.backend.send("trading_signal", data)
    result = await made.backend.frame("order_result", timeout=PATIENT_S)
    assert result["data"]["status"] == "filled"
    assert (await made.ask("get_status"))["channels"]["redpanda"] != "connected"
    return signal_id


async def emergency(made: World) -> None:
    answer = await made.command("emergency_stop", {"reason": "test"}, timeout=PATIENT_S)
    assert answer["success"]
    assert (await made.halted("done", timeout=PATIENT_S))["survivors"] == []
    assert (await made.command("resume_trading", {"reason": "test", "by": "test", "force": True}))["success"]


def options(settings: dict[str, str]) -> list[str]:
    pairs = {"TERMINAL": "paper", "MODE": "hybrid", **settings}
    return [word for name, value in pairs.items() for word in ("--set", f"{name}={value}")]

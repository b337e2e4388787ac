"""The embedded broker as a process: its announcement, its port, its end."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import KafkaException
from support.broker import BrokerProcess, MockBroker, free_port
from support.proxy import FaultyProxy

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.demo import broker as module
from mt5_bridge.demo.broker import EmbeddedBroker

ROOT = Path(__file__).parents[2]


def launch(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mt5_bridge.demo.broker", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)


async def carry(bootstrap: str) -> bytes | None:
    """Sends a record through the broker and reads it back."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    consumer = AIOKafkaConsumer("t", bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=20)
    await producer.start()
    try:
        await producer.send_and_wait("t", b"hello")
        await consumer.start()
        try:
            return (await consumer.getone()).value  # type: ignore[no-any-return]
        finally:
            await consumer.stop()
    finally:
        await producer.stop()


async def test_it_carries_records() -> None:
    with EmbeddedBroker() as broker:
        assert await carry(broker.bootstrap) == b"hello"


async def test_a_port_of_ones_choice() -> None:
    with BrokerProcess() as broker:
        assert await carry(broker.bootstrap) == b"hello"
        broker.kill()
        broker.kill()
        broker.start()  # on the same port, and empty
        assert await carry(broker.bootstrap) == b"hello"


@pytest.mark.parametrize("ending", ["stdin", "SIGINT", "SIGTERM"])
def test_it_says_where_it_is_and_ends_when_asked(ending: str) -> None:
    process = launch()
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["bootstrap"]
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    if ending != "stdin":
        process.send_signal(getattr(signal, ending))
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, b"")


def test_a_taken_port_is_an_error_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = launch("--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert errors.startswith(b"broker: ")
    assert errors.count(b"\n") == 1


def test_a_cluster_that_does_not_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, _: object) -> None:
            pass

        def list_topics(self, timeout: float) -> None:
            raise KafkaException("no")

    monkeypatch.setattr(module, "Producer", Broken)
    with pytest.raises(BrokerError):
        EmbeddedBroker()


async def test_the_relay_gives_up_on_a_target_that_is_not_there() -> None:
    async with FaultyProxy(free_port()) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with contextlib.suppress(ConnectionError):  # the one or the other, by system
            assert await reader.read(1) == b""
        writer.close()


def test_the_tests_own_broker_goes_down_and_up() -> None:
    broker = MockBroker()
    socket.create_connection(("127.0.0.1", broker.port), timeout=5).close()
    broker.down()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port), timeout=5)
    broker.up()
    socket.create_connection(("127.0.0.1", broker.port), timeout=5).close()
    broker.close()

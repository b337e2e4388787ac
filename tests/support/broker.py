"""Brokers for tests: a shared one, one that goes down and comes back, one in a process that can be killed.

Import the fixtures into a room's `conftest.py`: `from support.broker import bootstrap, mock_broker, new_topic`.
With `MT5_BRIDGE_TEST_BROKER=host:port` the shared broker is that one, say a real Kafka.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec  # what its face does not export
from confluent_kafka.cimpl import NewTopic
from support.eventually import wait_for

from mt5_bridge.demo.broker import EmbeddedBroker

TEST_BROKER = "MT5_BRIDGE_TEST_BROKER"


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """Address of the shared broker. Use topics of `new_topic` on it: it lives through the whole run."""
    given = os.environ.get(TEST_BROKER)
    if given:
        yield given
        return
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@pytest.fixture
def new_topic() -> Callable[[], str]:
    """Gives a topic that nobody else uses, of 4 partitions: the embedded broker makes it at first use."""

    def make() -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        given = os.environ.get(TEST_BROKER)
        if given:
            admin = AdminClient({"bootstrap.servers": given})
            admin.create_topics([NewTopic(name, num_partitions=4, replication_factor=1)])[name].result(10)
            wait_for(lambda: _is_led(admin, name), 10.0, f"leaders of {name}")
        return name

    return make


def _is_led(admin: AdminClient, topic: str) -> bool:
    """Whether each of the 4 partitions answers: for a moment nobody leads a new one."""
    beginning = OffsetSpec.for_timestamp(0)
    asked = admin.list_offsets({TopicPartition(topic, number): beginning for number in range(4)})
    try:
        return all(future.result(10) for future in asked.values())
    except confluent_kafka.KafkaException:
        return False


@pytest.fixture
def mock_broker() -> Iterator["MockBroker"]:
    """A broker of the test's own, which can be taken down and up again without losing its data."""
    broker = MockBroker()
    try:
        yield broker
    finally:
        broker.close()


class MockBroker:
    """librdkafka's mock cluster with its controls, which the Python package does not expose.

    `down` closes the port and every connection at once, `up` opens the same port again; records stay.

    Args:
        nodes: how many; they share the leadership of a topic's partitions, and the controls are those of the first.
    """

    def __init__(self, nodes: int = 1) -> None:
        self._lib = _library()
        error = ctypes.create_string_buffer(512)
        conf = self._lib.rd_kafka_conf_new()
        self._lib.rd_kafka_conf_set(conf, b"log_level", b"0", error, len(error))
        self._client = self._lib.rd_kafka_new(0, conf, error, len(error))
        assert self._client, error.value
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._client, nodes)
        self.bootstrap = str(self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    @property
    def port(self) -> int:
        return int(self.bootstrap.rpartition(":")[2])

    def down(self) -> None:
        assert self._lib.rd_kafka_mock_broker_set_down(self._cluster, 1) == 0

    def up(self) -> None:
        assert self._lib.rd_kafka_mock_broker_set_up(self._cluster, 1) == 0

    def slow(self, round_trip_ms: int) -> None:
        """Delays every answer."""
        assert self._lib.rd_kafka_mock_broker_set_rtt(self._cluster, 1, round_trip_ms) == 0

    def create_topic(self, name: str, partitions: int) -> None:
        """Makes a topic; one that is only asked for gets 4 partitions."""
        assert self._lib.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def delete_topic(self, name: str) -> None:
        assert self._lib.rd_kafka_mock_topic_delete(self._cluster, name.encode()) == 0

    def topic_error(self, name: str, code: int) -> None:
        """Every answer about that topic is this error; 0 for none."""
        self._lib.rd_kafka_mock_topic_set_error(self._cluster, name.encode(), code)

    def fail_next(self, api_key: int, *codes: int) -> None:
        """The next requests of that Kafka API (0 produce, 1 fetch, 3 metadata …) get these error codes."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, api_key, len(codes), array)

    def close(self) -> None:
        if self._client:
            self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
            self._lib.rd_kafka_destroy(self._client)
            self._client = None


class BrokerProcess:
    """The embedded broker in a process of its own, always on the same port: to be killed, stopped, started again.

    A killed one has lost its topics when it is back.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mt5_bridge.demo.broker", "--port", str(self.port)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        self._process = process
        assert json.loads(line) == {"bootstrap": self.bootstrap}

    def kill(self) -> None:
        """As `kill -9`: connections break, the port is closed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def pause(self) -> None:
        """As a machine that hangs: connections stay, nothing is answered. Not on Windows."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> "BrokerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _library() -> ctypes.CDLL:
    package = Path(confluent_kafka.__file__).parent
    folders = (package.parent / "confluent_kafka.libs", package / ".dylibs", package)
    found = [
        path
        for folder in folders
        for path in sorted(folder.glob("*rdkafka*"))
        if ".so" in path.name or path.suffix in (".dll", ".dylib")
    ]
    lib = ctypes.CDLL(str(found[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_rtt", number, [pointer, ctypes.c_int32, number]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_topic_delete", number, [pointer, text]),
        ("rd_kafka_mock_topic_set_error", None, [pointer, text, number]),
        ("rd_kafka_mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
    ):
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    return lib

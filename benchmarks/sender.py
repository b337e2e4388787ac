"""A sender of signals that writes to the broker's socket itself.

What the bridge is measured by begins when a signal is at the broker: the queue and the thread of a producer, half a
millisecond before that, are no part of it. And of the cores it shares with what is measured, it takes the least.
"""

import select
import socket
import struct
import time
from collections.abc import Sequence

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.produce import ProduceRequest_v3
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from confluent_kafka import Producer

TOPIC = "trading_signals"
_CLIENT = b"benchmark"
_HEADER = struct.Struct(">ihhih")
_TIMEOUT_MS = 10_000
_BATCH_BYTES = 1 << 20


class SignalSender:
    """Sends to a broker of one node; nobody waits for an acknowledgement.

    Args:
        bootstrap: the node; the topic is there, or is made by the asking.

    Raises:
        KafkaException: the broker does not tell the topic's partitions.
        OSError: it cannot be connected to.
    """

    def __init__(self, bootstrap: str) -> None:
        asking = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
        self._partitions = sorted(asking.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions)
        self._choose = DefaultPartitioner()
        host, _, port = bootstrap.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_MS / 1000)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = bytearray()
        self._unanswered = 0

    def send(self, value: bytes, key: str) -> int:
        """Hand a signal to the broker; when that was (UTC ns)."""
        return self.send_all([(value, key)])

    def send_all(self, signals: Sequence[tuple[bytes, str]]) -> int:
        """Hand signals with their keys to the broker in one request; when that was (UTC ns)."""
        request = self._request(signals)
        at = time.time_ns()
        self._socket.sendall(request)
        self._unanswered += 1
        self._take_answers(wait=False)
        return at

    def _request(self, signals: Sequence[tuple[bytes, str]]) -> bytes:
        by_partition: dict[int, list[tuple[bytes, bytes]]] = {}
        now = time.time_ns() // 1_000_000
        for value, key in signals:
            partition = self._choose(key.encode(), self._partitions, self._partitions)
            by_partition.setdefault(partition, []).append((key.encode(), value))
        rows = [(partition, _batch(records, now)) for partition, records in by_partition.items()]
        body: bytes = ProduceRequest_v3(None, 1, _TIMEOUT_MS, [(TOPIC, rows)]).encode()
        kind = ProduceRequest_v3.API_KEY, ProduceRequest_v3.API_VERSION
        return _HEADER.pack(_HEADER.size - 4 + len(_CLIENT) + len(body), *kind, 0, len(_CLIENT)) + _CLIENT + body

    def _take_answers(self, *, wait: bool) -> None:
        """They must not fill the broker's side; what they say is left: a signal that is missing is missed later."""
        while wait or select.select([self._socket], [], [], 0)[0]:
            came = self._socket.recv(1 << 16)
            if not came:
                raise ConnectionError("the broker closed the sender's connection")
            self._answers += came
            while len(self._answers) >= 4 and len(self._answers) >= 4 + int.from_bytes(self._answers[:4]):
                del self._answers[: 4 + int.from_bytes(self._answers[:4])]
                self._unanswered -= 1
            if not self._unanswered:
                return

    def close(self) -> None:
        """Wait until all have arrived, and end the connection."""
        with self._socket:
            if self._unanswered:
                self._take_answers(wait=True)


def _batch(records: Sequence[tuple[bytes, bytes]], now: int) -> bytes:
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, _BATCH_BYTES)
    for offset, (key, value) in enumerate(records):
        if batch.append(offset, now, key, value, []) is None:
            raise ValueError(f"more than {_BATCH_BYTES} bytes in one batch: give fewer signals at once")
    return bytes(batch.build())

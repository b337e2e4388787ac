"""Record batches filled a run at a time.

aiokafka's `BatchBuilder.append` costs 1.8 µs a record with our three headers, half a microsecond of it in its wrapper;
`extend` calls the compiled builder below it directly: 1.35 µs.
"""

from collections.abc import Sequence
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

Headers = Sequence[tuple[str, bytes]]
Record = tuple[int | None, bytes | None]
"""Timestamp (UTC, ms since the epoch; None: now) and value (None: a tombstone)."""

_UNCOMPRESSED = 0
_OVERHEAD = 128
"""More than a batch's head and the numbers of one record take."""


class RecordBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka has no types
    """What `AIOKafkaProducer.send_batch` takes, with one more way to fill it.

    Args:
        limit: bytes at which it takes no more; the first record is always taken.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit, _UNCOMPRESSED)
        self._relative_offset: int = 0

    def extend(self, key: bytes | None, headers: list[tuple[str, bytes]], records: Sequence[Record], start: int) -> int:
        """Adds records from `start` on while there is room; returns the index of the first that was not added."""
        append: Any = self._builder.append
        first = self._relative_offset
        order = first
        for time_ms, value in records[start:] if start else records:
            if append(order, time_ms, key, value, headers) is None:
                break
            order += 1
        self._relative_offset = order
        return start + order - first


def weight(key: bytes | None, headers: Headers, value: bytes | None) -> int:
    """At most so many bytes a record takes in a batch of its own."""
    in_headers = sum(len(name.encode("utf-8")) + len(content) + 10 for name, content in headers)
    return len(key or b"") + len(value or b"") + in_headers + _OVERHEAD

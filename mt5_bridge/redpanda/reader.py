"""The Kafka requests a consumer without a group needs: partitions, offsets, records, and the group's commit.

aiokafka's own consumer is not used: its fetch wait is fixed, a refused group stops its reading, and its `stop` can hang
or raise `CancelledError` on a dead broker. Its client, protocol and record decoding are.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from loguru import logger

from mt5_bridge.redpanda.repeat import Repeated
from mt5_bridge.redpanda.throttle import Throttle

_LATEST, _EARLIEST = -1, -2
_MAX_BYTES = 1 << 20
_CLOSE_SECONDS = 2.0


class Record(msgspec.Struct, frozen=True):
    """A record as it was read.

    `value` None is a tombstone; a header without a value has an empty one; `timestamp_ms` is UTC, -1 where there is
    none.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


class Fetched(msgspec.Struct, frozen=True):
    """What a fetch brought of one partition.

    Attributes:
        position: the offset asked for.
        next_offset: where to read on; beyond the last record where the broker left some out.
        error: the partition's Kafka error code, 0 for none.
        corrupt: why a record could not be decoded, empty: all could. Without `records` it is what was asked for, and
            `next_offset` lies behind it.
        end: where the partition ended then, as the broker tells it; None where it did not.
    """

    partition: int
    position: int
    records: list[Record]
    next_offset: int
    error: int = 0
    corrupt: str = ""
    end: int | None = None


@dataclass(slots=True)
class _Fetch:
    """What a node was asked last, and what it answered: an idle topic is asked the same for hours."""

    asked: tuple[int, dict[int, int]]
    request: Repeated
    answer: Any = None
    fetched: list[Fetched] = field(default_factory=list)


class Reader:
    """Reads one topic over connections of its own.

    Every method raises `aiokafka.errors.KafkaError` or `TimeoutError` when the broker does not do its part.

    Args:
        options: those of `security.client_options`.
        all_topics: the broker is asked for all it has; a topic that is missing is then never made by the asking.
    """

    def __init__(self, options: dict[str, Any], topic: str, *, all_topics: bool = False) -> None:
        self.topic = topic
        self._client = AIOKafkaClient(**options, metadata_max_age_ms=60_000, connections_max_idle_ms=None)
        if not all_topics:
            self._client.set_topics([topic])
        self._throttle = Throttle(self._client, "Signals")
        self._coordinator: int | None = None
        self._fetches: dict[int, _Fetch] = {}

    def throttled_for(self) -> float:
        """Seconds that a quota makes the next request wait."""
        return self._throttle.left()

    async def connect(self) -> None:
        """Connects to the cluster."""
        try:
            await self._client.bootstrap()
        except (ValueError, AssertionError) as error:  # a name or the broker's part of SCRAM is malformed
            raise KafkaConnectionError(str(error)) from error

    async def partitions(self) -> frozenset[int]:
        """The topic's partitions as the broker tells them now; empty when there is no such topic."""
        if not await self._client.force_metadata_update():
            raise LeaderNotAvailableError("no broker tells the topic's partitions")
        if self.topic in self._client.cluster.unauthorized_topics:
            raise TopicAuthorizationFailedError(self.topic)
        return frozenset(self._client.cluster.partitions_for_topic(self.topic) or ())

    def leader(self, partition: int) -> int | None:
        """The node that serves a partition, None while there is none."""
        node = self._client.cluster.leader_for_partition(TopicPartition(self.topic, partition))
        return None if node is None or node < 0 else int(node)

    async def bounds(self, partitions: Iterable[int], since_ms: int) -> dict[int, tuple[int, int, int | None]]:
        """First offset, end offset and first offset at or after a time, for each partition."""
        wanted = list(partitions)
        # The end before the time: what arrives in between is then found by one of them.
        end = await self._offsets(wanted, _LATEST)
        begin = await self._offsets(wanted, _EARLIEST)
        by_time = await self._offsets(wanted, since_ms)
        return {each: (begin[each], end[each], by_time[each] if by_time[each] >= 0 else None) for each in wanted}

    async def fetch(self, node: int, positions: Mapping[int, int], wait_ms: int) -> list[Fetched]:
        """Asks a node for records of its partitions from those offsets on; it may wait so long for the first."""
        asked = (wait_ms, dict(positions))
        before = self._fetches.get(node)
        if before is None or before.asked != asked:
            wanted = [(partition, offset, _MAX_BYTES) for partition, offset in positions.items()]
            request = FetchRequest(wait_ms, 1, 8 * _MAX_BYTES, READ_COMMITTED, [(self.topic, wanted)])
            before = self._fetches[node] = _Fetch(asked, Repeated(request))
        answer = await self._client.send(node, before.request)
        if answer is not before.answer:
            before.answer = answer
            before.fetched = [
                self._decode(answer.API_VERSION, row, positions[row[0]])
                for _, partitions in answer.topics
                for row in partitions
            ]
        return before.fetched

    async def commit(self, group: str, offsets: Mapping[int, int]) -> None:
        """Tells the group's coordinator, for whoever watches the lag."""
        if self._coordinator is None:
            self._coordinator = await self._client.coordinator_lookup(CoordinationType.GROUP, group)
        request = OffsetCommitRequest(
            group,
            OffsetCommitRequest.DEFAULT_GENERATION_ID,
            "",
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            [(self.topic, [(partition, offset, "") for partition, offset in offsets.items()])],
        )
        try:
            answer = await self._client.send(self._coordinator, request, group=ConnectionGroup.COORDINATION)
            for _, partitions in answer.topics:
                for _, code in partitions:
                    _check(code)
        except KafkaError:
            self._coordinator = None
            raise

    async def close(self) -> None:
        """Closes the connections, in bounded time; never raises."""
        closing = asyncio.create_task(self._client.close(), name="kafka-close")
        done, late = await asyncio.wait([closing], timeout=_CLOSE_SECONDS)
        for task in late:
            task.cancel()
        for task in done:
            task.exception()

    async def _offsets(self, partitions: Sequence[int], at: int) -> dict[int, int]:
        by_node: dict[int, list[tuple[int, int]]] = {}
        for partition in partitions:
            node = self.leader(partition)
            if node is None:
                raise LeaderNotAvailableError(f"partition {partition} of {self.topic} has no leader")
            by_node.setdefault(node, []).append((partition, at))
        found: dict[int, int] = {}
        for node, wanted in by_node.items():
            answer = await self._client.send(node, OffsetRequest(-1, READ_COMMITTED, [(self.topic, wanted)]))
            for _, rows in answer.topics:
                for partition, code, *rest in rows:
                    _check(code)
                    found[partition] = int(rest[-1])
        return found

    def _decode(self, version: int, row: Sequence[Any], position: int) -> Fetched:
        partition, code, end, *rest = row
        if code:
            return Fetched(partition, position, [], position, error=int(code))
        aborted = rest[2] if version >= 11 else rest[-2] if version >= 4 else None
        where = TopicPartition(self.topic, partition)
        source = PartitionRecords(where, MemoryRecords(rest[-1]), aborted, position, None, None, True, READ_COMMITTED)
        records: list[Record] = []
        corrupt = ""
        try:
            records.extend(
                Record(
                    self.topic,
                    partition,
                    each.offset,
                    each.key,
                    each.value,
                    _headers(each.headers),
                    -1 if each.timestamp is None else each.timestamp,
                )
                for each in source
            )
        except Exception as error:  # noqa: BLE001 - five codecs and a text raise what they like; no record may block
            corrupt = f"{type(error).__name__}: {error}"
        after = int(source.next_fetch_offset)
        if corrupt and not records:
            after = _behind(rest[-1], after)
        return Fetched(partition, position, records, after, corrupt=corrupt, end=int(end))


def _headers(found: Sequence[tuple[str, bytes | None]]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, content or b"") for name, content in found) if found else ()


def _behind(data: bytes, offset: int) -> int:
    """Where to read on behind what cannot be decoded."""
    damaged = False
    try:
        batches = MemoryRecords(data)
        while batches.has_next():
            batch = batches.next_batch()
            if not batch.validate_crc():
                damaged = True
            elif damaged:
                return max(int(batch.base_offset), offset + 1)  # what is sound behind the damage is still to be read
            elif batch.next_offset > offset:
                return int(batch.next_offset)  # as it was made: nothing in it can be read however often it is fetched
    except Exception:  # noqa: BLE001 - as above
        logger.bind(event="batch_unreadable", offset=offset).debug("Not even its length can be read")
    return offset + 1  # nothing tells how long the damage is; the next fetch shows


def _check(code: int) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error()

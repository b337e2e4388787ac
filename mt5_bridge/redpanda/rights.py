"""Which rights the broker does not grant us, asked for without leaving anything there."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from mt5_bridge.redpanda.batch import RecordBatch
from mt5_bridge.redpanda.causes import Cause, denied, denied_by
from mt5_bridge.redpanda.config import RedpandaConfig

_CLOSE_S = 1.0
_NOWHERE = 1_000_000
"""A partition that no topic has: what is sent there is judged by the rights on the topic, and leaves nothing."""
_FETCH_BYTES = 1
_BATCH_BYTES = 1000


async def missing_rights(
    config: RedpandaConfig,
    options: dict[str, Any],
    *,
    writes: Sequence[str],
    reads: str,
    group: str | None,
    may_be_missing: bool,
) -> list[Cause]:
    """Asks for each right that the bridge needs.

    Args:
        options: those of `security.client_options`, for that config.
        writes: topics to be written.
        reads: topic to be read.
        group: whose offsets are to be committed; None: not known yet.
        may_be_missing: whether topics that cannot be seen are none of our business.

    Raises:
        KafkaError, OSError: the broker does not do its part.
    """
    client = AIOKafkaClient(**options)
    try:
        await client.bootstrap()
        cluster = await client.fetch_all_metadata()
        seen, hidden = _seen(cluster, [*writes, reads])
        found = [] if may_be_missing else [_hidden(config, topic) for topic in hidden]
        question = _Question(config, client, cluster)
        found += [cause for topic in seen if topic in writes and (cause := await question.write(topic))]
        if reads in seen and (cause := await question.read(reads)):
            found.append(cause)
        if cause := await question.number():
            found.append(cause)
        if group is not None and (cause := await question.group(group)):
            found.append(cause)
        return found
    finally:
        await asyncio.wait([asyncio.create_task(client.close(), name="kafka-close")], timeout=_CLOSE_S)


def _seen(cluster: Any, topics: Sequence[str]) -> tuple[list[str], list[str]]:
    there = [topic for topic in topics if cluster.partitions_for_topic(topic)]
    return there, [topic for topic in topics if topic not in there]


def _hidden(config: RedpandaConfig, topic: str) -> Cause:
    cause = denied(config, "DESCRIBE", f"topic {topic}", "or make it where there is none")
    return Cause(f"topic {topic} is not there, or may not be seen", cause.remedy)


class _Question:
    def __init__(self, config: RedpandaConfig, client: Any, cluster: Any) -> None:
        self._config, self._client, self._cluster = config, client, cluster

    async def write(self, topic: str) -> Cause | None:
        batch = RecordBatch(_BATCH_BYTES)
        batch.extend([], [(0, b"", None)], 0)
        request = ProduceRequest(None, 1, 1000, [(topic, [(_NOWHERE, bytes(batch._build()))])])
        return await self._on_topic(topic, "WRITE", request)

    async def read(self, topic: str) -> Cause | None:
        request = FetchRequest(0, 0, _FETCH_BYTES, 0, [(topic, [(0, 0, _FETCH_BYTES)])])
        return await self._on_topic(topic, "READ", request)

    async def number(self) -> Cause | None:
        """What an idempotent producer asks for first."""
        answer = await self._client.send(self._client.get_random_node(), InitProducerIdRequest(None, 1000))
        if answer.error_code != ClusterAuthorizationFailedError.errno:
            return None
        return denied_by(ClusterAuthorizationFailedError(), self._config)

    async def group(self, group: str) -> Cause | None:
        try:
            await self._client.coordinator_lookup(CoordinationType.GROUP, group)
        except GroupAuthorizationFailedError:
            return denied(self._config, "READ", f"group {group}")
        except KafkaError:  # a coordinator that is not there yet is no missing right
            return None
        return None

    async def _on_topic(self, topic: str, right: str, request: Any) -> Cause | None:
        leader = self._cluster.leader_for_partition(TopicPartition(topic, 0))
        if leader is None or leader < 0:
            return None
        answer = await self._client.send(leader, request)
        refused = TopicAuthorizationFailedError.errno in [int(row[1]) for row in _rows(answer)]
        return denied(self._config, right, f"topic {topic}") if refused else None


def _rows(answer: Any) -> Iterator[Any]:
    for _, partitions, *_ in answer.topics:
        yield from partitions

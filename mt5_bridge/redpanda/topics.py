"""Making the topics the broker lacks."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    IncompatibleBrokerVersion,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from loguru import logger

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.redpanda.causes import denied
from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.redpanda.faults import describe
from mt5_bridge.redpanda.inquiry import UNREACHABLE, diagnose
from mt5_bridge.redpanda.security import client_options


class TopicSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it should be. `retention_ms` -1 keeps records for ever; `replicas` None: 3 where there are as many
    brokers, else 1."""

    name: str
    partitions: int
    retention_ms: int
    replicas: int | None = None


async def ensure_topics(config: RedpandaConfig, specs: Sequence[TopicSpec], *, timeout: float = 15.0) -> list[str]:
    """Creates those topics that do not exist; others are left as they are.

    A broker that cannot create topics on demand is left to do it at first use.

    Returns:
        The names of the topics that were created.

    Raises:
        BrokerError: the broker is not there, or refuses.
    """
    options = client_options(config)
    client = AIOKafkaAdminClient(**options)
    try:
        async with asyncio.timeout(timeout):
            await client.start()
            known = set(await client.list_topics())
            missing = [spec for spec in specs if spec.name not in known]
            return await _create(config, client, missing) if missing else []
    except UNREACHABLE as error:
        raise BrokerError(f"topics: {await diagnose(error, config, options, timeout)}") from error
    finally:
        await asyncio.wait([asyncio.create_task(client.close())], timeout=1.0)


async def _create(config: RedpandaConfig, client: Any, specs: Sequence[TopicSpec]) -> list[str]:
    # "The broker's default" (-1) cannot be asked for in the protocol version that the client speaks.
    cluster = await client.describe_cluster()
    if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
        return _left_to_first_use()
    usual = 3 if len(cluster["brokers"]) >= 3 else 1
    topics = [
        NewTopic(
            spec.name,
            spec.partitions,
            spec.replicas or usual,
            topic_configs={"retention.ms": str(spec.retention_ms)},
        )
        for spec in specs
    ]
    try:
        answer = await client.create_topics(topics)
    except IncompatibleBrokerVersion:
        return _left_to_first_use()
    created: list[str] = []
    for name, code, *rest in answer.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(name)
        elif error in (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
            instead = "or DESCRIBE where it exists, or make it yourself and set REDPANDA_CREATE_TOPICS=false"
            raise BrokerError(str(denied(config, "CREATE", f"topic {name}", instead)))
        elif error is not TopicAlreadyExistsError:  # another bridge was quicker
            raise BrokerError(f"topic {name}: {describe(error(*rest[:1]))}")
    return created


def _left_to_first_use() -> list[str]:
    logger.bind(event="topics_not_created").warning("The broker creates no topics on demand; it is left to first use")
    return []

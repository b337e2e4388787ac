"""Topics are made where the broker can, left to first use where it cannot."""

import os
from collections.abc import Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from support.broker import TEST_BROKER, free_port

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.redpanda import RedpandaConfig, TopicSpec, ensure_topics


async def test_missing_topics_are_made_or_left_to_first_use(bootstrap: str, new_topic: Callable[[], str]) -> None:
    config = RedpandaConfig(bootstrap=bootstrap)
    specs = [TopicSpec(name=f"{new_topic()}-x", partitions=3, retention_ms=3_600_000) for _ in range(2)]
    created = await ensure_topics(config, specs)
    assert created == ([spec.name for spec in specs] if os.environ.get(TEST_BROKER) else [])
    assert await ensure_topics(config, []) == []
    if created:
        assert await ensure_topics(config, specs) == []


class Answer:
    def __init__(self, *rows: tuple[str, int, str]) -> None:
        self.topic_errors = list(rows)


async def _answering(monkeypatch: pytest.MonkeyPatch, bootstrap: str, code: int) -> list[str]:
    async def create_topics(self: AIOKafkaAdminClient, topics: list[object]) -> Answer:
        return Answer(("made", 0, ""), ("other", code, "because"))

    async def describe_cluster(self: AIOKafkaAdminClient) -> dict[str, object]:
        return {"controller_id": 1, "brokers": [{"node_id": 1}]}

    monkeypatch.setattr(AIOKafkaAdminClient, "create_topics", create_topics)
    monkeypatch.setattr(AIOKafkaAdminClient, "describe_cluster", describe_cluster)
    specs = [TopicSpec(name=name, partitions=1, retention_ms=-1) for name in ("made", "other")]
    return await ensure_topics(RedpandaConfig(bootstrap=bootstrap), specs)


async def test_another_bridge_may_be_quicker(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _answering(monkeypatch, bootstrap, 36) == ["made"]


async def test_a_refused_topic_is_an_error_with_its_name(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        BrokerError, match=r"CREATE on topic other is not granted; grant .*REDPANDA_CREATE_TOPICS=false"
    ):
        await _answering(monkeypatch, bootstrap, 29)


async def test_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerError):
        await ensure_topics(RedpandaConfig(bootstrap=f"127.0.0.1:{free_port()}"), [])

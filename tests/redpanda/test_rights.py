"""Rights asked for one by one; what real brokers answer: tests/kafka."""

import pytest
from aiokafka.errors import KafkaError
from support.broker import MockBroker, free_port

from mt5_bridge.redpanda import RedpandaConfig
from mt5_bridge.redpanda.rights import missing_rights
from mt5_bridge.redpanda.security import client_options

PRODUCE, FETCH, FIND_COORDINATOR, INIT_PRODUCER_ID = 0, 1, 10, 22
TOPIC_DENIED, GROUP_DENIED, CLUSTER_DENIED, NO_COORDINATOR = 29, 30, 31, 15


async def missing(broker: str, *, may_be_missing: bool = True, group: str | None = "g") -> list[str]:
    config = RedpandaConfig(bootstrap=broker)
    found = await missing_rights(
        config, client_options(config), writes=["out"], reads="in", group=group, may_be_missing=may_be_missing
    )
    assert all(cause.remedy for cause in found)
    return [cause.what for cause in found]


@pytest.fixture
def broker(mock_broker: MockBroker) -> MockBroker:
    for topic in ("out", "in"):
        mock_broker.create_topic(topic, 1)
    return mock_broker


async def test_all_is_granted_and_nothing_is_left_there(broker: MockBroker) -> None:
    assert await missing(broker.bootstrap) == []
    assert await missing(broker.bootstrap, group=None) == []


@pytest.mark.parametrize(
    ("api", "code", "what"),
    [
        (PRODUCE, TOPIC_DENIED, "WRITE on topic out is not granted"),
        (FETCH, TOPIC_DENIED, "READ on topic in is not granted"),
        (INIT_PRODUCER_ID, CLUSTER_DENIED, "IDEMPOTENT_WRITE on the cluster is not granted"),
        (FIND_COORDINATOR, GROUP_DENIED, "READ on group g is not granted"),
    ],
)
async def test_one_is_not(broker: MockBroker, api: int, code: int, what: str) -> None:
    broker.fail_next(api, code)
    assert await missing(broker.bootstrap) == [what]


async def test_a_coordinator_that_is_not_there_yet_is_no_missing_right(broker: MockBroker) -> None:
    broker.fail_next(FIND_COORDINATOR, NO_COORDINATOR)
    assert await missing(broker.bootstrap) == []


async def test_topics_that_are_not_there(mock_broker: MockBroker) -> None:
    assert await missing(mock_broker.bootstrap) == []
    hidden = [f"topic {topic} is not there, or may not be seen" for topic in ("out", "in")]
    assert await missing(mock_broker.bootstrap, may_be_missing=False) == hidden


async def test_no_broker() -> None:
    with pytest.raises(KafkaError):
        await missing(f"127.0.0.1:{free_port()}")

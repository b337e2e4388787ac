"""One life of a producer: what was asked of it does not outlive it."""

import asyncio
import time
from typing import Any

import pytest
from support.broker import MockBroker
from support.eventually import eventually

from mt5_bridge.redpanda import RedpandaConfig
from mt5_bridge.redpanda.batch import RecordBatch
from mt5_bridge.redpanda.security import client_options
from mt5_bridge.redpanda.session import ProducerSession, SessionEndedError

UNKNOWN_TOPIC = 3


async def test_who_asks_for_a_topic_is_told_of_the_end(mock_broker: MockBroker) -> None:
    mock_broker.topic_error("later", UNKNOWN_TOPIC)
    session = ProducerSession(client_options(RedpandaConfig(bootstrap=mock_broker.bootstrap)), 10_000)
    await session.start(10.0)
    asked = asyncio.create_task(session.partition("later", b"k", 60.0))
    await session.alive(10.0)
    await session.bury()
    with pytest.raises(SessionEndedError, match="later"):
        await asyncio.wait_for(asked, 10.0)
    await session.bury()


async def test_what_waits_at_several_nodes_ends_with_the_session() -> None:
    """Sent after the burial it would arrive behind what the next session sends, or twice."""
    nodes = 3
    broker = MockBroker(nodes)
    session = ProducerSession(client_options(RedpandaConfig(bootstrap=broker.bootstrap)), 10_000)
    try:
        before = asyncio.all_tasks()
        await session.start(10.0)
        broker.create_topic("t", nodes)
        await session.partition("t", b"k", 10.0)
        session._throttle._until = dict.fromkeys(range(1, nodes + 1), time.monotonic() + 3_600)
        settled: list[asyncio.Future[Any]] = []
        for partition in range(nodes):
            batch = RecordBatch(10_000)
            batch.extend(None, [], [(1, b"x")], 0)
            await session.send(batch, "t", partition, settled.append)
        await eventually(lambda: len(session._producer._sender._in_flight) == nodes)
        await asyncio.wait_for(session.bury(), 10.0)
        await asyncio.sleep(0)
        assert {task.get_coro() for task in asyncio.all_tasks() - before} == set()
    finally:
        await session.bury()
        broker.close()

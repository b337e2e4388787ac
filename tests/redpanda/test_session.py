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


async def test_a_batch_goes_without_waiting_only_where_nothing_is_to_be_waited_for(mock_broker: MockBroker) -> None:
    session = ProducerSession(client_options(RedpandaConfig(bootstrap=mock_broker.bootstrap)), 10_000)
    mock_broker.create_topic("t", 1)
    accumulator: Any = session._producer._message_accumulator

    def batch() -> RecordBatch:
        made = RecordBatch(10_000)
        made.extend([], [(1, b"x", None)], 0)
        return made

    def ready() -> bool:
        return session.ready_for("t", 0)

    settled: list[asyncio.Future[Any]] = []
    try:
        await session.start(10.0)
        await session.partition("t", b"k", 10.0)
        assert not ready(), "the first one is waited for"
        await session.send(batch(), "t", 0, settled.append)
        assert not ready(), "it has not arrived"
        await eventually(lambda: settled)
        assert ready()
        session.send_now(batch(), "t", 0, settled.append)
        assert not ready(), "one waits to be sent"
        await eventually(lambda: not accumulator._batches)
        await eventually(ready, why="the next one may wait behind the one on its way")
        await eventually(lambda: len(settled) == 2)
        last = session._last["t", 0]
        session._due[last] = 0.0  # as in the turn of the loop between its end and who is told of it
        assert not ready(), "what became of it is not told yet"
        del session._due[last]
        assert ready()
        assert not session.ready_for("t", 7), "no such partition"
        accumulator._exception = RuntimeError("the sender is dead")
        assert not ready()
        accumulator._exception = None
        assert ready()
    finally:
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
            batch.extend([], [(1, b"x", None)], 0)
            await session.send(batch, "t", partition, settled.append)
        await eventually(lambda: len(session._producer._sender._in_flight) == nodes)
        await asyncio.wait_for(session.bury(), 10.0)
        await asyncio.sleep(0)
        assert {task.get_coro() for task in asyncio.all_tasks() - before} == set()
    finally:
        await session.bury()
        broker.close()

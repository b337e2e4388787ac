"""Three nodes, every topic on all of them: leaders die, freeze, are replaced; with two dead nothing is taken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from support.books import burst, check_books
from support.eventually import eventually
from support.kafka import KafkaBroker, bootstrap_of, cluster
from support.world import World, check_ticks, world

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]

LONG_S = 180.0
SAFE = {"min.insync.replicas": "2"}


@pytest_asyncio.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[KafkaBroker]]:
    with ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, cluster(tmp_path, properties=SAFE))


def leader(nodes: list[KafkaBroker], topic: str, partition: int = 0) -> KafkaBroker:
    """The node that leads a partition, as a living one knows it."""
    asked = next(node for node in nodes if node.runs)
    number = asked.admin().list_topics(topic, timeout=30).topics[topic].partitions[partition].leader
    return next(node for node in nodes if node.node == number)


async def traded(world: World, ids: list[str]) -> None:
    """Ticks flow and six more signals are filled, whoever leads."""
    await world.flowing(timeout=LONG_S)
    ids += await burst(world, 6)
    await eventually(lambda: all(world.topics.finals(each) for each in ids), LONG_S, "a result of every signal")


async def test_leaders_come_and_go(tmp_path: Path, nodes: list[KafkaBroker]) -> None:
    options = {"make_topics": False, "SIGNAL_MAX_AGE_MS": "300000"}
    async with world(tmp_path, bootstrap_of(nodes), **options) as w:  # type: ignore[arg-type]  # flags and settings
        await w.start()
        ids: list[str] = []
        await traded(w, ids)
        for topic in (w.topics.tick_topic, w.topics.event_topic, w.topics.signal_topic):
            lost = await asyncio.to_thread(leader, nodes, topic)
            ids += await burst(w, 6)
            lost.kill()
            await traded(w, ids)
            await asyncio.to_thread(lost.start)
        frozen = await asyncio.to_thread(leader, nodes, w.topics.signal_topic)
        frozen.pause()
        await traded(w, ids)
        frozen.resume()
        stopped = await asyncio.to_thread(leader, nodes, w.topics.tick_topic, 1)
        await asyncio.to_thread(stopped.stop)  # in order: it hands its partitions over first
        await traded(w, ids)
        await asyncio.to_thread(stopped.start)
        await traded(w, ids)
        await check_books(w, ids, LONG_S)
        await check_ticks(w)
        await w.daemon.stop()


async def test_two_of_three_die(tmp_path: Path, nodes: list[KafkaBroker]) -> None:
    """One copy is not enough (min.insync.replicas): nothing is taken until a second node is back, and nothing lost."""
    options = {"make_topics": False, "SIGNAL_MAX_AGE_MS": "300000"}
    async with world(tmp_path, bootstrap_of(nodes), **options) as w:  # type: ignore[arg-type]  # flags and settings
        await w.start()
        ids: list[str] = []
        await traded(w, ids)
        ids += await burst(w, 6)
        for node in nodes[:2]:
            node.kill()
        await asyncio.sleep(5)  # ticks that nobody takes
        for node in nodes[:2]:
            node.launch()
        for node in nodes[:2]:
            await asyncio.to_thread(node.wait_ready)
        await traded(w, ids)
        await check_books(w, ids, LONG_S)
        await check_ticks(w)
        await w.daemon.stop()

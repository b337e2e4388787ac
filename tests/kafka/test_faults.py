"""The bridge through the faults of a real broker: no tick is lost, their order stays, a signal executes once or never.

Every test ends in the same two questions: is each tick that the terminal holds on the topic, in order; has each signal
one final result and each fill one deal.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.books import burst, check_books
from support.eventually import eventually
from support.kafka import KafkaBroker
from support.topics import Topics, trading_signal, unique
from support.world import MakeWorld, World, check_ticks, held_ticks, price

PATIENT = {"SIGNAL_MAX_AGE_MS": "300000"}
LONG_S = 180.0


@asynccontextmanager
async def traded(make: MakeWorld) -> AsyncIterator[tuple[World, list[str]]]:
    """A world that trades before what happens in the block, meanwhile as far as the test says, and after it."""
    async with make(**PATIENT) as world:
        await world.start()
        await world.flowing(timeout=LONG_S)
        ids = await burst(world, 6)
        yield world, ids
        await world.flowing(timeout=LONG_S)
        ids += await burst(world, 6)
        await check_books(world, ids, LONG_S)
        await check_ticks(world)
        await world.daemon.stop()


async def test_killed_and_started_again(new_world: MakeWorld, broker: KafkaBroker) -> None:
    async with traded(new_world) as (world, ids):
        ids += await burst(world, 12)  # some are read, some are not, when it dies
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)


async def test_frozen_and_thawed(new_world: MakeWorld, broker: KafkaBroker) -> None:
    """Longer than the bridge waits for it: what was under way arrives after the thaw, perhaps twice, never late."""
    async with traded(new_world) as (world, ids):
        ids += await burst(world, 12)
        broker.pause()
        await away(world)
        broker.resume()


async def test_topics_deleted_in_use(new_world: MakeWorld, broker: KafkaBroker) -> None:
    """What is in them goes with them; the bridge makes them again, and what comes later is all there."""
    async with new_world(**PATIENT) as world:
        await world.start()
        await world.flowing(timeout=LONG_S)
        ids = await burst(world, 6)
        await check_books(world, ids, LONG_S)
        old = world.topics
        gone = {old.tick_topic, old.signal_topic}
        for topic in gone:
            await asyncio.to_thread(broker.delete_topic, topic)
        await eventually(lambda: gone <= set(broker.topics()), LONG_S, "topics made again")
        async with Topics(broker.bootstrap, make=False, tag=old.tag) as world.topics:
            await world.flowing(timeout=LONG_S)
            ids += await burst(world, 6)
            await check_books(world, ids, LONG_S)
            await check_ticks(world)
            await world.daemon.stop()


async def test_a_partition_added(new_world: MakeWorld, broker: KafkaBroker) -> None:
    """Signals are heard on the new one; a symbol that moves to another partition has its older ticks in the old one."""
    async with new_world(**PATIENT) as world:
        await world.start()
        await world.flowing(timeout=LONG_S)
        topics = world.topics
        await asyncio.to_thread(broker.add_partitions, topics.signal_topic, 8)
        await asyncio.to_thread(broker.add_partitions, topics.tick_topic, 29)
        ids = [await to_partition(world, number) for number in range(8)]
        await check_books(world, ids, LONG_S)
        moved: dict[str, list[tuple[int, int, int]]] = {}

        def spread() -> bool:
            moved.clear()
            for row in broker.records(topics.tick_topic):
                tick = row.data
                moved.setdefault(tick["symbol"], []).append((tick["time_msc"], tick["seq"], row.partition))
            return any(len({partition for _, _, partition in ticks}) > 1 for ticks in moved.values())

        await eventually(lambda: asyncio.to_thread(spread), LONG_S, "a symbol in its new partition")
        for symbol, ticks in moved.items():
            homes = [partition for _, _, partition in sorted(ticks)]
            assert sum(1 for a, b in itertools.pairwise(homes) if a != b) <= 1, symbol
            for home in set(homes):
                seen = list(dict.fromkeys(tick for tick in ticks if tick[2] == home))
                assert seen == sorted(seen)
            first = min(ticks)[0]
            last = max(ticks)[0]
            wanted = {tick for tick in await held_ticks(world, symbol, first) if tick[0] < last}
            assert wanted <= {tick[:2] for tick in ticks}
        await world.daemon.stop()


async def test_messages_too_large_for_the_topic(new_world: MakeWorld, broker: KafkaBroker) -> None:
    """A topic that takes batches of 20 kB: the bridge's own are smaller then, what it catches up with, too."""
    tag = unique("small")
    for name, limit in ((f"tick-{tag}", 20_000), (f"event-{tag}", 20_000)):
        await asyncio.to_thread(broker.create_topic, name, 2, max_message_bytes=str(limit))
    async with new_world(topics_tag=tag, TICK_BACKFILL="5m", **PATIENT) as world:
        await world.start()
        await world.flowing(timeout=LONG_S)
        await check_books(world, await burst(world, 12), LONG_S)
        await check_ticks(world)
        await world.daemon.stop()


async def to_partition(world: World, number: int) -> str:
    """A signal to one partition of its topic; its id."""
    signal_id, symbol = unique("p"), "AUDUSD"
    bid = (await world.topics.quote(symbol))["bid"]
    value = trading_signal(signal_id, symbol, "BUY", volume=0.01, stop_loss=price(bid * 0.9, symbol))
    await world.topics.send(value, partition=number)
    return signal_id


async def away(world: World) -> None:
    """Waits until the bridge has given its broker up."""

    async def gone() -> bool:
        return bool((await world.ask("get_status"))["channels"]["redpanda"] == "disconnected")

    await eventually(gone, LONG_S, "a bridge that has given its broker up")

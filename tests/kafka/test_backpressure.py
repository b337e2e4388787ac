"""A broker that takes nothing: the bridge stops asking the terminal, whose history is the buffer. By counting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from support.eventually import eventually
from support.fake_terminal import OFFSET_MS, FakeTerminal
from support.flow_kit import LOGIN, TICKS, FlowKit
from support.kafka import KafkaBroker
from support.world import MakeWorld, check_ticks

from mt5_bridge.core.model import TICK_RECORD_SIZE
from mt5_bridge.flows import ticks as flow
from mt5_bridge.journal.changes import CursorMoved
from mt5_bridge.redpanda import LinkState, Producer, RedpandaConfig

LONG_S = 180.0
PAGE = 100
HOUR_MS = 3_600_000


@asynccontextmanager
async def bridge(broker: KafkaBroker, folder: Path, terminal: FakeTerminal, **settings: Any) -> AsyncIterator[FlowKit]:
    """The tick flow with a real producer on a real broker, and a terminal that counts what it is asked."""
    await asyncio.to_thread(broker.create_topic, TICKS, 1)
    producer = Producer(RedpandaConfig(bootstrap=broker.bootstrap))
    producer.start()
    try:
        await asyncio.wait_for(producer.wait_connected(), LONG_S)
        async with FlowKit.open(folder, terminal=terminal, producer=cast("Any", producer), **settings) as kit:
            yield kit
    finally:
        broker.resume()
        await producer.stop(1.0)
        await asyncio.to_thread(broker.delete_topic, TICKS)


def held(terminal: FakeTerminal, symbol: str = "EURUSD") -> int:
    return len(terminal.ticks[symbol]) // TICK_RECORD_SIZE


async def published(broker: KafkaBroker, count: int) -> None:
    """All so many ticks are on the topic; each stands, the first time, where it belongs."""

    def there() -> list[tuple[int, int]]:
        came = [(row.data["time_msc"], row.data["seq"]) for row in broker.records(TICKS)]
        found = list(dict.fromkeys(came))
        return found if len(found) == count else []

    found = await eventually(lambda: asyncio.to_thread(there), LONG_S, f"{count} ticks")
    assert found == sorted(found)


async def test_live_ticks(broker: KafkaBroker, tmp_path: Path) -> None:
    terminal = FakeTerminal(login=LOGIN)
    terminal.tick("EURUSD", 1.1, 1.2)
    async with bridge(broker, tmp_path, terminal, tick_hz=100.0) as kit:
        producer = cast("Producer", kit.producer)
        kit.run("ticks")
        await eventually(lambda: kit.ticks.symbols)
        first = held(terminal)
        terminal.tick("EURUSD", 1.1, 1.2)
        await eventually(lambda: kit.ticks.stats.published > 0, LONG_S)
        broker.pause()
        terminal.tick("EURUSD", 1.1, 1.2)
        await eventually(lambda: producer.stats.pending_bytes > 0, LONG_S)
        asked = terminal.calls.count("poll_ticks")
        for gone, waiting in ((False, producer.stats.pending_bytes), (True, 0)):
            if gone:
                await eventually(lambda: producer.state is LinkState.DISCONNECTED, LONG_S)
                await eventually(lambda: producer.stats.pending_bytes == 0, LONG_S)
            for _ in range(300):
                terminal.tick("EURUSD", 1.1, 1.2)
                await asyncio.sleep(0.005)  # a second and a half, in which it would ask 150 times
            assert terminal.calls.count("poll_ticks") == asked
            assert producer.stats.pending_bytes == waiting
        broker.resume()
        await published(broker, held(terminal) - first)


async def test_a_catch_up(broker: KafkaBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page under way and the next one in hand, however long the broker takes nothing."""
    monkeypatch.setattr(flow, "CATCH_UP_PAGE", PAGE)
    terminal = FakeTerminal(login=LOGIN)
    for _ in range(20 * PAGE):
        terminal.tick("EURUSD", 1.1, 1.2, after_ms=1000)
    async with bridge(broker, tmp_path, terminal, tick_hz=100.0) as kit:
        producer = cast("Producer", kit.producer)
        old = terminal.now_msc + OFFSET_MS - HOUR_MS
        await kit.journal.commit(CursorMoved(symbol="EURUSD", epoch=0, time_msc=old, count=1))
        await kit.ticks.restore()
        await producer.publish_one(TICKS, None, b'{"data":{"time_msc":0,"seq":0}}')  # it knows the topic now
        broker.pause()
        kit.run("ticks")
        await eventually(lambda: terminal.calls.count("catch_up") == 2, LONG_S)
        await eventually(lambda: producer.state is LinkState.DISCONNECTED, LONG_S)
        await eventually(lambda: producer.stats.pending_bytes == 0, LONG_S)
        assert terminal.calls.count("catch_up") == 2
        broker.resume()
        await published(broker, held(terminal) + 1)


async def test_a_daemon_held_back_by_a_quota(new_world: MakeWorld, broker: KafkaBroker) -> None:
    """Minutes of ticks at a few kB/s: it stays connected, its memory stays flat, commands are answered."""
    async with new_world(TICK_BACKFILL="5m") as world:
        broker.throttle(produce=30_000, client="e2e")
        await world.start()
        await eventually(lambda: "quota slows us down" in world.daemon.console, LONG_S)
        sizes = []
        for _ in range(10):
            sizes.append(psutil.Process(world.daemon.pid).memory_info().rss)
            status = await world.ask("get_status")
            assert status["channels"]["redpanda"] == "connected"
            await asyncio.sleep(1.0)  # what would pile up does so with time
        assert max(sizes) - sizes[0] < 20_000_000, sizes
        assert "Producer disconnected" not in world.daemon.console
        behind = (await world.ask("get_status"))["counters"]["ticks"]
        broker.throttle(client="e2e")
        await eventually(lambda: len(world.topics.ticks) > behind, LONG_S)
        await world.flowing(timeout=LONG_S)
        await check_ticks(world)
        await world.daemon.stop()

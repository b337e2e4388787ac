"""Bars that are over, on the topic and over the socket, going on where an earlier life stopped."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
from support.backend import Backend
from support.daemon import STANDARD, Daemon
from support.eventually import eventually
from support.schemas import fault
from support.topics import Frame
from support.world import TOKEN, MakeWorld, World

from mt5_bridge.core.bars import Ledger
from mt5_bridge.core.times import MINUTE, from_iso
from mt5_bridge.journal.changes import Memo
from mt5_bridge.journal.journal import Journal

MINUTES = 30
SYMBOL = "AUDUSD"


async def stopped_long_ago(data: Path) -> int:
    """A journal whose last bar was told half an hour ago; when it opened."""
    last = (int(time.time() * 1000) // MINUTE - MINUTES) * MINUTE
    journal = await Journal.open(data / "journal.db")
    await journal.commit(Memo(name=f"bars/{SYMBOL}/M1", value=msgspec.msgpack.encode(Ledger(last))))
    await journal.close()
    return last


def opened(bars: list[Frame]) -> list[int]:
    """When each bar opened, in the order in which they came."""
    return [from_iso(bar["time"]) for bar in bars if (bar["symbol"], bar["timeframe"]) == (SYMBOL, "M1")]


def on_topic(world: World) -> list[int]:
    return opened([record.data for record in list(world.topics.bars)])


def every_minute(since: int, times: list[int]) -> bool:
    """None is missing, none comes twice."""
    return times == [since + MINUTE * number for number in range(1, len(times) + 1)]


async def looked(world: World, looks: int) -> bool:
    bars = (await world.ask("get_status"))["bars"]
    return bool(bars["looks"] >= looks)


async def test_none_is_missing_and_none_comes_twice(new_world: MakeWorld) -> None:
    async with new_world(BARS="M1,H1", SYMBOLS=SYMBOL) as world:
        last = await stopped_long_ago(world.daemon.data)
        await world.start()
        await eventually(lambda: len(on_topic(world)) >= MINUTES - 1, 20, "the bars of half an hour")
        status = (await world.ask("get_status"))["bars"]
        assert (status["timeframes"], status["series"], status["troubles"]) == (["M1", "H1"], 2, {})
        assert every_minute(last, on_topic(world))
        (record, *_) = world.topics.bars
        assert (record.key, record.headers["schema"]) == (SYMBOL.encode(), b"bar_data/1")
        assert fault("from_bridge.bar_data", record.frame, strict=True) is None
        assert record.timestamp_ms == from_iso(record.data["time"]) + MINUTE
        held = await world.ask("get_rates", symbol=SYMBOL, timeframe="M1", count=MINUTES + 3)
        shown: dict[str, Any] = {bar["time"]: {**bar, "corrected": False} for bar in held}
        told = [record.data for record in list(world.topics.bars) if record.data["timeframe"] == "M1"]
        assert [shown[bar["time"]] for bar in told[: MINUTES - 1]] == told[: MINUTES - 1]

        world.daemon.kill()
        await world.start()
        await eventually(lambda: looked(world, 2), 20, "a look at both series")
        await world.daemon.stop()
        await world.start()
        await eventually(lambda: looked(world, 2), 20, "a look at both series")
        times = on_topic(world)
        assert every_minute(last, list(dict.fromkeys(times)))
        assert len(times) - len(set(times)) <= 1  # one that was under way when the daemon was killed
        await world.daemon.stop()


async def test_over_the_socket(tmp_path: Path) -> None:
    async with Backend(TOKEN) as backend:
        env = {"BACKEND_WS_URL": backend.url, "SYMBOLS": SYMBOL, "BARS": "M1"}
        daemon = Daemon(tmp_path, env, STANDARD)
        last = await stopped_long_ago(daemon.data)
        daemon.start()
        try:

            def came() -> list[int]:
                return opened([frame["data"] for frame in backend.frames if frame["type"] == "bar_data"])

            await eventually(lambda: len(came()) >= MINUTES - 1, 30, "the bars of half an hour")
            assert every_minute(last, came())
            await daemon.stop()
        finally:
            await asyncio.to_thread(daemon.close)

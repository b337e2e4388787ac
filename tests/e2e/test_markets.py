"""Other brokers' ways: their clock, their symbol names, netting accounts."""

import time
from datetime import datetime

import pytest
from support.eventually import eventually
from support.world import MakeWorld, World, price

NEAR_MS = 60_000
"""A busy machine is late; a wrong offset is at least 15 minutes."""


@pytest.mark.parametrize("offset_s", [-18_000, *(pytest.param(s, marks=pytest.mark.deep) for s in (0, 10_800))])
async def test_times_are_utc_whatever_the_servers_clock(new_world: MakeWorld, offset_s: int) -> None:
    async with new_world(PAPER_SERVER_OFFSET=str(offset_s)) as world:
        await world.start()
        await world.flowing()
        now = time.time() * 1000
        assert abs(now - world.topics.ticks[-1].data["time_msc"]) < NEAR_MS
        opened = await world.open("AUDUSD")
        held = (await world.ask("get_positions"))[0]
        assert abs(time.time() * 1000 - held["time_msc"]) < NEAR_MS
        await world.signal("AUDUSD", "CLOSE", position=opened["position"])
        deals = await world.ask("get_history", kind="deals")
        made = datetime.fromisoformat(deals[-1]["time"]).timestamp()
        assert abs(time.time() - made) * 1000 < NEAR_MS
        await world.daemon.stop()


async def test_a_wrong_zone_is_noticed_and_not_believed(new_world: MakeWorld) -> None:
    async with new_world(PAPER_SERVER_OFFSET="18000", MT5_SERVER_TIMEZONE="Europe/Athens") as world:
        await world.start()
        await world.flowing()
        await eventually(lambda: "MT5_SERVER_TIMEZONE=Europe/Athens is wrong" in world.daemon.console, 10)
        noticed = len(world.topics.ticks)
        await eventually(lambda: len(world.topics.ticks) > noticed + 20, 10)
        assert abs(time.time() * 1000 - world.topics.ticks[-1].data["time_msc"]) < NEAR_MS
        opened = await world.open("AUDUSD")
        held = (await world.ask("get_positions"))[0]
        assert held["ticket"] == opened["position"]
        assert abs(time.time() * 1000 - held["time_msc"]) < NEAR_MS
        assert (await world.ask("get_status"))["status"] == "ok"
        await world.daemon.stop()


async def test_a_suffix(new_world: MakeWorld) -> None:
    """A backend's EURUSD is this broker's EURUSD.m, on the topic as the terminal names it."""
    async with new_world(PAPER_SYMBOL_SUFFIX=".m", SYMBOLS="AUDUSD,GBPUSD.m") as world:
        hello = await world.start()
        assert set(hello["symbols"]) in ({"AUDUSD", "GBPUSD.m"}, {"AUDUSD.m", "GBPUSD.m"})
        await world.flowing(("AUDUSD.m", "GBPUSD.m"))
        bid = (await world.topics.quote("AUDUSD.m"))["bid"]
        stop = price(bid * 0.98, "AUDUSD")
        result = await world.signal("AUDUSD", "BUY", volume=0.01, stop_loss=stop)
        assert (result["status"], result["symbol"]) == ("filled", "AUDUSD.m")
        assert (await world.signal("AUDUSD.m", "CLOSE"))["status"] == "closed"
        assert (await world.command("get_ticks", {"symbol": "AUDUSD", "count": 1}))["success"]
        await world.daemon.stop()


async def net(world: World) -> list[tuple[str, float]]:
    return [(p["side"], p["volume"]) for p in await world.ask("get_positions")]


async def test_netting(new_world: MakeWorld) -> None:
    """One position a symbol: it grows, shrinks and reverses; an exit never reverses it."""
    async with new_world(PAPER_MARGIN_MODE="netting") as world:
        await world.start()
        await world.open("AUDUSD", "BUY", volume=0.03)
        await world.open("AUDUSD", "BUY", volume=0.02)
        assert await net(world) == [("buy", 0.05)]
        closed = await world.signal("AUDUSD", "CLOSE", volume=0.03)
        assert (closed["status"], closed["volume_filled"]) == ("closed", 0.03)
        assert await net(world) == [("buy", 0.02)]
        await world.open("AUDUSD", "SELL", volume=0.03)
        assert await net(world) == [("sell", 0.01)]
        assert (await world.command("reduce_only", {"reason": "test"}))["success"]
        denied = await world.signal("AUDUSD", "BUY", volume=0.02, stop_loss=0.5)
        assert denied["reason"] == "reducing"
        over = await world.signal("AUDUSD", "CLOSE", volume=0.05)
        assert over["status"] in ("closed", "denied"), over
        assert await net(world) in ([], [("sell", 0.01)])
        await world.command("close_all")
        assert await net(world) == []
        await world.daemon.stop()


@pytest.mark.deep
async def test_closing_on_netting_is_capped_by_what_is_held(new_world: MakeWorld) -> None:
    async with new_world(PAPER_MARGIN_MODE="netting") as world:
        await world.start()
        await world.open("AUDUSD", "BUY", volume=0.02)
        await world.open("AUDUSD", "SELL", volume=0.05)
        assert await net(world) == [("sell", 0.03)]
        await world.command("emergency_stop")
        await world.halted("done")
        assert await net(world) == []
        await world.daemon.stop()

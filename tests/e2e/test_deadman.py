"""The dead-man's switch of the daemon as its user runs it: the account after its death, and what is told of it."""

import signal
import sys

import psutil
import pytest
from support.eventually import eventually
from support.world import FAR, MakeWorld, World, price

from mt5_bridge.core.deadman import REPORTS

ARMED = {"DEADMAN_ACTION": "flatten", "DEADMAN_AFTER": "1"}


async def filled(world: World) -> int:
    """A position and a pending order; the position's ticket."""
    await world.start()
    result = await world.open("XAUUSD")
    bid = (await world.topics.quote("AUDUSD"))["bid"]
    far = price(bid * (1 - FAR), "AUDUSD")
    placed = await world.signal(
        "AUDUSD", "BUY_LIMIT", volume=0.01, price=far, stop_loss=price(far * (1 - FAR), "AUDUSD")
    )
    assert placed["status"] == "placed", placed
    ticket: int = result["position"]
    await world.backend.frame("position_opened", where=lambda frame: frame["data"]["ticket"] == ticket)
    return ticket


async def told(world: World, ticket: int) -> None:
    """The account is flat, and the daemon that runs now says who did it, once."""
    assert await world.ask("get_positions") == []
    assert await world.ask("get_orders") == []
    frame = await world.backend.frame("halt_changed", where=lambda frame: frame["data"]["by"] == "deadman")
    data = frame["data"]
    assert (data["state"], data["phase"], data["closed"], data["survivors"]) == ("active", "done", [ticket], [])
    assert len(data["cancelled"]) == 1
    closed = await world.backend.frame("position_closed", where=lambda frame: frame["data"]["ticket"] == ticket)
    assert closed["data"]["reason"] == "command"
    await eventually(lambda: list(world.daemon.data.glob(REPORTS)) == [])
    assert (await world.ask("get_status"))["unknown_intents"] == 0


async def test_a_killed_daemon_and_the_next_one(new_world: MakeWorld) -> None:
    async with new_world(**ARMED) as world:
        ticket = await filled(world)
        world.daemon.kill()
        await world.start()  # at once: the old host may still be at it
        await told(world, ticket)
        await world.open("XAUUSD")
        await world.daemon.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
async def test_a_daemon_that_hangs_and_wakes(new_world: MakeWorld) -> None:
    async with new_world(**ARMED) as world:
        ticket = await filled(world)
        host = world.daemon.hosts()[0]
        assert world.daemon.process is not None
        world.daemon.process.send_signal(signal.SIGSTOP)
        await eventually(lambda: host.status() == psutil.STATUS_ZOMBIE, 10, "the host's end")
        world.daemon.process.send_signal(signal.SIGCONT)
        await world.backend.frame("halt_changed", where=lambda frame: frame["data"]["by"] == "deadman", timeout=15)
        await told(world, ticket)
        await world.daemon.stop()


async def test_an_ordinary_stop_closes_nothing(new_world: MakeWorld) -> None:
    async with new_world(**ARMED) as world:
        ticket = await filled(world)
        await world.daemon.stop()
        await world.start()
        assert [p["ticket"] for p in await world.ask("get_positions")] == [ticket]
        assert len(await world.ask("get_orders")) == 1
        await world.daemon.stop()

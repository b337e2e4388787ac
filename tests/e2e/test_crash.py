"""kill -9 with signals in flight: each is executed once and answered once, and no tick is missing."""

import asyncio
from pathlib import Path

import pytest
from support.books import burst, check_books
from support.daemon import SYMBOLS
from support.eventually import eventually
from support.topics import trading_signal, unique
from support.world import MakeWorld, check_ticks, price, sending

PATIENT = {"SIGNAL_MAX_AGE_MS": "60000", "SETTLE_WINDOW": "1"}


@pytest.mark.parametrize("delay", [0.04, *(pytest.param(d, marks=pytest.mark.deep) for d in (0.0, 0.02, 0.08, 0.2))])
async def test_signals_in_flight(new_world: MakeWorld, delay: float) -> None:
    async with new_world(**PATIENT) as world:
        await world.start()
        for symbol in SYMBOLS:
            await world.topics.quote(symbol)
        bursting = asyncio.create_task(burst(world, 60))
        await asyncio.sleep(delay)  # the moment of the crash is what the test is about
        world.daemon.kill()
        await world.start()
        await check_books(world, await bursting)
        await world.daemon.stop()


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.deep), "after"])
async def test_the_host_crashes_in_order_send(new_world: MakeWorld, tmp_path: Path, when: str) -> None:
    """The outcome is unknown, looked up, and told once; nothing is sent twice."""
    script = tmp_path / "faults.yaml"
    rule = f"{{function: order_send, kind: crash, when: {when}, nth: 1}}"
    script.write_text(f"faults:\n  - {rule}\n", encoding="utf-8")
    async with new_world(PAPER_FAULTS=str(script), **PATIENT) as world:
        await world.start()
        quote = await world.topics.quote("AUDUSD")
        signal_id = unique()
        script.write_text("faults: []\n", encoding="utf-8")  # for the host that comes after the crash
        stop = price(quote["bid"] * 0.98, "AUDUSD")
        result = await world.signal("AUDUSD", "BUY", signal_id=signal_id, volume=0.01, stop_loss=stop)
        statuses = [frame["data"]["status"] for frame in world.topics.results(signal_id)]
        assert statuses == ["unknown", "filled" if when == "after" else "abandoned"], statuses
        held = [p["magic"] for p in await world.ask("get_positions")]
        assert held == ([result["magic"]] if when == "after" else [])
        await world.daemon.stop()


@pytest.mark.deep
async def test_killed_while_an_order_hangs(new_world: MakeWorld, tmp_path: Path) -> None:
    """The intent was durable before the order went: the next life finds it executed and sends nothing."""
    script = tmp_path / "faults.yaml"
    script.write_text("faults:\n  - {function: order_send, kind: hang, when: after, nth: 1}\n", encoding="utf-8")
    async with new_world(PAPER_FAULTS=str(script), **PATIENT) as world:
        await world.start()
        quote = await world.topics.quote("AUDUSD")
        signal_id = unique()
        stop = price(quote["bid"] * 0.98, "AUDUSD")
        await world.topics.signal(signal_id, "AUDUSD", "BUY", volume=0.01, stop_loss=stop)
        await eventually(lambda: sending(world.daemon.data), 5.0, "the order on its way")
        world.daemon.kill()
        script.write_text("faults: []\n", encoding="utf-8")
        await world.start()
        await check_books(world, [signal_id])
        assert (await world.topics.result(signal_id))["status"] == "filled"
        await world.daemon.stop()


async def test_a_signal_sent_while_nobody_ran(new_world: MakeWorld) -> None:
    """Young enough it trades; too old it is stale."""
    async with new_world() as world:
        await world.start()
        quote = await world.topics.quote("AUDUSD")
        world.daemon.kill()
        stop = price(quote["bid"] * 0.98, "AUDUSD")
        young, old = unique("young"), unique("old")
        await world.topics.send(
            trading_signal(old, "AUDUSD", "BUY", volume=0.01, stop_loss=stop, created_at=1_700_000_000), key="AUDUSD"
        )
        await world.topics.signal(young, "AUDUSD", "BUY", volume=0.01, stop_loss=stop)
        world.daemon.start()
        assert (await world.topics.result(young))["status"] == "filled"
        assert (await world.topics.result(old))["reason"] == "stale"
        await world.daemon.stop()


async def test_ticks_go_on_from_the_cursor(new_world: MakeWorld) -> None:
    """What the terminal holds is on the topic, in order, over a kill -9, a stop and the pauses between."""
    async with new_world() as world:
        await world.start()
        await world.flowing()
        for crash in (True, False):
            if crash:
                world.daemon.kill()
            else:
                await world.daemon.stop()
            await asyncio.sleep(0.7)  # a market that goes on without us
            await world.start()
            await world.flowing()
        await check_ticks(world)
        await world.daemon.stop()

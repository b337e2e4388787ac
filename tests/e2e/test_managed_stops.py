"""A stop that follows the price: through a kill, to where the market turns and takes it."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.daemon import environment
from support.eventually import eventually
from support.topics import Frame, unique
from support.world import MakeWorld, World

POINT = 0.00001
BEHIND = 200
STEP_S = 0.1
PEAK = 400
"""Ticks until it turns: 20 s of the clock."""


def market(path: Path) -> None:
    """EURUSD rises by 10 points each 100 ms, and then falls twice as fast."""
    began, lines, rate = datetime(2024, 1, 3, tzinfo=UTC), ["timestamp,bid,ask"], 110_000
    for number in range(2 * PEAK):
        rate += 10 if number < PEAK else -20
        at = (began + timedelta(seconds=number * STEP_S)).isoformat(timespec="milliseconds")
        lines.append(f"{at},{rate * POINT:.5f},{(rate + 10) * POINT:.5f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


async def test_a_stop_follows_through_a_kill_until_the_market_takes_it(new_world: MakeWorld, tmp_path: Path) -> None:
    market(tmp_path / "EURUSD.csv")
    paper = {"PAPER_TICKS": str(tmp_path / "EURUSD.csv"), "PAPER_LOOP": "false", "PAPER_SPEED": "2"}
    async with new_world(SYMBOLS="EURUSD", **paper) as world:
        await world.start()
        quote = await world.topics.quote("EURUSD")
        signal_id, stop = unique(), round(quote["bid"] - 0.01, 5)
        opened = await world.signal(
            "EURUSD", "BUY", signal_id=signal_id, volume=0.01, stop_loss=stop, trailing_stop_points=BEHIND
        )
        assert opened["status"] == "filled", opened
        await eventually(lambda: len(moves(world, opened)) >= 2, 30.0, "two moves")
        world.daemon.kill()
        before = len(moves(world, opened))
        await world.start()
        await eventually(lambda: len(moves(world, opened)) > before, 30.0, "a move of the next life")
        closed = await world.topics.event("position_closed", timeout=60.0)
        assert (closed["reason"], closed["signal_id"]) == ("stop", signal_id)
        stops = [move["stop_loss"] for move in moves(world, opened)]
        assert stops == sorted(stops)
        assert len(set(stops)) == len(stops)
        assert closed["stop_loss"] == stops[-1] > opened["price"]
        assert abs(closed["price_close"] - stops[-1]) < 50 * POINT
        assert "to follow the price" in await story(world, signal_id)
        assert [f["data"]["status"] for f in world.topics.results(signal_id)] == ["filled"]
        await world.daemon.stop()


def moves(world: World, opened: Frame) -> list[Frame]:
    """The events of moved stops, each once."""
    told = {f["event_id"]: f["data"] for f in world.topics.of("order_result")}
    return [d for d in told.values() if d["reason"] == "trailing_stop" and d["position"] == opened["position"]]


async def story(world: World, signal_id: str) -> str:
    """What `mt5-bridge journal` says of the signal."""
    command = (sys.executable, "-m", "mt5_bridge", "journal", signal_id)
    asked = await asyncio.create_subprocess_exec(*command, env=environment(world.daemon.env), stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(asked.communicate(), 20.0)
    return out.decode()

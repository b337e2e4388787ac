"""Ticks in the daemon, whatever happens meanwhile: none is lost, each has its own time."""

import asyncio
import itertools
import time
from functools import partial
from pathlib import Path

import pytest
from support.daemon import SYMBOLS
from support.eventually import eventually
from support.world import MakeWorld, World, check_ticks

NEAR_MS = 60_000
"""A busy machine is late; a wrong offset is at least 15 minutes."""


def came(world: World, symbol: str) -> list[tuple[int, int]]:
    """What is on the topic of a symbol, repetitions aside, in the order of the first of each."""
    return list(dict.fromkeys(world.topics.ticks_of(symbol)))


def replaced(world: World, times: int) -> bool:
    return world.daemon.console.count("Terminal connected") > times


async def test_over_the_death_of_hosts(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        for death in range(1, 3):
            await world.flowing()
            world.daemon.hosts()[0].kill()
            await eventually(partial(replaced, world, death), 30, "another host")
        await world.flowing()
        await check_ticks(world)
        counters = (await world.ask("get_status"))["counters"]
        assert counters["host_restarts"] >= 2
        assert counters["tick_path"]["gaps"] == 0
        await world.daemon.stop()


async def test_over_a_sleep_of_the_pc(new_world: MakeWorld) -> None:
    """Daemon and hosts stand still while the market goes on."""
    async with new_world(TICK_BACKFILL="30") as world:
        await world.start()
        await world.flowing()
        hosts = world.daemon.hosts()
        sleepers = [*hosts, hosts[0].parent()]
        for process in sleepers:
            assert process is not None
            process.suspend()
        await asyncio.sleep(2.0)  # asleep: nothing can be waited for
        for process in reversed(sleepers):
            assert process is not None
            process.resume()
        await world.flowing()
        await check_ticks(world)
        path = (await world.ask("get_status"))["counters"]["tick_path"]
        assert path["missed_slots"] >= 10
        assert path["gaps"] == 0
        await world.daemon.stop()


@pytest.mark.parametrize("seconds", [10_800, 3_600], ids=["forward", "back"])
async def test_when_the_servers_clock_is_moved(new_world: MakeWorld, tmp_path: Path, seconds: int) -> None:
    script = tmp_path / "faults.yaml"
    rule = f"{{function: symbol_info_tick, kind: clock_offset, seconds: {seconds}, nth: 120}}"
    script.write_text(f"faults:\n  - {rule}\n", encoding="utf-8")
    async with new_world(PAPER_FAULTS=str(script), PAPER_SERVER_OFFSET="7200") as world:
        await world.start()
        await world.flowing()

        def moved() -> bool:
            newest = [world.topics.ticks_of(symbol)[-1][0] for symbol in SYMBOLS]
            return "Offset" in world.daemon.console or min(newest) > begun + 12_000

        begun = time.time() * 1000
        await eventually(moved, 60, "ticks from after the step")
        for symbol in SYMBOLS:
            times = [at for at, _ in came(world, symbol)]
            assert times == sorted(times)
            assert abs(time.time() * 1000 - times[-1]) < NEAR_MS
            assert max(after - before for before, after in itertools.pairwise(times)) < NEAR_MS
        path = (await world.ask("get_status"))["counters"]["tick_path"]
        assert path["resent"] == 0
        await world.daemon.stop()

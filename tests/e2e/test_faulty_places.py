"""Wrong settings, a folder that cannot be used, a second instance, a disk that is full."""

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest
from support.daemon import HYBRID, STANDARD, Daemon
from support.eventually import eventually
from support.topics import unique
from support.world import MakeWorld, World, price


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"TICK_HZ": "often"}, "TICK_HZ"),
        pytest.param({"MAX_RISK_PERCENT": "-1"}, "MAX_RISK_PERCENT", marks=pytest.mark.deep),
        ({"MODE": "telepathy"}, "MODE"),
        ({"REDPANDA_BOOTSTRAP_SERVERS": "no port"}, "REDPANDA_BOOTSTRAP_SERVERS"),
        pytest.param({"PAPER_SERVER_OFFSET": "soon"}, "PAPER_SERVER_OFFSET", marks=pytest.mark.deep),
    ],
)
async def test_a_wrong_setting(tmp_path: Path, env: dict[str, str], named: str) -> None:
    daemon = Daemon(tmp_path, env, STANDARD if "MODE" in env else HYBRID)
    if "MODE" in env:
        daemon.command = ("-m", "mt5_bridge", "run")
    daemon.start()
    assert await daemon.exit_code() == 2
    lines = daemon.console.strip().splitlines()
    assert len(lines) == 1, daemon.console
    assert named in lines[0]


async def test_standard_mode_without_a_backend(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {}, STANDARD)
    daemon.start()
    assert await daemon.exit_code() == 2
    assert "BACKEND_WS_URL" in daemon.console
    assert len(daemon.console.strip().splitlines()) == 1


async def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {})
    daemon.data.write_text("not a folder")
    daemon.start()
    assert await daemon.exit_code() == 2
    assert "DATA_DIR" in daemon.console
    assert "Traceback" not in daemon.console


async def test_a_second_instance(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        second = Daemon(world.daemon.folder, world.daemon.env)
        second.start()
        try:
            assert await second.exit_code() == 4
        finally:
            second.close()
        assert str(world.daemon.pid) in world.daemon.console
        assert (await world.command("get_account"))["success"]
        world.daemon.kill()
        await world.start()  # a killed one's lock is gone with it
        await world.daemon.stop()


@pytest.mark.deep
async def test_two_paper_bridges_side_by_side(new_world: MakeWorld, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with new_world(folder=tmp_path / "one") as one, new_world(folder=tmp_path / "two") as two:
        await asyncio.gather(one.start(), two.start())
        await asyncio.gather(one.open("AUDUSD"), two.open("GBPUSD"))
        assert [p["symbol"] for p in await one.ask("get_positions")] == ["AUDUSD"]
        assert [p["symbol"] for p in await two.ask("get_positions")] == ["GBPUSD"]
        await one.command("emergency_stop")
        assert await two.state() == "active"
        await asyncio.gather(one.daemon.stop(), two.daemon.stop())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of a running process's files")
async def test_a_full_disk(new_world: MakeWorld) -> None:
    """Nothing opens while the journal cannot be written; a stop works, says durable=false, and is durable later."""
    async with new_world() as world:
        await world.start()
        opened = await world.open("AUDUSD")
        await world.flowing()  # a symbol's first tick waits for a disk that takes where the symbol begins
        process = psutil.Process(world.daemon.pid)
        limits = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (1, limits[1]))
        signal_id = unique()
        data = {"signal_id": signal_id, "symbol": "GBPUSD", "action": "BUY", "volume": 0.01}
        stop = price((await world.topics.quote("GBPUSD"))["bid"] * 0.98, "GBPUSD")
        await world.backend.send("trading_signal", {**data, "stop_loss": stop})
        await asyncio.sleep(0.5)  # long enough for an order that must not be sent
        assert [p["ticket"] for p in await world.ask("get_positions")] == [opened["position"]]
        answer = await world.command("emergency_stop", {"reason": "disk full"})
        assert answer["data"]["state"] == "halted"
        await eventually(lambda: no_positions(world), 5.0, "a flat account")
        await world.flowing()
        process.rlimit(psutil.RLIMIT_FSIZE, limits)
        assert (await world.halted("done", 15.0))["survivors"] == []
        await world.daemon.stop()
        assert (await world.start())["halt"]["state"] == "halted"
        await world.daemon.stop()


async def no_positions(world: World) -> bool:
    return bool(await world.ask("get_positions") == [])


async def test_a_console_nobody_reads(new_world: MakeWorld) -> None:
    """The pipe is full after a while; ticks and commands go on, and so does the file."""
    reader, writer = os.pipe()
    try:
        async with new_world() as world:
            world.daemon.start(stdout=writer, env={"LOG_LEVEL": "TRACE"})
            os.close(writer)
            writer = -1
            await world.hello()
            os.set_blocking(reader, False)
            for number in range(400):
                await world.backend.send(f"unheard_of_{number}_" + "x" * 500, {}, request_id=f"n{number}")
            await world.topics.send_all([b"poison" * 100] * 400)
            await world.flowing()
            await world.open("AUDUSD")
            await world.flowing()
            await world.daemon.stop()
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)

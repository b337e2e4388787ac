"""Terminal hosts that die or hang: neither the loop nor the emergency stop waits for them."""

from pathlib import Path

import pytest
from support.eventually import eventually
from support.topics import unique
from support.world import MakeWorld, sending


async def test_a_killed_host_is_replaced(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        await world.flowing()
        world.daemon.hosts()[0].kill()
        assert (await world.command("get_status"))["success"]
        await world.flowing()
        await world.open("AUDUSD")
        status = await world.ask("get_status")
        assert status["counters"]["host_restarts"] >= 1
        await world.daemon.stop()


async def test_a_hung_host_does_not_delay_the_stop(new_world: MakeWorld) -> None:
    async with new_world(STOP_GRACE="4") as world:
        await world.start()
        opened = await world.open("AUDUSD")
        hung = world.daemon.hosts()[0]
        hung.suspend()
        await world.topics.signal(unique(), "AUDUSD", "BUY", volume=0.01, stop_loss=opened["stop_loss"])
        answer = await world.command("emergency_stop", {"reason": "hung"})
        assert answer["data"]["state"] == "halted"
        assert world.daemon.hosts()[0].pid == hung.pid, "nobody waited for the host"
        done = await world.halted("done", 40.0)
        assert opened["position"] in done["closed"]
        assert done["survivors"] == []
        assert await world.ask("get_positions") == []
        health = await world.ask("get_status")
        assert health["loop_stall_ms"] < 500
        await world.daemon.stop()


async def test_an_order_hangs_at_the_latch(new_world: MakeWorld, tmp_path: Path) -> None:
    """It gets its grace, is then unknown; what it opened late is found and closed."""
    script = tmp_path / "faults.yaml"
    script.write_text("faults:\n  - {function: order_send, kind: hang, when: after, nth: 1}\n", encoding="utf-8")
    async with new_world(STOP_GRACE="0.5", PAPER_FAULTS=str(script)) as world:
        await world.start()
        quote = await world.topics.quote("AUDUSD")
        signal_id = unique()
        script.write_text("faults: []\n", encoding="utf-8")
        stop = round(quote["bid"] * 0.98, 5)
        await world.topics.signal(signal_id, "AUDUSD", "BUY", volume=0.01, stop_loss=stop)
        await eventually(lambda: sending(world.daemon.data), 5.0, "the order on its way")
        answer = await world.command("emergency_stop")
        assert answer["data"]["state"] == "halted"
        done = await world.halted("done", 20.0)
        assert done["survivors"] == []
        assert (await world.topics.result(signal_id, 15.0))["status"] in ("filled", "denied")
        assert await world.ask("get_positions") == []
        await world.daemon.stop()


@pytest.mark.deep
async def test_a_fill_whose_answer_got_lost(new_world: MakeWorld, tmp_path: Path) -> None:
    script = tmp_path / "faults.yaml"
    rule = "{function: order_send, kind: executed_then_none, nth: 1, code: -10005}"
    script.write_text(f"faults:\n  - {rule}\n", encoding="utf-8")
    async with new_world(PAPER_FAULTS=str(script)) as world:
        await world.start()
        result = await world.open("AUDUSD")
        statuses = [f["data"]["status"] for f in world.topics.results(result["signal_id"])]
        assert statuses[-1] == "filled"
        assert len(await world.ask("get_positions")) == 1
        await world.daemon.stop()


@pytest.mark.deep
async def test_autotrading_switched_off_and_on(new_world: MakeWorld, tmp_path: Path) -> None:
    script = tmp_path / "faults.yaml"
    rules = "  - {function: order_send, kind: autotrading_off, nth: 1}\n"
    script.write_text(f"faults:\n{rules}", encoding="utf-8")
    async with new_world(PAPER_FAULTS=str(script)) as world:
        await world.start()
        quote = await world.topics.quote("AUDUSD")
        stop = round(quote["bid"] * 0.98, 5)
        refused = await world.signal("AUDUSD", "BUY", volume=0.01, stop_loss=stop)
        assert refused["status"] == "rejected", refused
        assert refused["retcode"] == 10027
        denied = await world.signal("AUDUSD", "BUY", volume=0.01, stop_loss=stop)
        assert (denied["status"], denied["reason"]) == ("denied", "not_ready")
        assert await world.state() == "active"
        await world.daemon.stop()

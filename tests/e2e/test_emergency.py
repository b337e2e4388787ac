"""The emergency stop: latched at once, flat soon after, and only a person's word lifts it."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from support.daemon import cli
from support.eventually import eventually
from support.topics import unique
from support.world import MakeWorld, World, price

if sys.platform == "win32":
    BREAK = signal.CTRL_BREAK_EVENT
else:
    BREAK = signal.SIGQUIT


async def loaded(world: World) -> tuple[list[int], list[int]]:
    """Opens three positions and a pending order; their tickets."""
    positions = [(await world.open(symbol))["position"] for symbol in ("AUDUSD", "GBPUSD", "XAUUSD")]
    bid = (await world.topics.quote("AUDUSD"))["bid"]
    pending = await world.signal(
        "AUDUSD", "BUY_LIMIT", volume=0.01, price=price(bid * 0.9, "AUDUSD"), stop_loss=price(bid * 0.8, "AUDUSD")
    )
    return positions, [pending["order"]]


async def test_stops_flattens_reports_and_stays(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        positions, orders = await loaded(world)
        answer = await world.backend.command("emergency_stop", {"reason": "drill", "by": "ops"}, request_id="stop")
        data = answer["data"]["data"]
        assert answer["data"]["success"]
        assert {name: data[name] for name in ("state", "reason", "by")} == {
            "state": "halted",
            "reason": "drill",
            "by": "ops",
        }
        # It waits for the disk no longer than it may, and says whether that was enough; that the stop outlasts this
        # process is seen below.
        assert data["durable"] in (True, False)
        done = await world.halted("done")
        assert (sorted(done["closed"]), done["cancelled"], done["survivors"]) == (positions, orders, [])
        assert done["state"] == "halted"
        on_topic = await world.topics.event("halt_changed", lambda d: d["phase"] == "done")
        assert on_topic == done
        phases = [f["data"]["phase"] for f in world.backend.frames if f["type"] == "halt_changed"]
        assert (phases[0], phases[-1]) == ("latched", "done")
        assert await world.ask("get_positions") == []
        assert await world.ask("get_orders") == []

        def reasons() -> bool:
            told = [closed_by(world, ticket) for ticket in positions]
            assert told == ["command"] * 3, told
            return True

        await eventually(reasons, 30.0, "who closed them")

        denied = await world.signal("AUDUSD", "BUY", volume=0.01, stop_loss=0.5)
        assert (denied["status"], denied["reason"]) == ("denied", "halted")
        again = await world.backend.command("emergency_stop", {}, request_id="stop")
        assert again["data"] == answer["data"]

        await world.daemon.stop()
        hello = await world.start()
        assert {name: hello["halt"][name] for name in ("state", "reason", "by")} == {
            "state": "halted",
            "reason": "drill",
            "by": "ops",
        }
        denied = await world.signal("AUDUSD", "CLOSE")
        assert denied["reason"] == "halted"
        resumed = await world.command("resume_trading", {"reason": "drill over", "by": "ops"})
        assert resumed["success"], resumed
        await world.topics.event("halt_changed", lambda d: d["state"] == "active")
        await world.open("AUDUSD")
        # A stop while not halted always acts, whatever its request_id.
        third = await world.backend.command("emergency_stop", {"close_positions": False}, request_id="stop")
        assert third["data"]["data"]["state"] == "halted"
        assert await world.state() == "halted"
        assert len(await world.ask("get_positions")) == 1
        await world.daemon.stop()


async def test_the_type_alone_latches(new_world: MakeWorld) -> None:
    """Bad fields are reported in the answer, and the stop acts by its defaults."""
    async with new_world() as world:
        await world.start()
        await world.open("AUDUSD")
        await world.backend.send_raw(
            b'{"type":"emergency_stop","request_id":"bad","data":{"scope":7,"close_positions":"x"}}'
        )
        answer = await world.backend.frame("command_result", where=lambda f: f.get("request_id") == "bad")
        assert answer["data"]["data"]["state"] == "halted"
        done = await world.halted("done")
        assert len(done["closed"]) == 1
        for frame in (b'{"type":"emergency_stop"}', b'{"type":"emergency_stop","data":null}'):
            await eventually(lambda: resumed(world), 5.0, "resumed: refused while the stop is not done")
            await world.backend.send_raw(frame)
            await eventually(lambda: is_halted(world), 3.0, f"halted by {frame!r}")
        await world.daemon.stop()


def closed_by(world: World, ticket: int) -> str | None:
    """The reason of a position's end, once it was told."""
    found = (f["data"] for f in world.topics.of("position_closed"))
    return next((str(d["reason"]) for d in found if d["ticket"] == ticket), None)


async def resumed(world: World) -> bool:
    return bool((await world.command("resume_trading", {"reason": "next", "by": "me"}))["success"])


async def is_halted(world: World) -> bool:
    return await world.state() == "halted"


@pytest.mark.deep
async def test_scope_mine_leaves_what_others_opened(new_world: MakeWorld) -> None:
    """What a bridge opened under an earlier MT5_MAGIC stays its own; without that journal it is somebody else's."""
    async with new_world() as world:
        await world.start(MT5_MAGIC="777")
        quote = await world.topics.quote("AUDUSD")
        buy = {"symbol": "AUDUSD", "action": "BUY", "volume": 0.01, "stop_loss": price(quote["bid"] * 0.98, "AUDUSD")}
        await world.backend.send("trading_signal", buy)  # over the socket: the next life reads no topic again
        foreign = (await world.backend.frame("order_result"))["data"]["position"]
        await world.daemon.stop()
        for file in world.daemon.data.glob("journal.db*"):
            file.unlink()
        await world.start(MT5_MAGIC="999", EMERGENCY_SCOPE="mine")
        earlier = (await world.open("GBPUSD"))["position"]
        await world.daemon.stop()
        await world.start(MT5_MAGIC="235")
        own = (await world.open("XAUUSD"))["position"]
        await world.command("emergency_stop")
        done = await world.halted("done")
        assert (sorted(done["closed"]), done["survivors"]) == ([earlier, own], [])
        assert [p["ticket"] for p in await world.ask("get_positions")] == [foreign]
        await world.daemon.stop()


async def test_the_command_line_of_a_running_bridge(new_world: MakeWorld, tmp_path: Path) -> None:
    async with new_world() as world:
        await world.start()
        opened = await world.open("AUDUSD")
        (code, said), (story_code, story) = await asyncio.gather(
            cli("status", folder=tmp_path), cli("journal", opened["signal_id"], folder=tmp_path)
        )
        assert code == 0, said
        assert "active" in said
        assert story_code == 0, story
        assert "filled" in story
        assert str(opened["order"]) in story
        (unknown_code, _), (stop_code, said) = await asyncio.gather(
            cli("journal", "never-seen", folder=tmp_path),
            cli("stop", "--reason", "by hand", "--by", "me", folder=tmp_path),
        )
        assert unknown_code == 1
        assert stop_code == 0, said
        done = await world.halted("done")
        assert (done["closed"], done["reason"], done["by"]) == ([opened["position"]], "by hand", "me")
        # What was stopped here is resumed here.
        refused = await world.command("resume_trading", {"reason": "let me", "by": "remote"})
        assert not refused["success"]
        assert await world.state() == "halted"
        code, said = await cli("resume", "--reason", "checked", "--by", "me", folder=tmp_path)
        assert code == 0, said
        assert await world.state() == "active"
        await world.daemon.stop()


@pytest.mark.deep
async def test_the_command_line_without_a_bridge(new_world: MakeWorld, tmp_path: Path) -> None:
    async with new_world() as world:
        await world.start()
        await world.daemon.stop()
        code, said = await cli("stop", "--reason", "while away", folder=tmp_path)
        assert code == 0, said
        assert "HALTED" in said
        code, said = await cli("status", folder=tmp_path)
        assert code == 1
        assert "while away" in said
        hello = await world.start()
        assert (hello["halt"]["state"], hello["halt"]["reason"]) == ("halted", "while away")
        await world.daemon.stop()
        code, said = await cli("resume", "--reason", "back", folder=tmp_path)
        assert code == 0, said
        assert (await world.start())["halt"]["state"] == "active"
        await world.daemon.stop()


async def test_the_file_stops_too(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        opened = await world.open("AUDUSD")
        file = world.daemon.data / "EMERGENCY_STOP"
        file.write_text("")
        done = await world.halted("done")
        assert done["closed"] == [opened["position"]]
        await eventually(lambda: not file.exists(), 3.0, "the file renamed")
        assert [p.name for p in world.daemon.data.glob("EMERGENCY_STOP*")] != []
        await world.daemon.stop()


@pytest.mark.parametrize("moment", ["running", "loading"])
async def test_the_break_key_stops_too(new_world: MakeWorld, moment: str) -> None:
    """Ctrl+Break, or Ctrl+\\ where there is none: while it runs, and before there is anything that could stop."""
    async with new_world(BREAK_IS_EMERGENCY="true") as world:
        await world.start()
        opened = await world.open("AUDUSD")
        if moment == "loading":
            await world.daemon.stop(signal.SIGTERM)
            world.daemon.start()
            await eventually(lambda: world.daemon.hears(BREAK), 10.0, "somebody who listens")
        mark = len(world.backend.frames)
        world.daemon.press(BREAK)
        done = await world.halted("done", timeout=20.0, after=mark)
        assert (done["closed"], done["reason"], done["by"]) == ([opened["position"]], "Ctrl+Break", "console")
        # It runs on, halted; what was stopped here is resumed here.
        refused = await world.command("resume_trading", {"reason": "let me", "by": "remote"})
        assert not refused["success"]
        await world.daemon.stop(signal.SIGTERM)


async def test_without_the_setting_the_break_key_is_an_ordinary_end(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        await world.open("AUDUSD")
        world.daemon.press(BREAK)
        assert await world.daemon.exit_code() == 0
        assert (await world.start())["halt"]["state"] == "active"
        assert len(await world.ask("get_positions")) == 1
        await world.daemon.stop()


@pytest.mark.deep
async def test_started_halted_by_a_setting(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start(EMERGENCY_STOP="true")
        denied = await world.signal("AUDUSD", "BUY", signal_id=unique(), volume=0.01, stop_loss=0.5)
        assert denied["reason"] == "halted"
        await world.daemon.stop()
        # No setting clears it.
        hello = await world.start(EMERGENCY_STOP="false")
        assert hello["halt"]["state"] == "halted"
        await world.daemon.stop()


async def test_nothing_trades_while_trading_is_off(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start(TRADING_ENABLED="false")
        await world.flowing()
        for action in ("BUY", "CLOSE"):
            denied = await world.signal("AUDUSD", action, volume=0.01, stop_loss=0.5)
            assert (denied["status"], denied["reason"]) == ("denied", "trading_disabled")
        await world.daemon.stop()

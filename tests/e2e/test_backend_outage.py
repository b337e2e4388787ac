"""A backend that is absent, refuses, closes at once or goes silent: bounded reconnects, no result lost."""

import time

import pytest
from support.backend import Backend
from support.eventually import eventually
from support.topics import unique
from support.world import MakeWorld


def results(backend: Backend, signal_id: str) -> set[str]:
    """Event ids of a signal's results over the socket."""
    found = [f for f in backend.frames if f["type"] == "order_result" and f["data"]["signal_id"] == signal_id]
    return {f["event_id"] for f in found}


async def test_absent_then_there(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.backend.stop()
        world.daemon.start()
        await world.flowing()
        result = await world.open("AUDUSD")
        await world.backend.start()
        hello = await world.hello()
        assert hello["account"] == 5000001
        await eventually(lambda: results(world.backend, result["signal_id"]), 5.0, "the result over the socket")
        assert results(world.backend, result["signal_id"]) == {
            f["event_id"] for f in world.topics.results(result["signal_id"])
        }
        await world.backend.frame("positions", where=lambda f: len(f["data"]) == 1)
        await world.daemon.stop()


async def test_cut_and_closed_connections(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        ids = []
        for end in (world.backend.cut, None):
            mark = len(world.backend.frames)
            if end is None:
                await world.backend.close()
            else:
                end()
            ids.append((await world.open("AUDUSD"))["signal_id"])
            await world.hello(after=mark)
        await eventually(lambda: all(results(world.backend, i) for i in ids), 5.0, "results of both")
        assert all(len(results(world.backend, i)) == 1 for i in ids)
        assert (await world.command("get_account"))["success"]
        await world.daemon.stop()


@pytest.mark.deep
async def test_a_refused_token(new_world: MakeWorld) -> None:
    """Tried again after four seconds at the earliest; trading over the topics goes on."""
    async with new_world(token="another") as world:
        world.daemon.start()
        await eventually(lambda: world.backend.attempts, 10.0)
        await world.open("AUDUSD")
        await eventually(lambda: len(world.backend.attempts) == 2, 8.0, "a second try")
        first, second = world.backend.attempts
        assert second - first > 3.5
        assert "token" in world.daemon.console
        assert "backend-secret" not in world.daemon.console
        await world.daemon.stop()


@pytest.mark.deep
async def test_closes_at_once(new_world: MakeWorld) -> None:
    """At most ten connections in ten seconds."""
    async with new_world() as world:
        world.backend.close_at_once = True
        world.daemon.start()
        await eventually(lambda: world.backend.attempts, 10.0)
        began = time.monotonic()
        await world.flowing()
        result = await world.open("AUDUSD")
        await eventually(lambda: time.monotonic() - began > 4.0, 5.0)  # the time in which they are counted
        assert 1 <= len(world.backend.attempts) <= 10
        assert not results(world.backend, result["signal_id"])
        await world.daemon.stop()


@pytest.mark.deep
async def test_restarted_with_results_undelivered(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        await world.backend.stop()
        result = await world.open("AUDUSD")
        world.daemon.kill()
        await world.backend.start()
        await world.start()
        await eventually(lambda: results(world.backend, result["signal_id"]), 5.0, "the result over the socket")
        assert results(world.backend, result["signal_id"]) == {
            f["event_id"] for f in world.topics.results(result["signal_id"])
        }
        await world.daemon.stop()


@pytest.mark.deep
async def test_a_signal_repeated_after_the_connection_was_lost(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        quote = await world.topics.quote("AUDUSD")
        data = {"signal_id": unique(), "symbol": "AUDUSD", "action": "BUY", "volume": 0.01}
        data["stop_loss"] = round(quote["bid"] * 0.98, 5)
        await world.backend.send("trading_signal", data)
        world.backend.cut()
        mark = len(world.backend.frames)
        await world.hello(after=mark)
        await world.backend.send("trading_signal", data)
        await world.topics.result(str(data["signal_id"]))
        await eventually(lambda: results(world.backend, str(data["signal_id"])), 5.0)
        assert len(results(world.backend, str(data["signal_id"]))) == 1
        assert len(await world.ask("get_positions")) == 1
        await world.daemon.stop()

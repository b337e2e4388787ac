"""A broker that is absent, dies and returns: ticks complete and in order, results delivered, trading goes on."""

import asyncio

import pytest
from support.broker import MockBroker
from support.topics import unique
from support.world import MakeWorld, check_ticks, price


async def test_absent_at_the_start(new_world: MakeWorld, mock_broker: MockBroker) -> None:
    """The daemon runs without it; commands and signals by socket work; ticks begin where the symbol began."""
    async with new_world(bootstrap=mock_broker.bootstrap) as world:
        mock_broker.down()
        await world.start()
        status = await world.ask("get_status")
        assert status["channels"]["redpanda"] != "connected"
        signal_id = unique()
        data = {"signal_id": signal_id, "symbol": "AUDUSD", "action": "BUY", "volume": 0.01, "stop_loss": 0.6}
        await world.backend.send("trading_signal", data)
        over_socket = await world.backend.frame("order_result")
        assert over_socket["data"]["status"] == "filled"
        mock_broker.up()
        await world.flowing()
        assert (await world.topics.result(signal_id))["status"] == "filled"
        assert [f["event_id"] for f in world.topics.results(signal_id)] == [over_socket["event_id"]]
        await world.open("GBPUSD")
        await check_ticks(world)
        await world.daemon.stop()


async def test_down_and_up(new_world: MakeWorld, mock_broker: MockBroker) -> None:
    async with new_world(bootstrap=mock_broker.bootstrap) as world:
        await world.start()
        await world.flowing()
        bid = (await world.topics.quote("AUDUSD"))["bid"]
        ids = []
        for _ in range(2):
            mock_broker.down()
            ids.append(unique())
            data = {"signal_id": ids[-1], "symbol": "AUDUSD", "action": "BUY", "volume": 0.01}
            await world.backend.send("trading_signal", {**data, "stop_loss": price(bid * 0.9, "AUDUSD")})
            await world.backend.frame("order_result", where=lambda f: f["data"]["signal_id"] == ids[-1])
            await asyncio.sleep(1.0)  # an outage long enough for the producer to notice and be built anew
            mock_broker.up()
            await world.flowing()
        for signal_id in ids:
            assert (await world.topics.result(signal_id))["status"] == "filled"
            assert len({f["event_id"] for f in world.topics.results(signal_id)}) == 1
        assert (await world.signal("AUDUSD", "CLOSE"))["status"] == "closed"
        await check_ticks(world)
        await world.daemon.stop()
        assert world.daemon.console.count("ERROR") == 0


@pytest.mark.deep
async def test_killed_during_the_outage(new_world: MakeWorld, mock_broker: MockBroker) -> None:
    """The terminal's history is the spool: the next life publishes what the first could not."""
    async with new_world(bootstrap=mock_broker.bootstrap) as world:
        await world.start()
        await world.flowing()
        mock_broker.down()
        bid = (await world.topics.quote("AUDUSD"))["bid"]
        signal_id = unique()
        data = {"signal_id": signal_id, "symbol": "AUDUSD", "action": "BUY", "volume": 0.01}
        await world.backend.send("trading_signal", {**data, "stop_loss": price(bid * 0.9, "AUDUSD")})
        await world.backend.frame("order_result")
        await asyncio.sleep(1.0)  # ticks that only the terminal has
        world.daemon.kill()
        mock_broker.up()
        await world.start()
        await world.flowing()
        assert (await world.topics.result(signal_id))["status"] == "filled"
        await check_ticks(world)
        await world.daemon.stop()

"""The WebSocket hub on a real daemon: many clients, one that reads nothing, and a stop while the terminal hangs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.broker import free_port
from support.daemon import SYMBOLS
from support.eventually import eventually
from support.gateway import JWT_KEY as KEY
from support.gateway import TOKEN, jwt_for
from support.gateway_client import settings
from support.hub_kit import Client, Frame, hub_client
from support.schemas import fault, types
from support.world import MakeWorld, World, check_ticks, price
from websockets.asyncio.client import connect

from mt5_bridge.gateway.auth import Scope

CLIENTS = 99
"""And one that reads nothing: MAX_CONNECTIONS is 100."""
FAR = 0.02


class Hub:
    """A daemon's hub, and the clients of a test."""

    def __init__(self, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/websocket/ws"
        self.clients: list[Client] = []

    async def join(self, subscribe: Any = None, token: str = TOKEN) -> Client:
        client = await hub_client(self.url, token, subscribe=subscribe)
        self.clients.append(client)
        return client


@asynccontextmanager
async def hub_of(new_world: MakeWorld, **more: str) -> AsyncIterator[tuple[World, Hub]]:
    """A daemon that trades, and its hub."""
    port = free_port()
    async with new_world(**settings(port, GATEWAY_JWT_KEY=KEY, **more)) as world:
        await world.start()
        await world.flowing()
        hub = Hub(port)
        try:
            yield world, hub
        finally:
            await asyncio.gather(*(client.close() for client in hub.clients))
        await world.daemon.stop()


async def bought(world: World, client: Client, name: str) -> dict[str, Any]:
    """A position opened over the hub; its result."""
    bid = (await world.topics.quote("XAUUSD"))["bid"]
    signal = {"symbol": "XAUUSD", "action": "BUY", "volume": 0.01, "stop_loss": price(bid * (1 - FAR), "XAUUSD")}
    result: dict[str, Any] = await client.ask(
        "trading_signal", signal, request_id=name, result="trading_signal_executed"
    )
    assert result["status"] == "filled", result
    return result


async def test_a_hundred_clients_each_hear_what_they_want_and_no_tick_is_lost(new_world: MakeWorld) -> None:
    async with hub_of(new_world) as (world, hub):
        wishes: list[Any] = [
            {"channels": ["ticks", "account", "positions", "events", "health"]},
            {"symbols": ["XAUUSD"]},
            {"channels": ["events"]},
            None,
        ]
        clients = await asyncio.gather(*(hub.join(wishes[number % len(wishes)]) for number in range(CLIENTS)))
        every, gold, events, silent = (clients[start :: len(wishes)] for start in range(len(wishes)))
        # A client that reads nothing is no reason for anybody else to wait.
        headers = {"Authorization": f"Bearer {jwt_for(Scope.READ)}"}
        async with connect(hub.url, additional_headers=headers, proxy=None, max_queue=1, close_timeout=0.1) as idle:
            await idle.send(json.dumps({"type": "subscribe", "data": {"channels": ["ticks", "events"]}}))
            result = await bought(world, every[0], "b1")
            answer = await every[0].ask("close_position", {"ticket": result["position"]}, request_id="c1")
            assert answer["success"], answer
            await world.topics.event("position_closed", lambda data: data["ticket"] == result["position"])
            for client in (*every, *events):
                await client.frame("position_closed", lambda f: f["data"]["ticket"] == result["position"])
        # Every event, exactly as on the topic.
        told = {record.frame["event_id"]: record.frame for record in world.topics.events}
        for client in (*every, *events):
            heard = [frame for frame in client.frames if "event_id" in frame]
            assert len(heard) >= 4
            assert len({frame["event_id"] for frame in heard}) == len(heard)
            assert all(told[frame["event_id"]] == frame for frame in heard)
        for client in every:
            assert {data["symbol"] for data in client.of("tick_data")} == set(SYMBOLS)
            assert client.of("account_info")
            assert client.of("heartbeat")
            assert [why for frame in client.frames if (why := fault(_schema(frame), frame, strict=True))] == []
        for client in gold:
            assert {data["symbol"] for data in client.of("tick_data")} == {"XAUUSD"}
        for client in silent:
            assert [frame["type"] for frame in client.frames] == ["welcome"]
        # Ticks come in their order, and only ones that the terminal has.
        times = [data["time_msc"] for data in every[0].of("tick_data") if data["symbol"] == "XAUUSD"]
        assert times == sorted(times)
        await check_ticks(world)


def _schema(frame: Frame) -> str:
    """Where a frame's schema is: that of the gateway's own, or that of what the bridge says everywhere."""
    own = frame["type"] in types("from_gateway")
    return f"{'from_gateway' if own else 'from_bridge'}.{frame['type']}"


async def test_a_stop_over_the_hub_while_the_terminal_hangs(new_world: MakeWorld, tmp_path: Path) -> None:
    script = tmp_path / "faults.yaml"
    script.write_text("faults: []\n", encoding="utf-8")
    async with hub_of(new_world, PAPER_FAULTS=str(script), STOP_GRACE="0.5") as (world, hub):
        operator = await hub.join({"channels": ["events"]}, jwt_for(Scope.ADMIN, subject="ann"))
        guard = await hub.join(None, jwt_for(Scope.STOP, subject="bob"))
        result = await bought(world, operator, "b1")
        script.write_text("faults:\n  - {function: positions_get, kind: hang, times: 1}\n", encoding="utf-8")
        for number in range(300):  # far over the rate, and a read that hangs among them
            await guard.send("heartbeat", {}, request_id=number)
        stopped = await guard.ask("emergency_stop", {"reason": "news"}, request_id="stop")
        assert stopped["success"], stopped
        assert (stopped["data"]["state"], stopped["data"]["by"]) == ("halted", "bob")
        script.write_text("faults: []\n", encoding="utf-8")
        done = await operator.frame("halt_changed", lambda f: f["data"]["phase"] == "done", 60.0)
        assert result["position"] in done["data"]["closed"]
        refused = await guard.ask("resume_trading", {"reason": "fine", "by": "bob"}, request_id="resume")
        assert refused["error"]["code"] == "forbidden"
        assert await world.state() == "halted"


async def test_a_request_id_acts_once_over_a_restart(new_world: MakeWorld) -> None:
    async with hub_of(new_world) as (world, hub):
        first = await hub.join()
        result = await bought(world, first, "same")
        await first.close()
        world.daemon.kill()
        await world.start()
        again = await eventually(lambda: _again(hub), 60.0, "the gateway is back")
        repeated = await bought(world, again, "same")
        assert repeated["position"] == result["position"]
        assert len(await world.ask("get_positions")) == 1


async def _again(hub: Hub) -> Client | None:
    try:
        return await hub.join()
    except OSError:
        return None

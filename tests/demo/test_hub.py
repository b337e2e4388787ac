"""The reference backend's door for those who watch: the gateway's messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.reference import TOKEN, running
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus

from mt5_bridge.demo import hub
from mt5_bridge.demo.backend import ReferenceBackend, open_door

VIEWER = "a-viewer"
watched = partial(running, viewer_token=VIEWER)
HELLO = {
    "bridge_id": "b-1", "version": "9", "account": "5", "symbols": ["X"], "capabilities": ["get_status"],
    "halt": {"state": "active"},
}  # fmt: skip


@asynccontextmanager
async def bridge(backend: ReferenceBackend) -> AsyncIterator[ClientConnection]:
    async with open_door(backend.address, TOKEN, "bridge") as socket:
        await say(socket, "hello", HELLO)
        await eventually(lambda: backend.observed.bridges)
        yield socket


async def say(socket: ClientConnection, type: str, data: Any, **beside: Any) -> None:
    await socket.send(msgspec.json.encode({"type": type, "data": data, **beside}), text=True)


async def hear(socket: ClientConnection, type: str) -> dict[str, Any]:
    """The next frame of a type."""
    async with asyncio.timeout(5):
        while True:
            frame: dict[str, Any] = msgspec.json.decode(await socket.recv(decode=False))
            if frame["type"] == type:
                return frame


async def test_it_welcomes_and_says_who_it_is_about() -> None:
    async with watched() as backend, open_door(backend.address, TOKEN, "dashboard") as watcher:
        early = (await hear(watcher, "welcome"))["data"]
        assert (early["bridge_id"], early["halt"], early["subscriptions"]["channels"]) == (
            None,
            {"state": "unknown"},
            [],
        )
        assert early["scopes"] == ["admin", "read", "stop", "trade"]
        await say(watcher, "subscribe", {"channels": ["health"]})
        beat = (await hear(watcher, "heartbeat"))["data"]
        assert (beat["status"], beat["detail"]) == ("not_ready", "no bridge is connected to the backend")
        async with bridge(backend) as socket:
            told = (await hear(watcher, "welcome"))["data"]
            assert {name: told[name] for name in HELLO} == HELLO
            await say(socket, "heartbeat", {"status": "ok"})
            assert (await hear(watcher, "heartbeat"))["data"]["status"] in ("ok", "not_ready")
        async with asyncio.timeout(5):
            while (await hear(watcher, "heartbeat"))["data"].get("detail") is None:
                pass


async def test_what_is_subscribed_to_comes_and_an_event_once() -> None:
    async with watched() as backend, bridge(backend) as socket:
        await say(socket, "positions", [{"ticket": 1}])
        await say(socket, "tick_data", {"symbol": "X", "bid": 1.0, "ask": 2.0, "time_msc": 1})
        await eventually(lambda: backend.observed.situation(0).prices)
        async with open_door(backend.address, TOKEN, "dashboard") as watcher:
            await say(watcher, "subscribe", {"channels": ["ticks", "positions", "events"], "symbols": ["X"]})
            assert (await hear(watcher, "command_result"))["data"]["data"]["channels"] == [
                "events",
                "positions",
                "ticks",
            ]
            assert (await hear(watcher, "positions"))["data"] == [{"ticket": 1}]
            assert (await hear(watcher, "tick_data"))["data"]["bid"] == 1.0
            await say(socket, "tick_data", {"symbol": "Y", "bid": 5.0, "ask": 6.0, "time_msc": 2})
            for state in ("halted", "halted", "active"):
                halt = {"state": state, "phase": "latched", "reason": "r", "by": "b", "at": "now"}
                await say(socket, "halt_changed", halt, event_id=f"e-{state}")
            assert [(await hear(watcher, "halt_changed"))["data"]["state"] for _ in range(2)] == ["halted", "active"]
            await say(watcher, "unsubscribe", {"channels": ["ticks"]})
            assert (await hear(watcher, "command_result"))["data"]["data"]["channels"] == ["events", "positions"]
        async with open_door(backend.address, TOKEN, "dashboard") as late:
            assert (await hear(late, "welcome"))["data"]["halt"]["reason"] == "r"


async def test_a_command_reaches_the_bridge_with_its_request_id() -> None:
    async with watched() as backend, open_door(backend.address, TOKEN, "dashboard") as watcher:
        await say(watcher, "get_status", {}, request_id="r-0")
        assert (await hear(watcher, "command_result"))["data"]["error"]["code"] == "no_bridge"
        async with bridge(backend) as socket:
            await say(watcher, "emergency_stop", {"reason": "test"}, request_id="r-1")
            command = await hear(socket, "emergency_stop")
            assert (command["request_id"], command["data"]) == ("r-1", {"reason": "test"})
            done = {"command": "emergency_stop", "success": True, "data": {"state": "halted"}}
            await say(socket, "command_result", done, request_id="r-1")
            answer = await hear(watcher, "command_result")
            assert answer["request_id"] == "r-1"
            assert answer["data"] == {**done, "bridge_id": "b-1"}
        await say(watcher, "auth", {})
        assert (await hear(watcher, "command_result"))["data"]["success"]
        await watcher.send("nonsense")
        assert (await hear(watcher, "error"))["data"]["code"] == "invalid"


@pytest.mark.parametrize("command", ["emergency_stop", "resume_trading", "close_position", "mt5_command"])
async def test_a_viewer_only_reads(command: str) -> None:
    async with watched() as backend, bridge(backend), open_door(backend.address, VIEWER, "dashboard") as watcher:
        assert (await hear(watcher, "welcome"))["data"]["scopes"] == ["read"]
        await say(watcher, command, {}, request_id="r")
        assert (await hear(watcher, "command_result"))["data"]["error"]["code"] == "forbidden"


async def test_other_doors_stay_closed_to_a_viewer() -> None:
    async with watched() as backend:
        for door, token in (("operator", VIEWER), ("watch", VIEWER), ("bridge", VIEWER), ("dashboard", "wrong")):
            with pytest.raises(InvalidStatus, match="401"):
                async with open_door(backend.address, token, door):
                    pass


async def test_who_does_not_keep_up_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_EVENTS", 5)

    async def unused(command: str, data: Any, request_id: str | None) -> dict[str, Any]:
        raise AssertionError(command)

    doors = hub.Hub({TOKEN: hub.EVERYTHING}, unused)
    async with (
        serve(lambda socket: doors.serve(socket, hub.EVERYTHING), "127.0.0.1", 0) as server,
        connect(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", proxy=None) as watcher,
    ):
        await say(watcher, "subscribe", {"channels": ["events"]})
        await hear(watcher, "command_result")
        for number in range(50):  # at once: nothing can be sent in between
            doors.take("order_result", {"signal_id": str(number)}, str(number))
        await watcher.wait_closed()
        assert watcher.close_code == hub.TOO_SLOW

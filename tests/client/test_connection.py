"""The server's side of a bridge, against a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from mt5_bridge.client import BridgeConnection, CommandFailed, Frame, bearer
from mt5_bridge.core.errors import ChannelClosedError


class Server:
    def __init__(self) -> None:
        self.url = ""
        self.bridges: list[BridgeConnection] = []
        self.frames: list[Frame] = []

    async def handle(self, socket: ServerConnection) -> None:
        bridge = BridgeConnection(socket, self.frames.append)
        self.bridges.append(bridge)
        await bridge.run()

    async def bridge(self) -> BridgeConnection:
        return await eventually(lambda: self.bridges[-1] if self.bridges else None) or self.bridges[-1]


@asynccontextmanager
async def server(token: str | None = None) -> AsyncIterator[Server]:
    here = Server()
    async with serve(here.handle, "127.0.0.1", 0, process_request=bearer(token)) as listening:
        here.url = f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}/"
        yield here


async def answer(socket: ClientConnection, data: Any) -> dict[str, Any]:
    """Take one command and answer it."""
    command: dict[str, Any] = msgspec.json.decode(await socket.recv())
    reply = {"type": "command_result", "request_id": command["request_id"], "data": data}
    await socket.send(msgspec.json.encode(reply).decode())
    return command


async def test_a_command_is_answered_by_its_request_id() -> None:
    async with server() as here, connect(here.url, proxy=None) as socket:
        bridge = await here.bridge()
        asked = asyncio.create_task(bridge.command("get_account", {"a": 1}))
        await socket.send('{"type": "command_result", "request_id": "another", "data": {}}')
        await socket.send('{"type": "positions", "data": [], "next": "7"}')
        command = await answer(socket, {"command": "get_account", "success": True, "data": {"equity": 5}})
        assert await asked == {"equity": 5}
        assert (command["type"], command["data"]) == ("get_account", {"a": 1})
        assert [frame.request_id for frame in here.frames] == ["another", None, command["request_id"]]
        assert [frame.next for frame in here.frames] == [None, "7", None]


async def test_a_list_is_read_page_by_page() -> None:
    async with server() as here, connect(here.url, proxy=None) as socket:
        bridge = await here.bridge()
        told: list[Any] = []

        async def read() -> None:
            told.extend([page async for page in bridge.pages("get_history", {"kind": "deals"})])

        reading = asyncio.create_task(read())
        first = await answer(socket, {"success": True, "data": [1, 2], "next": "5:2"})
        second = await answer(socket, {"success": True, "data": [3]})
        await reading
        assert told == [[1, 2], [3]]
        assert (first["data"], second["data"]) == ({"kind": "deals"}, {"kind": "deals", "cursor": "5:2"})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"command": "x", "success": False, "error": {"code": "invalid_params", "message": "no"}},
            "invalid_params: no",
        ),
        ({"success": False}, "error"),
        ([1], "error"),
    ],
)
async def test_a_no_is_an_error_with_its_code(data: Any, said: str) -> None:
    async with server() as here, connect(here.url, proxy=None) as socket:
        bridge = await here.bridge()
        asked = asyncio.create_task(bridge.command("x"))
        await answer(socket, data)
        with pytest.raises(CommandFailed, match=said):
            await asked


async def test_the_request_id_can_be_chosen() -> None:
    async with server() as here, connect(here.url, proxy=None) as socket:
        bridge = await here.bridge()
        asked = asyncio.create_task(bridge.ask("get_status", request_id=7))
        assert (await answer(socket, {}))["request_id"] == 7
        assert (await asked).request_id == 7


async def test_an_emergency_stop_says_what_it_was_told_and_no_more() -> None:
    async with server() as here, connect(here.url, proxy=None) as socket:
        bridge = await here.bridge()
        latched = {"state": "halted", "reason": "drill", "by": "ann", "durable": True}
        for given in ({}, {"reason": "drill", "by": "ann", "close_positions": False, "scope": "mine"}):
            asked = asyncio.create_task(bridge.emergency_stop(**given))  # type: ignore[arg-type]
            command = await answer(socket, {"command": "emergency_stop", "success": True, "data": latched})
            assert (command["type"], command["data"]) == ("emergency_stop", given)
            assert await asked == latched


async def test_hello_is_kept_and_nonsense_counted() -> None:
    async with server() as here, connect(here.url, proxy=None) as socket:
        bridge = await here.bridge()
        await socket.send("nonsense")
        await socket.send('{"type": "hello", "data": {"bridge_id": "b"}}')
        await eventually(lambda: bridge.hello)
        assert (bridge.hello, bridge.undecodable) == ({"bridge_id": "b"}, 1)


async def test_a_bridge_that_goes_away_leaves_no_one_waiting() -> None:
    async with server() as here, connect(here.url, proxy=None) as socket:
        bridge = await here.bridge()
        asked = asyncio.create_task(bridge.command("get_status"))
        await socket.recv()
        await socket.close()
        with pytest.raises(ChannelClosedError):
            await asked
        with pytest.raises(ChannelClosedError):
            await bridge.send_signal({"symbol": "EURUSD", "action": "BUY"})


async def test_no_answer_in_time() -> None:
    async with server() as here, connect(here.url, proxy=None):
        bridge = await here.bridge()
        with pytest.raises(TimeoutError):
            await bridge.ask("get_status", timeout=0.01)


async def test_a_signal_goes_out_in_its_envelope() -> None:
    async with server() as here, connect(here.url, proxy=None) as socket:
        bridge = await here.bridge()
        await bridge.send_signal({"symbol": "EURUSD", "action": "BUY"})
        frame = msgspec.json.decode(await socket.recv())
        assert (frame["type"], frame["data"]) == ("trading_signal", {"symbol": "EURUSD", "action": "BUY"})


async def test_only_the_token_opens_the_door() -> None:
    async with server("secret") as here:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xe9"}):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(here.url, proxy=None, additional_headers=headers)
        async with connect(here.url, proxy=None, additional_headers={"Authorization": "Bearer secret"}):
            await here.bridge()

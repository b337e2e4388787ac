"""The stream of those who watch, against a server of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.backend import Backend
from support.eventually import eventually

from mt5_bridge.client import BridgeStream, Frame, Link, check_token
from mt5_bridge.core.errors import ChannelClosedError

WELCOME = {"bridge_id": "b-1", "scopes": ["read"]}


@asynccontextmanager
async def streaming(url: str, **options: Any) -> AsyncIterator[BridgeStream]:
    stream = BridgeStream(url, "t", **options)
    task = asyncio.create_task(stream.run())
    try:
        yield stream
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_subscribes_and_hears() -> None:
    heard: list[Frame] = []
    async with Backend(token="t") as server, streaming(server.url, on_frame=heard.append, symbols=["X"]) as stream:
        asked = await server.frame("subscribe")
        assert asked["data"] == {"channels": ["ticks", "account", "positions", "events", "health"], "symbols": ["X"]}
        assert stream.link is Link.CONNECTING
        await server.send("welcome", WELCOME)
        await server.send_raw(b"not json")
        await server.send("positions", [])
        await eventually(lambda: [frame.type for frame in heard] == ["welcome", "positions"])
        assert (stream.link, stream.undecodable) == (Link.CONNECTED, 1)


async def test_answers_find_who_asked() -> None:
    async with Backend(token="t") as server, streaming(server.url) as stream:
        await server.frame("subscribe")
        asked = asyncio.create_task(stream.ask("get_status", {"a": 1}, request_id="r-1"))
        command = await server.frame("get_status")
        assert (command["request_id"], command["data"]) == ("r-1", {"a": 1})
        await server.send("command_result", {"command": "get_status", "success": True, "data": 5}, request_id="r-1")
        assert (await asked)["data"] == 5
        odd = asyncio.create_task(stream.ask("heartbeat"))
        number = (await server.frame("heartbeat"))["request_id"]
        await server.send("error", "no", request_id=number)
        assert await odd == {"command": "heartbeat", "success": False, "data": "no"}
        with pytest.raises(TimeoutError):
            await stream.ask("get_account", timeout=0.01)


async def test_a_lost_connection_is_told_and_comes_back() -> None:
    links: list[tuple[Link, str]] = []
    async with (
        Backend(token="t") as server,
        streaming(server.url, on_link=lambda *told: links.append(told)) as stream,
    ):
        await server.frame("subscribe")
        await server.send("welcome", WELCOME)
        await eventually(lambda: stream.link is Link.CONNECTED)
        asked = asyncio.create_task(stream.ask("get_status"))
        await server.frame("get_status")
        await server.stop()
        with pytest.raises(ChannelClosedError):
            await asked
        await eventually(lambda: stream.link is Link.LOST)
        with pytest.raises(ChannelClosedError):
            await stream.ask("get_status")
        mark = len(server.frames)
        await server.start()
        await server.frame("subscribe", after=mark, timeout=20.0)
        await server.send("welcome", WELCOME)
        await eventually(lambda: stream.link is Link.CONNECTED)
    assert links[0] == links[-1] == (Link.CONNECTED, "")


async def test_a_token_that_does_not_let_in() -> None:
    async with Backend(token="another") as server:
        async with streaming(server.url) as stream:
            await eventually(lambda: stream.link is Link.REFUSED)
            assert "401" in stream.detail
        with pytest.raises(PermissionError):
            await check_token(server.url, "t")
        server.refuse = 503
        with pytest.raises(ChannelClosedError, match="503"):
            await check_token(server.url, "another", timeout=0.5)


async def test_a_token_that_lets_in() -> None:
    async with Backend(token="t") as server:
        checking = asyncio.create_task(check_token(server.url, "t"))
        await server.frame("subscribe")
        await server.send("welcome", WELCOME)
        assert await checking == WELCOME

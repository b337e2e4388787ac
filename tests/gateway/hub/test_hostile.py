"""Clients that read nothing, send nonsense, floods and more than allowed, or are gone without a word."""

import asyncio
import base64
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest
from support.eventually import eventually
from support.hub_kit import TOKEN, Frame, HubKit, hub_kit
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from mt5_bridge.core.channels import Channel
from mt5_bridge.gateway import server
from mt5_bridge.gateway.hub import socket as hub_socket
from mt5_bridge.gateway.hub.client import Close

SYMBOLS = [f"SYM{number}" for number in range(8)]


@asynccontextmanager
async def idle(kit: HubKit, *channels: Channel) -> AsyncIterator[ClientConnection]:
    """A client that subscribes and then reads nothing until it is asked to."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with connect(
        kit.url,
        additional_headers=headers,
        proxy=None,
        compression=None,
        max_queue=1,
        ping_interval=None,
        close_timeout=0.1,
    ) as socket:
        await socket.send(json.dumps({"type": "subscribe", "data": {"channels": list(channels)}}))
        await eventually(lambda: kit.port.listeners)
        yield socket


async def rest(socket: ClientConnection) -> list[Frame]:
    """All there is to read until the connection ends."""
    frames: list[Frame] = []
    while True:
        try:
            frames.append(json.loads(await socket.recv()))
        except ConnectionClosed:
            return frames


async def test_who_reads_nothing_gets_the_newest_when_it_reads() -> None:
    async with hub_kit() as kit, idle(kit, Channel.TICKS) as socket:
        quick = await kit.client(subscribe={"channels": ["ticks"]})
        slow = kit.hub.clients[0]
        padding = "x" * 300
        number = 0
        while slow.queue.stats.conflated < 2_000:
            number += 1
            for symbol in SYMBOLS:
                data = {"symbol": symbol, "n": number, "padding": padding}
                kit.port.tell(Channel.TICKS, symbol, "tick_data", data)
            await asyncio.sleep(0)
            assert len(slow.queue) <= len(SYMBOLS)
        assert slow.queue.stats.sent_bytes < 1 << 20
        await eventually(lambda: len(quick.frames) > 2 and quick.frames[-1]["data"]["n"] == number)
        assert kit.hub.clients[1].queue.stats.sent > slow.queue.stats.sent

        seen: dict[str, list[int]] = {}
        while any(seen.get(symbol, [0])[-1] < number for symbol in SYMBOLS):
            frame = json.loads(await asyncio.wait_for(socket.recv(), 20))
            if frame["type"] == "tick_data":
                seen.setdefault(frame["data"]["symbol"], []).append(frame["data"]["n"])
        for numbers in seen.values():
            assert numbers == sorted(set(numbers))
        assert not slow.dropped


async def test_who_does_not_read_its_events_is_dropped_and_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_socket, "CUT_AFTER_S", 20.0)
    async with hub_kit() as kit, idle(kit, Channel.EVENTS) as socket:
        quick = await kit.client(subscribe={"channels": ["events"]})
        slow = kit.hub.clients[0]
        padding = "x" * 10_000
        number = 0
        while not slow.dropped:
            kit.port.tell(Channel.EVENTS, "", "order_result", {"n": number, "padding": padding})
            number += 1
            await asyncio.sleep(0)
            assert number < 10_000
        told = [frame["data"]["n"] for frame in await rest(socket) if frame["type"] == "order_result"]
        # What it got has no gap; what came after that, it knows that it missed.
        assert told == list(range(len(told)))
        assert len(told) < number
        assert socket.close_code == Close.TOO_SLOW
        await eventually(lambda: len(kit.hub.clients) == 1)
        assert kit.hub.totals()["dropped"] == 1
        await eventually(lambda: len(quick.of("order_result")) == number, 20.0)


async def test_who_never_reads_again_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_socket, "CUT_AFTER_S", 0.05)
    async with hub_kit() as kit, idle(kit, Channel.EVENTS):
        slow = kit.hub.clients[0]
        while not slow.dropped:
            kit.port.tell(Channel.EVENTS, "", "order_result", {"padding": "x" * 10_000})
            await asyncio.sleep(0)
        await eventually(lambda: not kit.hub.clients)
        await eventually(lambda: not kit.server.connections)


async def test_a_frame_over_the_bound_ends_the_connection() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        await client.send("get_status", {"padding": "x" * (server.WS_MESSAGE_MOST - 100)}, request_id="fits")
        await client.frame("command_result")
        await client.socket.send("x" * (server.WS_MESSAGE_MOST + 1))
        assert (await client.closed())[0] == 1009


async def test_a_message_in_many_pieces_is_bounded_too() -> None:
    async with hub_kit() as kit:
        client = await kit.client()

        async def pieces() -> AsyncIterator[str]:
            while True:
                yield "x" * 10_000

        with pytest.raises(ConnectionClosed):
            await client.socket.send(pieces())
        assert (await client.closed())[0] == 1009


@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff\xff", b"\x81\x05hello", b"\xc1\x80\0\0\0\0", Random(1).randbytes(4096)]
)
async def test_bytes_that_are_no_frames_end_the_connection_and_nothing_else(garbage: bytes) -> None:
    async with hub_kit() as kit:
        other = await kit.client()
        reader, writer = await _raw(kit, f"Authorization: Bearer {TOKEN}\r\n")
        writer.write(garbage)
        writer.write(b"\x88\x80\0\0\0\0")
        with suppress(ConnectionResetError):  # there was more to read than the gateway wanted to
            await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await eventually(lambda: len(kit.hub.clients) == 1)
        assert (await other.ask("get_status", {}, request_id="1"))["success"]


async def _raw(kit: HubKit, headers: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection by hand, past its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", kit.server.port)
    await _shake(kit, reader, writer, headers)
    return reader, writer


async def _shake(kit: HubKit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: str) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /websocket/ws HTTP/1.1\r\nHost: 127.0.0.1:{kit.server.port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
    )
    assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)


async def test_a_flood_leaves_others_their_share_and_a_stop_its_effect() -> None:
    async with hub_kit(rate_limit_messages=100) as kit:
        other, flooding = await kit.client(), await kit.client()
        tiny = b"\x81\x80\0\0\0\0" * 20_000

        async def flood() -> None:
            flooding.socket.transport.write(tiny)
            await flooding.send("emergency_stop", {}, request_id="stop")

        sending = asyncio.create_task(flood())
        for number in range(20):
            await other.ask("heartbeat", request_id=number, result="heartbeat_response")  # type: ignore[arg-type]
        await sending
        answer = await flooding.frame("command_result")
        assert answer["data"]["data"]["state"] == "halted"
        assert kit.hub.totals()["refused"] > 10_000
        # One at the beginning, and one a second: far fewer than there were frames.
        assert len(flooding.of("error")) < 200


async def test_pings_that_nobody_reads_the_answers_of_pile_up_nowhere() -> None:
    async with hub_kit() as kit:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", kit.server.port))
        reader, writer = await asyncio.open_connection(sock=made)
        await _shake(kit, reader, writer, f"Authorization: Bearer {TOKEN}\r\n")
        await eventually(lambda: kit.hub.clients)
        (client,) = kit.hub.clients
        assert isinstance(client.peer, hub_socket.HubSocket)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # as who reads nothing
        ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
        while client.peer.ready:
            writer.write(ping * 100)
            await writer.drain()
        for _ in range(100):
            writer.write(ping * 100)
            await writer.drain()
            assert client.peer.transport.get_write_buffer_size() < 2 * hub_socket.HIGH_WATER
        writer.transport.abort()


async def test_who_is_gone_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(server, "PONG_WITHIN_S", 0.2)
    async with hub_kit() as kit:
        _, writer = await _raw(kit, f"Authorization: Bearer {TOKEN}\r\n")
        await eventually(lambda: kit.hub.clients)
        await eventually(lambda: not kit.hub.clients)
        writer.close()


async def test_a_hundred_connections_that_come_and_go_leave_nothing_behind() -> None:
    async with hub_kit(max_connections=100) as kit:
        for _ in range(2):
            clients = await asyncio.gather(*(kit.client(subscribe={"channels": ["ticks"]}) for _ in range(50)))
            kit.port.tell(Channel.TICKS, "EURUSD", "tick_data", {})
            await asyncio.gather(*(client.frame("tick_data") for client in clients))
            for client in clients:
                client.socket.transport.abort()
            await eventually(lambda: not kit.hub.clients)
        assert kit.port.listeners == []
        await eventually(lambda: not kit.server.connections)
        assert kit.hub.totals()["connected"] == 100

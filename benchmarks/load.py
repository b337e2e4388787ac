"""Load on the gateway from a process of its own, as cheap as it can be: it shares the cores with what it measures.

    python -m benchmarks.load '{"kind": "rest", ...}'

It prints a line when all connections stand, begins at a line on its standard input, and prints what it measured.
"""

import asyncio
import base64
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, cast

_STAMP = b'"timestamp":"'
_PINGS = (8, 4)
"""Lengths of the gateway's pings: behind what it sends, and those that look whether somebody is there."""


@dataclass(frozen=True)
class Load:
    """What is to be done.

    Attributes:
        kind: `rest` or `websocket`.
        port: of the gateway.
        token: its token.
        connections: how many.
        seconds: for how long.
        rate: REST requests a second over all connections; None: each connection asks as soon as it is answered.
        paths: what is asked for, by turns.
        subscribe: the `data` of the WebSocket clients' `subscribe`; None: they hear nothing.
    """

    kind: str
    port: int
    token: str
    connections: int
    seconds: float
    rate: float | None = None
    paths: Sequence[str] = ()
    subscribe: dict[str, Any] | None = None


@dataclass
class Measured:
    """What came of it.

    Attributes:
        count: answers, or messages.
        took: seconds.
        waits: ms, one for each: of an answer since the moment its request was due, of a message since the time in it.
        failed: answers that were no 200, connections that ended.
        bytes: of the messages.
    """

    count: int = 0
    took: float = 0.0
    waits: list[float] = field(default_factory=list)
    failed: int = 0
    bytes: int = 0


class Http(asyncio.Protocol):
    """One connection that is kept alive; answers come in the order of the requests."""

    def __init__(self, port: int, token: str) -> None:
        self._head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        self._buffer = b""
        self._waiting: deque[asyncio.Future[tuple[int, bytes]]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(ConnectionError("the gateway ended the connection"))

    def close(self) -> None:
        """No more requests."""
        self._transport.close()

    def request(self, method: str, path: str, body: bytes = b"") -> "asyncio.Future[tuple[int, bytes]]":
        """Ask; the status and body will be known."""
        told = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self._transport.write(f"{method} {path} HTTP/1.1\r\n{self._head}{told}\r\n".encode() + body)
        waiting: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._waiting.popleft().set_result((int(head[9:12]), body))


async def http(port: int, token: str) -> Http:
    """A connection to the gateway."""
    _, made = await asyncio.get_running_loop().create_connection(lambda: Http(port, token), "127.0.0.1", port)
    return made


class WebSocket(asyncio.Protocol):
    """A client of the hub that parses no more than it must. Everything it measures goes into `measured`."""

    def __init__(self, load: Load, measured: Measured) -> None:
        self._load = load
        self._measured = measured
        self._buffer = bytearray()
        self._came: list[tuple[float, bytes]] = []
        self._open = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.measuring = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /websocket/ws HTTP/1.1\r\nHost: 127.0.0.1:{self._load.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {self._load.token}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self.measuring:
            self._measured.failed += 1
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(bytes(self._buffer[:200]).decode(errors="replace")))

    def close(self) -> None:
        """Leave."""
        self.measuring = False
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self.measuring:
            # Looked at when all is over: what comes for the other clients at the same moment must not wait for that.
            self._came.append((time.time() * 1000, data))
            for length in _PINGS:
                if data[-length - 2 : -length] == bytes((0x89, length)):
                    self._send(10, data[-length:])
            return
        self._buffer += data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 101 " not in self._buffer[:end]:
                self._transport.close()
                return
            del self._buffer[: end + 4]
            self._open = True
        while (frame := self._next()) is not None:
            self._greeted(*frame)

    def look(self) -> None:
        """What came while it was measured."""
        for now, data in self._came:
            self._buffer += data
            while (frame := self._next()) is not None:
                opcode, content = frame
                if opcode == 1:
                    at = content.index(_STAMP) + len(_STAMP)
                    stamp = datetime.fromisoformat(content[at : at + 24].decode()).timestamp() * 1000
                    self._measured.waits.append(now - stamp)
                    self._measured.count += 1
                    self._measured.bytes += len(content)

    def _next(self) -> tuple[int, bytes] | None:
        """The next frame's opcode and content; a server's is not masked."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, at = buffer[1], 2
        if length == 126:
            length, at = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, at = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < at + length:
            return None
        opcode, content = buffer[0] & 15, bytes(buffer[at : at + length])
        del buffer[: at + length]
        return opcode, content

    def _greeted(self, opcode: int, content: bytes) -> None:
        if opcode == 9:
            self._send(10, content)
        elif opcode == 1 and content.startswith(b'{"type":"welcome"'):
            if self._load.subscribe is None:
                self.ready.set_result(None)
            else:
                self._send(1, json.dumps({"type": "subscribe", "data": self._load.subscribe}).encode())
        elif opcode == 1 and content.startswith(b'{"type":"command_result"'):
            self.ready.set_result(None)

    def _send(self, opcode: int, content: bytes) -> None:
        head = bytes((0x80 | opcode, 0x80 | len(content))) if len(content) < 126 else None
        if head is None:
            head = bytes((0x80 | opcode, 0x80 | 126)) + len(content).to_bytes(2, "big")
        self._transport.write(head + b"\0\0\0\0" + content)  # a mask of zeros leaves the content as it is


async def rest(load: Load) -> Measured:
    """Ask over and over."""
    clients = [await http(load.port, load.token) for _ in range(load.connections)]
    for client, path in zip(clients, [*load.paths] * load.connections, strict=False):
        await client.request("GET", path)
    await _go()
    measured = Measured()
    began = time.perf_counter()

    async def ask(client: Http, number: int, due: float) -> None:
        status, body = await client.request("GET", load.paths[number % len(load.paths)])
        measured.waits.append((time.perf_counter() - due) * 1000)
        measured.count += 1
        measured.bytes += len(body)
        measured.failed += status != 200

    async def closed_loop(client: Http, number: int) -> None:
        while (now := time.perf_counter()) - began < load.seconds:
            await ask(client, number, now)
            number += 1

    if load.rate is None:
        await asyncio.gather(*(closed_loop(client, number) for number, client in enumerate(clients)))
    else:
        # Due at fixed times, whether or not the answers before have come: who is late is not spared its lateness.
        asked = set()
        for number in range(int(load.rate * load.seconds)):
            due = began + number / load.rate
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            asked.add(asyncio.create_task(ask(clients[number % len(clients)], number, due)))
        await asyncio.gather(*asked)
    measured.took = time.perf_counter() - began
    for client in clients:
        client.close()
    return measured


async def websocket(load: Load) -> Measured:
    """Listen."""
    measured, clients = Measured(), []
    loop = asyncio.get_running_loop()
    for _ in range(load.connections):
        _, client = await loop.create_connection(lambda: WebSocket(load, measured), "127.0.0.1", load.port)
        await client.ready
        clients.append(client)
    await _go()
    began = time.perf_counter()
    for client in clients:
        client.measuring = True
    await asyncio.sleep(load.seconds)
    measured.took = time.perf_counter() - began
    for client in clients:
        client.close()
        client.look()
    return measured


async def _go() -> None:
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def main() -> None:
    """Do what the only argument says."""
    load = Load(**json.loads(sys.argv[1]))
    measured = await (rest(load) if load.kind == "rest" else websocket(load))
    print(json.dumps(asdict(measured)), flush=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where the platform has it: asyncio's own takes 40 µs a socket, and of 64 the last is read 2 ms late."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())

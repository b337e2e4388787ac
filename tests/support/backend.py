"""A backend in the test's own process: a WebSocket server that records frames, sends commands, and can misbehave."""

import asyncio
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import msgspec
from support.eventually import eventually
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Frame = dict[str, Any]


class Backend:
    """A backend on a free loopback port.

    Args:
        token: what must come as `Authorization: Bearer`; None accepts everybody.
        port: 0 takes a free one; a fixed one lets a test bring the backend back.
        tls: speak TLS with this context; it may be replaced between `stop` and `start`.

    Attributes:
        frames: every frame received, decoded, in order, over all connections.
        raw: the same as bytes.
        tokens, origins: the headers `Authorization` and `Origin` of each, None where there was none.
        attempts: `time.monotonic()` of each handshake, refused ones too.
        refuse: HTTP status to answer handshakes with, None to accept.
        retry_after: sent as `Retry-After` when refusing.
        close_at_once: accept, then close.
        pace: seconds that each frame takes to be read.
        reading: cleared, nothing more is read from the sockets.
    """

    def __init__(self, token: str | None = None, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.token = token
        self.port = port
        self.tls = tls
        self.frames: list[Frame] = []
        self.raw: list[bytes] = []
        self.attempts: list[float] = []
        self.tokens: list[str | None] = []
        self.origins: list[str | None] = []
        self.refuse: int | None = None
        self.retry_after: str | None = None
        self.close_at_once = False
        self.pace = 0.0
        self.reading = asyncio.Event()
        self.reading.set()
        self.sockets: set[ServerConnection] = set()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"{'ws' if self.tls is None else 'wss'}://127.0.0.1:{self.port}/bridge"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same port as before when there was one."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._admit,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            max_queue=1,
            ssl=self.tls,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Be gone: connections cut, port closed."""
        self.reading.set()
        if self._server is not None:
            self.cut()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        """Reset every connection, without goodbye."""
        for socket in self.sockets:
            socket.transport.abort()

    async def close(self, code: int = 1001) -> None:
        """Close every connection politely."""
        for socket in list(self.sockets):
            await socket.close(code)

    async def connected(self, timeout: float = 5.0) -> ServerConnection:
        """The newest connection, once there is one."""
        return await eventually(lambda: next(iter(self.sockets), None), timeout, "a connection to the backend")

    async def frame(
        self,
        type: str | None = None,
        *,
        where: Callable[[Frame], bool] = lambda frame: True,
        timeout: float = 5.0,
        after: int = 0,
    ) -> Frame:
        """The first recorded frame of that type that satisfies `where`, from the `after`-th on; waits for it."""

        def found() -> Frame | None:
            wanted = (f for f in self.frames[after:] if (type is None or f["type"] == type) and where(f))
            return next(wanted, None)

        return await eventually(found, timeout, f"a frame {type or ''}")

    async def send(self, type: str, data: Any = None, **beside: Any) -> None:
        """Send one frame to every connection; `beside` goes next to `type` (request_id, signature …)."""
        await self.send_raw(msgspec.json.encode({"type": type, **beside, "data": {} if data is None else data}))

    async def send_raw(self, frame: bytes) -> None:
        """Send bytes as a text frame to every connection."""
        for socket in list(self.sockets):
            await socket.send(frame, text=True)

    async def command(self, type: str, data: Any = None, *, request_id: str | int, timeout: float = 5.0) -> Frame:
        """Send a command and wait for its next `command_result`."""
        mark = len(self.frames)
        await self.send(type, data, request_id=request_id)
        return await self.frame(
            "command_result", where=lambda f: f.get("request_id") == request_id, timeout=timeout, after=mark
        )

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        self.attempts.append(time.monotonic())
        header = request.headers.get("Authorization")
        self.tokens.append(header)
        self.origins.append(request.headers.get("Origin"))
        if self.refuse is not None:
            response = socket.respond(HTTPStatus(self.refuse), "no\n")
            if self.retry_after is not None:
                response.headers["Retry-After"] = self.retry_after
            return response
        if self.token is not None and header != f"Bearer {self.token}":
            return socket.respond(HTTPStatus.UNAUTHORIZED, "wrong token\n")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        if self.close_at_once:
            return
        self.sockets.add(socket)
        try:
            while True:
                frame = await socket.recv(decode=False)
                await self.reading.wait()
                if self.pace:
                    await asyncio.sleep(self.pace)
                self.raw.append(bytes(frame))
                self.frames.append(msgspec.json.decode(frame))
        except ConnectionClosed:
            return
        finally:
            self.sockets.discard(socket)

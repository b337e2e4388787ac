"""The backend behind the bridge's own WebSocket client: it lets in, refuses, is slow, falls silent and hangs up."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from support.simulation.weather import Weather
from support.simulation.world import World, answer, spread
from websockets.asyncio.client import ClientConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.http11 import Response

from mt5_bridge.control.client import ControlClient
from mt5_bridge.control.config import ControlConfig
from mt5_bridge.control.pacing import MAX_IN_WINDOW

_WINDOW_S = 10.0


class Socket:
    """One connection, as far as `ControlClient` uses a websocket."""

    def __init__(self, backend: "Backend", number: int) -> None:
        self.backend, self.number = backend, number
        self.open = True
        self.silent = False
        self.transport = SimpleNamespace(abort=lambda: self.cut("aborted"))
        self.protocol = SimpleNamespace(close_exc=SimpleNamespace(sent=None))
        self.close_code: int | None = None
        self.close_reason = ""
        self._inbox: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._pongs: list[asyncio.Future[float]] = []

    def deliver(self, frame: bytes) -> None:
        """A frame from the backend has come through the line."""
        if self.open:
            self._inbox.append(frame)
            self._arrived.set()

    def cut(self, why: str) -> None:
        """The connection is gone."""
        if self.open:
            self.open = False
            self.backend.world.note("socket_ends", self.number, why)
            self._arrived.set()
            for pong in self._pongs:
                if not pong.done():
                    pong.set_exception(ConnectionClosedError(None, None))
                    pong.exception()  # nobody may be waiting for it any more

    async def recv(self, decode: bool | None = None) -> bytes:
        while not self._inbox:
            if not self.open:
                raise ConnectionClosedError(None, None)
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._inbox.popleft()
        self.backend.handed_over(frame)
        return frame

    async def _line(self) -> None:
        weather, random = self.backend.weather, self.backend.world.random("line")
        if weather.strikes("backend", 0.01, random):
            await asyncio.sleep(spread(random, 0.01, 2.0))
        if not self.open:
            raise ConnectionClosedError(None, None)

    async def send(self, frame: bytes, text: bool | None = None) -> None:
        await self._line()
        if not self.silent:
            self.backend.world.after(self.backend.pause(), self.backend.receive, frame)

    async def ping(self) -> "asyncio.Future[float]":
        await self._line()
        pong: asyncio.Future[float] = self.backend.world.loop.create_future()
        self._pongs = [waiting for waiting in self._pongs if not waiting.done()]
        self._pongs.append(pong)
        if not self.silent:
            self.backend.world.after(2 * self.backend.pause(), answer, pong, 0.001)
        return pong

    async def close(self, code: int = 1000) -> None:
        self.cut(f"closed {code}")
        await asyncio.sleep(0)


class SimControl(ControlClient):
    """The bridge's client, its connections made by the simulated backend."""

    def __init__(self, backend: "Backend", config: ControlConfig, **named: Any) -> None:
        world = backend.world
        random = world.random("pace").random
        super().__init__(config, now_ms=world.now_ms, monotonic=world.monotonic, random=random, **named)
        self._backend = backend

    async def _connect(self) -> ClientConnection:
        return cast(ClientConnection, await self._backend.accept())


class Backend:
    """Who sends commands and signals, and hears what the bridge tells.

    Args:
        heard: called with each frame of the bridge that arrived, decoded.
        handed: called with each frame of ours in the moment in which the bridge has it.
    """

    def __init__(
        self, world: World, weather: Weather, heard: Callable[[dict[str, Any]], None], handed: Callable[[bytes], None]
    ) -> None:
        self.world, self.weather = world, weather
        self._heard, self._handed = heard, handed
        self.socket: Socket | None = None
        self.up = True
        self.attempts: deque[float] = deque()
        self._sockets = 0
        self._latest = 0.0

    def pause(self) -> float:
        """Seconds a frame travels."""
        return spread(self.world.random("line"), 0.0005, 0.01)

    async def accept(self) -> Socket:
        """A connection is asked for.

        Raises:
            OSError, InvalidStatus: there is none.
        """
        now = self.world.monotonic()
        self.attempts.append(now)
        while self.attempts[0] <= now - _WINDOW_S:
            self.attempts.popleft()
        if len(self.attempts) > MAX_IN_WINDOW:
            self.world.breach("P11", f"{len(self.attempts)} connections asked for within {_WINDOW_S:g} s")
        random = self.world.random("accept")
        await asyncio.sleep(spread(random, 0.001, 0.1))
        if not self.up:
            raise ConnectionRefusedError("nobody listens")
        if self.weather.strikes("backend", 0.1, random):
            raise InvalidStatus(Response(random.choice((401, 403, 429, 500, 503)), "no", Headers()))
        self._sockets += 1
        socket = Socket(self, self._sockets)
        self.world.note("socket", socket.number)
        self.hang_up("replaced")
        self.socket = socket
        return socket

    def hang_up(self, why: str) -> None:
        """The connection ends, if there is one."""
        if self.socket is not None:
            self.socket.cut(why)
            self.socket = None

    def go_down(self, seconds: float) -> None:
        """Nobody listens for a while."""
        self.up = False
        self.hang_up("down")
        self.world.after(seconds, self._come_up)

    def _come_up(self) -> None:
        self.up = True

    def fall_silent(self) -> None:
        """The line is dead, and neither side has been told."""
        if self.socket is not None:
            self.socket.silent = True

    def send(self, frame: bytes) -> bool:
        """Send to the bridge; False: there is no connection. Frames keep their order."""
        socket = self.socket
        if socket is None or not socket.open or socket.silent:
            return False
        self.world.note("frame", frame)
        self._latest = max(self._latest, self.world.monotonic() + self.pause())
        self.world.loop.call_at(self._latest, socket.deliver, frame)
        return True

    def command(self, name: str, *, request_id: str | None = None, **data: Any) -> bool:
        """Send a command."""
        frame: dict[str, Any] = {"type": name, "data": data}
        if request_id is not None:
            frame["request_id"] = request_id
        return self.send(json.dumps(frame).encode())

    def handed_over(self, frame: bytes) -> None:
        """The bridge has a frame of ours now."""
        self.world.note("handed", frame)
        self._handed(frame)

    def receive(self, frame: bytes) -> None:
        """A frame of the bridge has arrived."""
        self.world.note("told", frame)
        self._heard(json.loads(frame))

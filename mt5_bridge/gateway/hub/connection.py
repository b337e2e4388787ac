"""A WebSocket from its handshake to its end: who it is, what it says, and when it must go."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.websockets import WebSocket

from mt5_bridge.gateway.auth import LEEWAY_S, Authenticator, Principal, Scope
from mt5_bridge.gateway.hub import frames
from mt5_bridge.gateway.hub.client import Client, Close
from mt5_bridge.gateway.hub.hub import Hub
from mt5_bridge.gateway.hub.inbound import AUTH, Inbound, Noting
from mt5_bridge.gateway.hub.socket import EXTENSION, HubSocket
from mt5_bridge.gateway.hub.subscriptions import Subscriptions
from mt5_bridge.gateway.port import BridgePort
from mt5_bridge.gateway.problems import Problem
from mt5_bridge.gateway.rates import Rates

RETRY_AFTER_S = 5
_LONGEST_TIMER_S = 86_400.0


class _Token(msgspec.Struct):
    token: str


class _Auth(msgspec.Struct, tag_field="type", tag=AUTH):
    data: _Token


class Connections:
    """Serves WebSockets: the hub's door.

    Args:
        hub: whose clients they become.
        port: the bridge.
        auth: knows the tokens.
        rates: counts bad tokens.
        audit: remembers what acted.
        now_s: the time now, seconds since the epoch, for tokens that end.
    """

    def __init__(
        self,
        hub: Hub,
        port: BridgePort,
        auth: Authenticator,
        rates: Rates,
        audit: Noting,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._hub = hub
        self._auth = auth
        self._rates = rates
        self._now_s = now_s
        self._inbound = Inbound(hub, port, audit, self._renew, lambda: self.on_written())
        self.on_written: Callable[[], None] = _nothing
        """Called when a client has had something done that acts."""
        self._pump: asyncio.Task[None] | None = None
        self._ends: dict[int, asyncio.TimerHandle] = {}

    def start(self) -> "asyncio.Task[None]":
        """Begin to tell clients what the bridge tells; the task ends by itself with a defect only."""
        self._pump = asyncio.create_task(self._hub.run(), name="gateway-hub")
        return self._pump

    async def stop(self, timeout: float) -> None:
        """Let what is under way end, and tell no more."""
        await self._inbound.close(timeout)
        self._hub.close()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, until it ends. Its Host, Origin and Authorization header have been looked at."""
        hub, state = self._hub, websocket.scope["state"]
        socket: HubSocket = websocket.scope["extensions"][EXTENSION]
        principal: Principal | None = state["principal"]
        if hub.full or (principal is None and hub.crowded):
            hub.stats.turned_away += 1
            await websocket.send_denial_response(_no_room(hub).response(state["request_id"]))
            return
        await websocket.accept()
        remote = _remote(websocket)
        if principal is None:
            principal = await self._introduction(websocket, socket, remote)
        if principal is not None:
            await self._attend(websocket, socket, principal, remote)

    async def _introduction(self, websocket: WebSocket, socket: HubSocket, remote: str) -> Principal | None:
        """Who it is, by its first frame; None: it is being closed."""
        hub = self._hub
        hub.knocks()
        try:
            async with asyncio.timeout(hub.config.auth_s):
                frame = await _frame(websocket)
        except TimeoutError:
            hub.stats.unauthorized += 1
            socket.close(Close.AUTH_TIMEOUT, f"no auth frame within {hub.config.auth_s:g} s")
            return None
        finally:
            hub.knocked()
        if frame is None:
            return None
        try:
            principal = await self._known(frame, remote)
        except Problem as problem:
            hub.stats.unauthorized += 1
            socket.close(Close.UNAUTHORIZED, problem.code)
            return None
        if hub.full:  # others were quicker
            hub.stats.turned_away += 1
            socket.close(Close.FULL, "no place is left: MAX_CONNECTIONS")
            return None
        return principal

    async def _known(self, frame: bytes, remote: str) -> Principal:
        """Who shows a token in an `auth` frame.

        Raises:
            Problem: nobody who is known.
        """
        try:
            token = msgspec.json.decode(frame, type=_Auth).data.token
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Problem(401, "no_token", "the first frame must be auth with a token") from None
        try:
            return self._auth.authenticate(token)
        except Problem:
            await self._rates.bad_token(remote)
            raise

    async def _attend(self, websocket: WebSocket, socket: HubSocket, principal: Principal, remote: str) -> None:
        hub = self._hub
        client = hub.join(socket, principal, remote)
        socket.on_writable, socket.on_pong = client.flush, client.on_pong
        try:
            self._until_expiry(client)
            hub.welcome(client)
            while (frame := await _frame(websocket)) is not None:
                await self._inbound.take(client, frame)
        finally:
            if (end := self._ends.pop(client.number, None)) is not None:
                end.cancel()
            hub.leave(client)

    async def _renew(self, client: Client, frame: bytes) -> None:
        """A client shows a token again before the first one ends; it must be the same one's."""
        try:
            principal = await self._known(frame, client.remote)
        except Problem as problem:
            client.send(self._error(problem.code, problem.detail))
            return
        if principal.subject != client.principal.subject:
            client.send(self._error("forbidden", "another one's token: connect anew"))
            return
        client.principal = principal
        if Scope.READ not in principal.scopes:  # it may do less now
            self._hub.subscribe(client, Subscriptions())
        self._until_expiry(client)
        self._hub.welcome(client)

    def _error(self, code: str, message: str) -> bytes:
        return frames.message("error", {"code": code, "message": message}, now_msc=self._hub.now_ms())

    def _until_expiry(self, client: Client) -> None:
        """A connection does not outlive the token it was opened with."""
        if (end := self._ends.pop(client.number, None)) is not None:
            end.cancel()
        if client.principal.expires is None:
            return
        left = client.principal.expires + LEEWAY_S - self._now_s()
        if left <= 0:
            client.drop(Close.UNAUTHORIZED, "expired_token")
            return
        loop = asyncio.get_running_loop()
        self._ends[client.number] = loop.call_later(min(left, _LONGEST_TIMER_S), self._until_expiry, client)


def _nothing() -> None:
    """Until somebody wants to know."""


async def _frame(websocket: WebSocket) -> bytes | None:
    """The next frame's content; None: the connection has ended."""
    message: dict[str, Any] = dict(await websocket.receive())
    if message["type"] == "websocket.disconnect":
        return None
    text: str | None = message.get("text")
    return message["bytes"] if text is None else text.encode()


def _remote(websocket: WebSocket) -> str:
    return websocket.client.host if websocket.client is not None else "unknown"


def _no_room(hub: Hub) -> Problem:
    words = f"{hub.config.max_connections} clients are connected: MAX_CONNECTIONS"
    return Problem(503, "too_many_connections", words, headers={"Retry-After": str(RETRY_AFTER_S)})

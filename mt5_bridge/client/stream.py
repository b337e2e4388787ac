"""The stream of one bridge for those who watch: the gateway's WebSocket, or the reference backend's `/dashboard`.

stream = BridgeStream("ws://127.0.0.1:8001/websocket/ws", token, on_frame=print)
task = asyncio.create_task(stream.run())
await stream.ask("get_status")
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from mt5_bridge.client.connection import Frame
from mt5_bridge.core import wire
from mt5_bridge.core.backoff import Backoff, BackoffPolicy
from mt5_bridge.core.errors import ChannelClosedError

CHANNELS: tuple[str, ...] = ("ticks", "account", "positions", "events", "health")
MAX_FRAME = 16 << 20
_OPEN_TIMEOUT = 5.0
_PING_S = 4.0
_FORBIDDEN = frozenset({401, 403})
_POLICY_CLOSE = frozenset({1008, 4001, 4003, 4401, 4403})
"""Close codes by which a server says that the token does not (or no longer) let in."""
_RETRY = BackoffPolicy(first=0.3, cap=5.0, floor=0.2)
_REFUSED_PAUSE = 10.0


class Link(StrEnum):
    """How the stream is: `refused` means that the token does not let in."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    REFUSED = "refused"


class BridgeStream:
    """A connection that comes back by itself. `run` keeps it; frames and changes of state are told by callbacks.

    Args:
        url: `ws://…` or `wss://…`.
        token: brought as `Authorization: Bearer`.
        on_frame: called with each frame but answers to `ask`; must not wait.
        on_link: called with each change of state and words for people.
        channels: what to subscribe to.
        symbols: whose ticks; None: all the bridge streams.

    Attributes:
        link: the state now.
        detail: why, in words.
        undecodable: frames that were no JSON envelope.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        on_frame: Callable[[Frame], None] = lambda frame: None,
        on_link: Callable[[Link, str], None] = lambda link, detail: None,
        channels: Sequence[str] = CHANNELS,
        symbols: Sequence[str] | None = None,
    ) -> None:
        self._url = url
        self._token = token
        self._on_frame = on_frame
        self._on_link = on_link
        self._wanted: dict[str, Any] = {"channels": list(channels)}
        if symbols is not None:
            self._wanted["symbols"] = list(symbols)
        self._socket: ClientConnection | None = None
        self._waiting: dict[str, asyncio.Future[Frame]] = {}
        self._numbers = itertools.count(1)
        self._name = f"{time.time_ns():x}"
        self.link = Link.CONNECTING
        self.detail = ""
        self.undecodable = 0

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        backoff = Backoff(_RETRY)
        while True:
            began = time.monotonic()
            try:
                await self._connection()
                self._set(Link.LOST, "the server closed the connection")
            except InvalidStatus as error:
                status = error.response.status_code
                if status in _FORBIDDEN:
                    self._set(Link.REFUSED, f"the server refuses the token ({status})")
                else:
                    self._set(Link.LOST, f"the server answered {status}")
            except ConnectionClosed as error:
                self._closed(error)
            except (OSError, TimeoutError, InvalidHandshake, WebSocketException) as error:
                self._set(Link.LOST, str(error) or type(error).__name__)
            backoff = backoff.ended(time.monotonic() - began)
            if self.link is Link.REFUSED:
                await asyncio.sleep(_REFUSED_PAUSE)
            else:
                await asyncio.sleep(backoff.delay(random.random()))  # noqa: S311 - jitter

    def _closed(self, error: ConnectionClosed) -> None:
        code = error.rcvd.code if error.rcvd is not None else None
        reason = error.rcvd.reason if error.rcvd is not None else ""
        if code in _POLICY_CLOSE:
            self._set(Link.REFUSED, reason or f"closed with {code}")
        else:
            self._set(Link.LOST, reason or ("the connection broke" if code is None else f"closed with {code}"))

    async def _connection(self) -> None:
        async with connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {self._token}"},
            proxy=None,
            compression=None,
            max_size=MAX_FRAME,
            open_timeout=_OPEN_TIMEOUT,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            close_timeout=1,
        ) as socket:
            self._socket = socket
            try:
                await socket.send(wire.encode("subscribe", self._wanted, now_msc=_now_ms()), text=True)
                async for raw in socket:
                    self._take(raw if isinstance(raw, bytes) else raw.encode())
            except asyncio.CancelledError:
                await socket.close()  # left to itself, the connection would report an internal error to the server
                raise
            finally:
                self._socket = None
                self._fail_all()

    def _fail_all(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ChannelClosedError("the connection broke before the answer came"))

    def _take(self, raw: bytes) -> None:
        try:
            frame = msgspec.json.decode(raw, type=Frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.undecodable += 1
            return
        if frame.type == "welcome":
            self._set(Link.CONNECTED, "")
        waiting = self._waiting.get(str(frame.request_id)) if frame.request_id is not None else None
        if waiting is not None and not waiting.done():
            waiting.set_result(frame)
            return
        self._on_frame(frame)

    def _set(self, link: Link, detail: str) -> None:
        if (link, detail) != (self.link, self.detail):
            self.link, self.detail = link, detail
            self._on_link(link, detail)

    async def ask(
        self, type: str, data: Mapping[str, Any] | None = None, *, request_id: str | None = None, timeout: float = 10.0
    ) -> dict[str, Any]:
        """Send a command; returns the data of its `command_result`: `{command, success, data | error}`.

        Raises:
            ChannelClosedError: not connected, or the connection broke first. The command may have been carried out.
            TimeoutError: no answer within `timeout` seconds.
        """
        socket = self._socket
        if socket is None:
            raise ChannelClosedError("not connected")
        number = request_id or f"{self._name}-{next(self._numbers)}"
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(timeout):
                with contextlib.suppress(ConnectionClosed):  # `_fail_all` says it
                    await socket.send(wire.encode(type, data or {}, now_msc=_now_ms(), request_id=number), text=True)
                frame = await answer
        finally:
            del self._waiting[number]
        if isinstance(frame.data, dict):
            return frame.data
        return {"command": type, "success": frame.type != "error", "data": frame.data}


async def check_token(url: str, token: str, *, timeout: float = 5.0) -> dict[str, Any]:
    """Connect once; returns the data of the `welcome`.

    Raises:
        PermissionError: the token does not let in.
        ChannelClosedError: the server cannot be reached, or does not speak as a bridge does.
    """
    found: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def on_frame(frame: Frame) -> None:
        if frame.type == "welcome" and not found.done():
            found.set_result(frame.data if isinstance(frame.data, dict) else {})

    def on_link(link: Link, detail: str) -> None:
        if link is Link.REFUSED and not found.done():
            found.set_exception(PermissionError(detail))

    stream = BridgeStream(url, token, on_frame=on_frame, on_link=on_link, channels=())
    task = asyncio.create_task(stream.run(), name="check-token")
    try:
        async with asyncio.timeout(timeout):
            return await found
    except TimeoutError:
        raise ChannelClosedError(stream.detail or "the server does not answer") from None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

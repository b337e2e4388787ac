"""The server's side of one bridge: its frames, and commands with their answers."""

import asyncio
import hmac
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from mt5_bridge.client.signals import encode_signal
from mt5_bridge.core import wire
from mt5_bridge.core.errors import BridgeError, ChannelClosedError
from mt5_bridge.core.messages import TradingSignal


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame of the bridge; `next` where it holds a part: the `cursor` with which to ask for the rest."""

    type: str
    data: Any = None
    timestamp: str | None = None
    request_id: str | int | None = None
    event_id: str | None = None
    next: str | None = None


class CommandFailed(BridgeError):
    """The bridge answered a command with an error.

    Attributes:
        code: the code of the contract.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


_decoder = msgspec.json.Decoder(Frame)


def bearer(token: str | None) -> Callable[[ServerConnection, Request], Response | None]:
    """A `process_request` for `websockets.serve` that lets in only who brings the token; None lets in everybody."""

    def check(socket: ServerConnection, request: Request) -> Response | None:
        sent = request.headers.get("Authorization", "")
        if token is None or hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
            return None
        return socket.respond(HTTPStatus.UNAUTHORIZED, "Bearer token wrong or missing\n")

    return check


class BridgeConnection:
    """One connected bridge.

    Args:
        socket: what `websockets.serve` gave the handler.
        on_frame: called with each frame, answers to commands included.

    Attributes:
        hello: the data of its first frame, None before.
        undecodable: frames that were no JSON envelope.
    """

    def __init__(self, socket: ServerConnection, on_frame: Callable[[Frame], None] = lambda frame: None) -> None:
        self._socket = socket
        self._on_frame = on_frame
        self._waiting: dict[str | int, asyncio.Future[Frame]] = {}
        self._numbers = itertools.count(1)
        self._name = f"{time.time_ns():x}"
        self.hello: dict[str, Any] | None = None
        self.undecodable = 0

    async def run(self) -> None:
        """Read until the bridge is gone."""
        try:
            while True:
                self._take(await self._socket.recv(decode=False))
        except ConnectionClosed:
            return
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ChannelClosedError("the bridge went away before it answered"))

    def _take(self, raw: bytes) -> None:
        try:
            frame = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.undecodable += 1
            return
        if frame.type == "hello" and isinstance(frame.data, dict):
            self.hello = frame.data
        waiting = self._waiting.get(frame.request_id) if frame.request_id is not None else None
        if waiting is not None and not waiting.done():
            waiting.set_result(frame)
        self._on_frame(frame)

    async def ask(
        self,
        type: str,
        data: Mapping[str, Any] | None = None,
        *,
        request_id: str | int | None = None,
        timeout: float = 10.0,
    ) -> Frame:
        """Send a command and return the frame that answers it, successful or not.

        Raises:
            ChannelClosedError: the bridge went away first. The command may have been carried out.
            TimeoutError: no answer within `timeout` seconds.
        """
        number = request_id if request_id is not None else f"{self._name}-{next(self._numbers)}"
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(timeout):
                await self.send(wire.encode(type, data or {}, now_msc=_now_ms(), request_id=number))
                return await answer
        finally:
            del self._waiting[number]

    async def command(self, type: str, data: Mapping[str, Any] | None = None, *, timeout: float = 10.0) -> Any:
        """Send a command and return the `data` of its successful answer.

        Raises:
            CommandFailed: the bridge said no.
            ChannelClosedError, TimeoutError: see `ask`.
        """
        return (await self._succeeds(type, data, timeout)).get("data")

    async def pages(
        self, type: str, data: Mapping[str, Any] | None = None, *, timeout: float = 10.0
    ) -> AsyncIterator[list[Any]]:
        """Send a command that answers a list, again and again until it is told whole; yields its pages.

        `get_ticks` without `to_msc` has no end: an empty page says that there is nothing new yet.

        Raises:
            CommandFailed: the bridge said no.
            ChannelClosedError, TimeoutError: see `ask`.
        """
        asked = dict(data or {})
        while True:
            answer = await self._succeeds(type, asked, timeout)
            yield answer.get("data") or []
            if answer.get("next") is None:
                return
            asked["cursor"] = answer["next"]

    async def _succeeds(self, type: str, data: Mapping[str, Any] | None, timeout: float) -> dict[str, Any]:
        answer = (await self.ask(type, data, timeout=timeout)).data
        if not isinstance(answer, dict) or not answer.get("success"):
            error = (answer or {}).get("error") or {} if isinstance(answer, dict) else {}
            raise CommandFailed(str(error.get("code", "error")), str(error.get("message", answer)))
        return answer

    async def emergency_stop(
        self,
        *,
        reason: str | None = None,
        by: str | None = None,
        close_positions: bool | None = None,
        cancel_orders: bool | None = None,
        scope: Literal["all", "mine"] | None = None,
        timeout: float = 10.0,
    ) -> dict[str, Any]:
        """Stop all trading of this bridge now, and return what it latched: `state reason by at durable`.

        What is left out is as the bridge's settings say. How the flattening goes on is told by `halt_changed`.

        Raises:
            ChannelClosedError, TimeoutError: see `ask`; it may have stopped all the same. Ask again.
        """
        how = {
            "reason": reason,
            "by": by,
            "close_positions": close_positions,
            "cancel_orders": cancel_orders,
            "scope": scope,
        }
        given = {name: value for name, value in how.items() if value is not None}
        latched: dict[str, Any] = await self.command("emergency_stop", given, timeout=timeout)
        return latched

    async def send_signal(self, signal: TradingSignal | Mapping[str, Any]) -> None:
        """Send a signal; its `order_result` comes as a frame."""
        await self.send(encode_signal(signal, now_msc=_now_ms()))

    async def send(self, frame: bytes) -> None:
        """Send bytes as they are.

        Raises:
            ChannelClosedError: the bridge is gone.
        """
        try:
            await self._socket.send(frame, text=True)
        except ConnectionClosed as error:
            raise ChannelClosedError("the bridge is gone") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

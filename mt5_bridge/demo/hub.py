"""The reference backend's door for those who watch, `/dashboard`: the messages of the gateway's WebSocket."""

import asyncio
import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from mt5_bridge import __version__
from mt5_bridge.client import Frame
from mt5_bridge.core import wire

CHANNELS = frozenset({"ticks", "account", "positions", "events", "health"})
EVERYTHING = frozenset({"read", "trade", "stop", "admin"})
MAX_EVENTS = 2000
"""Events that wait for a slow watcher; one that lets more pile up is sent away."""
TOO_SLOW = 4413
_STEP_S = 0.1
_HEARTBEAT_S = 1.0
_REMEMBERED = 4000
_SCOPE_OF = {
    "emergency_stop": "stop", "reduce_only": "stop", "resume_trading": "admin", "close_position": "trade",
    "modify_position": "trade", "cancel_order": "trade", "modify_order": "trade", "close_all": "trade",
    "trading_signal": "trade", "mt5_command": "admin",
}  # fmt: skip
_STATES = {"account_info": "account", "positions": "positions"}

Ask = Callable[[str, Any, str | None], Awaitable[dict[str, Any]]]


class Hub:
    """What the watchers are told, and what they may ask.

    Args:
        tokens: scopes by token.
        ask: passes a command on to the bridge; returns the data of the answer.
    """

    def __init__(self, tokens: Mapping[str, frozenset[str]], ask: Ask) -> None:
        self._tokens = dict(tokens)
        self._ask = ask
        self._watchers: set[_Watcher] = set()
        self._hello: dict[str, Any] | None = None
        self._states: dict[str, Any] = {}
        self._ticks: dict[str, Any] = {}
        self._health: dict[str, Any] | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()

    def scopes(self, authorization: str) -> frozenset[str] | None:
        """What the bearer of this header may do; None: nothing, it is not let in."""
        found = None
        for token, scopes in self._tokens.items():
            if hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
                found = scopes
        return found

    def joined(self, hello: dict[str, Any]) -> None:
        """A bridge said hello."""
        self._hello = hello
        self._ticks.clear()
        for watcher in self._watchers:
            watcher.event("welcome", self._welcome(watcher))

    def left(self) -> None:
        """The last bridge is gone."""
        self._hello = self._health = None
        self._tell("health", "heartbeat", self._beat())

    def take(self, type: str, data: Any, event_id: str | None = None) -> None:
        """Something a bridge sent, over its socket or a topic."""
        if type == "tick_data" and isinstance(data, dict):
            self._ticks[str(data.get("symbol"))] = data
            for watcher in self._watchers:
                watcher.tick(data)
        elif type in _STATES:
            self._states[type] = data
            self._tell(_STATES[type], type, data)
        elif type == "heartbeat" and isinstance(data, dict):
            self._health = data
            self._tell("health", type, data)
        elif event_id is not None and self._first_time(event_id):
            if type == "halt_changed" and self._hello is not None and isinstance(data, dict):
                self._hello = {**self._hello, "halt": {k: data.get(k) for k in ("state", "reason", "by", "at")}}
            for watcher in self._watchers:
                if "events" in watcher.channels:
                    watcher.event(type, data, event_id)

    def _first_time(self, event_id: str) -> bool:
        if event_id in self._seen:
            return False
        self._seen[event_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def _tell(self, channel: str, type: str, data: Any) -> None:
        for watcher in self._watchers:
            if channel in watcher.channels:
                watcher.latest(type, data)

    async def serve(self, socket: ServerConnection, scopes: frozenset[str]) -> None:
        """Serve one watcher until it goes."""
        watcher = _Watcher(socket, scopes)
        watcher.event("welcome", self._welcome(watcher))
        self._watchers.add(watcher)
        sending = asyncio.create_task(watcher.send_on(self._beat), name="hub-sender")
        work: set[asyncio.Task[None]] = set()
        try:
            async for raw in socket:
                # Begun at once and one beside the other: a stop never waits behind a read.
                task = asyncio.create_task(self._on_frame(watcher, raw), name="hub-command")
                work.add(task)
                task.add_done_callback(work.discard)
        finally:
            self._watchers.discard(watcher)
            for each in (sending, *work):
                each.cancel()
            await asyncio.gather(sending, *work, return_exceptions=True)

    async def _on_frame(self, watcher: "_Watcher", raw: str | bytes) -> None:
        try:
            frame = msgspec.json.decode(raw, type=Frame)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            await watcher.answer("error", {"code": "invalid", "message": str(error)}, None)
            return
        data = frame.data if isinstance(frame.data, dict) else {}
        if frame.type == "subscribe":
            result = _yes("subscribe", self._subscribe(watcher, data))
        elif frame.type == "unsubscribe":
            watcher.channels -= set(map(str, data.get("channels") or CHANNELS))
            result = _yes("unsubscribe", watcher.subscriptions())
        elif frame.type in ("auth", "heartbeat"):
            result = _yes(frame.type, {"scopes": sorted(watcher.scopes)})
        elif (needed := _SCOPE_OF.get(frame.type, "read")) not in watcher.scopes and "admin" not in watcher.scopes:
            result = _no(frame.type, "forbidden", f"this token lacks the scope {needed}")
        else:
            result = await self._ask(frame.type, data, None if frame.request_id is None else str(frame.request_id))
        await watcher.answer("command_result", result, frame.request_id)

    def _subscribe(self, watcher: "_Watcher", data: Mapping[str, Any]) -> dict[str, Any]:
        watcher.channels |= CHANNELS & set(map(str, data.get("channels") or CHANNELS))
        symbols = data.get("symbols")
        watcher.symbols = None if symbols is None else set(map(str, symbols))
        for type, channel in _STATES.items():
            if channel in watcher.channels and type in self._states:
                watcher.latest(type, self._states[type])
        for tick in self._ticks.values():
            watcher.tick(tick)
        return watcher.subscriptions()

    def _welcome(self, watcher: "_Watcher") -> dict[str, Any]:
        hello = self._hello or {}
        return {
            "service": "reference-backend",
            "version": hello.get("version", __version__),
            "bridge_id": hello.get("bridge_id"),
            "account": hello.get("account"),
            "symbols": hello.get("symbols") or [],
            "capabilities": hello.get("capabilities") or [],
            "scopes": sorted(watcher.scopes),
            "halt": hello.get("halt") or {"state": "unknown"},
            "subscriptions": watcher.subscriptions(),
            "heartbeat_s": _HEARTBEAT_S,
        }

    def _beat(self) -> dict[str, Any]:
        if self._health is not None:
            return self._health
        why = "no bridge is connected to the backend" if self._hello is None else "the bridge has not said how it is"
        return {"status": "not_ready", "detail": why, "halt": "unknown", "channels": {}}


class _Watcher:
    """One watcher: states and ticks are conflated, events and answers queue up to a bound."""

    def __init__(self, socket: ServerConnection, scopes: frozenset[str]) -> None:
        self.scopes = scopes
        self.channels: set[str] = set()
        self.symbols: set[str] | None = None
        self._socket = socket
        self._ticks: dict[str, Any] = {}
        self._latest: dict[str, Any] = {}
        self._events: deque[bytes] = deque()
        self._some = asyncio.Event()

    def subscriptions(self) -> dict[str, Any]:
        """As the gateway tells them; `symbols` null: all."""
        symbols = None if self.symbols is None else sorted(self.symbols)
        return {"channels": sorted(self.channels), "symbols": symbols}

    def tick(self, data: dict[str, Any]) -> None:
        symbol = str(data.get("symbol"))
        if "ticks" in self.channels and (self.symbols is None or symbol in self.symbols):
            self._ticks[symbol] = data
            self._some.set()

    def latest(self, type: str, data: Any) -> None:
        self._latest[type] = data
        self._some.set()

    def event(self, type: str, data: Any, event_id: str | None = None) -> None:
        self._events.append(wire.encode(type, data, now_msc=_now_ms(), event_id=event_id))
        self._some.set()

    async def answer(self, type: str, data: Any, request_id: str | int | None) -> None:
        """At once, beside what waits."""
        try:
            await self._socket.send(wire.encode(type, data, now_msc=_now_ms(), request_id=request_id), text=True)
        except ConnectionClosed:
            return

    async def send_on(self, beat: Callable[[], dict[str, Any]]) -> None:
        """Send what has come, ten times a second at most, and a heartbeat at least."""
        due = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._some.wait()
            self._some.clear()
            if len(self._events) > MAX_EVENTS:
                await self._socket.close(TOO_SLOW, "too slow")
                return
            if time.monotonic() >= due:
                due = time.monotonic() + _HEARTBEAT_S
                if "health" in self.channels:
                    self._latest.setdefault("heartbeat", beat())
            events, self._events = self._events, deque()
            latest, self._latest = self._latest, {}
            ticks, self._ticks = self._ticks, {}
            try:
                for frame in events:
                    await self._socket.send(frame, text=True)
                for type, data in (*latest.items(), *(("tick_data", tick) for tick in ticks.values())):
                    await self._socket.send(wire.encode(type, data, now_msc=_now_ms()), text=True)
            except ConnectionClosed:
                return
            await asyncio.sleep(_STEP_S)


def _yes(command: str, data: Any) -> dict[str, Any]:
    return {"command": command, "success": True, "data": data}


def _no(command: str, code: str, message: str) -> dict[str, Any]:
    return {"command": command, "success": False, "error": {"code": code, "message": message}}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

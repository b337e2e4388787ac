"""What a client says: the stop at once, everything else within its rate; each command answered once.

An emergency stop is taken in the receive path: the rate does not count it, nothing that is queued comes before it, and
the bridge has latched it before anything is waited for (P6).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import msgspec
from loguru import logger

from mt5_bridge.control import commands as table
from mt5_bridge.control.commands import StopFrame
from mt5_bridge.core import wire
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.times import iso
from mt5_bridge.gateway.hub import frames, rights
from mt5_bridge.gateway.hub.client import Client
from mt5_bridge.gateway.hub.hub import Hub
from mt5_bridge.gateway.hub.subscriptions import Wanted
from mt5_bridge.gateway.port import BridgePort

MAX_AT_ONCE = 64
"""Commands and signals of one client that may be under way."""
MOST_SYMBOLS = 1000
"""A client may name; all it named before are looked at with every word."""
ERROR_EVERY_S = 1.0
AUTH = "auth"
_BREATH = 64
_BREATH_S = 0.002
"""After so many frames over the rate nothing is read for so long: a flood must not have the loop for itself."""
_MESSAGE_MOST = 500
_RESULT, _MT5_RESULT, _EXECUTED = "command_result", "mt5_command_result", "trading_signal_executed"
_ERROR = "error"

Answer = dict[str, Any]


class Noting(Protocol):
    """What this needs of the audit."""

    def note(self, who: str, what: str, detail: str = "", *, unlimited: bool = False) -> None: ...


class Inbound:
    """Takes clients' frames.

    Args:
        hub: whose clients they are.
        port: the bridge.
        audit: remembers what acted.
        renew: takes the frame in which a client shows a new token.
        written: called when something that acts has been done: who reads over HTTP must not get what was before it.
    """

    def __init__(
        self,
        hub: Hub,
        port: BridgePort,
        audit: Noting,
        renew: Callable[[Client, bytes], Awaitable[None]],
        written: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._port = port
        self._audit = audit
        self._renew = renew
        self._written = written
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, client: Client, frame: bytes) -> None:
        """One frame, in the order they come."""
        client.stats.received += 1
        stop = table.stop_of(frame)
        if stop is not None:
            await self._stop(client, stop, wire.peek(frame).type)
        elif client.allowance.take(self._hub.monotonic()):
            await self._decode(client, frame)
        else:
            client.stats.refused += 1
            self._error(client, "rate_limited", f"more than {self._hub.config.messages_per_s:g} frames a second")
            if client.stats.refused % _BREATH == 0:
                await asyncio.sleep(_BREATH_S)

    async def close(self, seconds: float) -> None:
        """Let what is under way end; what still waits for an answer then is not waited for."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # --- the stop

    async def _stop(self, client: Client, stop: StopFrame, type: str | None) -> None:
        result = _MT5_RESULT if type == table.MT5_COMMAND else _RESULT
        if not rights.permitted(table.EMERGENCY_STOP, client.principal.scopes):
            self._refuse(client, result, table.EMERGENCY_STOP, stop.request_id, *_forbidden(table.EMERGENCY_STOP))
            return
        params = {name: value for name, value in msgspec.to_builtins(stop.params).items() if value is not None}
        key = None if stop.request_id is None else str(stop.request_id)
        work = self._port.command(table.EMERGENCY_STOP, params, by=client.principal.subject, request_id=key)
        answer = await self._asked(client, table.EMERGENCY_STOP, key, work)
        if stop.faults and answer["success"]:
            answer = {**answer, "data": {**answer["data"], "faults": list(stop.faults)}}
        self._tell(client, result, answer, stop.request_id, first=True)

    # --- all else

    async def _decode(self, client: Client, frame: bytes) -> None:
        try:
            envelope = wire.decode(frame)
        except WireError as error:
            self._strange(client, "invalid", str(error))
            return
        type = envelope.type
        if type == AUTH:
            await self._renew(client, frame)
        elif type in ("heartbeat", "account_info", "tick_data"):
            self._acknowledge(client, envelope)
        elif type in ("subscribe", "unsubscribe"):
            self._subscribe(client, type, envelope.data, _RESULT, envelope.request_id)
        elif type == table.TRADING_SIGNAL:
            self._signal(client, envelope)
        elif type == table.MT5_COMMAND:
            self._mt5_command(client, envelope)
        elif table.is_command(type):
            self._command(client, type, envelope.data, _RESULT, envelope.request_id)
        elif table.is_answer(type):
            return
        elif envelope.request_id is not None:
            why = f"unknown command {type[:64]!r}"
            self._refuse(client, _RESULT, type[:64], envelope.request_id, "unknown_command", why)
        else:
            self._strange(client, "unknown_type", f"unknown type {type[:64]!r}")

    def _acknowledge(self, client: Client, envelope: wire.Envelope) -> None:
        """Clients' own account and ticks are counted, never used."""
        if envelope.type == "heartbeat":
            self._tell(client, "heartbeat_response", {"time": iso(self._hub.now_ms())}, envelope.request_id)
            return
        self._hub.stats.processed[envelope.type] += 1
        self._tell(client, f"{envelope.type}_processed", {"success": True}, envelope.request_id)

    def _subscribe(
        self, client: Client, name: str, data: msgspec.Raw | None, result: str, request_id: wire.RequestId
    ) -> None:
        if not rights.permitted(name, client.principal.scopes):
            self._refuse(client, result, name, request_id, *_forbidden(name))
            return
        try:
            wanted = msgspec.json.decode(data or b"null", type=Wanted | None) or Wanted()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(client, result, name, request_id, "invalid_params", f"{name}: {error}")
            return
        if name == "subscribe":
            new = client.subscriptions.added(wanted)
        else:
            new = client.subscriptions.removed(wanted, self._port.status().get("symbols", ()))
        if len(new.symbols or ()) > MOST_SYMBOLS:
            why = f"{name}: more than {MOST_SYMBOLS} symbols; leave symbols out to hear all"
            self._refuse(client, result, name, request_id, "invalid_params", why)
            return
        answer = table.succeeded(name, new.data())
        if name == "unsubscribe":
            self._hub.subscribe(client, new)  # nothing of what it ends may follow the answer
            self._tell(client, result, answer, request_id)
        else:
            self._tell(client, result, answer, request_id)
            self._hub.subscribe(client, new)

    def _mt5_command(self, client: Client, envelope: wire.Envelope) -> None:
        name = table.meant(envelope)
        if name is None:
            why = f"{table.MT5_COMMAND} needs the name of a command that it knows, and its params"
            self._refuse(client, _MT5_RESULT, table.MT5_COMMAND, envelope.request_id, "unknown_command", why)
            return
        data = msgspec.json.decode(envelope.data, type=_Wrapped).params
        if name in ("subscribe", "unsubscribe"):
            self._subscribe(client, name, data, _MT5_RESULT, envelope.request_id)
        else:
            self._command(client, name, data, _MT5_RESULT, envelope.request_id)

    def _command(
        self, client: Client, name: str, data: msgspec.Raw | None, result: str, request_id: wire.RequestId
    ) -> None:
        if not self._may_begin(client, name, result, request_id):
            return
        try:
            params = msgspec.json.decode(data or b"null", type=dict[str, Any] | None) or {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(client, result, name, request_id, "invalid_params", f"{name}: {error}")
            return
        key = None if request_id is None else str(request_id)
        work = self._port.command(name, params, by=client.principal.subject, request_id=key)
        self._begin(client, name, work, result, request_id)

    def _signal(self, client: Client, envelope: wire.Envelope) -> None:
        request_id = envelope.request_id
        if self._may_begin(client, table.TRADING_SIGNAL, _EXECUTED, request_id):
            work = self._port.signal(
                {},
                by=client.principal.subject,
                request_id=None if request_id is None else str(request_id),
                raw=bytes(envelope.data),
                signature=envelope.signature,
            )
            self._begin(client, table.TRADING_SIGNAL, work, _EXECUTED, request_id)

    # --- what the bridge is asked

    def _may_begin(self, client: Client, name: str, result: str, request_id: wire.RequestId) -> bool:
        if not rights.permitted(name, client.principal.scopes):
            self._refuse(client, result, name, request_id, *_forbidden(name))
        elif client.in_flight >= MAX_AT_ONCE:
            why = f"{MAX_AT_ONCE} commands are under way already: send less"
            self._refuse(client, result, name, request_id, "overloaded", why)
        else:
            return True
        return False

    def _begin(
        self, client: Client, name: str, work: Coroutine[Any, Any, Answer], result: str, request_id: wire.RequestId
    ) -> None:
        """Have it done: begun in the order of the frames, done to its end whether or not the client still waits."""
        client.in_flight += 1
        task = asyncio.create_task(self._do(client, name, work, result, request_id), name="gateway-command")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(
        self, client: Client, name: str, work: Coroutine[Any, Any, Answer], result: str, request_id: wire.RequestId
    ) -> None:
        try:
            answer = await self._asked(client, name, None if request_id is None else str(request_id), work)
        finally:
            client.in_flight -= 1
        if result == _EXECUTED and "error" in answer:
            self._tell(client, _ERROR, answer["error"], request_id)
        else:
            self._tell(client, result, answer, request_id)

    async def _asked(self, client: Client, name: str, key: str | None, work: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            answer = await work
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked must not wait for ever; it is told loudly
            logger.bind(event="gateway_command_failed", command=name).opt(exception=error).error(
                "ERROR the bridge failed at {name}: {error!r}", name=name, error=error
            )
            answer = table.failed(name, "defect", "the bridge made a mistake; its log says which")
        if name == table.TRADING_SIGNAL or table.COMMANDS[name].acts:
            self._written()
            self._note(client, name, key, answer)
        return answer

    def _note(self, client: Client, name: str, key: str | None, answer: Answer) -> None:
        outcome = answer.get("status") or ("done" if answer.get("success") else answer["error"]["code"])
        named = "" if key is None else f" request {key[:64]}"
        unlimited = name == table.EMERGENCY_STOP
        self._audit.note(client.principal.subject, f"WebSocket {name}", f"{outcome}{named}", unlimited=unlimited)

    # --- answers

    def _tell(self, client: Client, type: str, data: Any, request_id: wire.RequestId, *, first: bool = False) -> None:
        client.send(frames.message(type, data, now_msc=self._hub.now_ms(), request_id=request_id), first=first)

    def _refuse(self, client: Client, result: str, name: str, request_id: wire.RequestId, code: str, why: str) -> None:
        why = why[:_MESSAGE_MOST]
        if result == _EXECUTED:
            self._tell(client, _ERROR, {"code": code, "message": why}, request_id)
        else:
            self._tell(client, result, table.failed(name, code, why), request_id)

    def _strange(self, client: Client, code: str, text: str) -> None:
        client.stats.invalid += 1
        self._error(client, code, text)

    def _error(self, client: Client, code: str, text: str) -> None:
        """At most one a second: an endless stream of nonsense must not become two."""
        now = self._hub.monotonic()
        if now - client.last_error >= ERROR_EVERY_S:
            client.last_error = now
            self._tell(client, _ERROR, {"code": code, "message": text[:_MESSAGE_MOST]}, None)


class _Wrapped(msgspec.Struct):
    params: msgspec.Raw = msgspec.Raw(b"null")  # as one of a union it would take nothing but null


def _forbidden(name: str) -> tuple[str, str]:
    return "forbidden", f"{name} needs the scope {rights.NEEDS[name]!s}"

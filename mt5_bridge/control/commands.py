"""The commands a backend may send: one table, one decoder. Pure.

A stop is read apart from all others (`stop_of`): the type of the frame is enough, whatever is wrong with the rest.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from mt5_bridge.control.params import (
    CancelOrder,
    CloseAll,
    ClosePosition,
    EmergencyStop,
    GetHistory,
    GetRates,
    GetSignal,
    GetSignals,
    GetSymbols,
    GetTicks,
    ModifyOrder,
    ModifyPosition,
    OfSymbol,
    Params,
    ReduceOnly,
    ResumeTrading,
    Symbols,
)
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.permission import Permission
from mt5_bridge.core.wire import Envelope, RequestId

P = TypeVar("P", bound=Params)

EMERGENCY_STOP = "emergency_stop"
MT5_COMMAND = "mt5_command"
TRADING_SIGNAL = "trading_signal"


class Spec(msgspec.Struct, frozen=True):
    """A row of the table.

    Attributes:
        params: what the command's `data` must be.
        acts: the command changes something: its `request_id` and first answer are remembered.
        needs: what the backend must be permitted; None: always.
    """

    params: type[Params]
    needs: Permission | None
    acts: bool = False


COMMANDS: dict[str, Spec] = {
    "close_position": Spec(ClosePosition, Permission.TRADE, acts=True),
    "modify_position": Spec(ModifyPosition, Permission.TRADE, acts=True),
    "cancel_order": Spec(CancelOrder, Permission.TRADE, acts=True),
    "modify_order": Spec(ModifyOrder, Permission.TRADE, acts=True),
    "close_all": Spec(CloseAll, Permission.TRADE, acts=True),
    EMERGENCY_STOP: Spec(EmergencyStop, None, acts=True),
    "reduce_only": Spec(ReduceOnly, Permission.HALT, acts=True),
    "resume_trading": Spec(ResumeTrading, Permission.HALT, acts=True),
    "get_status": Spec(Params, Permission.READ),
    "get_account": Spec(Params, Permission.READ),
    "get_positions": Spec(OfSymbol, Permission.READ),
    "get_orders": Spec(OfSymbol, Permission.READ),
    "get_symbols": Spec(GetSymbols, Permission.READ),
    "get_rates": Spec(GetRates, Permission.READ),
    "get_ticks": Spec(GetTicks, Permission.READ),
    "get_history": Spec(GetHistory, Permission.READ),
    "get_signals": Spec(GetSignals, Permission.READ),
    "get_signal": Spec(GetSignal, Permission.READ),
    "subscribe": Spec(Symbols, Permission.STREAM),
    "unsubscribe": Spec(Symbols, Permission.STREAM),
    "heartbeat": Spec(Params, None),
}

ALIASES: dict[str, str] = {name: name for name in COMMANDS} | {
    "account_info": "get_account",
    "get_account_info": "get_account",
    "positions_get": "get_positions",
    "orders_get": "get_orders",
    "symbols_get": "get_symbols",
    "copy_rates": "get_rates",
    "copy_rates_from": "get_rates",
    "copy_rates_from_pos": "get_rates",
    "copy_ticks": "get_ticks",
    "copy_ticks_from": "get_ticks",
    "copy_ticks_range": "get_ticks",
    "history": "get_history",
    "history_deals_get": "get_history",
    "status": "get_status",
    "close": "close_position",
    "close_all_positions": "close_all",
    "modify": "modify_position",
    "cancel": "cancel_order",
    "delete_order": "cancel_order",
    "stop": EMERGENCY_STOP,
    "resume": "resume_trading",
    "ping": "heartbeat",
}
"""What `mt5_command` may name. A closed list: nothing of the terminal can be called but through these."""

CAPABILITIES: tuple[str, ...] = (*COMMANDS, MT5_COMMAND, TRADING_SIGNAL)


def capabilities(permitted: frozenset[Permission]) -> list[str]:
    """What of it a backend with these permissions may send."""
    barred = {name for name, spec in COMMANDS.items() if spec.needs is not None and spec.needs not in permitted}
    if Permission.SIGNAL not in permitted:
        barred.add(TRADING_SIGNAL)
    return [name for name in CAPABILITIES if name not in barred]


_ANSWER_ENDINGS = ("_processed", "_response", "_result")


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command whose parameters are valid.

    Attributes:
        name: its name in the table, aliases resolved.
        params: an instance of the row's struct.
        acts: see `Spec`.
        request_id: to be repeated in the answer.
    """

    name: str
    params: Params
    acts: bool
    request_id: RequestId = None

    def of(self, kind: type[P]) -> P:
        """The parameters as the struct that the table gives this command."""
        assert isinstance(self.params, kind), f"{self.name} has {type(self.params).__name__}"
        return self.params


@dataclass(frozen=True, slots=True)
class StopFrame:
    """An emergency stop as it came.

    Attributes:
        params: the fields that could be read; None in place of those that could not.
        request_id: to be repeated in the answer.
        faults: what was wrong with the frame, for the answer. They never keep the stop from latching.
    """

    params: EmergencyStop
    request_id: RequestId = None
    faults: tuple[str, ...] = ()


class _AnyFrame(msgspec.Struct):
    type: Any = None
    request_id: Any = None
    data: Any = None


class _Mt5Command(msgspec.Struct):
    command: str
    params: msgspec.Raw = msgspec.Raw(b"null")


_any_frame = msgspec.json.Decoder(_AnyFrame)
# Backends exist that write NaN into their JSON; a stop of theirs is still a stop.
_stop_in_broken_json = re.compile(rb'"(?:type|command)"\s*:\s*"emergency_stop"|"command"\s*:\s*"stop"')


def stop_of(frame: bytes) -> StopFrame | None:
    """The emergency stop in a frame, be it direct or by `mt5_command`; None when the frame is anything else."""
    if not _may_be_stop(frame):
        return None
    try:
        message = _any_frame.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        broken = _stop_in_broken_json.search(frame)
        return StopFrame(EmergencyStop(), None, ("the frame is not valid JSON",)) if broken else None
    data = message.data
    if message.type == MT5_COMMAND and isinstance(data, dict) and _resolve(data.get("command")) == EMERGENCY_STOP:
        data = data.get("params")
    elif message.type != EMERGENCY_STOP:
        return None
    faults: list[str] = []
    request_id = message.request_id
    if not (request_id is None or (isinstance(request_id, str | int) and not isinstance(request_id, bool))):
        faults.append("request_id must be text or a whole number")
        request_id = None
    return StopFrame(_readable(data, faults), request_id, tuple(faults))


def _may_be_stop(frame: bytes) -> bool:
    """A quick look, so that floods of other frames cost nothing; any name can hide in \\u escapes."""
    return b"emergency_stop" in frame or b"mt5_command" in frame or b"\\u" in frame


def _readable(data: Any, faults: list[str]) -> EmergencyStop:
    """Field by field: one that cannot be read must not take the others with it."""
    if data is None:
        return EmergencyStop()
    if not isinstance(data, dict):
        faults.append("data must be an object")
        return EmergencyStop()
    fields: dict[str, Any] = {}
    for name in EmergencyStop.__struct_fields__:
        try:
            fields[name] = getattr(msgspec.convert({name: data.get(name)}, EmergencyStop), name)
        except msgspec.ValidationError as error:
            faults.append(str(error))
    return EmergencyStop(**fields)


def _resolve(name: Any) -> str | None:
    return ALIASES.get(name.strip().lower()) if isinstance(name, str) else None


def is_command(type: str) -> bool:
    """Whether a frame of this type is decoded by `decode_command`."""
    return type in COMMANDS or type == MT5_COMMAND


def meant(envelope: Envelope) -> str | None:
    """The command's name in the table, aliases resolved; None where it is none, or cannot be told."""
    if envelope.type != MT5_COMMAND:
        return envelope.type if envelope.type in COMMANDS else None
    try:
        return _unwrap(envelope.data)[0]
    except WireError:
        return None


def acts(envelope: Envelope) -> bool:
    """Whether what is asked changes something."""
    name = meant(envelope)
    return name is not None and COMMANDS[name].acts


def is_answer(type: str) -> bool:
    """Whether a frame of this type is an answer itself: never answered, or two peers would talk for ever."""
    return type == "error" or type.endswith(_ANSWER_ENDINGS)


def decode_command(envelope: Envelope) -> Command:
    """The command in an envelope.

    Raises:
        WireError: reason `unknown_command` or `invalid_params`.
    """
    name, data = envelope.type, envelope.data
    if name == MT5_COMMAND:
        name, data = _unwrap(data)
    spec = COMMANDS.get(name)
    if spec is None:
        raise WireError(f"unknown command {name[:64]!r}", reason="unknown_command")
    return Command(name=name, params=_params(name, spec, data), acts=spec.acts, request_id=envelope.request_id)


def _unwrap(data: msgspec.Raw) -> tuple[str, msgspec.Raw]:
    try:
        wrapped = msgspec.json.decode(data, type=_Mt5Command)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{MT5_COMMAND}: {error}", reason="invalid_params") from None
    name = _resolve(wrapped.command)
    if name is None:
        raise WireError(f"{MT5_COMMAND} does not know {wrapped.command[:64]!r}", reason="unknown_command")
    return name, wrapped.params


def _params(name: str, spec: Spec, data: msgspec.Raw) -> Params:
    raw = bytes(data).strip()
    try:
        return msgspec.json.decode(b"{}" if raw in (b"", b"null") else raw, type=spec.params)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{name}: {error}", reason="invalid_params") from None


class Page(msgspec.Struct, frozen=True):
    """A list that did not fit, or goes on: `next` is the cursor to ask on from; None when there is no more."""

    rows: list[Any]
    next: str | None = None


def succeeded(command: str, data: Any) -> dict[str, Any]:
    """The `data` of a `command_result` that says yes."""
    if not isinstance(data, Page):
        return {"command": command, "success": True, "data": data}
    answer = {"command": command, "success": True, "data": data.rows}
    return answer if data.next is None else answer | {"next": data.next}


def failed(command: str, code: str, message: str, result: dict[str, Any] | None = None) -> dict[str, Any]:
    """The `data` of a `command_result` that says no, with a code for programs and a message for people.

    Args:
        command: its name.
        code: for programs.
        message: for people.
        result: the `order_result`, where an order was asked for.
    """
    error: dict[str, Any] = {"code": code, "message": message}
    if result is not None:
        error["result"] = result
    return {"command": command, "success": False, "error": error}


def encode_answer(answer: dict[str, Any]) -> bytes:
    """An answer as it is remembered."""
    return msgspec.json.encode(answer)


def decode_answer(stored: bytes) -> dict[str, Any]:
    """An answer as it was remembered."""
    return msgspec.json.decode(stored, type=dict[str, Any])

"""JSON Schemas (draft 7) of every message of the contract, from the types that the bridge encodes and decodes."""

import json
from collections.abc import Iterable
from itertools import chain
from typing import Any

import msgspec
from contract_types import (
    ANSWERS,
    Acknowledged,
    Broadcast,
    Fault,
    Hearing,
    Heartbeat,
    Hello,
    Now,
    Refused,
    Shown,
    Welcome,
    Wish,
)

from mt5_bridge.control.commands import ALIASES, COMMANDS, MT5_COMMAND, TRADING_SIGNAL, Spec
from mt5_bridge.core.answers import Tick
from mt5_bridge.core.bars import LENGTHS
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.messages import (
    AccountMessage,
    BarMessage,
    ConnectionStatus,
    HaltChanged,
    OrderResult,
    PendingChanged,
    PositionClosed,
    PositionMessage,
    Reason,
    TradingSignal,
)
from mt5_bridge.core.model import Action, MarginMode, Side

Schema = dict[str, Any]

SENT: dict[str, Any] = {
    "tick_data": Tick,
    "bar_data": BarMessage,
    "order_result": OrderResult,
    "position_opened": PositionMessage,
    "position_closed": PositionClosed,
    "pending_changed": PendingChanged,
    "account_info": AccountMessage,
    "halt_changed": HaltChanged,
    "connection_status": ConnectionStatus,
    "hello": Hello,
    "positions": list[PositionMessage],
    "heartbeat": Heartbeat,
    "error": Fault,
}
"""What the bridge sends, by type; `command_result` besides."""

EVENTS = ("order_result", "position_opened", "position_closed", "pending_changed", "halt_changed")
"""They carry `event_id` wherever they go, the same in every copy."""
ON_EVENT_TOPIC = (*EVENTS, "account_info", "connection_status")
"""There everything carries one; of the last two the newest counts."""
ON_SOCKET = (
    *EVENTS,
    "hello",
    "account_info",
    "positions",
    "heartbeat",
    "tick_data",
    "bar_data",
    "command_result",
    "error",
)

GATEWAY_SENT: dict[str, Any] = {
    "welcome": Welcome,
    "broadcast": Broadcast,
    "heartbeat_response": Now,
    "account_info_processed": Acknowledged,
    "tick_data_processed": Acknowledged,
    "trading_signal_executed": OrderResult,
}
"""What the gateway's WebSocket sends besides what the bridge sends everywhere; its two kinds of results are apart."""
GATEWAY_RESULTS = ("command_result", "mt5_command_result")
GATEWAY_TAKEN: dict[str, Any] = {
    "auth": Shown,
    "subscribe": Wish,
    "unsubscribe": Wish,
    "account_info": dict[str, Any],
    "tick_data": dict[str, Any],
}
"""What it takes besides the commands, which are the same everywhere but for these."""
ON_GATEWAY = (*EVENTS, "account_info", "positions", "heartbeat", "connection_status", "tick_data", "error")
"""What clients hear of what the bridge sends everywhere."""

PAGED = tuple(name for name, spec in COMMANDS.items() if "cursor" in spec.params.__struct_fields__)
"""Commands whose answers may go on in another."""

_OUT, _IN = "from_bridge", "to_bridge"
_TOLD, _ASKED = "from_gateway", "to_gateway"
_MOST = 10**15
_TICKET = (1 << 63) - 1
_SIGNATURE = "Over the WebSocket, with SIGNAL_HMAC_KEY: hex HMAC-SHA256 of the bytes of `data`."
_NEXT = {"type": "string", "description": "There is more, or may be: ask again with this as `cursor`."}
_WORDS: dict[type, dict[str, Iterable[str]]] = {
    OrderResult: {"reason": Reason},
    PositionMessage: {"side": Side},
    PositionClosed: {"side": Side, "reason": ("signal", "command", "stop", "target", "stop_out", "manual")},
    PendingChanged: {"state": ("placed", "filled", "cancelled", "expired", "rejected")},
    AccountMessage: {"margin_mode": MarginMode},
    HaltChanged: {"state": HaltState, "phase": ("latched", "progress", "done")},
    BarMessage: {"timeframe": LENGTHS},
    ConnectionStatus: {"channel": ("terminal", "redpanda", "backend")},
}
"""Fields whose type is text and which say one of these."""
_UNITS = {
    "volume": "Lots.",
    "volume_requested": "Lots.",
    "volume_filled": "Lots.",
    "spread": "Points.",
    "deviation_points": "Points.",
    "trailing_stop_points": "Points of profit and of distance; 0: no trailing stop.",
    "break_even_points": "Points of profit; 0: no break-even.",
    "time_msc": "UTC, milliseconds since the epoch.",
    "seq": "Numbers the ticks within one millisecond, from 0.",
    "ttl_ms": "Milliseconds from `created_at`.",
    "created_at": "ISO 8601 (UTC without a zone), seconds or milliseconds since the epoch.",
    "expiration": "ISO 8601 (UTC without a zone), seconds or milliseconds since the epoch.",
    "risk_percent": "Percent of the account.",
    "supersedes": "The `event_id` of the result that this one corrects.",
    "latency_ms": "Milliseconds.",
}


def definitions() -> dict[str, Schema]:
    """All schemas by name: messages as `from_bridge.TYPE` and `to_bridge.TYPE`, and the types they are made of."""
    found = {**_types_sent(), **_types_received()}
    for type in (*SENT, "command_result"):
        found[f"{_OUT}.{type}"] = _sent(type)
    for type, spec in COMMANDS.items():
        found[f"{_IN}.{type}"] = _command(type, spec)
    found[f"{_IN}.{MT5_COMMAND}"] = _mt5_command()
    found[f"{_IN}.{TRADING_SIGNAL}"] = _received(TRADING_SIGNAL, _ref("TradingSignal"), ["type", "data"])
    return found | _of_gateway()


def _of_gateway() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for kind in GATEWAY_SENT.values():
        found |= {name: _complete(schema) for name, schema in _of(kind)[1].items() if name != "OrderResult"}
    for kind in (Shown, Wish):
        found |= {name: _plain(schema) for name, schema in _of(kind)[1].items()}
    for type, kind in GATEWAY_SENT.items():
        found[f"{_TOLD}.{type}"] = _sent(type, _of(kind)[0])
    results = ANSWERS | dict.fromkeys(("subscribe", "unsubscribe"), (Hearing,))
    for type in GATEWAY_RESULTS:
        found[f"{_TOLD}.{type}"] = _sent(type, _command_result(results))
    for type, kind in GATEWAY_TAKEN.items():
        found[f"{_ASKED}.{type}"] = _received(type, _of(kind)[0], ["type", "data"])
    return found


def text() -> str:
    """docs/schemas.json."""
    return _written(document(), 0) + "\n"


def _written(value: Any, depth: int) -> str:
    """JSON with what fits into a line on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + 2 * depth <= 110 or not isinstance(value, dict | list):
        return line
    inner, outer = "\n" + "  " * (depth + 1), "\n" + "  " * depth
    if isinstance(value, list):
        return "[" + ",".join(inner + _written(each, depth + 1) for each in value) + outer + "]"
    rows = (f"{inner}{json.dumps(key)}: {_written(each, depth + 1)}" for key, each in value.items())
    return "{" + ",".join(rows) + outer + "}"


def document() -> Schema:
    """One schema to validate either direction with."""
    every = definitions()
    for side in (_OUT, _IN, _TOLD, _ASKED):
        every[side] = {"anyOf": [_ref(name) for name in every if name.startswith(f"{side}.")]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "MT5 Bridge: messages on the topics and over the WebSocket",
        "description": "Written by scripts/docs.py. Validate with #/definitions/from_bridge and "
        "#/definitions/to_bridge, or with a message's own, e.g. #/definitions/from_bridge.order_result. What is said "
        "over the gateway's WebSocket besides is in #/definitions/from_gateway and #/definitions/to_gateway.",
        "definitions": every,
    }


def relocated(schema: Any, prefix: str) -> Any:
    """A schema whose references lead to another place."""
    if isinstance(schema, dict):
        return {
            key: prefix + value.rpartition("/")[2] if key == "$ref" else relocated(value, prefix)
            for key, value in schema.items()
        }
    return [relocated(value, prefix) for value in schema] if isinstance(schema, list) else schema


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _of(kind: Any) -> tuple[Schema, dict[str, Schema]]:
    """A type's own schema, and those of the types in it."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/definitions/{name}")
    for part in parts.values():
        fields = part.get("properties", {})
        fields.update({name: _merged(field) for name, field in fields.items()})
    return schema, parts


def _merged(field: Schema) -> Schema:
    """`anyOf` of plain types as one list of types: a limit speaks of values of its own type only."""
    kinds = field.get("anyOf", [])
    if not kinds or any("type" not in kind or "items" in kind for kind in kinds):
        return field
    names = [kind["type"] for kind in kinds]
    limits = {key: value for kind in kinds for key, value in kind.items() if key != "type"}
    rest = {key: value for key, value in field.items() if key != "anyOf"}
    return {"type": [name for name in names if name != "integer" or "number" not in names], **limits, **rest}


def _either(kinds: tuple[Any, ...]) -> Schema:
    schemas = [_of(kind)[0] for kind in kinds]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


# --- what the bridge sends


def _types_sent() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for kind in (*SENT.values(), Refused, *chain.from_iterable(ANSWERS.values())):
        found |= _of(kind)[1]
    for kind, fields in _WORDS.items():
        for name, words in fields.items():
            _say_one_of(found[kind.__name__]["properties"], name, words)
    return {name: _complete(schema) for name, schema in found.items()}


def _say_one_of(properties: dict[str, Schema], name: str, words: Iterable[str]) -> None:
    known: list[str | None] = [str(word) for word in words]
    may_be_null = "null" in properties[name]["type"]
    properties[name] = {"enum": [*known, None] if may_be_null else known}


def _complete(schema: Schema) -> Schema:
    """What is sent is sent whole, fields without value as null: all are required, and no default matters."""
    if "properties" not in schema:
        return _plain(schema)
    known, fields = schema["required"], {}
    for name, field in schema["properties"].items():
        if "default" in field and name not in known:
            known = [*known, name]
        fields[name] = _described(name, {key: value for key, value in field.items() if key != "default"})
    return _plain(schema) | {"properties": fields, "required": [name for name in fields if name in known]}


def _sent(type: str, data: Schema | None = None) -> Schema:
    if data is None:
        data = _command_result(ANSWERS) if type == "command_result" else _of(SENT[type])[0]
    fields: dict[str, Schema] = {"type": {"const": type}, "timestamp": _moment(), "data": data}
    required = ["type", "timestamp", "data"]
    if type in ON_EVENT_TOPIC:
        fields["event_id"] = {"type": "string", "description": "The same in every copy of the event."}
        required += ["event_id"] if type in EVENTS else []
    if type in ("order_result", *GATEWAY_RESULTS) or type.endswith(("_executed", "_processed", "_response")):
        fields["request_id"] = {"type": ["string", "integer"], "description": "That of what is answered."}
    if type == "positions":
        fields["next"] = {"type": "string", "description": "There are more: ask `get_positions` with this as `cursor`."}
    return {"type": "object", "properties": fields, "required": required}


def _command_result(answers: dict[str, tuple[Any, ...]]) -> Schema:
    done = [
        {
            "properties": {"command": {"const": name}, "success": {"const": True}, "data": _either(kinds)}
            | ({"next": dict(_NEXT)} if name in PAGED else {}),
            "required": ["command", "success", "data"],
        }
        for name, kinds in answers.items()
    ]
    refused = {
        "properties": {"command": {"type": "string"}, "success": {"const": False}, "error": _ref("Refused")},
        "required": ["command", "success", "error"],
    }
    return {"type": "object", "oneOf": [refused, *done]}


def _moment() -> Schema:
    return {"type": "string", "format": "date-time", "description": "UTC, ISO 8601 with milliseconds."}


# --- what the bridge takes


def _types_received() -> dict[str, Schema]:
    found = _of(TradingSignal)[1]
    for spec in COMMANDS.values():
        found |= _of(spec.params)[1]
    found["TradingSignal"] = _signal(found["TradingSignal"])
    found["ModifyPosition"]["anyOf"] = _one_given("stop_loss", "take_profit")
    found["ModifyOrder"]["anyOf"] = _one_given("price", "stop_limit_price", "stop_loss", "take_profit", "expiration")
    for schema in found.values():
        for name, field in schema.get("properties", {}).items():
            schema["properties"][name] = _described(name, field)
    return {name: _plain(schema) for name, schema in found.items()}


def _one_given(*names: str) -> list[Schema]:
    return [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in names]


def _signal(schema: Schema) -> Schema:
    """What `wire.decode_signal` demands beyond the types."""
    fields = schema["properties"]
    for name in ("price", "stop_limit_price", "stop_loss", "take_profit", "risk_percent"):
        fields[name] |= {"minimum": 0, "maximum": _MOST}
    fields["volume"] |= {"exclusiveMinimum": 0, "maximum": _MOST}
    for name in ("ttl_ms", "deviation_points", "position", "order", "trailing_stop_points", "break_even_points"):
        fields[name] |= {"minimum": 0, "maximum": _TICKET}
    for name, most in {"comment": 500, "strategy": 200, "target_signal_id": 200}.items():
        fields[name]["maxLength"] = most
    fields["signal_id"] |= {"minLength": 1, "maxLength": 200}
    fields["symbol"] |= {"maxLength": 64, "pattern": "\\S"}
    pendings = [action for action in Action if action.is_pending]
    ticket, text = {"type": "integer", "minimum": 1}, {"type": "string", "minLength": 1}
    price = {"type": "number", "exclusiveMinimum": 0}
    targets = {"position": ticket, "order": ticket, "target_signal_id": text}
    nowhere = {"properties": {"position": {"type": "null"}, "target_signal_id": {"type": "null"}}}
    schema["allOf"] = [
        _when(pendings, _needs(price=price)),
        _when([action for action in Action if "STOP_LIMIT" in action], _needs(stop_limit_price=price)),
        _when([Action.CLOSE_BY], _needs(position=ticket, order=ticket)),
        _when([Action.MODIFY, Action.CANCEL], {"anyOf": [_needs(**{name: kind}) for name, kind in targets.items()]}),
        _when([Action.CLOSE], {"anyOf": [_needs(position=ticket), _needs(target_signal_id=text), nowhere]}),
    ]
    return schema


def _when(actions: list[Action], then: Schema) -> Schema:
    return {"if": {"properties": {"action": {"enum": [str(action) for action in actions]}}}, "then": then}


def _needs(**fields: Schema) -> Schema:
    return {"required": [*fields], "properties": fields}


def _received(type: str, data: Schema, required: list[str]) -> Schema:
    text: Schema = {"type": ["string", "null"]}
    fields = {
        "type": {"const": type},
        "timestamp": {"description": "Not read."},
        "data": data,
        "request_id": {"type": ["string", "integer", "null"], "description": "Repeated in the answer."},
        "event_id": text | {"description": "Not read."},
        "signature": text | {"description": _SIGNATURE if type == TRADING_SIGNAL else "Not read."},
    }
    return {"type": "object", "properties": fields, "required": required}


def _command(type: str, spec: Spec) -> Schema:
    return _received(type, _params(spec), ["type"] if type == "emergency_stop" else ["type", "data"])


def _params(spec: Spec) -> Schema:
    schema, parts = _of(spec.params)
    return schema if parts[spec.params.__name__]["required"] else {"anyOf": [schema, {"type": "null"}]}


def _mt5_command() -> Schema:
    named: dict[str, list[str]] = {}
    for alias, meant in ALIASES.items():
        named.setdefault(meant, []).append(alias)
    kinds = [
        {"properties": {"command": {"enum": aliases}, "params": _params(COMMANDS[meant])}}
        | ({"required": ["params"]} if "anyOf" not in _params(COMMANDS[meant]) else {})
        for meant, aliases in named.items()
    ]
    data = {
        "type": "object",
        "properties": {"command": {"enum": [*ALIASES]}, "params": {"type": ["object", "null"]}},
        "required": ["command"],
        "oneOf": kinds,
    }
    return _received(MT5_COMMAND, data, ["type", "data"])


# --- both


def _described(name: str, field: Schema) -> Schema:
    return field if name not in _UNITS or "$ref" in field else {"description": _UNITS[name], **field}


def _plain(schema: Schema) -> Schema:
    """Without the name that the type has in the code twice, and with its words on one line."""
    found = {key: value for key, value in schema.items() if key != "title"}
    if "description" in found:
        found["description"] = " ".join(found["description"].split())
    return found

"""docs/asyncapi.yaml: the topics and the WebSocket as an AsyncAPI 3 document, on the schemas of the contract."""

from typing import Any

import yaml
from contract_schemas import (
    GATEWAY_RESULTS,
    GATEWAY_SENT,
    GATEWAY_TAKEN,
    ON_EVENT_TOPIC,
    ON_GATEWAY,
    ON_SOCKET,
    definitions,
    relocated,
)

from mt5_bridge import __version__
from mt5_bridge.control.commands import COMMANDS, MT5_COMMAND, TRADING_SIGNAL

Part = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_TEXT: Part = {"type": "string"}
_DESCRIPTION = (
    "A daemon on a trader's PC that joins a MetaTrader 5 terminal to a backend. Times are UTC, prices in quote "
    "currency, volumes in lots, money in the account's. Delivery is at least once: `(symbol, time_msc, seq)` "
    "identifies a tick, `event_id` an event. Fields without value are sent as null; unknown fields that come in are "
    "ignored. docs/contract.md tells what the schemas cannot."
)

_OF_CLIENTS = "GATEWAY_TOKEN, or a JWT signed with GATEWAY_JWT_KEY; browsers send it in a first frame `auth`."


def document() -> str:
    """The document as YAML."""
    text: Part = {
        "asyncapi": "3.0.0",
        "id": "urn:mt5-bridge:contract",
        "info": {
            "title": "MT5 Bridge",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
            "tags": [{"name": "MetaTrader 5"}, {"name": "trading"}],
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "schemas": relocated(definitions(), _SCHEMAS),
            "messages": _messages(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "BACKEND_AUTH_TOKEN of the bridge."},
                "gateway": {"type": "http", "scheme": "bearer", "description": _OF_CLIENTS},
            },
        },
    }
    head = "# Written by scripts/docs.py from the message types.\n"
    return head + yaml.dump(
        text, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )


class _Dumper(yaml.SafeDumper):
    """Spells out what is used twice: anchors are no part of JSON Schema."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _servers() -> Part:
    return {
        "broker": {
            "host": "127.0.0.1:19092",
            "protocol": "kafka",
            "description": "Redpanda or another broker that speaks the Kafka protocol (REDPANDA_BOOTSTRAP_SERVERS).",
        },
        "backend": {
            "host": "127.0.0.1:8765",
            "protocol": "ws",
            "description": "The backend's server (BACKEND_WS_URL; ws or wss): the bridge is its client.",
            "security": [{"$ref": "#/components/securitySchemes/token"}],
        },
        "gateway": {
            "host": "127.0.0.1:8001",
            "protocol": "ws",
            "description": "The bridge's own server (GATEWAY_ENABLED; ws or wss): see docs/gateway.md.",
            "security": [{"$ref": "#/components/securitySchemes/gateway"}],
        },
    }


# --- messages


def _messages() -> Part:
    sent = {type: _message(type, "from_bridge") for type in (*ON_EVENT_TOPIC, *ON_SOCKET)}
    sent |= {f"gateway.{type}": _message(type, "from_gateway") for type in (*GATEWAY_SENT, *GATEWAY_RESULTS)}
    sent |= {f"gateway.{_asked(type)}": _message(type, "to_gateway") for type in GATEWAY_TAKEN}
    commands = {f"command.{type}": _message(type, "to_bridge") for type in (*COMMANDS, MT5_COMMAND)}
    logins = "the account's login"
    keys = {"tick_data": "the symbol", "bar_data": "the symbol", TRADING_SIGNAL: f"the symbol, or {logins}"}
    found = {**sent, **commands, TRADING_SIGNAL: _message(TRADING_SIGNAL, "to_bridge"), "dead_letter": _dead_letter()}
    for type in ("tick_data", "bar_data", *ON_EVENT_TOPIC):
        found[type]["headers"] = _headers("On the topic.", schema={"const": f"{type}/1"}, bridge=_TEXT, account=_TEXT)
    signature = {**_TEXT, "description": "With SIGNAL_HMAC_KEY: hex HMAC-SHA256 of the record's value."}
    found[TRADING_SIGNAL]["headers"] = _headers("On the topic.", signature=signature)
    for type in ("tick_data", "bar_data", *ON_EVENT_TOPIC, TRADING_SIGNAL):
        key = {**_TEXT, "description": f"On the topic: {keys.get(type, logins)}."}
        found[type]["bindings"] = {"kafka": {"key": key, "bindingVersion": "0.5.0"}}
    return found


def _asked(type: str) -> str:
    """What clients say has names of its own: some of it is also what they hear."""
    return f"client.{type}"


def _message(type: str, side: str) -> Part:
    return {"name": type, "title": type, "payload": {"$ref": f"{_SCHEMAS}{side}.{type}"}}


def _headers(description: str, **fields: Part) -> Part:
    return {"type": "object", "description": description, "properties": fields}


def _dead_letter() -> Part:
    why = dict.fromkeys(("bridge", "account", "reason", "detail"), _TEXT)
    source = {**_TEXT, "description": "topic/partition/offset it came from."}
    return {
        "name": "dead_letter",
        "title": "A record that could not be accepted",
        "summary": "The original bytes, key and headers; the reason in further headers, which come last.",
        "headers": _headers("Besides those of the record.", schema={"const": "dead_letter/1"}, **why, source=source),
        "payload": {"description": "Whatever bytes they were."},
        "contentType": "application/octet-stream",
    }


# --- channels and what is done on them


def _channels() -> Part:
    signals = [TRADING_SIGNAL]
    told = {type: type for type in ON_SOCKET}
    taken = {f"command.{type}": f"command.{type}" for type in (*COMMANDS, MT5_COMMAND)}
    return {
        "tick_data": _topic("REDPANDA_TICK_TOPIC", "One record per tick; its timestamp is the tick's.", ["tick_data"]),
        "bar_data": _topic("REDPANDA_BAR_TOPIC", "Bars that are over; the timestamp is when.", ["bar_data"]),
        "mt5_events": _topic("REDPANDA_EVENT_TOPIC", "What happened, in order per account.", [*ON_EVENT_TOPIC]),
        "trading_signals": _topic("REDPANDA_SIGNAL_TOPIC", "Signals for all bridges.", signals),
        "trading_signals.dlq": _topic("REDPANDA_SIGNAL_TOPIC and .dlq", "Dead letters.", ["dead_letter"]),
        "websocket": {
            "address": "/",
            "title": "The backend's WebSocket",
            "description": "The bridge connects and says `hello` first. Each command is answered once.",
            "servers": [{"$ref": "#/servers/backend"}],
            "messages": _listed({**told, **taken, TRADING_SIGNAL: TRADING_SIGNAL}),
        },
        "gateway": {
            "address": "/websocket/ws",
            "title": "The gateway's WebSocket",
            "description": "Clients connect, show a token, are welcomed, and hear what they subscribe to.",
            "servers": [{"$ref": "#/servers/gateway"}],
            "messages": _listed(_on_gateway() | _to_gateway()),
        },
    }


def _on_gateway() -> dict[str, str]:
    own = {type: f"gateway.{type}" for type in (*GATEWAY_SENT, *GATEWAY_RESULTS)}
    return {type: type for type in ON_GATEWAY} | own


def _to_gateway() -> dict[str, str]:
    commands = {f"command.{type}": f"command.{type}" for type in (*COMMANDS, MT5_COMMAND) if type not in GATEWAY_TAKEN}
    own = {_asked(type): f"gateway.{_asked(type)}" for type in GATEWAY_TAKEN}
    return {**commands, TRADING_SIGNAL: TRADING_SIGNAL, **own}


def _topic(setting: str, description: str, messages: list[str]) -> Part:
    address = {"REDPANDA_TICK_TOPIC": "tick_data", "REDPANDA_BAR_TOPIC": "bar_data"}
    address |= {"REDPANDA_EVENT_TOPIC": "mt5_events", "REDPANDA_SIGNAL_TOPIC": "trading_signals"}
    return {
        "address": address.get(setting, "trading_signals.dlq"),
        "description": f"{description} Its name is a setting: {setting}.",
        "servers": [{"$ref": "#/servers/broker"}],
        "messages": _listed({name: name for name in messages}),
    }


def _listed(messages: dict[str, str]) -> Part:
    return {name: {"$ref": f"#/components/messages/{meant}"} for name, meant in messages.items()}


def _operations() -> Part:
    found = {
        "publishTicks": _operation("send", "tick_data", ["tick_data"]),
        "publishBars": _operation("send", "bar_data", ["bar_data"]),
        "publishEvents": _operation("send", "mt5_events", [*ON_EVENT_TOPIC]),
        "takeSignals": _operation("receive", "trading_signals", [TRADING_SIGNAL]),
        "publishDeadLetters": _operation("send", "trading_signals.dlq", ["dead_letter"]),
        "tellBackend": _operation("send", "websocket", [type for type in ON_SOCKET if type != "command_result"]),
        "takeSignalsOfBackend": _operation("receive", "websocket", [TRADING_SIGNAL], reply="order_result"),
        "tellClients": _operation("send", "gateway", [*_on_gateway()]),
        "hearClients": _operation("receive", "gateway", [*_to_gateway()]),
    }
    for type in (*COMMANDS, MT5_COMMAND):
        words = type.split("_")
        name = words[0] + "".join(word.capitalize() for word in words[1:])
        found[name] = _operation("receive", "websocket", [f"command.{type}"], reply="command_result")
    return found


def _operation(action: str, channel: str, messages: list[str], *, reply: str | None = None) -> Part:
    def named(types: list[str]) -> list[Part]:
        return [{"$ref": f"#/channels/{channel}/messages/{type}"} for type in types]

    where = {"$ref": f"#/channels/{channel}"}
    found: Part = {"action": action, "channel": where, "messages": named(messages)}
    return found | ({"reply": {"channel": where, "messages": named([reply])}} if reply else {})

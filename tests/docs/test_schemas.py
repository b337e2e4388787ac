"""The published schemas cover every message, and say the same as the code that reads and writes them."""

import ast
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml
from support.fuzz_cases import case
from support.schemas import DEFINITIONS, DOCUMENT, ROOT, fault, types

from mt5_bridge.control.commands import ALIASES, CAPABILITIES, COMMANDS, decode_command, failed, succeeded
from mt5_bridge.core import wire
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.ticks import encode_ticks

CONTRACT = (ROOT / "docs/contract.md").read_text(encoding="utf-8")
ASYNCAPI: dict[str, Any] = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8"))
ON_TOPICS = {
    "tick_data": {"tick_data"},
    "bar_data": {"bar_data"},
    "mt5_events": set(re.findall(r"`(\w+)`", re.findall(r"^\| `mt5_events`.*\| (.+) \|$", CONTRACT, re.MULTILINE)[0])),
    "trading_signals": {"trading_signal"},
    "trading_signals.dlq": {"dead_letter"},
}
"""What docs/contract.md says is where."""
TELLING = {"encode", "event", "latest", "send_latest"}


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from [part["$ref"]] if "$ref" in part else []
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from references(each)


def sent_in_code() -> set[str]:
    """Every type that some line of the bridge sends, by the name written there."""
    found: set[str] = set()
    for path in sorted((ROOT / "mt5_bridge").rglob("*.py")):
        if path.relative_to(ROOT / "mt5_bridge").parts[0] in ("client", "demo"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TELLING:
                found |= {
                    first.value
                    for first in node.args[:1]
                    if isinstance(first, ast.Constant) and isinstance(first.value, str)
                }
    return found - {"utf-8", "ascii", "latin-1", "utf-16-le"}


def test_every_message_that_the_code_sends_has_a_schema() -> None:
    assert sent_in_code() | {"tick_data"} == types("from_bridge")


def test_every_message_that_the_bridge_understands_has_a_schema() -> None:
    assert types("to_bridge") == set(CAPABILITIES)


@pytest.mark.parametrize("type", sorted(types("from_bridge") | types("to_bridge")))
def test_every_message_with_a_schema_is_in_the_contract(type: str) -> None:
    assert re.search(rf"`{type}\b", CONTRACT)


def test_the_channels_are_those_of_the_contract() -> None:
    channels = ASYNCAPI["channels"]
    assert {name: set(channel["messages"]) for name, channel in channels.items() if name in ON_TOPICS} == ON_TOPICS
    assert set(channels) - set(ON_TOPICS) == {"websocket", "gateway"}
    taken = {name.removeprefix("command.") for name in channels["websocket"]["messages"] if name in _taken()}
    assert taken == types("to_bridge")
    assert set(channels["websocket"]["messages"]) - _taken() == types("from_bridge") - {"connection_status"}


def _taken() -> set[str]:
    return {f"command.{name}" for name in CAPABILITIES if name != "trading_signal"} | {"trading_signal"}


def test_every_operation_and_every_reference_leads_somewhere() -> None:
    for document in (ASYNCAPI, DOCUMENT):
        for reference in set(references(document)):
            place: Any = document
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]
    used = {reference for operation in ASYNCAPI["operations"].values() for reference in references(operation)}
    listed = {
        f"#/channels/{name}/messages/{message}"
        for name, channel in ASYNCAPI["channels"].items()
        for message in channel["messages"]
    }
    assert listed <= used


def test_both_documents_have_the_same_schemas() -> None:
    text = json.dumps(ASYNCAPI["components"]["schemas"]).replace("#/components/schemas/", "#/definitions/")
    assert json.loads(text) == {
        key: value for key, value in DEFINITIONS.items() if not key.endswith(("_bridge", "_gateway"))
    }


def test_ticks_as_they_are_encoded() -> None:
    rows = [(1_700_000_000_000, 0, 1.1, 1.1002, 0.0, 0.0, 6), (1_700_000_000_000, 1, 1.1, 1.1003, 1.1, 2.5, 1030)]
    for _, value in encode_ticks("EURUSD", 1e-5, rows, now_msc=1_700_000_000_001):
        assert fault("from_bridge.tick_data", json.loads(value), strict=True) is None


def test_what_a_schema_refuses() -> None:
    tick = json.loads(encode_ticks("EURUSD", 1e-5, [(1, 0, 1.1, 1.2, 0.0, 0.0, 6)], now_msc=1)[0][1])
    assert fault("from_bridge.tick_data", tick | {"data": tick["data"] | {"bid": "1.1"}})
    assert fault("from_bridge.tick_data", {key: tick[key] for key in ("type", "data")})
    assert fault("from_bridge.order_result", tick)
    assert fault("from_bridge.tick_data", tick | {"more": 1}, strict=True)
    assert not fault("from_bridge.tick_data", tick | {"more": 1})


def whole(value: Any) -> bool:
    """Whether JSON can say it: NaN and Infinity are no numbers there."""
    if isinstance(value, dict | list):
        return all(map(whole, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def test_the_schema_of_a_signal_and_the_decoder_agree() -> None:
    compared = refused = 0
    for number in range(6000):
        frame = case(7, number)[0]
        try:
            message = json.loads(frame)
            msgspec.json.decode(frame)  # Python's own reader takes what is no JSON, and numbers beyond any
        except (ValueError, RecursionError):
            continue
        if not isinstance(message, dict) or message.get("type") != "trading_signal" or not whole(message):
            continue
        told = None
        try:
            wire.decode_signal(wire.decode(frame).data)
        except WireError as error:
            told = str(error)
        found = fault("to_bridge.trading_signal", message)
        if told is not None and ("is not a time" in told or "got `float`" in told):
            continue  # a schema reads no calendar, and to it 1.0 is a whole number
        assert (told is None) == (found is None), (told, found, frame)
        compared += 1
        refused += told is not None
    assert compared > 4000
    assert refused > 500


EDGES: list[tuple[str, Any]] = [
    *[("symbol", "x" * length) for length in (0, 1, 64, 65)],
    *[(name, "x" * n) for name in ("signal_id", "strategy", "target_signal_id") for n in (0, 1, 200, 201)],
    *[("comment", "x" * length) for length in (0, 500, 501)],
    *[(name, value) for name in ("price", "stop_limit_price", "stop_loss", "take_profit", "risk_percent", "volume")
      for value in (0, -1e-9, 1e-9, 1e15, 1.1e15)],
    *[(name, value) for name in ("ttl_ms", "deviation_points", "position", "order", "trailing_stop_points",
      "break_even_points") for value in (0, -1, 2**63 - 1, 2**63)],
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), EDGES, ids=lambda value: str(value)[:20])
def test_the_limits_of_a_signal_are_the_decoders(name: str, value: Any) -> None:
    data = {"symbol": "EURUSD", "action": "BUY", name: value}
    told = None
    try:
        wire.decode_signal(msgspec.json.encode(data))
    except WireError as error:
        told = str(error)
    found = fault("to_bridge.trading_signal", {"type": "trading_signal", "data": data})
    assert (told is None) == (found is None), (told, found)


TICKET = {"ticket": 7}
ANYTHING: tuple[Any, ...] = (None, {}, [], 7, {"symbol": "EURUSD", "ticket": 7})
TIMES: tuple[Any, ...] = ("2026-01-05", 1_700_000_000, None, [])
PARAMS: list[tuple[str, Any]] = [
    *[(name, data) for name in COMMANDS for data in ANYTHING],
    *[("close_position", {"ticket": ticket}) for ticket in (0, 1, -1, 1.5, "7", True, None, 2**63 - 1, 2**63)],
    *[("close_position", {**TICKET, "volume": volume}) for volume in (0, 0.01, -1, 1e9, 1e10, "1", None)],
    *[("modify_position", {**TICKET, "stop_loss": price}) for price in (0, 1.1, -1, 1e15, 2e15, None)],
    *[("modify_order", {**TICKET, "expiration": time}) for time in TIMES],
    *[("close_all", {"symbol": name}) for name in ("", "EURUSD", "x" * 64, "x" * 65, 7, None)],
    *[("close_all", {"scope": scope}) for scope in ("all", "mine", "some", "", None)],
    *[("resume_trading", {"reason": reason, "by": "me"}) for reason in ("", "ok", "x" * 500, "x" * 501, None)],
    *[("resume_trading", {"reason": "ok", "by": "me", "force": force}) for force in (True, "yes", 1, None)],
    *[("get_rates", {"symbol": "X", "timeframe": frame}) for frame in ("M1", "M7", "m1", None)],
    *[("get_ticks", {"symbol": "X", "count": count}) for count in (0, 1, 10_000, 10_001, 1.5, "5", None)],
    *[("get_ticks", {"symbol": "X", "from_msc": msc}) for msc in (0, -1, 2**53, 2**53 + 1, None)],
    *[("get_history", {"kind": kind}) for kind in ("deals", "orders", "both", None)],
    *[("subscribe", {"symbols": names}) for names in ([], ["X"], [""], ["X"] * 2000, ["X"] * 2001, "X", None)],
    *[("mt5_command", {"command": name, "params": {}}) for name in (*ALIASES, "nope")],
    *[("mt5_command", {"command": name}) for name in ("ping", "close", "modify", "close_all")],
    *[("mt5_command", {"command": "close", "params": params}) for params in (TICKET, {"ticket": 0}, None, 7)],
]


@pytest.mark.parametrize("request_id", [None, 7, "r", [], 1.5])
def test_the_schemas_of_commands_and_the_decoder_agree(request_id: Any) -> None:
    for type, data in PARAMS:
        message = {"type": type, "data": data, "request_id": request_id}
        told = None
        try:
            decode_command(wire.decode(msgspec.json.encode(message)))
        except WireError as error:
            told = str(error)
        found = fault(f"to_bridge.{type}", message)
        assert (told is None) == (found is None), (told, found, message)


def test_answers() -> None:
    def answer(data: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(wire.encode("command_result", data, now_msc=1, request_id="r"))
        return found

    right = answer(succeeded("close_all", {"closed": [1, 2]}))
    assert fault("from_bridge.command_result", right, strict=True) is None
    assert fault("from_bridge.command_result", answer(failed("nope", "unknown_command", "why"))) is None
    assert fault("from_bridge.command_result", answer(succeeded("close_all", {"closed": "all"})))
    assert fault("from_bridge.command_result", answer(succeeded("nope", {})))


def test_the_page_for_backends_names_the_schemas() -> None:
    page = (ROOT / "docs/backend.md").read_text(encoding="utf-8")
    assert "(asyncapi.yaml)" in page
    assert "(schemas.json)" in page


def test_the_page_in_html_shows_every_schema_and_every_link_on_it_leads_somewhere() -> None:
    page = (ROOT / "docs/reference.html").read_text(encoding="utf-8")
    shown = re.findall(r'id="([^"]+)"', page)
    assert set(shown) == {name for name in DEFINITIONS if not name.endswith(("_bridge", "_gateway"))}
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(shown)

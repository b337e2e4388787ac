"""The codec: what is let in, what is refused with which words, and what goes out."""

import hashlib
import hmac
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core import wire
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.messages import Urgency
from mt5_bridge.core.model import Action

NOW = 1_700_000_000_123
DEEP = b'{"type":"x","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def data(**fields: Any) -> bytes:
    return json.dumps({"symbol": "EURUSD", "action": "BUY", **fields}).encode()


def test_a_message_in_its_envelope() -> None:
    frame = wire.encode("hello", {"a": 1}, now_msc=NOW)
    assert frame == b'{"type":"hello","timestamp":"2023-11-14T22:13:20.123Z","data":{"a":1}}'
    both = json.loads(wire.encode("x", [], now_msc=NOW, request_id=7, event_id="e1"))
    assert list(both) == ["type", "request_id", "event_id", "timestamp", "data"]


def test_incoming_needs_only_type_and_data() -> None:
    envelope = wire.decode(b'{"type":"emergency_stop","data":{},"extra":1}')
    assert (envelope.type, bytes(envelope.data), envelope.request_id) == ("emergency_stop", b"{}", None)
    full = wire.decode(b'{"type":"x","data":null,"request_id":"r","event_id":"e","signature":"s"}')
    assert (full.request_id, full.event_id, full.signature) == ("r", "e", "s")


@pytest.mark.parametrize(
    ("frame", "signal_id"),
    [
        (b"", None),
        (b"\xff\xfe", None),
        (b"[]", None),
        (b"null", None),
        (b'{"type":"x"}', None),
        (b'{"type":1,"data":{"signal_id":"s1"}}', "s1"),
        (b'{"data":{"signal_id":""}}', None),
        (b'{"data":{"signal_id":5}}', None),
        (b'{"data":[1]}', None),
        (b'{"signal_id":"f","symbol":"EURUSD","action":"BUY","volume":0.1}', "f"),
        (b'{"signal_id":"f","symbol":"EURUSD","volume":NaN}', "f"),
        (b'{"signal_id":"f","data":{"signal_id":"d"}}', "d"),
        (b'{"type":"x","volume":NaN}', None),
        (b'{"type":"x","data":{"signal_id":"s1"}', None),
        (b'{"signal_id":"\\ud800","volume":NaN}', None),
        (b'{"signal_id":"' + b"s" * 70_000 + b'","volume":NaN}', None),
        (b"[NaN]", None),
        (b"[" * 30_000, None),
        (DEEP, None),
    ],
)
def test_no_envelope(frame: bytes, signal_id: str | None) -> None:
    if frame is DEEP:
        frame = frame.replace(b'"type":"x",', b"")
    with pytest.raises(WireError) as caught:
        wire.decode(frame)
    assert (caught.value.reason, caught.value.signal_id) == ("no_envelope", signal_id)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_an_envelope_around_what_is_no_number_is_invalid(number: str) -> None:
    with pytest.raises(WireError, match=f"trading_signal: {number} is no number") as caught:
        wire.decode(b'{"type":"trading_signal","data":{"signal_id":"s1","volume":' + number.encode() + b"}}")
    assert (caught.value.reason, caught.value.signal_id) == ("invalid", "s1")


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (b'{"data":{"signal_id":"s1","account":1001}}', ("s1", "1001")),
        (b'{"data":{"signal_id":null,"account":""}}', (None, None)),
        (b'{"data":{"account":"1001"}}', (None, "1001")),
        (b'{"data":7}', (None, None)),
        (b'{"data":{"signal_id":"s1","volume":NaN,"price":1e999}}', ("s1", None)),
        (b'{"signal_id":"s1","account":1001}', ("s1", "1001")),
        (b"nonsense", (None, None)),
    ],
)
def test_peeking_into_what_may_not_decode(frame: bytes, found: tuple[str | None, str | None]) -> None:
    assert wire.peek(frame)[:2] == found


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (b'{"type":"x","request_id":7,"data":NaN}', ("x", 7)),
        (b'{"type":"x","request_id":"r"}', ("x", "r")),
        (b'{"type":"","request_id":true}', (None, None)),
        (b'{"type":1,"request_id":1.5}', (None, None)),
    ],
)
def test_peeking_at_what_it_is_and_who_asks(frame: bytes, found: tuple[str | None, str | int | None]) -> None:
    assert wire.peek(frame)[2:] == found


def test_a_signal_with_everything() -> None:
    signal = wire.decode_signal(
        data(
            action="BUY_STOP_LIMIT",
            signal_id="s1",
            volume=0.1,
            price=1.1,
            stop_limit_price=1.09,
            stop_loss=1.0,
            urgency="critical",
            account=1001,
            created_at="2024-01-01T00:00:00Z",
            expiration=1_800_000_000,
            ttl_ms=0,
            unknown_field=[1],
        )
    )
    assert (signal.action, signal.urgency, signal.volume) == (Action.BUY_STOP_LIMIT, Urgency.CRITICAL, 0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "CLOSE"},
        {"action": "CLOSE_BY", "position": 1, "order": 2},
        {"action": "MODIFY", "position": 1},
        {"action": "MODIFY", "order": 1},
        {"action": "CANCEL", "target_signal_id": "s0"},
        {"action": "SELL_LIMIT", "price": 1.2},
        {"price": 0},
        {"volume": 1},
    ],
)
def test_signals_that_decode(fields: dict[str, Any]) -> None:
    assert wire.decode_signal(data(**fields)).symbol == "EURUSD"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"action": "HOLD"}, "action"),
        ({"action": "buy"}, "action"),
        ({"symbol": None}, "symbol"),
        ({"symbol": " "}, "symbol is empty"),
        ({"symbol": "X" * 65}, "symbol is longer than 64"),
        ({"volume": 0}, "volume must be a positive"),
        ({"volume": -1}, "volume must be a positive"),
        ({"volume": "0.1"}, "volume"),
        ({"volume": True}, "volume"),
        ({"volume": 1.1e15}, "volume must be a positive number up to 1e\\+15"),
        ({"price": -0.1}, "price must be"),
        ({"take_profit": 1.7e308}, "take_profit must be"),
        ({"risk_percent": -1}, "risk_percent must be"),
        ({"stop_loss": -1}, "stop_loss must be"),
        ({"ttl_ms": -1}, "ttl_ms must be"),
        ({"ttl_ms": 1.5}, "ttl_ms"),
        ({"position": 2**63}, "position"),
        ({"signal_id": ""}, "signal_id must have"),
        ({"signal_id": "x" * 201}, "signal_id must have"),
        ({"created_at": "soon"}, "created_at is not a time"),
        ({"expiration": 1e300}, "expiration is not a time"),
        ({"action": "BUY_LIMIT"}, "BUY_LIMIT needs price"),
        ({"action": "CLOSE", "position": 0}, "CLOSE names position 0 or an empty target_signal_id"),
        ({"action": "CLOSE", "target_signal_id": ""}, "CLOSE names position 0 or an empty target_signal_id"),
        ({"action": "SELL_STOP_LIMIT", "price": 1.1}, "needs stop_limit_price"),
        ({"action": "CLOSE_BY", "position": 1}, "CLOSE_BY needs"),
        ({"action": "MODIFY"}, "MODIFY needs"),
        ({"action": "CANCEL", "position": 0}, "CANCEL needs"),
    ],
)
def test_signals_that_do_not(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(WireError, match=words) as caught:
        wire.decode_signal(data(**{"signal_id": "s1", **fields}))
    assert caught.value.reason == "invalid"
    given_id = fields.get("signal_id", "s1")
    assert caught.value.signal_id == (given_id or None)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(number: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode_signal(b'{"signal_id":"s1","symbol":"EURUSD","action":"BUY","volume":' + number.encode() + b"}")
    assert (caught.value.reason, caught.value.signal_id) == ("invalid", "s1")


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_garbage_never_raises_anything_else(garbage: bytes) -> None:
    for decode in (wire.decode, wire.decode_signal):
        with suppress(WireError):
            decode(garbage)
    wire.peek(garbage)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["symbol", "action", "signal_id", "volume", "price", "created_at", "position", "account", "x"]),
        st.one_of(anything, st.sampled_from([*Action, "EURUSD"])),
    )
)
def test_what_decodes_keeps_the_contracts_bounds(fields: dict[str, Any]) -> None:
    try:
        signal = wire.decode_signal(json.dumps(fields).encode())
    except WireError:
        return
    assert signal.symbol.strip()
    assert signal.volume is None or signal.volume > 0
    assert signal.price is None or signal.price >= 0


def test_signatures() -> None:
    value, key = b'{"a":1}', "secret"
    expected = hmac.new(b"secret", value, hashlib.sha256).hexdigest()
    assert wire.signature_of(value, key) == expected
    assert wire.signature_matches(value, key, f" {expected}\n")
    for wrong in (None, "", expected[:-1], expected.upper(), "ünïcode"):
        assert not wire.signature_matches(value, key, wrong)
    assert not wire.signature_matches(value + b" ", key, expected)


def test_which_key_signed() -> None:
    value = b'{"type":"trading_signal"}'
    by_old = wire.signature_of(value, "old")
    assert wire.signed_with(value, ("new", "old"), by_old) == 1
    assert wire.signed_with(value, ("old", "older"), by_old) == 0
    assert wire.signed_with(value, ("new",), by_old) is None
    assert wire.signed_with(value, ("new", "old"), None) is None


def test_a_record_without_id_gets_the_same_one_at_every_redelivery() -> None:
    first = wire.derived_signal_id("t", 0, 5, 1000, b"v")
    assert first == wire.derived_signal_id("t", 0, 5, 1000, b"v")
    others = {
        wire.derived_signal_id(*record)
        for record in (
            ("u", 0, 5, 1000, b"v"),
            ("t", 1, 5, 1000, b"v"),
            ("t", 0, 6, 1000, b"v"),
            ("t", 0, 5, None, b"v"),
            ("t", 0, 5, 1000, b"w"),
        )
    }
    assert len(others | {first}) == 6
    assert first.startswith("rec-")
    assert len(first) == 36

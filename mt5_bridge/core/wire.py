"""The one codec: the envelope, signals in, messages out. Ticks, at speed, are in `core.ticks`.

Everything is JSON in UTF-8: `{"type", "timestamp", "data"}` with `request_id` or `event_id` beside `type`. Incoming,
only `type` and `data` are required and unknown fields are ignored.
"""

import hashlib
import hmac
import json
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from mt5_bridge.core.errors import WireError
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action
from mt5_bridge.core.times import iso, parse_time

RequestId = str | int | None


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An incoming message; `data` stays raw until its type is known."""

    type: str
    data: msgspec.Raw
    request_id: str | int | None = None
    event_id: str | None = None
    signature: str | None = None


class Glimpse(NamedTuple):
    """What can be read of a message that may not decode otherwise; None where it cannot."""

    signal_id: str | None = None
    account: str | None = None
    type: str | None = None
    request_id: RequestId = None


_encode = msgspec.json.Encoder().encode
_envelope = msgspec.json.Decoder(Envelope)
_signal = msgspec.json.Decoder(TradingSignal)
_anything = msgspec.json.Decoder()
_LENIENT_MOST = 1 << 16
"""Bytes up to which broken JSON is read again by a slower reader: a flood of it must not cost the loop its time."""


def encode(
    type: str,
    data: Any,
    *,
    now_msc: int,
    request_id: RequestId = None,
    event_id: str | None = None,
    next: str | None = None,
) -> bytes:
    """A message in its envelope; `next`: from where on to ask for what it does not hold."""
    message: dict[str, Any] = {"type": type}
    if request_id is not None:
        message["request_id"] = request_id
    if event_id is not None:
        message["event_id"] = event_id
    message["timestamp"] = iso(now_msc)
    message["data"] = data
    if next is not None:
        message["next"] = next
    return _encode(message)


def decode(frame: bytes) -> Envelope:
    """An incoming frame or record.

    Raises:
        WireError: not JSON, or without `type` and `data`. Reason `invalid` where both are there and only a number is
            none: NaN, Infinity.
    """
    try:
        return _envelope.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message, strange = _read(frame)
        seen = _glimpse(message)
        if strange and seen.type is not None and "data" in message:
            text = f"{seen.type[:60]}: {strange} is no number of JSON"
            raise WireError(text, signal_id=seen.signal_id) from None
        raise WireError(f"no envelope: {error}", reason="no_envelope", signal_id=seen.signal_id) from None


def peek(frame: bytes) -> Glimpse:
    """What can be read of a message that may not decode otherwise, be it without envelope or with NaN in it."""
    return _glimpse(_read(frame)[0])


def _read(frame: bytes) -> tuple[dict[str, Any], str | None]:
    """The object in a frame, empty when there is none; and what is written in it in place of a number."""
    try:
        return _object(_anything.decode(frame)), None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(frame) > _LENIENT_MOST:
            return {}, None
    strange: list[str] = []
    try:
        return _object(json.loads(frame.decode(), parse_constant=strange.append)), strange[0] if strange else None
    except (ValueError, RecursionError):
        return {}, None


def _object(message: Any) -> dict[str, Any]:
    return message if isinstance(message, dict) else {}


def _glimpse(message: dict[str, Any]) -> Glimpse:
    data = _object(message.get("data"))
    account = data.get("account", message.get("account"))
    request_id = message.get("request_id")
    return Glimpse(
        signal_id=_text(data.get("signal_id")) or _text(message.get("signal_id")),
        account=str(account) if isinstance(account, str | int) and account != "" else None,
        type=_text(message.get("type")),
        request_id=request_id if type(request_id) is int else _text(request_id),
    )


def _text(value: Any) -> str | None:
    """Text that can be sent on: half of a surrogate pair passes the slower reader and no encoder."""
    if not isinstance(value, str) or not value:
        return None
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def decode_signal(data: bytes | msgspec.Raw) -> TradingSignal:
    """The `data` of a `trading_signal`.

    Raises:
        WireError: wrong types, non-finite or negative numbers, volume ≤ 0, unknown action, or what the action needs
            is missing. Carries the signal's id where it can be read.
    """
    try:
        signal = _signal.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        signal_id = peek(b'{"data":' + bytes(data) + b"}").signal_id
        raise WireError(f"trading_signal: {error}", signal_id=signal_id) from None
    fault = _fault(signal)
    if fault:
        raise WireError(f"trading_signal: {fault}", signal_id=signal.signal_id or None)
    return signal


_PRICES = ("price", "stop_limit_price", "stop_loss", "take_profit", "risk_percent")
_WHOLE = ("ttl_ms", "deviation_points", "position", "order", "trailing_stop_points", "break_even_points")
_prices, _whole = attrgetter(*_PRICES), attrgetter(*_WHOLE)
_MAX_SIGNAL_ID = 200
_TEXTS = {"symbol": 64, "comment": 500, "strategy": 200, "target_signal_id": _MAX_SIGNAL_ID}
"""They come back in the result: nothing may grow it beyond what a backend's socket takes."""
_MAX_TICKET = (1 << 63) - 1
_MOST = 1e15
"""No price and no volume of any market: arithmetic on them must stay finite."""


def _fault(signal: TradingSignal) -> str | None:
    return _number_fault(signal) or _text_fault(signal) or _time_fault(signal) or _need_fault(signal)


def _number_fault(signal: TradingSignal) -> str | None:
    if signal.volume is not None and not 0 < signal.volume <= _MOST:
        return f"volume must be a positive number up to {_MOST:g}, not {signal.volume}"
    for place, value in enumerate(_prices(signal)):
        if value is not None and not 0 <= value <= _MOST:
            return f"{_PRICES[place]} must be a number from 0 to {_MOST:g}, not {value}"
    for place, value in enumerate(_whole(signal)):
        if value is not None and not 0 <= value <= _MAX_TICKET:
            return f"{_WHOLE[place]} must be a whole number from 0, not {value}"
    return None


def _text_fault(signal: TradingSignal) -> str | None:
    if not signal.symbol.strip():
        return "symbol is empty"
    for name, most in _TEXTS.items():
        if len(getattr(signal, name) or "") > most:
            return f"{name} is longer than {most} characters"
    if signal.signal_id is not None and not 0 < len(signal.signal_id) <= _MAX_SIGNAL_ID:
        return f"signal_id must have 1 to {_MAX_SIGNAL_ID} characters"
    return None


def _time_fault(signal: TradingSignal) -> str | None:
    for name in ("created_at", "expiration"):
        value = getattr(signal, name)
        if value is not None:
            try:
                parse_time(value)
            except (ValueError, OverflowError):
                return f"{name} is not a time: {str(value)[:40]!r}"
    return None


_NO_TARGET = ({0, None}, {None, ""}, {0, ""})
"""What a look-up that failed at the sender's looks like: it must not close everything."""


def _need_fault(signal: TradingSignal) -> str | None:
    action = signal.action
    if action.is_pending and not signal.price:
        return f"{action} needs price"
    if "STOP_LIMIT" in action and not signal.stop_limit_price:
        return f"{action} needs stop_limit_price"
    if action is Action.CLOSE_BY and not (signal.position and signal.order):
        return "CLOSE_BY needs position and order (the opposite ticket)"
    if action is Action.CLOSE and {signal.position, signal.target_signal_id} in _NO_TARGET:
        return "CLOSE names position 0 or an empty target_signal_id: leave both out to close all of the symbol"
    if action in (Action.MODIFY, Action.CANCEL) and not (signal.position or signal.order or signal.target_signal_id):
        return f"{action} needs position, order or target_signal_id"
    return None


def signature_of(value: bytes, key: str) -> str:
    """Hex HMAC-SHA256 of the exact bytes of a record's value (or of a frame's `data`)."""
    return hmac.new(key.encode(), value, hashlib.sha256).hexdigest()


def signature_matches(value: bytes, key: str, signature: str | None) -> bool:
    """Constant-time comparison; a missing signature does not match."""
    return signature is not None and hmac.compare_digest(signature_of(value, key).encode(), signature.strip().encode())


def signed_with(value: bytes, keys: Sequence[str], signature: str | None) -> int | None:
    """The index of the key that made the signature, None for none of them.

    Every key is tried, whichever matches: the time tells nothing.
    """
    matches = [signature_matches(value, key, signature) for key in keys]
    return matches.index(True) if any(matches) else None


def derived_signal_id(topic: str, partition: int, offset: int, timestamp_ms: int | None, value: bytes) -> str:
    """The id of a record without `signal_id`: the same for every redelivery of the same record."""
    digest = hashlib.sha256(value).hexdigest()
    whole = hashlib.sha256(f"{topic}\0{partition}\0{offset}\0{timestamp_ms}\0{digest}".encode()).hexdigest()
    return f"rec-{whole[:32]}"

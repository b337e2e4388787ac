"""Signals as a backend writes them. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mt5_bridge.core import wire
from mt5_bridge.core.messages import TradingSignal


def sign(value: bytes, key: str) -> str:
    """The `signature` header of a record: hex HMAC-SHA256 of its value under `SIGNAL_HMAC_KEY`."""
    return wire.signature_of(value, key)


def encode_signal(signal: TradingSignal | Mapping[str, Any], *, now_msc: int) -> bytes:
    """A `trading_signal` in its envelope.

    Args:
        signal: the fields of the contract; those that are None are left out.
        now_msc: UTC ms, the envelope's timestamp.
    """
    fields = signal if isinstance(signal, Mapping) else msgspec.structs.asdict(signal)
    return wire.encode("trading_signal", {k: v for k, v in fields.items() if v is not None}, now_msc=now_msc)

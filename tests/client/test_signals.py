"""Signals as a backend writes them are what the bridge reads."""

import hashlib
import hmac

from mt5_bridge.client import encode_signal, sign
from mt5_bridge.core import wire
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action

NOON = 1_577_880_000_000


def test_a_mapping_and_a_struct_say_the_same() -> None:
    fields = {"symbol": "EURUSD", "action": "BUY", "volume": 0.1, "signal_id": "s-1", "price": None}
    struct = TradingSignal(symbol="EURUSD", action=Action.BUY, volume=0.1, signal_id="s-1")
    for signal in (fields, struct):
        envelope = wire.decode(encode_signal(signal, now_msc=NOON))
        assert envelope.type == "trading_signal"
        assert wire.decode_signal(envelope.data) == struct


def test_the_signature_is_an_hmac_of_the_exact_bytes() -> None:
    value = encode_signal({"symbol": "EURUSD", "action": "BUY"}, now_msc=NOON)
    assert sign(value, "key") == hmac.new(b"key", value, hashlib.sha256).hexdigest()
    assert wire.signature_matches(value, "key", sign(value, "key"))

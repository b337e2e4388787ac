"""The demo's "AI": a fixed round of signals, good and deliberately bad, with seeded choices. Pure.

It has no opinion on markets. It shows what a bridge does with whatever a backend may send.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from mt5_bridge.client import encode_signal
from mt5_bridge.core.times import iso

STOP_SHARE = 0.003
"""Distance of the stop from the price, as a share of the price; the target is twice as far."""
STOP_SPREADS = 5.0
"""The same in spreads; the wider distance counts, or a wide spread alone would set the stop off."""
PENDING_SHARE = 0.002
STALE_MS = 60_000

ROUND: tuple[str, ...] = (
    "buy", "stale", "sell", "buy_limit", "unknown_symbol", "buy", "modify", "no_stop_loss", "close", "malformed",
    "sell_stop", "too_large", "sell", "duplicate", "cancel", "other_account",
)  # fmt: skip
"""What is sent, in turn; what needs something open (modify, close, cancel) buys when there is nothing."""


class Price(msgspec.Struct, frozen=True):
    """The last quote of a symbol as seen on the topic; `digits` as many as were ever seen."""

    bid: float
    ask: float
    digits: int


class Live(msgspec.Struct, frozen=True):
    """What an earlier signal opened and is still there."""

    signal_id: str
    symbol: str
    buy: bool
    price: float


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What the "AI" knows when it decides."""

    prices: Mapping[str, Price]
    positions: Sequence[Live]
    pendings: Sequence[Live]
    past_ids: Sequence[str]
    now_msc: int


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A signal ready to be sent.

    Attributes:
        signal_id: its id; a duplicate repeats an earlier one.
        value: the record's bytes.
        intent: what it wants, for people.
        bad: why it must not trade, None for an honest one.
        answered: an `order_result` is due.
        target: the earlier signal it closes, modifies or cancels.
    """

    signal_id: str
    symbol: str
    action: str
    volume: float
    value: bytes
    intent: str
    bad: str | None = None
    answered: bool = True
    target: str | None = None


def draft(step: int, run: str, random: Random, seen: Situation) -> Draft:
    """The signal of one step.

    Args:
        step: number of the signal, from 0.
        run: makes the ids of this run its own.
        random: seeded; chooses symbols and volumes.
        seen: at least one price.
    """
    kind = ROUND[step % len(ROUND)]
    symbol = random.choice(sorted(seen.prices))
    volume = random.choice((0.01, 0.02, 0.03))
    fields: dict[str, Any] = {
        "signal_id": f"{run}-{step:04d}",
        "symbol": symbol,
        "created_at": iso(seen.now_msc),
        "strategy": "demo",
    }
    if kind in ("modify", "close", "cancel"):
        return _on_something_open(kind, fields, volume, seen) or _opening("buy", fields, volume, seen)
    if kind in ("buy", "sell", "buy_limit", "sell_stop"):
        return _opening(kind, fields, volume, seen)
    return _bad(kind, fields, volume, seen)


def _opening(kind: str, fields: dict[str, Any], volume: float, seen: Situation) -> Draft:
    price = seen.prices[fields["symbol"]]
    buy = kind.startswith("buy")
    entry = price.ask if buy else price.bid
    if kind in ("buy_limit", "sell_stop"):  # both wait for the price to fall
        entry *= 1 - PENDING_SHARE
        fields["price"] = round(entry, price.digits)
    away = _away(price) if buy else -_away(price)
    fields |= {
        "action": kind.upper(),
        "volume": volume,
        "stop_loss": round(entry * (1 - away), price.digits),
        "take_profit": round(entry * (1 + 2 * away), price.digits),
    }
    return _drafted(fields, seen)


def _away(price: Price) -> float:
    """Distance of the stop as a share of the price."""
    return max(STOP_SHARE, STOP_SPREADS * (price.ask - price.bid) / price.ask)


def _on_something_open(kind: str, fields: dict[str, Any], volume: float, seen: Situation) -> Draft | None:
    candidates = seen.pendings if kind == "cancel" else seen.positions
    if not candidates:
        return None
    target = candidates[0]
    fields = fields | {"symbol": target.symbol, "action": kind.upper(), "target_signal_id": target.signal_id}
    if kind == "modify":
        price = seen.prices.get(target.symbol)
        if price is None:
            return None
        away = 0.9 * _away(price) if target.buy else -0.9 * _away(price)
        fields["stop_loss"] = round(target.price * (1 - away), price.digits)
        fields["take_profit"] = round(target.price * (1 + 2 * away), price.digits)
    return _drafted(fields, seen)


def _bad(kind: str, fields: dict[str, Any], volume: float, seen: Situation) -> Draft:
    good = _opening("buy", dict(fields), volume, seen)
    fields |= msgspec.json.decode(good.value)["data"]
    if kind == "duplicate" and seen.past_ids:
        fields["signal_id"] = seen.past_ids[0]
        return _drafted(fields, seen, bad="an id used before", answered=False)
    if kind == "malformed":
        value = good.value[: len(good.value) // 2]
        return msgspec.structs.replace(good, value=value, bad="cut in half", answered=False)
    if kind == "other_account":
        return _drafted(fields | {"account": "999"}, seen, bad="for account 999", answered=False)
    if kind == "unknown_symbol":
        return _drafted(fields | {"symbol": "NOSUCH"}, seen, bad="no such symbol")
    if kind == "too_large":
        return _drafted(fields | {"volume": 500.0}, seen, bad="500 lots")
    if kind == "no_stop_loss":
        return _drafted(fields | {"stop_loss": None}, seen, bad="no stop loss")
    return _drafted(fields | {"created_at": iso(seen.now_msc - STALE_MS)}, seen, bad="a minute old")


def _drafted(fields: dict[str, Any], seen: Situation, *, bad: str | None = None, answered: bool = True) -> Draft:
    volume = fields.get("volume") or 0.0
    words = [fields["action"].replace("_", " "), fields["symbol"], f"{volume:g}" if volume else ""]
    return Draft(
        signal_id=fields["signal_id"],
        symbol=fields["symbol"],
        action=fields["action"],
        volume=volume,
        value=encode_signal(fields, now_msc=seen.now_msc),
        intent=" ".join(word for word in words if word),
        bad=bad,
        answered=answered,
        target=fields.get("target_signal_id"),
    )

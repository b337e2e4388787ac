"""Cases for `support.fuzz`: frames with signals in them, sound and spoilt, and the facts they are decided on."""

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
from support.facts import (
    LIMITS,
    NOW,
    READY,
    a_context,
    a_day,
    a_position,
    a_quote,
    a_symbol,
    an_account,
    an_exposure,
    an_order,
)

from mt5_bridge.core.decision import Context, Requester
from mt5_bridge.core.halt import Halt, HaltState
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action, MarginMode, Order, OrderType, Position, Side, TradeMode

NUMBERS: tuple[Any, ...] = (
    0, -0.0, 1, -1, 0.01, 0.1, 0.3, 1.1, 1.0991, 1.1001, 1.2, 10, 99, 1e-9, 1e-320, 5e-324, 1e14, 1e15,
    1e300, 1.7e308, -1e300, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**25, 10**400, "NaN", "Infinity", "-Infinity",
)  # fmt: skip
"""The last three stand for what JSON has no word for and Python writes all the same."""
TEXTS = (
    "",
    " ",
    "EURUSD",
    "eurusd",
    "EURUSD.m",
    "s1",
    "1001",
    "x" * 64,
    "y" * 501,
    "\x00",
    "\u202e",
    "ß",
    "😀",
    "\\",
    '"',
    "null",
)
TIMES = (
    "2023-11-14T22:13:20Z",
    "2023-11-14T22:13:19.9+00:00",
    "2023-11-14",
    "25:00",
    1_700_000_000,
    1_699_999_999.9,
    0,
    -1,
    1e18,
    "",
)
NESTED: tuple[Any, ...] = (None, True, False, [], {}, [1], {"a": 1}, [[[[]]]])
FIELDS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        (
            "volume", "risk_percent", "price", "stop_limit_price", "stop_loss", "take_profit", "deviation_points",
            "ttl_ms",
        ),
        NUMBERS,
    ),
    **dict.fromkeys(("position", "order", "trailing_stop_points", "break_even_points"), (*NUMBERS, 1, 11, 2)),
    **dict.fromkeys(("symbol", "signal_id", "comment", "strategy", "target_signal_id"), TEXTS),
    "account": (*TEXTS, 1001, 1002),
    **dict.fromkeys(("created_at", "expiration"), TIMES),
    "urgency": ("low", "normal", "high", "critical", "HIGH", ""),
    "action": (*Action, "buy", "HOLD", ""),
}  # fmt: skip
_FLATTENS = frozenset({Action.CLOSE, Action.CLOSE_BY, Action.CANCEL})
PRICES = (0.0, 1.0, 1.0991, 1.1, 1.1001, 1.1002, 1.2, 1e-9, 1e12)
AMOUNTS = (0.0, -1.0, 0.01, 1.0, 100.0, 9_999.99, 10_000.0, 1e12, -1e12, 1e30)


def case(seed: int, number: int) -> tuple[bytes, Callable[[TradingSignal], Context]]:
    """A frame, and what makes a context for the signal that may be in it."""
    rng = random.Random(seed * 1_000_003 + number)
    return _frame(rng), lambda signal: _context(rng, signal)


def _frame(rng: random.Random) -> bytes:
    roll = rng.random()
    if roll < 0.02:
        return rng.randbytes(rng.randrange(80))
    text = _envelope(rng, _signal(rng))
    return _spoilt(rng, text.encode("utf-8", "surrogatepass")) if roll > 0.9 else text.encode("utf-8", "surrogatepass")


def _signal(rng: random.Random) -> dict[str, Any]:
    action = rng.choice(tuple(Action))
    data: dict[str, Any] = {"symbol": "EURUSD", "action": action, "signal_id": f"s{rng.randrange(9)}"}
    if action.opens:
        buy = action.value.startswith("BUY")
        near = rng.choice((1e-4, 1e-3, 1e-2, 0.05))
        entry = 1.1
        if action.is_pending:
            entry = round(1.1 + (near if action.value.startswith(("SELL_LIMIT", "BUY_STOP")) else -near), 5)
            data["price"] = entry
            if "STOP_LIMIT" in action:
                data["stop_limit_price"] = round(entry - 2e-5 if buy else entry + 2e-5, 5)
        data |= {
            "volume": rng.choice((0.01, 0.1, 0.5, 1)),
            "stop_loss": round(entry - near if buy else entry + near, 5),
        }
    elif action is Action.CLOSE_BY:
        data |= {"position": 1, "order": 2}
    elif action in (Action.MODIFY, Action.CANCEL):
        data |= {"position": 1} if action is Action.MODIFY else {"order": 11}
        data["stop_loss"] = rng.choice((1.08, 1.095, 1.0991, 0))
    if rng.random() < 0.66:
        return data
    for name in rng.sample(tuple(FIELDS), rng.randint(1, 6)):
        data[name] = rng.choice(NESTED) if rng.random() < 0.05 else rng.choice(FIELDS[name])
    if rng.random() < 0.1:
        data.pop(rng.choice(tuple(data)))
    return data


def _envelope(rng: random.Random, data: dict[str, Any]) -> str:
    frame: dict[str, Any] = {"type": "trading_signal", "data": data}
    if rng.random() < 0.05:
        frame[rng.choice(("type", "data", "request_id", "event_id", "signature", "x"))] = rng.choice(
            (*NESTED, *TEXTS, 7)
        )
    text = json.dumps(frame, ensure_ascii=rng.random() < 0.5)
    for word in ("NaN", "-Infinity", "Infinity"):
        text = text.replace(f'"{word}"', word)
    return text


def _spoilt(rng: random.Random, frame: bytes) -> bytes:
    bytes_ = bytearray(frame)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(bytes_) + 1)
        match rng.randrange(4):
            case 0:
                del bytes_[at:]
            case 1:
                bytes_[at:at] = rng.choice((b'"', b"{", b"}", b"\xff", b"\\ud800", b"0", b"[" * 2000, b"\x00", b","))
            case 2 if at < len(bytes_):
                bytes_[at] ^= 1 << rng.randrange(8)
            case _:
                bytes_[at:at] = bytes_[: rng.randrange(len(bytes_) + 1)]
    return bytes(bytes_)


def _context(rng: random.Random, signal: TradingSignal) -> Context:
    facts: dict[str, Any] = {"created_msc": NOW - 100}
    if not signal.action.opens:
        facts |= {"target": a_position(1, volume=0.5), "target_by": a_position(2, Side.SELL)}
        if signal.action is Action.CANCEL:
            facts["target"] = an_order(11)
    if rng.random() < 0.6:
        for name in rng.sample(tuple(_FACTS), rng.randint(1, 5)):
            facts[name] = _FACTS[name](rng)
    if signal.action not in _FLATTENS and facts.get("requester") is Requester.EMERGENCY:
        facts["requester"] = Requester.PERSON  # a stop closes and cancels, and asks for nothing else
    # Asked as `flows.judge` does: a loss is reckoned wherever there is a stop to reckon it to.
    loss = rng.choice((None, 0.0, 5e-324, 90.0, 1000.0, 1e30)) if signal.stop_loss else None
    margin = rng.choice((None, 0.0, 1100.0, 1e30))
    context = a_context(Action.BUY, loss_per_lot=loss, margin_per_lot=margin, **facts)
    return msgspec.structs.replace(context, signal=signal)


def _some(rng: random.Random, most: int, make: Callable[[int], Any]) -> tuple[Any, ...]:
    return tuple(make(number) for number in range(1, rng.randrange(most) + 1))


def _position(rng: random.Random) -> Position:
    return a_position(
        rng.choice((1, 2, 3)),
        rng.choice((Side.BUY, Side.SELL)),
        symbol=rng.choice(("EURUSD", "USDJPY")),
        volume=rng.choice((0.01, 0.5, 1e9)),
        stop_loss=rng.choice(PRICES),
        take_profit=rng.choice(PRICES),
    )


def _order(rng: random.Random) -> Order:
    kind = rng.choice([t for t in OrderType if 2 <= t <= 7])
    return an_order(rng.choice((11, 12)), kind, price=rng.choice(PRICES), stop_loss=rng.choice(PRICES))


_FACTS: dict[str, Callable[[random.Random], Any]] = {
    "created_msc": lambda r: NOW + r.choice((-100, -5000, -5001, -(10**9), 2000, 2001, 10**12)),
    "halt": lambda r: Halt(state=r.choice(tuple(HaltState)), reason="r"),
    "readiness": lambda r: msgspec.structs.replace(
        READY, **{r.choice(READY.__struct_fields__): r.random() < 0.5 for _ in range(2)}
    ),
    "account": lambda r: r.choice((
        None,
        an_account(
            login=r.choice((1001, 1002)), equity=r.choice(AMOUNTS), balance=r.choice(AMOUNTS), margin=r.choice(AMOUNTS),
            free_margin=r.choice(AMOUNTS), margin_mode=r.choice(tuple(MarginMode)),
        ),
    )),
    "symbol": lambda r: r.choice((
        None,
        a_symbol(
            volume_min=r.choice((0.0, 0.01, 0.1, 1.0)), volume_max=r.choice((0.0, 1.0, 100.0)),
            volume_step=r.choice((0.0, 0.01, 0.1, 0.03, 1.0)), volume_limit=r.choice((0.0, 0.2, 5.0)),
            stops_level=r.choice((0, 10, 10**6)), trade_mode=r.choice(tuple(TradeMode)),
            tick_size=r.choice((0.0, 1e-5)), tick_value=r.choice((0.0, 1.0, 1e30)),
            point=r.choice((1e-5, 0.0)), order_mode=r.choice((127, 0, 1)),
        ),
    )),
    "quote": lambda r: r.choice((None, a_quote(r.choice(PRICES), r.choice(PRICES)), a_quote(1.1, 1.2))),
    "positions": lambda r: _some(r, 4, lambda _: _position(r)),
    "orders": lambda r: _some(r, 4, lambda _: _order(r)),
    "in_flight": lambda r: _some(r, 3, lambda n: an_exposure(n, risk=r.choice(AMOUNTS), unknown=r.random() < 0.3)),
    "day": lambda r: r.choice((
        None,
        a_day(start_equity=r.choice(AMOUNTS), peak_equity=r.choice(AMOUNTS), trades=r.choice((0, 9, 10, 10**9)),
              balance=r.choice((None, *AMOUNTS))),
    )),
    "blocked": lambda r: r.choice((frozenset(), frozenset({"EURUSD"}), frozenset({"USDJPY"}))),
    "risk_by_position": lambda r: {n: r.choice((None, *AMOUNTS)) for n in (1, 2, 11)},
    "requester": lambda r: r.choice(tuple(Requester)),
    "record_key": lambda r: r.choice((None, "1001", "1002", "EURUSD")),
    "target": lambda r: r.choice((None, _position(r), _order(r))),
    "target_by": lambda r: r.choice((None, _position(r))),
    "volume": lambda r: r.choice((None, 0.01, 0.5, 1e9)),
    "throttle_wait_ms": lambda r: r.choice((0, 1, 10**6)),
    "limits": lambda r: msgspec.structs.replace(
        LIMITS,
        trading_enabled=r.random() < 0.9, require_account=r.random() < 0.2, require_stop_loss=r.random() < 0.7,
        max_volume=r.choice((None, 0.05, 10.0)), max_risk_percent=r.choice((None, 0.1, 2.0, 100.0)),
        max_daily_trades=r.choice((None, 0, 10)), max_daily_loss_pct=r.choice((None, 5.0)),
        max_drawdown_pct=r.choice((None, 10.0)), max_open_risk_pct=r.choice((None, 5.0)),
        min_margin_level_pct=r.choice((None, 200.0)), price_collar_pct=r.choice((None, 1.0)),
        max_simultaneous_trades=r.choice((None, 0, 3)), max_positions_per_symbol=r.choice((None, 1)),
        max_spread_points=r.choice((None, 0.0, 20.0)), max_drift_points=r.choice((None, 5.0)),
    ),
}  # fmt: skip

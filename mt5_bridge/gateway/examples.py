"""Examples of answers for the OpenAPI, and what a route says of its answer. A test holds them against the models."""

from typing import Any

from pydantic import BaseModel

_AS_OF = {"as_of": "2026-01-05T10:00:00.123Z", "stale": False}
_LAST_PAGE = {"count": 1, "next": None}
_WHEN = {"time": "2026-01-05T10:00:00.123Z", "time_msc": 1767607200123}

ACCOUNT: dict[str, Any] = {
    "success": True,
    "account": {
        "login": 5000001, "server": "Paper-Demo", "currency": "USD", "leverage": 100, "balance": 10000.0,
        "equity": 10012.5, "margin": 110.0, "free_margin": 9902.5, "margin_level": 9102.27, "profit": 12.5,
        "margin_mode": "hedging", "trade_allowed": True,
    },
    **_AS_OF,
}  # fmt: skip
POSITIONS: dict[str, Any] = {
    "success": True,
    "positions": [
        {
            "ticket": 1234567, "symbol": "EURUSD", "type": 0, "side": "buy", "volume": 0.1, "price_open": 1.1,
            "price_current": 1.10125, "stop_loss": 1.08, "take_profit": 1.12, "swap": 0.0, "profit": 12.5, **_WHEN,
            "magic": 1009321876543, "comment": "by hand", "signal_id": None,
        }
    ],
    **_LAST_PAGE, **_AS_OF,
}  # fmt: skip
_ORDER: dict[str, Any] = {
    "ticket": 1234570, "symbol": "EURUSD", "type": 2, "order_type": "BUY_LIMIT", "state": "placed", "volume": 0.1,
    "volume_initial": 0.1, "price": 1.09, "stop_limit_price": 0.0, "stop_loss": 1.08, "take_profit": 0.0,
    "expiration": None, "time": "2026-01-05T10:00:00.123Z", "time_done": None, "magic": 1009321876544, "comment": "",
    "position": None,
}  # fmt: skip
ORDERS: dict[str, Any] = {"success": True, "orders": [_ORDER], **_LAST_PAGE, **_AS_OF}
PAST_ORDERS: dict[str, Any] = {
    "success": True,
    "orders": [{**_ORDER, "state": "filled", "time_done": "2026-01-05T11:00:00.000Z", "position": 1234570}],
    "count": 1,
    "next": "1767607200123:1234570",
}
_SYMBOL: dict[str, Any] = {
    "name": "EURUSD", "digits": 5, "point": 1e-05, "tick_size": 1e-05, "tick_value": 1.0, "contract_size": 100000.0,
    "volume_min": 0.01, "volume_max": 100.0, "volume_step": 0.01, "stops_level": 0, "freeze_level": 0, "trade_mode": 4,
    "execution": 2, "filling_bits": 3, "volume_limit": 0.0, "order_mode": 127, "expiration_mode": 15, "calc_mode": 0,
    "currency_base": "EUR", "currency_profit": "USD", "currency_margin": "EUR", "description": "Euro vs US Dollar",
    "path": "Forex\\EURUSD", "spread_points": 10, "selected": True,
}  # fmt: skip
SYMBOLS: dict[str, Any] = {"success": True, "symbols": [_SYMBOL], "count": 1, "next": "EURUSD"}
SYMBOL: dict[str, Any] = {"success": True, "symbol": _SYMBOL}
RATES: dict[str, Any] = {
    "success": True,
    "rates": [
        {
            "symbol": "EURUSD", "timeframe": "M15", "time": "2026-01-05T10:00:00.000Z", "open": 1.1, "high": 1.1012,
            "low": 1.0995, "close": 1.1004, "tick_volume": 812, "spread": 10, "real_volume": 0,
        }
    ],
    **_LAST_PAGE,
}  # fmt: skip
TICKS: dict[str, Any] = {
    "success": True,
    "ticks": [
        {
            "symbol": "EURUSD", "bid": 1.1, "ask": 1.1001, "last": 0.0, "volume": 0.0, "spread": 10, **_WHEN,
            "flags": 6, "seq": 0,
        }
    ],
    "count": 1,
    "next": "1767607200123:0",
}  # fmt: skip
DEALS: dict[str, Any] = {
    "success": True,
    "deals": [
        {
            "ticket": 1234568, "order": 1234567, "position": 1234567, "symbol": "EURUSD", "type": 0, "entry": "in",
            "volume": 0.1, "price": 1.1, "profit": 0.0, "swap": 0.0, "commission": -0.35, "fee": 0.0, **_WHEN,
            "magic": 1009321876543, "comment": "by hand",
        }
    ],
    **_LAST_PAGE,
}  # fmt: skip
_RESULT: dict[str, Any] = {
    "signal_id": "ai-7f31", "status": "filled", "request_id": None, "reason": None, "detail": None, "retcode": 10009,
    "retcode_text": "Request completed", "order": 1234567, "deal": 1234568, "position": 1234567, "symbol": "EURUSD",
    "action": "BUY", "volume_requested": 0.1, "volume_filled": 0.1, "price": 1.1, "stop_loss": 1.08,
    "take_profit": 1.12, "magic": 1009321876543, "comment": "by hand", "attempts": 1,
    "received_at": "2026-01-05T10:00:00.100Z", "sent_at": "2026-01-05T10:00:00.104Z",
    "done_at": "2026-01-05T10:00:00.123Z", "latency_ms": 23.0, "strategy": None, "legs": None, "supersedes": None,
}  # fmt: skip
RESULT: dict[str, Any] = {"success": True, "result": _RESULT}
UNKNOWN: dict[str, Any] = {
    "success": False,
    "result": {
        **_RESULT, "status": "unknown", "reason": "unknown_outcome", "detail": "no answer in 30 s", "retcode": None,
        "retcode_text": None, "order": None, "deal": None, "position": None, "volume_filled": None, "price": None,
    },
}  # fmt: skip
HALT: dict[str, Any] = {
    "success": True,
    "halt": {"state": "active", "reason": "looked at it, all is well", "by": "Ana", "at": "2026-01-05T10:00:00.123Z"},
}
SESSION: dict[str, Any] = {
    "success": True, "connected": True, "account": 5000001, "server": "Paper-Demo", "detail": "connected",
}  # fmt: skip
BEGINS_ANEW: dict[str, Any] = {
    "success": True, "connected": False, "account": 5000777, "server": "Paper-Demo",
    "detail": "the login was tried and works: the bridge begins anew with this account",
}  # fmt: skip


def answer(model: type[BaseModel], example: dict[str, Any], description: str | None = None) -> dict[str, Any]:
    """What a route says of one of its answers."""
    told: dict[str, Any] = {"model": model, "content": {"application/json": {"example": example}}}
    return told if description is None else {**told, "description": description}

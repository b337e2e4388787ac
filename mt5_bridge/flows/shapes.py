"""What the answers to commands look like: the terminal's things as the contract writes them."""

from typing import Any

import msgspec

from mt5_bridge.core.halt import Halt
from mt5_bridge.core.model import Bar, Deal, Order, SymbolInfo
from mt5_bridge.core.times import iso


def halt_data(halt: Halt) -> dict[str, Any]:
    """The latch as hello, status and answers show it; `at` is null while it never changed."""
    at = iso(halt.at_msc) if halt.at_msc else None
    return {"state": halt.state.value, "reason": halt.reason, "by": halt.by, "at": at}


def order_data(order: Order) -> dict[str, Any]:
    """A pending or past order on the wire."""
    return {
        "ticket": order.ticket,
        "symbol": order.symbol,
        "type": int(order.type),
        "order_type": order.type.name,
        "state": order.state.name.lower(),
        "volume": order.volume_current,
        "volume_initial": order.volume_initial,
        "price": order.price,
        "stop_limit_price": order.stop_limit_price,
        "stop_loss": order.stop_loss,
        "take_profit": order.take_profit,
        "expiration": iso(order.expiration_msc) if order.expiration_msc else None,
        "time": iso(order.time_setup_msc),
        "time_done": iso(order.time_done_msc) if order.time_done_msc else None,
        "magic": order.magic,
        "comment": order.comment,
        "position": order.position_id or None,
    }


def deal_data(deal: Deal) -> dict[str, Any]:
    """A deal on the wire."""
    return {
        "ticket": deal.ticket,
        "order": deal.order,
        "position": deal.position_id,
        "symbol": deal.symbol,
        "type": deal.type,
        "entry": deal.entry.name.lower(),
        "volume": deal.volume,
        "price": deal.price,
        "profit": deal.profit,
        "swap": deal.swap,
        "commission": deal.commission,
        "fee": deal.fee,
        "time": iso(deal.time_msc),
        "time_msc": deal.time_msc,
        "magic": deal.magic,
        "comment": deal.comment,
    }


def bar_data(bar: Bar) -> dict[str, Any]:
    """A bar on the wire."""
    return {
        "symbol": bar.symbol,
        "timeframe": bar.timeframe,
        "time": iso(bar.time_msc),
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "tick_volume": bar.tick_volume,
        "spread": bar.spread,
        "real_volume": bar.real_volume,
    }


def symbol_data(symbol: SymbolInfo) -> dict[str, Any]:
    """A symbol's rules on the wire."""
    data: dict[str, Any] = msgspec.to_builtins(symbol)
    return data


def tick_data(symbol: str, point: float, row: tuple[int, int, float, float, float, float, int]) -> dict[str, Any]:
    """A tick on the wire, as in `tick_data`."""
    time_msc, seq, bid, ask, last, volume, flags = row
    return {
        "symbol": symbol,
        "bid": bid,
        "ask": ask,
        "last": last,
        "volume": volume,
        "spread": round((ask - bid) / point),
        "time": iso(time_msc),
        "time_msc": time_msc,
        "flags": flags,
        "seq": seq,
    }

"""`Buy`, `Sell` and `Close`: the official package's own conveniences, written in Python there too.

They send again, up to ten times, while the answer is a requote or says that there are no prices. The bridge never uses
them.
"""

from collections.abc import Callable
from typing import Any, Literal

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.api import BUILTINS
from mt5_bridge.simulator.structs import OrderSendResult, TradePosition

_TRIES = 10
_DEVIATION = 10
_AGAIN = (c.TRADE_RETCODE_REQUOTE, c.TRADE_RETCODE_PRICE_OFF)


def _RawOrder(
    order_type: int, symbol: str, volume: float, price: float, comment: str | None = None, ticket: int | None = None
) -> Any:
    """One market order, its answer as it comes."""
    request: dict[str, Any] = {
        "action": c.TRADE_ACTION_DEAL,
        "symbol": symbol,
        "volume": volume,
        "type": order_type,
        "price": price,
        "deviation": _DEVIATION,
    }
    if comment is not None:
        request["comment"] = comment
    if ticket is not None:
        request["position"] = ticket
    return BUILTINS["order_send"](request)


def Close(symbol: str, *, comment: str | None = None, ticket: int | None = None) -> bool | Literal["Partially"] | None:
    """Closes one position, or all of a symbol: True when all are closed, None when a call failed.

    Raises:
        TypeError: the positions could not be read, as in the official package.
    """
    get: Callable[..., Any] = BUILTINS["positions_get"]
    positions = get(ticket=ticket) if ticket is not None else get(symbol=symbol)
    tried = done = 0
    for position in positions:
        tried += 1
        result = _close(position, symbol, comment)
        if result is None:
            return None
        done += result.retcode == c.TRADE_RETCODE_DONE
    if not done:
        return False
    return True if done == tried else "Partially"


def _close(position: TradePosition, symbol: str, comment: str | None) -> OrderSendResult | None:
    side = c.ORDER_TYPE_SELL if position.type == c.POSITION_TYPE_BUY else c.ORDER_TYPE_BUY

    def price() -> float | None:
        tick = BUILTINS["symbol_info_tick"](symbol)
        return None if tick is None else _of(tick, side)

    return _insist(side, symbol, position.volume, price, comment, position.ticket)


def _of(tick: Any, side: int) -> float:
    price: float = tick.ask if side == c.ORDER_TYPE_BUY else tick.bid
    return price


def _insist(
    side: int, symbol: str, volume: float, ask: Callable[[], float | None], comment: str | None, ticket: int | None
) -> OrderSendResult | None:
    result: OrderSendResult | None = None
    for _ in range(_TRIES):
        price = ask()
        if price is None:
            return None
        result = _RawOrder(side, symbol, volume, price, comment, ticket)
        if result is None or result.retcode not in _AGAIN:
            break
    return result


def _now(side: int, symbol: str, volume: float, comment: str | None, ticket: int | None) -> OrderSendResult | None:
    return _insist(side, symbol, volume, lambda: _of(BUILTINS["symbol_info_tick"](symbol), side), comment, ticket)


def Buy(
    symbol: str, volume: float, price: float | None = None, *, comment: str | None = None, ticket: int | None = None
) -> Any:
    """Buys at `price`, or at the ask with up to ten tries.

    Raises:
        AttributeError: there is no tick to take the price from, as in the official package.
    """
    if price is not None:
        return _RawOrder(c.ORDER_TYPE_BUY, symbol, volume, price, comment, ticket)
    return _now(c.ORDER_TYPE_BUY, symbol, volume, comment, ticket)


def Sell(
    symbol: str, volume: float, price: float | None = None, *, comment: str | None = None, ticket: int | None = None
) -> Any:
    """Sells at `price`, or at the bid with up to ten tries.

    Raises:
        AttributeError: as for `Buy`.
    """
    if price is not None:
        return _RawOrder(c.ORDER_TYPE_SELL, symbol, volume, price, comment, ticket)
    return _now(c.ORDER_TYPE_SELL, symbol, volume, comment, ticket)

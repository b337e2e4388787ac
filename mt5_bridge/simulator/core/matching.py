"""When an order or a stop is due: the sides of the spread on which each is judged. Pure.

Longs open at the ask and close on the bid, shorts the reverse (MetaTrader 5 help, "Basic principles").
"""

import math
from collections.abc import Iterable
from enum import Enum
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core.records import Order, Position

Ints: TypeAlias = NDArray[np.int64]

_NEVER = 1 << 60
_NEAR = 0.5
_MARKET = frozenset({c.ORDER_TYPE_BUY, c.ORDER_TYPE_SELL})
_STOPS = frozenset({c.ORDER_TYPE_BUY_STOP, c.ORDER_TYPE_SELL_STOP})


class Cause(Enum):
    """What closes a position by itself; the values are DEAL_REASON_*."""

    STOP = c.DEAL_REASON_SL
    TARGET = c.DEAL_REASON_TP
    STOP_OUT = c.DEAL_REASON_SO


class Levels(msgspec.Struct):
    """Prices (points) where something of a symbol is due: at or below the `low` ones, at or above the `high`."""

    bid_low: int = -_NEVER
    bid_high: int = _NEVER
    ask_low: int = -_NEVER
    ask_high: int = _NEVER
    near: tuple[float, float, float, float] = (-math.inf, math.inf, -math.inf, math.inf)
    """The same four as prices, half a point nearer: floats are whole numbers of points but for their last bits."""

    def watch_position(self, position: Position, scale: int) -> None:
        """Adds the position's stop and target."""
        if position.type == c.POSITION_TYPE_BUY:
            self._bid(below=position.sl, above=position.tp, scale=scale)
        else:
            self._ask(below=position.tp, above=position.sl, scale=scale)

    def watch_order(self, order: Order, scale: int) -> None:
        """Adds the order's trigger."""
        price = order.price_open
        if order.type in _MARKET or (order.state == c.ORDER_STATE_PARTIAL and order.type in _STOPS):
            self.bid_high = 0  # what is left of an order that takes any price tries at every tick
            return
        match order.type:
            case c.ORDER_TYPE_BUY_LIMIT:
                self._ask(below=price, above=0, scale=scale)
            case c.ORDER_TYPE_BUY_STOP | c.ORDER_TYPE_BUY_STOP_LIMIT:
                self._ask(below=0, above=price, scale=scale)
            case c.ORDER_TYPE_SELL_LIMIT:
                self._bid(below=0, above=price, scale=scale)
            case c.ORDER_TYPE_SELL_STOP | c.ORDER_TYPE_SELL_STOP_LIMIT:
                self._bid(below=price, above=0, scale=scale)

    def some_due(self, bids: list[float], asks: list[float]) -> bool:
        """Whether something is due at one of these prices; quick for a few."""
        bid_low, bid_high, ask_low, ask_high = self.near
        return min(bids) <= bid_low or max(bids) >= bid_high or min(asks) <= ask_low or max(asks) >= ask_high

    def first_due(self, bids: Ints, asks: Ints) -> int | None:
        """The place of the first tick at which something is due."""
        due = (bids <= self.bid_low) | (bids >= self.bid_high) | (asks <= self.ask_low) | (asks >= self.ask_high)
        place = int(np.argmax(due)) if len(due) else 0
        return place if len(due) and due[place] else None

    def _bid(self, *, below: float, above: float, scale: int) -> None:
        if below:
            self.bid_low = max(self.bid_low, round(below * scale))
        if above:
            self.bid_high = min(self.bid_high, round(above * scale))

    def _ask(self, *, below: float, above: float, scale: int) -> None:
        if below:
            self.ask_low = max(self.ask_low, round(below * scale))
        if above:
            self.ask_high = min(self.ask_high, round(above * scale))


def levels(positions: Iterable[Position], orders: Iterable[Order], scale: int) -> Levels:
    """The levels of one symbol's positions and orders."""
    found = Levels()
    for position in positions:
        found.watch_position(position, scale)
    for order in orders:
        found.watch_order(order, scale)
    found.near = (
        (found.bid_low + _NEAR) / scale, (found.bid_high - _NEAR) / scale,
        (found.ask_low + _NEAR) / scale, (found.ask_high - _NEAR) / scale,
    )  # fmt: skip
    return found


def position_due(position: Position, bid: float, ask: float) -> Cause | None:
    """Whether a stop or target is reached: the stop first where a gap passes both."""
    if position.type == c.POSITION_TYPE_BUY:
        stop = position.sl and bid <= position.sl
        target = position.tp and bid >= position.tp
    else:
        stop = position.sl and ask >= position.sl
        target = position.tp and ask <= position.tp
    if stop:
        return Cause.STOP
    return Cause.TARGET if target else None


def order_due(order: Order, bid: float, ask: float) -> bool:
    """Whether a waiting order triggers at these prices, or what is left of one tries again."""
    if order.type in _MARKET or (order.state == c.ORDER_STATE_PARTIAL and order.type in _STOPS):
        return True
    match order.type:
        case c.ORDER_TYPE_BUY_LIMIT:
            return ask <= order.price_open
        case c.ORDER_TYPE_BUY_STOP | c.ORDER_TYPE_BUY_STOP_LIMIT:
            return ask >= order.price_open
        case c.ORDER_TYPE_SELL_LIMIT:
            return bid >= order.price_open
        case c.ORDER_TYPE_SELL_STOP | c.ORDER_TYPE_SELL_STOP_LIMIT:
            return bid <= order.price_open
        case _:
            return False


def is_buy(order_type: int) -> bool:
    """True for the four order types that buy."""
    return order_type in (0, 2, 4, 6)

"""What the trade server refuses, and with which retcode. Pure: every rule is a function of request, symbol and quote.

Sources: MetaTrader 5 help, "Trade server return codes", "Order properties", SYMBOL_TRADE_STOPS_LEVEL and
SYMBOL_FILLING_MODE in the MQL5 reference.
"""

import math

import msgspec

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core.matching import is_buy
from mt5_bridge.simulator.core.records import Order, Position
from mt5_bridge.simulator.market.catalogue import FILLING_BOC, FILLING_FOK, FILLING_IOC, SymbolSpec

OK = 0
LIMIT_TYPES = frozenset({c.ORDER_TYPE_BUY_LIMIT, c.ORDER_TYPE_SELL_LIMIT})
STOP_TYPES = frozenset({c.ORDER_TYPE_BUY_STOP, c.ORDER_TYPE_SELL_STOP})
STOP_LIMIT_TYPES = frozenset({c.ORDER_TYPE_BUY_STOP_LIMIT, c.ORDER_TYPE_SELL_STOP_LIMIT})
PENDING_TYPES = LIMIT_TYPES | STOP_TYPES | STOP_LIMIT_TYPES

ORDER_MARKET, ORDER_LIMIT, ORDER_STOP, ORDER_STOP_LIMIT, ORDER_SL, ORDER_TP, ORDER_CLOSEBY = 1, 2, 4, 8, 16, 32, 64
"""SYMBOL_ORDER_* bits: absent from the official package, values from the MQL5 documentation."""

PRICED = frozenset({c.SYMBOL_TRADE_EXECUTION_INSTANT, c.SYMBOL_TRADE_EXECUTION_REQUEST})
"""Executions at a price the trader names."""
_DAY = 86_400
_LATEST = (1 << 63) - 1
_ALIGNED = 1e-6


class Request(msgspec.Struct, kw_only=True, gc=False):
    """A trade request as the server reads it; a missing field is zero or empty. `expiration` is server time in s."""

    action: int = 0
    magic: int = 0
    order: int = 0
    symbol: str = ""
    volume: float = 0.0
    price: float = 0.0
    stoplimit: float = 0.0
    sl: float = 0.0
    tp: float = 0.0
    deviation: int = 0
    type: int = 0
    type_filling: int = 0
    type_time: int = 0
    expiration: int = 0
    comment: str = ""
    position: int = 0
    position_by: int = 0


class LateOrder(msgspec.Struct, gc=False, frozen=True):
    """A request that the server will execute at `due_msc` (UTC), whatever it answered. The first sent is `number` 1."""

    number: int
    due_msc: int
    request: Request


def stepped(spec: SymbolSpec, lots: float) -> float:
    """The multiple of the volume step that is meant: 0.1 * 3 lots are 0.3. What is not near one is left as it is."""
    if not 0 < lots <= spec.volume_max + _ALIGNED:
        return lots
    steps = lots / spec.volume_step
    whole = round(steps)
    return round(whole * spec.volume_step, 8) if abs(steps - whole) < _ALIGNED else lots


def volume(spec: SymbolSpec, lots: float) -> int:
    """Within limits and on the step."""
    if not math.isfinite(lots) or not spec.volume_min - _ALIGNED <= lots <= spec.volume_max + _ALIGNED:
        return c.TRADE_RETCODE_INVALID_VOLUME
    steps = lots / spec.volume_step
    return OK if abs(steps - round(steps)) < _ALIGNED else c.TRADE_RETCODE_INVALID_VOLUME


def filling(spec: SymbolSpec, mode: int) -> int:
    """Of a market order: by the symbol's bits, but for instant and request execution, which take all but BOC."""
    if spec.execution in PRICED:
        allowed = mode in (c.ORDER_FILLING_FOK, c.ORDER_FILLING_IOC, c.ORDER_FILLING_RETURN)
    elif mode == c.ORDER_FILLING_RETURN:
        allowed = spec.execution == c.SYMBOL_TRADE_EXECUTION_EXCHANGE
    else:
        bit = {c.ORDER_FILLING_FOK: FILLING_FOK, c.ORDER_FILLING_IOC: FILLING_IOC}.get(mode, 0)
        allowed = bool(spec.filling_bits & bit)
    return OK if allowed else c.TRADE_RETCODE_INVALID_FILL


def pending_filling(spec: SymbolSpec, kind: int, mode: int) -> int:
    """Pendings use RETURN; brokers take FOK and IOC all the same, BOC only of limits and stop-limits, with its bit."""
    if mode == c.ORDER_FILLING_BOC:
        book = spec.filling_bits & FILLING_BOC and kind in LIMIT_TYPES | STOP_LIMIT_TYPES
        return OK if book else c.TRADE_RETCODE_INVALID_FILL
    known = mode in (c.ORDER_FILLING_FOK, c.ORDER_FILLING_IOC, c.ORDER_FILLING_RETURN)
    return OK if known else c.TRADE_RETCODE_INVALID_FILL


def trading(spec: SymbolSpec) -> int:
    """Whether the symbol takes requests at all."""
    disabled = spec.trade_mode == c.SYMBOL_TRADE_MODE_DISABLED or spec.calc_mode == c.SYMBOL_CALC_MODE_SERV_COLLATERAL
    return c.TRADE_RETCODE_TRADE_DISABLED if disabled else OK


def trade_mode(spec: SymbolSpec, order_type: int) -> int:
    """Of what opens: the symbol may be disabled, long only, short only or close only."""
    match spec.trade_mode:
        case c.SYMBOL_TRADE_MODE_DISABLED:
            return c.TRADE_RETCODE_TRADE_DISABLED
        case c.SYMBOL_TRADE_MODE_CLOSEONLY:
            return c.TRADE_RETCODE_CLOSE_ONLY
        case c.SYMBOL_TRADE_MODE_LONGONLY if not is_buy(order_type):
            return c.TRADE_RETCODE_LONG_ONLY
        case c.SYMBOL_TRADE_MODE_SHORTONLY if is_buy(order_type):
            return c.TRADE_RETCODE_SHORT_ONLY
        case _:
            return OK


def market_price(spec: SymbolSpec, request: Request, bid: float, ask: float) -> int:
    """Instant and request execution hold the trader to a price within `deviation`; market execution takes none."""
    if not math.isfinite(request.price) or request.price < 0:
        return c.TRADE_RETCODE_INVALID_PRICE
    if spec.execution not in PRICED:
        return OK
    if request.price == 0:
        return c.TRADE_RETCODE_INVALID_PRICE
    now = ask if is_buy(request.type) else bid
    within = abs(request.price - now) <= request.deviation * spec.point + spec.point * _ALIGNED
    return OK if within else c.TRADE_RETCODE_REQUOTE


def worst_price(spec: SymbolSpec, request: Request) -> float | None:
    """The worst price a market order takes; None: any."""
    if spec.execution not in PRICED:
        return None
    slack = request.deviation * spec.point
    return request.price + slack if is_buy(request.type) else request.price - slack


def beyond(spec: SymbolSpec, price: float, limit: float, *, buying: bool) -> bool:
    """Whether a price is worse than the limit."""
    return (price - limit if buying else limit - price) > spec.point * _ALIGNED


def levels(request: Request) -> int:
    """Stop and target are kept also where no other rule looks at them, as of what only closes: so they are numbers."""
    known = math.isfinite(request.sl) and math.isfinite(request.tp)
    return OK if known or request.action == c.TRADE_ACTION_REMOVE else c.TRADE_RETCODE_INVALID_STOPS


def on_tick(spec: SymbolSpec, price: float) -> bool:
    """Whether a price is on the symbol's step, where that is more than a point; finer digits are rounded away."""
    if not spec.tick_size:
        return True
    steps = price / spec.tick_size
    return abs(steps - round(steps)) < _ALIGNED


def stops(spec: SymbolSpec, buy: bool, sl: float, tp: float, low: float, high: float) -> int:
    """A stop and a target against the price they are measured from, which the symbol must allow.

    Args:
        spec: the symbol.
        buy: the direction of the position they protect.
        sl: stop loss, 0 for none.
        tp: take profit, 0 for none.
        low: what a long's levels are measured from: the bid, or a pending's own price.
        high: what a short's levels are measured from: the ask, or a pending's own price.
    """
    if not (math.isfinite(sl) and math.isfinite(tp)) or sl < 0 or tp < 0:
        return c.TRADE_RETCODE_INVALID_STOPS
    if not (on_tick(spec, sl) and on_tick(spec, tp)):
        return c.TRADE_RETCODE_INVALID_STOPS
    if (sl and not spec.order_mode & ORDER_SL) or (tp and not spec.order_mode & ORDER_TP):
        return c.TRADE_RETCODE_INVALID_STOPS
    return _stops_apart(spec, buy, sl, tp, low, high)


def _stops_apart(spec: SymbolSpec, buy: bool, sl: float, tp: float, low: float, high: float) -> int:
    level = spec.stops_level * spec.point - spec.point * _ALIGNED
    if buy:
        wrong = (sl and low - sl < level) or (tp and tp - low < level)
        touching = (sl and sl >= low) or (tp and tp <= low)
    else:
        wrong = (sl and sl - high < level) or (tp and high - tp < level)
        touching = (sl and sl <= high) or (tp and tp >= high)
    return c.TRADE_RETCODE_INVALID_STOPS if wrong or touching else OK


def pending_price(spec: SymbolSpec, kind: int, price: float, stoplimit: float, bid: float, ask: float) -> int:
    """A pending must wait on its own side of the market, at least the stops level away.

    Under exchange execution a limit may be placed at any price: it fills at once, at that price or better (MetaTrader 5
    help, "Basic Principles", section "Types of Orders").
    """
    if not math.isfinite(price) or price <= 0 or not math.isfinite(stoplimit) or stoplimit < 0:
        return c.TRADE_RETCODE_INVALID_PRICE
    if not (on_tick(spec, price) and on_tick(spec, stoplimit)):
        return c.TRADE_RETCODE_INVALID_PRICE
    if kind in LIMIT_TYPES and spec.execution == c.SYMBOL_TRADE_EXECUTION_EXCHANGE:
        return OK
    return _pending_apart(spec, kind, price, stoplimit, bid, ask)


def _pending_apart(spec: SymbolSpec, kind: int, price: float, stoplimit: float, bid: float, ask: float) -> int:
    buy = is_buy(kind)
    inward = ask - price if buy else price - bid
    outward = price - ask if buy else bid - price
    distance = inward if kind in LIMIT_TYPES else outward
    level = spec.stops_level * spec.point - spec.point * _ALIGNED
    if distance < level or distance <= 0:
        return c.TRADE_RETCODE_INVALID_PRICE
    if kind in STOP_LIMIT_TYPES:
        inside = price - stoplimit if buy else stoplimit - price
        if stoplimit <= 0 or inside < level or inside < 0:
            return c.TRADE_RETCODE_INVALID_PRICE
    return OK


def order_kind(spec: SymbolSpec, kind: int) -> int:
    """Whether the symbol takes this type of pending at all."""
    if kind not in PENDING_TYPES:
        return c.TRADE_RETCODE_INVALID
    bit = ORDER_LIMIT if kind in LIMIT_TYPES else ORDER_STOP if kind in STOP_TYPES else ORDER_STOP_LIMIT
    return OK if spec.order_mode & bit else c.TRADE_RETCODE_INVALID_ORDER


def expiration(spec: SymbolSpec, type_time: int, when: int, now: int) -> int:
    """The kind of expiration is allowed, and a given one lies ahead. Times are server time in s."""
    if type_time not in range(4) or not spec.expiration_bits & (1 << type_time):
        return c.TRADE_RETCODE_INVALID_EXPIRATION
    if type_time in (c.ORDER_TIME_SPECIFIED, c.ORDER_TIME_SPECIFIED_DAY) and expires_at(type_time, when, now) <= now:
        return c.TRADE_RETCODE_INVALID_EXPIRATION
    return OK


def expires_at(type_time: int, when: int, now: int) -> int:
    """When an order placed at `now` ends, server time in s; 0 for never. Days end with their last second."""
    match type_time:
        case c.ORDER_TIME_DAY:
            return now // _DAY * _DAY + _DAY - 1
        case c.ORDER_TIME_SPECIFIED:
            return when
        case c.ORDER_TIME_SPECIFIED_DAY:
            return min(when // _DAY * _DAY + _DAY - 1, _LATEST)
        case _:
            return 0


def frozen(spec: SymbolSpec, distance: float) -> int:
    """Nothing changes within the freeze level of its execution price."""
    near = spec.freeze_level > 0 and distance <= spec.freeze_level * spec.point
    return c.TRADE_RETCODE_FROZEN if near else OK


def closing(position: Position | None, request: Request, mode: MarginMode) -> int:
    """A deal that names a position: it must exist, be of that symbol, opposite, and hold the volume.

    On a netting account the deal may also add to the position or reverse it.
    """
    if position is None:
        return c.TRADE_RETCODE_POSITION_CLOSED
    if position.symbol != request.symbol:
        return c.TRADE_RETCODE_INVALID
    if mode is not MarginMode.HEDGING:
        return OK
    if position.type == request.type:
        return c.TRADE_RETCODE_INVALID
    return c.TRADE_RETCODE_INVALID_CLOSE_VOLUME if request.volume > position.volume + _ALIGNED else OK


def close_by(spec: SymbolSpec, position: Position | None, other: Position | None, mode: MarginMode) -> int:
    """Two open, opposite positions of one symbol that allows it, on a hedging account."""
    if not spec.order_mode & ORDER_CLOSEBY:
        return c.TRADE_RETCODE_INVALID_ORDER
    if position is None or other is None:
        return c.TRADE_RETCODE_POSITION_CLOSED
    if mode is not MarginMode.HEDGING or position is other:
        return c.TRADE_RETCODE_INVALID
    same = position.symbol == other.symbol and position.type != other.type
    return OK if same else c.TRADE_RETCODE_INVALID


def order_distance(order: Order, bid: float, ask: float) -> float:
    """How far a pending is from its trigger, in price."""
    return abs(order.price_open - (ask if is_buy(order.type) else bid))


def stop_distance(position: Position, bid: float, ask: float) -> float:
    """How far the market is from a position's stop or target, whichever is nearer, in price."""
    now = bid if position.type == c.POSITION_TYPE_BUY else ask
    return min((abs(now - level) for level in (position.sl, position.tp) if level), default=math.inf)


COMMENTS = {
    0: "Done",
    c.TRADE_RETCODE_REQUOTE: "Requote",
    c.TRADE_RETCODE_REJECT: "Request rejected",
    c.TRADE_RETCODE_CANCEL: "Request canceled by trader",
    c.TRADE_RETCODE_PLACED: "Order placed",
    c.TRADE_RETCODE_DONE: "Request executed",
    c.TRADE_RETCODE_DONE_PARTIAL: "Request executed partially",
    c.TRADE_RETCODE_ERROR: "Request processing error",
    c.TRADE_RETCODE_TIMEOUT: "Request timed out",
    c.TRADE_RETCODE_INVALID: "Invalid request",
    c.TRADE_RETCODE_INVALID_VOLUME: "Invalid volume",
    c.TRADE_RETCODE_INVALID_PRICE: "Invalid price",
    c.TRADE_RETCODE_INVALID_STOPS: "Invalid stops",
    c.TRADE_RETCODE_TRADE_DISABLED: "Trade disabled",
    c.TRADE_RETCODE_MARKET_CLOSED: "Market closed",
    c.TRADE_RETCODE_NO_MONEY: "No money",
    c.TRADE_RETCODE_PRICE_CHANGED: "Price changed",
    c.TRADE_RETCODE_PRICE_OFF: "No prices",
    c.TRADE_RETCODE_INVALID_EXPIRATION: "Invalid expiration",
    c.TRADE_RETCODE_ORDER_CHANGED: "Order changed",
    c.TRADE_RETCODE_TOO_MANY_REQUESTS: "Too many requests",
    c.TRADE_RETCODE_NO_CHANGES: "No changes",
    c.TRADE_RETCODE_SERVER_DISABLES_AT: "AutoTrading disabled by server",
    c.TRADE_RETCODE_CLIENT_DISABLES_AT: "AutoTrading disabled by client",
    c.TRADE_RETCODE_LOCKED: "Request locked",
    c.TRADE_RETCODE_FROZEN: "Order or position frozen",
    c.TRADE_RETCODE_INVALID_FILL: "Unsupported filling mode",
    c.TRADE_RETCODE_CONNECTION: "No connection",
    c.TRADE_RETCODE_ONLY_REAL: "Only real accounts allowed",
    c.TRADE_RETCODE_LIMIT_ORDERS: "Orders limit reached",
    c.TRADE_RETCODE_LIMIT_VOLUME: "Volume limit reached",
    c.TRADE_RETCODE_INVALID_ORDER: "Invalid order",
    c.TRADE_RETCODE_POSITION_CLOSED: "Position closed",
    c.TRADE_RETCODE_INVALID_CLOSE_VOLUME: "Invalid close volume",
    c.TRADE_RETCODE_CLOSE_ORDER_EXIST: "Close order already exists",
    c.TRADE_RETCODE_LIMIT_POSITIONS: "Positions limit reached",
    c.TRADE_RETCODE_REJECT_CANCEL: "Activation rejected, order canceled",
    c.TRADE_RETCODE_LONG_ONLY: "Long only",
    c.TRADE_RETCODE_SHORT_ONLY: "Short only",
    c.TRADE_RETCODE_CLOSE_ONLY: "Close only",
    c.TRADE_RETCODE_FIFO_CLOSE: "FIFO close only",
}

"""Pending orders: on the right side of the market, at least the stops level away, not expired.

Source: the terminal's rules (10015, 10016, 10022). Distances in points: `ask-limit`, `stop-ask` for buys, `limit-bid`,
`bid-stop` for sells; a stop-limit order's limit lies beyond its trigger, below it for a buy, above it for a sell.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.guards.terms import STOP_LIMITS, Terms, points, terms
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Action, Quote, Side
from mt5_bridge.core.times import parse_time

_LIMITS = frozenset({Action.BUY_LIMIT, Action.SELL_LIMIT})


def pending(ctx: Context) -> Denial | None:
    """A pending order needs the right side of the market and the stops level, and must not have expired."""
    asked = terms(ctx)
    if asked.pending is None:
        return None
    expiration = ctx.signal.expiration
    if expiration and parse_time(expiration) <= ctx.now_msc:
        return Denial(code=Reason.EXPIRED, detail=f"the order would expire at {expiration}, which has passed")
    assert ctx.symbol is not None
    assert ctx.quote is not None
    point, level = ctx.symbol.point, ctx.symbol.stops_level
    denial = _far_enough(asked.pending.value, points(_from_market(asked, ctx.quote), point), level)
    if denial is None and asked.pending in STOP_LIMITS:
        beyond = asked.price - asked.stop_limit_price
        gap = points(beyond if asked.side is Side.BUY else -beyond, point)
        denial = _far_enough("the limit beyond its trigger", gap, level)
    return denial


def _from_market(asked: Terms, quote: Quote) -> float:
    if asked.side is Side.BUY:
        above = asked.price - quote.ask
        return -above if asked.pending in _LIMITS else above
    above = asked.price - quote.bid
    return above if asked.pending in _LIMITS else -above


def _far_enough(what: str, distance: float, level: int) -> Denial | None:
    if distance < 0:
        return Denial(
            code=Reason.INVALID,
            detail=f"{what} is {-distance:g} points on the wrong side",
            limit=level,
            value=distance,
        )
    if distance < level:
        return Denial(
            code=Reason.STOPS_LEVEL,
            detail=f"{what} is {distance:g} points away, the broker wants {level}",
            limit=level,
            value=distance,
        )
    return None

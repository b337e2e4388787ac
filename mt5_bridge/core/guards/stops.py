"""Stops and targets: present where required, on the right side, at least the stops level away (points).

Source: REQUIRE_STOP_LOSS; SYMBOL_TRADE_STOPS_LEVEL (10016): of a market order or position measured from the price at
which it would close, `bid-sl` and `tp-bid` for a buy, `sl-ask` and `ask-tp` for a sell; of a pending from its entry.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.guards.terms import points, terms
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Side


def stop_required(ctx: Context) -> Denial | None:
    """An opening needs a stop where the settings require one, and wherever its volume is to come from the risk."""
    if terms(ctx).stop_loss > 0:
        return None
    if ctx.limits.require_stop_loss:
        return Denial(code=Reason.NO_STOP_LOSS, detail="REQUIRE_STOP_LOSS: there is no stop")
    if ctx.signal.volume is None and ctx.signal.action.opens:
        return Denial(code=Reason.NO_STOP_LOSS, detail="a volume sized from risk needs a stop")
    return None


def stops(ctx: Context) -> Denial | None:
    """Stop and target must be on the right side and at least the stops level away."""
    asked = terms(ctx)
    assert ctx.symbol is not None
    assert ctx.quote is not None
    base = asked.stops_measured_from(ctx.quote)
    sign = 1 if asked.side is Side.BUY else -1
    point, level = ctx.symbol.point, ctx.symbol.stops_level
    if asked.stop_loss > 0:
        denial = _distance("the stop", points(sign * (base - asked.stop_loss), point), level)
        if denial is not None:
            return denial
    if asked.take_profit > 0:
        return _distance("the target", points(sign * (asked.take_profit - base), point), level)
    return None


def _distance(what: str, distance: float, level: int) -> Denial | None:
    if distance <= 0:
        return Denial(
            code=Reason.INVALID_STOPS,
            detail=f"{what} is {-distance:g} points on the wrong side of the price",
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

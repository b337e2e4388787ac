"""MAX_SPREAD_POINTS: the spread now, in the symbol's points. The limit itself still passes."""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.guards.terms import points
from mt5_bridge.core.messages import Reason


def spread(ctx: Context) -> Denial | None:
    """The spread must not be wider than the setting."""
    limit = ctx.limits.max_spread_points
    if limit is None:
        return None
    assert ctx.symbol is not None
    assert ctx.quote is not None
    now = points(ctx.quote.ask - ctx.quote.bid, ctx.symbol.point)
    if now <= limit:
        return None
    return Denial(
        code=Reason.SPREAD, detail=f"the spread is {now:g} points, the limit {limit:g}", limit=limit, value=now
    )

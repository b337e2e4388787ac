"""MAX_DRIFT_POINTS: how far the market has moved, either way, since the signal's author looked, in points.

Only for market orders that carry `price`, compared with the price at which they would open now. The limit passes.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.guards.terms import points, terms
from mt5_bridge.core.messages import Reason


def drift(ctx: Context) -> Denial | None:
    """A market order's price must still be near the market."""
    limit, price = ctx.limits.max_drift_points, ctx.signal.price
    if limit is None or not price:
        return None
    asked = terms(ctx)
    if asked.pending is not None:
        return None
    assert ctx.symbol is not None
    now = asked.entry
    moved = points(abs(price - now), ctx.symbol.point)
    if moved <= limit:
        return None
    return Denial(
        code=Reason.DRIFT,
        detail=f"the price moved {moved:g} points from {price:g} to {now:g}, the limit is {limit:g}",
        limit=limit,
        value=moved,
    )

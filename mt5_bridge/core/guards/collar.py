"""PRICE_COLLAR_PCT: a price that is far from the market is a typing error or a wrong symbol. Per cent of the price at
which the order would open now; of a stop-limit order both prices count. The limit itself passes.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.guards.terms import STOP_LIMITS, terms
from mt5_bridge.core.messages import Reason


def collar(ctx: Context) -> Denial | None:
    """Prices of pendings, and of market orders that carry one, must lie within the collar around the market."""
    limit = ctx.limits.price_collar_pct
    if limit is None:
        return None
    assert ctx.quote is not None
    asked = terms(ctx)
    market = ctx.quote.price_to_open(asked.side)
    prices = (asked.price, asked.stop_limit_price) if asked.pending in STOP_LIMITS else (asked.price,)
    for price in prices:
        away = abs(price - market) / market * 100
        if price and away > limit + 1e-9:
            return Denial(
                code=Reason.PRICE_COLLAR,
                detail=f"{price:g} is {away:.3f} % away from the market at {market:g}, the limit is {limit:g} %",
                limit=limit,
                value=round(away, 4),
            )
    return None

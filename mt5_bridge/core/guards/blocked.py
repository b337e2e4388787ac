"""Symbols closed for openings. Source: an outcome still unknown (P2), or the broker's answer 10017 to an order.

Other symbols go on trading, and so do exits on this one.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.messages import Reason


def blocked(ctx: Context) -> Denial | None:
    """Nothing opens on a symbol with an unknown outcome, or where the broker has refused trading."""
    name = ctx.symbol.name if ctx.symbol else ctx.signal.symbol
    for exposure in ctx.in_flight:
        if exposure.unknown and exposure.symbol == name:
            return Denial(
                code=Reason.UNKNOWN_OUTCOME,
                detail=f"the outcome of the order with magic {exposure.magic} in {name} is not known yet",
            )
    if name in ctx.blocked:
        return Denial(code=Reason.SYMBOL_BLOCKED, detail=f"trading in {name} is blocked until the broker allows it")
    return None

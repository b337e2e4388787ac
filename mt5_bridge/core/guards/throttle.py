"""MAX_ORDERS_PER_SECOND (P10). Source: the times of the orders sent (`core.throttle`), in ms of waiting left.

It comes after all other rules, so that `throttled` means: only the rate stands against it. Whoever asked may wait as
long as the signal's age limit allows and ask again; giving up makes the denial final and counts it to the latch.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.messages import Reason


def throttle(ctx: Context) -> Denial | None:
    """There must be room in the rate of orders now."""
    if ctx.throttle_wait_ms <= 0:
        return None
    return Denial(
        code=Reason.THROTTLED,
        detail=f"over MAX_ORDERS_PER_SECOND, room in {ctx.throttle_wait_ms} ms",
        limit=ctx.limits.max_orders_per_second,
        value=ctx.throttle_wait_ms,
    )

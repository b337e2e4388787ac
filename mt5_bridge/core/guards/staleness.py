"""The age of a request (P7), milliseconds of UTC; broker time is never asked. Source: the signal rules.

It runs from `created_at`, else the record's time. The limit is the smaller of `ttl_ms` and SIGNAL_MAX_AGE_MS, and
CLOCK_SKEW_MS into the future; both limits still pass, one millisecond more does not.
"""

from mt5_bridge.core.decision import Context, Denial, Requester
from mt5_bridge.core.messages import Reason


def max_age_ms(ctx: Context) -> int:
    """How old this request may be when it is sent."""
    ttl = ctx.signal.ttl_ms
    return ctx.limits.signal_max_age_ms if ttl is None else min(ttl, ctx.limits.signal_max_age_ms)


def staleness(ctx: Context) -> Denial | None:
    """The request must be no older than its time to live, and not from the future."""
    if ctx.requester is Requester.EMERGENCY:
        return None
    age, limit, skew = ctx.now_msc - ctx.created_msc, max_age_ms(ctx), ctx.limits.clock_skew_ms
    if age > limit:
        return Denial(code=Reason.STALE, detail=f"{age} ms old, the limit is {limit} ms", limit=limit, value=age)
    if -age > skew:
        return Denial(
            code=Reason.FROM_FUTURE,
            detail=f"{-age} ms in the future, the tolerance is {skew} ms",
            limit=skew,
            value=-age,
        )
    return None

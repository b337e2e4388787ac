"""Margin, account currency: the order must be affordable beside what is in flight, and leave MIN_MARGIN_LEVEL_PCT.

Source: `order_calc_margin` for the order, the account's free margin and equity. A margin that is not known is not
affordable. The margin level after the order is equity / margin in per cent; the limit itself passes.
"""

from mt5_bridge.core.decision import Approval, Context, Denial
from mt5_bridge.core.messages import Reason


def margin(ctx: Context, proposal: Approval) -> Denial | None:
    """The free margin, less what is in flight, must cover the order."""
    assert ctx.account is not None
    if ctx.margin_per_lot is None:
        return Denial(code=Reason.MARGIN, detail="the margin of the order is not known")
    free = ctx.account.free_margin - _in_flight(ctx)
    if proposal.margin <= free:
        return None
    return Denial(
        code=Reason.MARGIN,
        detail=f"the order needs a margin of {proposal.margin:.2f}, free are {free:.2f}",
        limit=round(free, 2),
        value=round(proposal.margin, 2),
    )


def margin_level(ctx: Context, proposal: Approval) -> Denial | None:
    """The margin level after the order must not fall below the setting."""
    limit = ctx.limits.min_margin_level_pct
    if limit is None:
        return None
    assert ctx.account is not None
    bound = ctx.account.margin + _in_flight(ctx) + proposal.margin
    if bound <= 0:
        return None
    level = ctx.account.equity / bound * 100
    if level >= limit:
        return None
    return Denial(
        code=Reason.MARGIN_LEVEL,
        detail=f"the margin level would be {level:.1f} %, the limit is {limit:g} %",
        limit=limit,
        value=round(level, 2),
    )


def _in_flight(ctx: Context) -> float:
    return sum([exposure.margin for exposure in ctx.in_flight])

"""Money at risk, account currency and per cent of equity: MAX_RISK_PERCENT of one order at its stop,
MAX_OPEN_RISK_PCT of everything open at its stops. Limits themselves still pass; binary noise is not a breach.

An order without a stop (allowed only without REQUIRE_STOP_LOSS) has no risk figure: MAX_RISK_PERCENT cannot judge it,
and MAX_OPEN_RISK_PCT denies, because what is unlimited is above every limit.
"""

from mt5_bridge.core.decision import Approval, Context, Denial
from mt5_bridge.core.guards.terms import terms
from mt5_bridge.core.messages import Reason

_NOISE = 1 + 1e-9


def risk(ctx: Context, proposal: Approval) -> Denial | None:
    """The order's loss at its stop must stay within the share of equity one trade may risk."""
    limit = ctx.limits.max_risk_percent
    if limit is None or terms(ctx).stop_loss <= 0:
        return None
    assert ctx.account is not None
    return _over(Reason.RISK, "this order", proposal.risk, ctx.account.equity, limit)


def open_risk(ctx: Context, proposal: Approval) -> Denial | None:
    """The loss at the stops of all that is open, pending, in flight and asked for must stay within the limit."""
    limit = ctx.limits.max_open_risk_pct
    if limit is None:
        return None
    assert ctx.account is not None
    changed = ctx.target.ticket if ctx.target else None
    if terms(ctx).stop_loss <= 0:
        return Denial(code=Reason.OPEN_RISK, detail="without a stop the risk of this order is unlimited", limit=limit)
    money = proposal.risk
    for exposure in ctx.in_flight:
        money += exposure.risk
    at_stop = ctx.risk_by_position.get
    tickets = [position.ticket for position in ctx.positions]
    tickets += [order.ticket for order in ctx.orders]
    for ticket in tickets:
        if ticket == changed:
            continue
        loss = at_stop(ticket)
        if loss is None:
            return Denial(
                code=Reason.OPEN_RISK, detail=f"ticket {ticket} has no stop: the open risk is unlimited", limit=limit
            )
        money += loss
    return _over(Reason.OPEN_RISK, "all that is open", money, ctx.account.equity, limit)


def _over(code: Reason, what: str, money: float, equity: float, limit: float) -> Denial | None:
    if money <= equity * limit / 100 * _NOISE and (equity > 0 or money <= 0):
        return None
    percent = money / equity * 100 if equity > 0 else 100.0
    return Denial(
        code=code,
        detail=f"{what} risks {money:.2f} ({percent:.2f} % of equity {equity:.2f}), the limit is {limit:g} %",
        limit=limit,
        value=round(percent, 4),
    )

"""The trading day's limits. Sources: MAX_DAILY_TRADES, MAX_DAILY_LOSS_PCT, MAX_DRAWDOWN_PCT; figures from the
terminal's deals, manual trades included, deposits and withdrawals taken out (`core.risk`). Loss and drawdown in per
cent of the day's first equity and of the peak, on equity: what floats counts.

Reaching a limit is a breach. The watcher latches it; these guards deny in the meantime.
"""

from mt5_bridge.core import risk
from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.messages import Reason

_UNKNOWN = Denial(code=Reason.NOT_READY, detail="the trading day's figures are not known yet")


def daily_trades(ctx: Context) -> Denial | None:
    """The day's trades, those in flight and the pendings placed today must leave room for one more."""
    limit = ctx.limits.max_daily_trades
    if limit is None:
        return None
    if ctx.day is None:
        return _UNKNOWN
    since = ctx.day.start_msc
    pendings = sum([order.time_setup_msc >= since for order in ctx.orders])
    flying = len(ctx.in_flight)
    trades = ctx.day.trades + flying + pendings
    if trades < limit:
        return None
    return Denial(
        code=Reason.DAILY_TRADES,
        detail=f"{ctx.day.trades} trades today, {flying} in flight, {pendings} pending; the limit is {limit}",
        limit=limit,
        value=trades,
    )


def daily_loss(ctx: Context) -> Denial | None:
    """The day's loss on equity must not have reached the limit."""
    if ctx.limits.max_daily_loss_pct is None:
        return None
    if ctx.day is None or ctx.account is None:
        return _UNKNOWN
    return risk.daily_loss_breached(ctx.day, ctx.account.equity, ctx.limits)


def drawdown(ctx: Context) -> Denial | None:
    """Equity must not have fallen from its peak by the limit."""
    if ctx.limits.max_drawdown_pct is None:
        return None
    if ctx.day is None or ctx.account is None:
        return _UNKNOWN
    return risk.drawdown_breached(ctx.day, ctx.account.equity, ctx.limits)

"""The trading day's figures, rebuilt from the terminal's deals. Pure.

Deposits and withdrawals never count as loss or drawdown: they move the reference figures by their amount. That needs
the balance operation and the equity that contains it to be judged together, so a day knows which balance its figures
agree with; while the account shows another one, nothing is concluded from its equity (`settled`).
"""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from mt5_bridge.core.decision import Day, Denial, Limits
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Deal, DealEntry
from mt5_bridge.core.times import SECOND, moment

_CENT = 0.005
_DEPOSIT_TYPES = frozenset({2, 3, 5, 6})
"""DEAL_TYPE_BALANCE, CREDIT, CORRECTION, BONUS. Charges, commissions, interest, dividends and taxes are results."""


def trading_day(now_msc: int, zone: ZoneInfo) -> str:
    """ISO date of the trading day at a time (UTC ms) in TRADING_DAY_TIMEZONE."""
    return moment(now_msc).astimezone(zone).date().isoformat()


def day_start_msc(now_msc: int, zone: ZoneInfo) -> int:
    """When that day began, UTC ms. Where the clock skips midnight, it began with the skip."""
    local = moment(now_msc).astimezone(zone)
    midnight = datetime(local.year, local.month, local.day, tzinfo=zone)
    return round(midnight.timestamp()) * SECOND


def opening_trades(deals: Sequence[Deal]) -> int:
    """Trades as the daily limit counts them: orders that opened or reversed a position, in however many deals."""
    return len({deal.order for deal in deals if deal.is_trade and deal.entry in (DealEntry.IN, DealEntry.INOUT)})


def deposits_in(deals: Sequence[Deal]) -> float:
    """Deposits less withdrawals, credits and corrections among the deals, account currency."""
    return sum(deal.net for deal in deals if deal.type in _DEPOSIT_TYPES)


def rebuild(
    *,
    date: str,
    deals: Sequence[Deal],
    balance: float,
    equity: float,
    before: Day | None = None,
    earlier: Sequence[Deal] | None = None,
    credit: float = 0.0,
    start_msc: int = 0,
) -> Day:
    """The day from the terminal's truth: at start, after a reconnect, at midnight.

    A day already known keeps the equity it began with, which no history tells; a new one begins with the balance of
    its first moment, or with the equity of now when nothing has been dealt in it yet.

    Args:
        date: ISO date of the day.
        deals: all deals of the day; older ones among them are left out.
        balance: the account's, at the same moment as the deals.
        equity: the account's, at that moment.
        before: the day as last known, this one or an earlier one.
        earlier: deals from `before.start_msc` to the day's start, for deposits that `before` has not seen; None: not
            read.
        credit: the account's, at that moment.
        start_msc: when the day began, UTC ms.
    """
    if before is not None and before.date == date:
        known = msgspec.structs.replace(before, start_balance=None, start_msc=start_msc or before.start_msc)
        return observe(known, deals=deals, equity=equity, balance=balance, credit=credit)
    deals = [deal for deal in deals if deal.time_msc >= start_msc]
    moved = sum(deal.net for deal in deals)
    deposits = deposits_in(deals)
    funds = balance + credit
    start = funds - moved if deals else equity
    peak = start + deposits
    if before is not None:
        unseen = 0.0 if earlier is None else deposits_in(earlier) - before.deposits
        peak = max(peak, before.peak_equity + unseen + deposits)
    return Day(
        date=date,
        start_equity=start + deposits,
        trades=opening_trades(deals),
        peak_equity=max(peak, equity),
        start_msc=start_msc,
        deposits=deposits,
        start_balance=funds - moved,
        balance=funds,
    )


def observe(
    day: Day, *, deals: Sequence[Deal], equity: float, balance: float | None = None, credit: float = 0.0
) -> Day:
    """Book the day's deals and a new equity.

    Where the account's balance is not what the deals make of the day's first one, one of the two was read too early:
    only trades are counted then, and the figures wait for two looks that agree.

    Args:
        day: the figures so far.
        deals: all deals of the day; older ones among them are left out.
        equity: the account's, at the moment of the deals.
        balance: the account's, at that moment; None: taken to agree.
        credit: the account's, at that moment.
    """
    deals = [deal for deal in deals if deal.time_msc >= day.start_msc]
    trades = max(day.trades, opening_trades(deals))
    funds = start = None
    if balance is not None:
        funds = balance + credit
        start = funds - sum(deal.net for deal in deals)
        if day.start_balance is not None and abs(day.start_balance - start) > _CENT:
            return msgspec.structs.replace(day, trades=trades, start_balance=start, balance=None)
    booked = deposit(day, deposits_in(deals) - day.deposits)
    return msgspec.structs.replace(
        booked,
        trades=trades,
        peak_equity=max(booked.peak_equity, equity),
        start_balance=start,
        balance=funds,
    )


def deposit(day: Day, amount: float) -> Day:
    """Money came in (or, negative, went out) that is no result of trading: every reference moves with it."""
    return msgspec.structs.replace(
        day,
        start_equity=day.start_equity + amount,
        peak_equity=day.peak_equity + amount,
        deposits=day.deposits + amount,
    )


def count_trade(day: Day) -> Day:
    """A fill is known before history shows its deal; the next `observe` counts the same trade, not one more."""
    return msgspec.structs.replace(day, trades=day.trades + 1)


def settled(day: Day, balance: float, credit: float = 0.0) -> bool:
    """Whether the day's figures contain everything that made this balance, so that its equity may be judged."""
    return day.balance is not None and abs(day.balance - (balance + credit)) <= _CENT


def daily_loss_breached(day: Day, equity: float, limits: Limits) -> Denial | None:
    """The day's loss on equity, floating included, has reached MAX_DAILY_LOSS_PCT of the day's first equity."""
    return _breach(Reason.DAILY_LOSS, "the day's loss", day.start_equity, equity, limits.max_daily_loss_pct)


def drawdown_breached(day: Day, equity: float, limits: Limits) -> Denial | None:
    """Equity has fallen by MAX_DRAWDOWN_PCT from its peak."""
    return _breach(Reason.DRAWDOWN, "the fall from the peak", day.peak_equity, equity, limits.max_drawdown_pct)


def _breach(code: Reason, what: str, reference: float, equity: float, limit: float | None) -> Denial | None:
    lost = reference - equity
    if limit is None or lost <= 0:
        return None
    percent = lost / reference * 100 if reference > 0 else 100.0
    if percent < limit - 1e-9:
        return None
    return Denial(
        code=code,
        detail=f"{what} is {lost:.2f} ({percent:.2f} % of {reference:.2f}), the limit {limit:g} %",
        limit=limit,
        value=round(percent, 4),
    )

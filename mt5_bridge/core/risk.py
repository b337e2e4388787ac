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


class Totals(msgspec.Struct, frozen=True):
    """What the deals of a day come to.

    Attributes:
        deals: how many there are.
        trades: orders that opened or reversed a position, in however many deals: what the daily limit counts.
        net: result of all of them, account currency.
        deposits: deposits less withdrawals, credits and corrections among them, account currency.
    """

    deals: int = 0
    trades: int = 0
    net: float = 0.0
    deposits: float = 0.0


def opens(deal: Deal) -> bool:
    """Whether a deal opened or reversed a position."""
    return deal.is_trade and deal.entry in (DealEntry.IN, DealEntry.INOUT)


def deposit_of(deal: Deal) -> float:
    """What a deal paid in or, negative, out, account currency; 0 for a result of trading."""
    return deal.net if deal.type in _DEPOSIT_TYPES else 0.0


def totals(deals: Sequence[Deal], since_msc: int = 0) -> Totals:
    """Add deals up, those before a time (UTC ms) left out."""
    counted = [deal for deal in deals if deal.time_msc >= since_msc]
    return Totals(
        deals=len(counted),
        trades=len({deal.order for deal in counted if opens(deal)}),
        net=sum(deal.net for deal in counted),
        deposits=sum(map(deposit_of, counted)),
    )


def rebuild(
    *,
    date: str,
    dealt: Totals,
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
        dealt: what the deals of the day come to.
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
        return observe(known, dealt=dealt, equity=equity, balance=balance, credit=credit)
    funds = balance + credit
    start = funds - dealt.net if dealt.deals else equity
    peak = start + dealt.deposits
    if before is not None:
        unseen = 0.0 if earlier is None else sum(map(deposit_of, earlier)) - before.deposits
        peak = max(peak, before.peak_equity + unseen + dealt.deposits)
    return Day(
        date=date,
        start_equity=start + dealt.deposits,
        trades=dealt.trades,
        peak_equity=max(peak, equity),
        start_msc=start_msc,
        deposits=dealt.deposits,
        start_balance=funds - dealt.net,
        balance=funds,
    )


def observe(day: Day, *, dealt: Totals, equity: float, balance: float | None = None, credit: float = 0.0) -> Day:
    """Book the day's deals and a new equity.

    Where the account's balance is not what the deals make of the day's first one, one of the two was read too early:
    only trades are counted then, and the figures wait for two looks that agree.

    Args:
        day: the figures so far.
        dealt: what the deals of the day come to.
        equity: the account's, at the moment of the deals.
        balance: the account's, at that moment; None: taken to agree.
        credit: the account's, at that moment.
    """
    trades = max(day.trades, dealt.trades)
    funds = start = None
    if balance is not None:
        funds = balance + credit
        start = funds - dealt.net
        if day.start_balance is not None and abs(day.start_balance - start) > _CENT:
            return msgspec.structs.replace(day, trades=trades, start_balance=start, balance=None)
    booked = deposit(day, dealt.deposits - day.deposits)
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


def accept(day: Day, equity: float, limits: Limits) -> Day:
    """A person resumes trading: what is lost beyond a limit is accepted, and the limit counts anew from here."""
    loss = daily_loss_breached(day, equity, limits)
    fall = drawdown_breached(day, equity, limits)
    if loss is None and fall is None:
        return day
    return msgspec.structs.replace(
        day,
        start_equity=equity if loss else day.start_equity,
        peak_equity=equity if fall else day.peak_equity,
        accepted=day.accepted + 1,
    )


def carry_over(day: Day, seen: Day, accepted: Day) -> Day:
    """The day with what a person accepted on the one `seen` a moment before."""
    if day.date != seen.date:
        return day
    return msgspec.structs.replace(
        day,
        start_equity=day.start_equity + accepted.start_equity - seen.start_equity,
        peak_equity=day.peak_equity + accepted.peak_equity - seen.peak_equity,
        accepted=accepted.accepted,
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

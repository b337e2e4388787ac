"""The trading day's figures: what counts as loss, and what never does."""

from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.facts import a_day, a_deal, limits

from mt5_bridge.core import risk
from mt5_bridge.core.decision import Day
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Deal, DealEntry
from mt5_bridge.core.times import from_iso

BALANCE, CREDIT, CHARGE, BUY = 2, 3, 4, 0


@pytest.mark.parametrize(
    ("now", "zone", "day", "start"),
    [
        ("2024-05-01T00:00:00Z", "UTC", "2024-05-01", "2024-05-01T00:00:00Z"),
        ("2024-05-01T23:59:59.999Z", "UTC", "2024-05-01", "2024-05-01T00:00:00Z"),
        ("2024-05-01T21:30:00Z", "Europe/Athens", "2024-05-02", "2024-05-01T21:00:00Z"),
        ("2024-01-10T02:00:00Z", "America/New_York", "2024-01-09", "2024-01-09T05:00:00Z"),
        # Clocks go forward at 02:00 local time: the day began in winter time.
        ("2024-03-10T20:00:00Z", "America/New_York", "2024-03-10", "2024-03-10T05:00:00Z"),
        # A day whose midnight the clock skips begins with the skip.
        ("2018-11-04T12:00:00Z", "America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"),
    ],
)
def test_the_trading_day_by_its_zone(now: str, zone: str, day: str, start: str) -> None:
    assert risk.trading_day(from_iso(now), ZoneInfo(zone)) == day
    assert risk.day_start_msc(from_iso(now), ZoneInfo(zone)) == from_iso(start)


@given(
    st.integers(from_iso("1990-01-01"), from_iso("2080-01-01")),
    st.sampled_from(["UTC", "Europe/London", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "Asia/Kolkata"]),
)
def test_a_day_begins_in_itself(now: int, name: str) -> None:
    zone = ZoneInfo(name)
    start = risk.day_start_msc(now, zone)
    assert start <= now
    assert risk.trading_day(start, zone) == risk.trading_day(now, zone)
    assert risk.trading_day(start - 1, zone) < risk.trading_day(now, zone)


def closing(ticket: int, profit: float, **changes: Any) -> Deal:
    return a_deal(ticket, entry=DealEntry.OUT, profit=profit, **changes)


def rebuilt(deals: list[Deal], *, balance: float, equity: float, before: Day | None = None, **rest: Any) -> Day:
    return risk.rebuild(
        date="2023-11-14",
        dealt=risk.totals(deals, rest.get("start_msc", 0)),
        balance=balance,
        equity=equity,
        before=before,
        **rest,
    )


def test_a_day_without_deals_begins_with_the_equity_of_now() -> None:
    day = rebuilt([], balance=10_000.0, equity=9_900.0, start_msc=5)
    assert day == Day(
        date="2023-11-14",
        start_equity=9_900.0,
        trades=0,
        peak_equity=9_900.0,
        start_msc=5,
        start_balance=10_000.0,
        balance=10_000.0,
    )


def test_a_day_begun_elsewhere_is_rebuilt_from_its_deals() -> None:
    deals = [
        a_deal(1, commission=-1.0),
        a_deal(2, order=1),  # the rest of the same order
        a_deal(3, entry=DealEntry.INOUT, profit=50.0),
        closing(4, -149.0),
        a_deal(5, type=BALANCE, profit=500.0),
        a_deal(6, type=CHARGE, profit=-10.0),
    ]
    day = rebuilt(deals, balance=10_390.0, equity=10_300.0)
    assert day.trades == 2
    assert day.deposits == 500.0
    assert day.start_balance == 10_000.0
    assert day.start_equity == 10_500.0
    assert day.peak_equity == 10_500.0
    assert risk.daily_loss_breached(day, 10_300.0, limits(max_daily_loss_pct=1.9)) is not None
    assert risk.daily_loss_breached(day, 10_300.0, limits(max_daily_loss_pct=2.0)) is None


def test_a_restart_within_the_day_keeps_the_equity_it_began_with() -> None:
    before = rebuilt([], balance=10_000.0, equity=9_900.0, start_msc=5)
    day = rebuilt([a_deal(1), a_deal(2, type=BALANCE, profit=100.0)], balance=10_100.0, equity=9_800.0, before=before)
    assert (day.start_equity, day.trades, day.deposits, day.start_msc) == (10_000.0, 1, 100.0, 5)
    assert day.peak_equity == 10_000.0
    assert risk.settled(day, 10_100.0)


def test_a_new_day_keeps_the_peak_and_takes_unseen_deposits_out_of_it() -> None:
    before = a_day(date="2023-11-13", peak_equity=12_000.0, deposits=200.0)
    earlier = [a_deal(1, type=BALANCE, profit=200.0), a_deal(2, type=BALANCE, profit=-3_000.0)]
    day = rebuilt([], balance=8_000.0, equity=8_000.0, before=before, earlier=earlier)
    assert day.peak_equity == 9_000.0
    assert rebuilt([], balance=8_000.0, equity=8_000.0, before=before).peak_equity == 12_000.0
    grown = rebuilt([], balance=20_000.0, equity=20_000.0, before=before)
    assert (grown.peak_equity, grown.deposits, grown.trades) == (20_000.0, 0.0, 0)


def test_deals_of_the_day_before_do_not_count() -> None:
    late = [a_deal(1, time_msc=4), a_deal(2, type=BALANCE, profit=70.0, time_msc=4), a_deal(3, time_msc=5)]
    day = rebuilt(late, balance=10_000.0, equity=10_000.0, start_msc=5)
    assert (day.trades, day.deposits, day.start_equity) == (1, 0.0, 10_000.0)
    assert risk.observe(day, dealt=risk.totals(late, day.start_msc), equity=10_000.0, balance=10_000.0) == day


def test_deposits_and_withdrawals_are_neither_profit_nor_loss() -> None:
    day = rebuilt([], balance=10_000.0, equity=10_000.0)
    withdrawn = [a_deal(1, type=BALANCE, profit=-6_000.0)]
    day = risk.observe(day, dealt=risk.totals(withdrawn, day.start_msc), equity=4_000.0, balance=4_000.0)
    assert (day.start_equity, day.peak_equity, day.deposits) == (4_000.0, 4_000.0, -6_000.0)
    assert risk.daily_loss_breached(day, 4_000.0, limits()) is None
    assert risk.drawdown_breached(day, 4_000.0, limits(max_drawdown_pct=1.0)) is None
    paid_in = [*withdrawn, a_deal(2, type=BALANCE, profit=1_000.0), a_deal(3, type=CREDIT, profit=50.0)]
    day = risk.observe(day, dealt=risk.totals(paid_in, day.start_msc), equity=4_900.0, balance=5_000.0, credit=50.0)
    assert (day.start_equity, day.peak_equity) == (5_050.0, 5_050.0)
    assert risk.daily_loss_breached(day, 4_900.0, limits(max_daily_loss_pct=2.0)) is not None


def test_a_balance_read_before_its_deal_concludes_nothing() -> None:
    day = rebuilt([], balance=10_000.0, equity=10_000.0)
    early = risk.observe(day, dealt=risk.totals([], day.start_msc), equity=15_000.0, balance=15_000.0)
    assert early.balance is None
    assert not risk.settled(early, 15_000.0)
    assert early.peak_equity == 10_000.0
    deposit = [a_deal(1, type=BALANCE, profit=5_000.0)]
    doubted = risk.observe(early, dealt=risk.totals(deposit, early.start_msc), equity=15_000.0, balance=15_000.0)
    assert not risk.settled(doubted, 15_000.0)
    agreed = risk.observe(doubted, dealt=risk.totals(deposit, doubted.start_msc), equity=15_000.0, balance=15_000.0)
    assert risk.settled(agreed, 15_000.0)
    assert (agreed.start_equity, agreed.peak_equity) == (15_000.0, 15_000.0)
    assert not risk.settled(agreed, 14_000.0)


def test_without_a_balance_deals_and_equity_are_taken_to_agree() -> None:
    day = risk.observe(a_day(), dealt=risk.totals([a_deal(1)]), equity=10_500.0)
    assert (day.trades, day.peak_equity, day.balance) == (1, 10_500.0, None)


def test_a_trade_known_before_its_deal_counts_once() -> None:
    day = risk.count_trade(a_day())
    assert day.trades == 1
    assert risk.observe(day, dealt=risk.totals([], day.start_msc), equity=10_000.0).trades == 1
    assert risk.observe(day, dealt=risk.totals([a_deal(1)], day.start_msc), equity=10_000.0).trades == 1


@pytest.mark.parametrize(
    ("reference", "equity", "limit", "percent"),
    [
        (10_000.0, 9_500.0, 5.0, 5.0),
        (10_000.0, 9_500.01, 5.0, None),
        (10_000.0, 10_500.0, 5.0, None),
        (10_000.0, 0.0, None, None),
        (0.0, -1.0, 5.0, 100.0),
        (-500.0, 100.0, 5.0, None),
        (0.0, 0.0, 5.0, None),
    ],
)
def test_breaches(reference: float, equity: float, limit: float | None, percent: float | None) -> None:
    day = a_day(start_equity=reference, peak_equity=reference)
    loss = risk.daily_loss_breached(day, equity, limits(max_daily_loss_pct=limit))
    fall = risk.drawdown_breached(day, equity, limits(max_drawdown_pct=limit))
    assert (loss.value if loss else None) == (fall.value if fall else None) == percent
    if loss and fall:
        assert (loss.code, fall.code) == (Reason.DAILY_LOSS, Reason.DRAWDOWN)
        assert loss.limit == limit


trades = st.lists(st.floats(-900, 900).map(lambda profit: round(profit, 2)), max_size=6)
cash = st.lists(st.sampled_from([-2_000.0, -500.0, 250.0, 3_000.0]), max_size=4)


@given(trades, cash, st.randoms(use_true_random=False))
def test_money_moved_in_or_out_never_changes_the_days_result(
    profits: list[float], moves: list[float], rng: Any
) -> None:
    kinds = [(BUY, profit) for profit in profits] + [(BALANCE, amount) for amount in moves]
    rng.shuffle(kinds)
    day = rebuilt([], balance=50_000.0, equity=50_000.0)
    deals: list[Deal] = []
    funds = 50_000.0
    for ticket, (kind, amount) in enumerate(kinds):
        deals.append(a_deal(ticket, type=kind, entry=DealEntry.OUT, profit=amount))
        funds += amount
        day = risk.observe(day, dealt=risk.totals(deals, day.start_msc), equity=funds, balance=funds)
    assert funds - day.start_equity == pytest.approx(sum(profits), abs=0.01)
    assert day.peak_equity >= day.start_equity - 0.01
    assert day.trades == 0
    again = rebuilt(deals, balance=funds, equity=funds)
    assert again.start_equity == pytest.approx(day.start_equity, abs=0.01)
    assert msgspec.json.decode(msgspec.json.encode(day), type=Day) == day


def test_what_a_person_accepts_is_no_breach_any_more() -> None:
    day = a_day(start_equity=10_000.0, peak_equity=11_000.0)
    rules = limits(max_daily_loss_pct=5.0, max_drawdown_pct=10.0)
    assert risk.accept(day, 9_950.0, rules) is day
    accepted = risk.accept(day, 9_400.0, rules)
    assert (accepted.start_equity, accepted.peak_equity, accepted.accepted) == (9_400.0, 9_400.0, 1)
    assert risk.accept(accepted, 9_400.0, rules) is accepted
    fallen = risk.accept(day, 9_800.0, rules)
    assert (fallen.start_equity, fallen.peak_equity) == (10_000.0, 9_800.0)


def test_what_a_person_accepted_is_carried_over_to_the_day_as_it_is_now() -> None:
    seen = a_day(start_equity=10_000.0, peak_equity=11_000.0)
    accepted = risk.accept(seen, 9_400.0, limits(max_daily_loss_pct=5.0))
    now = risk.deposit(seen, 500.0)
    carried = risk.carry_over(now, seen, accepted)
    assert (carried.start_equity, carried.peak_equity, carried.accepted) == (9_900.0, 11_500.0, 1)
    assert risk.carry_over(seen, seen, seen) == seen
    another = msgspec.structs.replace(seen, date="2000-01-01")
    assert risk.carry_over(another, seen, accepted) is another

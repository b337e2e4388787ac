"""Nights, as the account sees them: at the server's midnight, whoever looks and whenever."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.paper import ALWAYS, balance_adds_up, buy, pending, sell

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market.clock import MANUAL_START_MSC, ManualClock

Start = Callable[..., MarketControl]

HOUR, DAY = 3600, 86_400
TO_MIDNIGHT = 22 * HOUR
"""The manual clock starts on a Wednesday, at 02:00 on the server."""


def swap() -> float:
    return float(sum(position.swap for position in mt5.positions_get()))


def test_swap_is_added_at_midnight_three_times_on_wednesday(market: MarketControl) -> None:
    long, short = buy(1.0).order, sell(1.0).order
    market.advance(TO_MIDNIGHT - 0.001)
    assert swap() == 0.0
    market.advance(0.001)
    # A point of one lot is 1 USD; longs pay 6.6, shorts get 2.5, three times.
    assert mt5.positions_get(ticket=long)[0].swap == -19.8
    assert mt5.positions_get(ticket=short)[0].swap == 7.5
    account = mt5.account_info()
    assert account.balance == 10000.0
    assert account.equity == pytest.approx(account.balance + account.profit - 12.3)
    expected = [-12.3 - 4.1 * nights for nights in (1, 2, 2, 2, 3)]
    for total in expected:
        market.advance(DAY)
        assert swap() == pytest.approx(total)


def test_the_swap_is_settled_by_the_closing_deal_and_in_parts(market: MarketControl) -> None:
    ticket = buy(0.3).order
    market.advance(DAY)
    market.tick("EURUSD", 1.1, 1.1001)
    assert mt5.positions_get()[0].swap == -5.94
    sell(0.1, position=ticket)
    assert mt5.history_deals_get(*ALWAYS)[-1].swap == -1.98
    assert mt5.positions_get()[0].swap == -3.96
    sell(0.2, position=ticket)
    assert mt5.history_deals_get(*ALWAYS)[-1].swap == -3.96
    assert mt5.account_info().balance == pytest.approx(10000.0 - 3.0 - 5.94)
    assert balance_adds_up()


def test_a_close_by_settles_the_swap_of_both(market: MarketControl) -> None:
    long, short = buy(1.0).order, sell(1.0).order
    market.advance(DAY)
    mt5.order_send({"action": mt5.TRADE_ACTION_CLOSE_BY, "position": long, "position_by": short})
    assert [deal.swap for deal in mt5.history_deals_get(*ALWAYS)[-2:]] == [-19.8, 7.5]
    assert balance_adds_up()


def test_swap_in_points_converts_at_the_price_of_the_night(start: Start) -> None:
    market = start()
    mt5.symbol_select("USDJPY")
    market.tick("USDJPY", 100.0, 100.01)
    buy(1.0, symbol="USDJPY")
    market.advance(TO_MIDNIGHT)
    # 100 yen a point are 1.00 USD; 1.5 points, three times.
    assert swap() == 4.5


def test_the_smallest_trades_may_pay_nothing(start: Start) -> None:
    """The help's note on "Calculation in points": what is below a cent at one of the stages is zero."""
    market = start(symbols={"EURUSD": {"contract_size": 1000.0}})
    buy(0.01)
    market.advance(TO_MIDNIGHT)
    assert swap() == 0.0


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"swap_mode": "currency_symbol", "swap_long": -2.0}, -6.6),
        ({"swap_mode": "currency_symbol", "swap_long": 2.0}, 6.6),
        ({"swap_mode": "currency_margin", "swap_long": -2.0}, -6.6),
        ({"swap_mode": "currency_deposit", "swap_long": -2.0}, -6.0),
        ({"swap_mode": "interest_current", "swap_long": -3.6}, -33.0),
        ({"swap_mode": "interest_open", "swap_long": -3.6}, -33.0),
        ({"swap_mode": "disabled", "swap_long": -3.6}, 0.0),
        ({"swap_mode": "points", "swap_long": -2.0, "swap_rollover3days": "friday"}, -2.0),
    ],
)
def test_modes_of_swap(start: Start, rules: dict[str, Any], expected: float) -> None:
    market = start(symbols={"EURUSD": rules})
    buy(1.0)
    market.advance(TO_MIDNIGHT)
    assert swap() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("mode", ["reopen_current", "reopen_bid"])
def test_swap_by_reopening_is_in_the_price(start: Start, mode: str) -> None:
    market = start(symbols={"EURUSD": {"swap_mode": mode, "swap_long": -2.0}})
    ticket = buy(1.0, sl=1.0).order
    market.advance(TO_MIDNIGHT)
    (position,) = mt5.positions_get()
    assert (position.ticket, position.price_open, position.swap, position.sl) == (ticket, 1.10006, 0.0, 1.0)
    closed, opened = mt5.history_deals_get(position=ticket)[1:]
    assert (closed.entry, closed.price, closed.profit) == (mt5.DEAL_ENTRY_OUT, 1.1, -10.0)
    assert (opened.entry, opened.price, opened.reason) == (mt5.DEAL_ENTRY_IN, 1.10006, mt5.DEAL_REASON_ROLLOVER)
    assert balance_adds_up()


@pytest.mark.parametrize(
    ("mode", "rate", "long", "short"),
    [
        ("interest_current", -3.6, -33.0, -36.0),  # 10 euros a night: sold by longs, bought by shorts
        ("currency_symbol", -2.0, -7.2, -7.2),  # money is bought to be paid
        ("currency_symbol", 2.0, 6.6, 6.6),  # and sold when received
    ],
)
def test_swaps_convert_at_the_side_of_the_price_they_take(
    start: Start, mode: str, rate: float, long: float, short: float
) -> None:
    rules = {"swap_mode": mode, "swap_long": rate, "swap_short": rate}
    market = start(balance=100_000, symbols={"EURUSD": rules})
    buy(1.0)
    sell(1.0)
    market.tick("EURUSD", 1.1, 1.2)
    market.advance(TO_MIDNIGHT)
    assert [position.swap for position in mt5.positions_get()] == [long, short]


@pytest.mark.parametrize(("mode", "opened_at"), [("reopen_current", 1.10004), ("reopen_bid", 1.09994)])
def test_a_short_is_reopened_from_the_ask(start: Start, mode: str, opened_at: float) -> None:
    market = start(symbols={"EURUSD": {"swap_mode": mode, "swap_short": -2.0}})
    ticket = sell(1.0).order
    market.advance(TO_MIDNIGHT)
    closed, opened = mt5.history_deals_get(position=ticket)[1:]
    assert (closed.type, closed.price, closed.profit) == (mt5.DEAL_TYPE_BUY, 1.1001, -10.0)
    assert (opened.type, opened.price) == (mt5.DEAL_TYPE_SELL, opened_at)
    assert balance_adds_up()


def away(market: MarketControl, seconds: float, bid: float, ask: float) -> None:
    """Nobody looks until a tick has come, so many seconds later."""
    mt5.shutdown()
    market.advance(seconds)
    market.tick("EURUSD", bid, ask)
    assert mt5.initialize()


def test_the_tick_of_midnight_does_not_price_the_night(start: Start) -> None:
    market = start(symbols={"EURUSD": {"swap_mode": "interest_current", "swap_long": -3.6}})
    buy(1.0)
    away(market, TO_MIDNIGHT, 1.2, 1.2001)
    assert swap() == -33.0


def test_a_night_comes_before_the_tick_of_midnight(market: MarketControl) -> None:
    ticket = buy(1.0, sl=1.09).order
    away(market, TO_MIDNIGHT, 1.08, 1.0801)
    deal = mt5.history_deals_get(position=ticket)[-1]
    assert (deal.reason, deal.swap) == (mt5.DEAL_REASON_SL, -19.8)


def test_a_night_comes_before_the_stop_out_of_midnight(start: Start) -> None:
    market = start(balance=1000, symbols={"EURUSD": {"swap_mode": "currency_deposit", "swap_long": -10.0}})
    ticket = buy(0.8).order
    away(market, TO_MIDNIGHT, 1.09, 1.0901)
    deal = mt5.history_deals_get(position=ticket)[-1]
    assert (deal.reason, deal.swap) == (mt5.DEAL_REASON_SO, -24.0)


def test_an_order_expires_before_the_tick_of_that_moment(market: MarketControl) -> None:
    now = mt5.symbol_info_tick("EURUSD").time
    order = pending(
        mt5.ORDER_TYPE_BUY_LIMIT, 1.05, type_time=mt5.ORDER_TIME_SPECIFIED, expiration=now + 60
    ).order  # fmt: skip
    away(market, 60, 1.04, 1.0401)
    assert mt5.history_orders_get(ticket=order)[0].state == mt5.ORDER_STATE_EXPIRED
    assert mt5.positions_total() == 0


def test_nights_do_not_depend_on_who_looks(tmp_path: Path) -> None:
    def two_days(folder: Path, looks: int) -> Any:
        settings: dict[str, Any] = {"DATA_DIR": str(folder), "margin_mode": "hedging"}
        market = mt5.install(clock="manual", **settings)
        assert mt5.initialize()
        for symbol in ("GBPUSD", "EURJPY"):
            mt5.symbol_select(symbol)
            buy(0.5, symbol=symbol)
        if looks:
            for _ in range(looks):
                market.advance(2 * DAY / looks)
        else:
            mt5.install(clock=ManualClock(MANUAL_START_MSC + 2 * DAY * 1000), **settings)
            assert mt5.initialize()
        return mt5.positions_get(), mt5.account_info(), mt5.history_deals_get(*ALWAYS)

    often, never = two_days(tmp_path / "often", 24), two_days(tmp_path / "never", 0)
    mt5.uninstall()
    assert often == never
    assert all(position.swap for position in never[0])


def test_a_clock_set_back_over_midnight_rolls_no_night_twice(market: MarketControl) -> None:
    buy(1.0)
    market.advance(TO_MIDNIGHT + 0.5 * HOUR)
    assert swap() == -19.8
    for offset in (1, 0):  # the server's clock read 00:30, and goes back an hour, and soon another
        mt5.inject(function="account_info", kind="clock_offset", seconds=offset * HOUR)
        mt5.account_info()
        market.advance(0.25 * HOUR)
        market.tick("EURUSD", 1.1, 1.1001)
        assert swap() == -19.8
    market.advance(12 * HOUR)
    assert swap() == -19.8
    market.advance(14 * HOUR)
    assert swap() == pytest.approx(-26.4)


def test_a_clock_set_forward_over_midnight_rolls_it_at_once(market: MarketControl) -> None:
    """Nothing else was to happen before the old midnight."""
    buy(1.0)
    assert swap() == 0.0
    mt5.inject(function="account_info", kind="clock_offset", seconds=24 * HOUR)
    mt5.account_info()
    market.advance(0.001)
    assert swap() == -19.8


def test_a_swap_may_stop_the_account_out(start: Start) -> None:
    rules = {"swap_mode": "currency_deposit", "swap_long": -310.0}
    market = start(balance=1000, symbols={"EURUSD": rules})
    ticket = buy(0.8).order
    market.advance(DAY)
    assert mt5.positions_total() == 0
    deal = mt5.history_deals_get(position=ticket)[-1]
    assert (deal.reason, deal.swap) == (mt5.DEAL_REASON_SO, -744.0)
    assert deal.time_msc == MANUAL_START_MSC + (TO_MIDNIGHT + 2 * HOUR) * 1000
    assert balance_adds_up()


@pytest.mark.parametrize(("mode", "stop"), [("daily", 0.0), ("daily_no_stops", 1.0)])
def test_orders_that_live_for_a_day(start: Start, mode: str, stop: float) -> None:
    market = start(symbols={"EURUSD": {"order_gtc_mode": mode, "swap_mode": "disabled"}})
    buy(sl=1.0)
    now = mt5.symbol_info_tick("EURUSD").time
    gone = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0).order
    kept = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, type_time=mt5.ORDER_TIME_SPECIFIED, expiration=now + 2 * DAY).order
    market.advance(TO_MIDNIGHT)
    assert [order.ticket for order in mt5.orders_get()] == [kept]
    assert mt5.history_orders_get(ticket=gone)[0].state == mt5.ORDER_STATE_EXPIRED
    assert mt5.positions_get()[0].sl == stop

"""Sessions: when symbols trade, and market time that stands still while they do not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market.serverclock import ServerClock
from mt5_bridge.simulator.market.sessions import (
    AROUND_THE_CLOCK,
    DAY_MSC,
    FOREX_WEEK,
    HOUR_MSC,
    INDICES_WEEK,
    METALS_WEEK,
    MINUTE_MSC,
    MONDAY_MSC,
    WEEK_MSC,
    Retiming,
)

Start = Callable[..., MarketControl]
WEEKS = [FOREX_WEEK, METALS_WEEK, INDICES_WEEK, AROUND_THE_CLOCK]
ZONES = ["Europe/Athens", "America/New_York", "Africa/Cairo", "Asia/Jerusalem", None]
"""Cairo's clock changes on Thursdays and Fridays, Jerusalem's in spring on Fridays: inside the week."""
YEAR_MSC = 366 * DAY_MSC
START = 1_700_000_000_000


def at(day: int, hour: int, minute: int = 0, month: int = 1, second: int = 0) -> int:
    """A moment of 2024 on a clock, ms."""
    return int(datetime(2024, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize("week", WEEKS)
def test_stretches_lie_in_the_week_one_after_the_other(week: tuple[tuple[int, int], ...]) -> None:
    edges = [edge for stretch in week for edge in stretch]
    assert all(earlier <= later for earlier, later in pairwise(edges))
    assert edges[0] >= 0
    assert edges[-1] <= WEEK_MSC


@given(
    week=st.sampled_from(WEEKS),
    zone=st.sampled_from(ZONES),
    anchor=st.integers(START, START + YEAR_MSC),
    market=st.integers(-WEEK_MSC, YEAR_MSC),
    speed=st.sampled_from(["1", "7/3", "60"]),
)
def test_a_market_moment_falls_when_it_is_open_and_comes_back(
    week: tuple[tuple[int, int], ...], zone: str | None, anchor: int, market: int, speed: str
) -> None:
    retiming = Retiming(anchor, Fraction(speed), week, ServerClock(7200, zone))
    moments = np.array([market, market + 1, market + 60_000], np.int64)
    times = retiming.to_clock(moments)
    assert (np.diff(times) >= 0).all()
    moment = int(times[0])
    assert retiming.is_open(moment)
    assert retiming.to_market(moment) <= market < retiming.to_market(moment + 1)
    closed = retiming.closed_before(moments, times)
    assert (np.diff(closed) >= 0).all()


def changing(shown: int, jump: int) -> tuple[ServerClock, int]:
    """A clock that is changed by `jump` when it shows `shown`, and the moment."""
    clock = ServerClock(7200)
    moment = shown - 2 * HOUR_MSC
    clock.change(moment, 7200 + jump // 1000)
    return clock, moment


CHANGES = {
    "Cairo in spring": (ServerClock(0, "Africa/Cairo"), at(25, 22, month=4)),
    "Cairo in autumn": (ServerClock(0, "Africa/Cairo"), at(31, 21, month=10)),
    "Athens in spring": (ServerClock(0, "Europe/Athens"), at(31, 1, month=3)),
    "to Monday": changing(at(7, 23, 30), HOUR_MSC),
    "back to Sunday": changing(at(8, 0, 30), -HOUR_MSC),
    "to Saturday": changing(at(12, 23, 30), HOUR_MSC),
    "back to Friday": changing(at(13, 0), -HOUR_MSC),
}


@pytest.mark.parametrize("week", WEEKS)
@pytest.mark.parametrize("name", CHANGES)
def test_it_is_open_when_the_servers_clock_says_so(week: tuple[tuple[int, int], ...], name: str) -> None:
    clock, change = CHANGES[name]
    retiming = Retiming(START, Fraction(1), week, clock)
    moments = [*range(change - 3 * HOUR_MSC, change + 3 * HOUR_MSC, 5 * MINUTE_MSC)]
    moments += range(change - WEEK_MSC, change + 2 * WEEK_MSC, HOUR_MSC)
    market = 0
    for moment in sorted(moments):
        shown = (clock.server_time(moment) - MONDAY_MSC) % WEEK_MSC
        assert retiming.is_open(moment) is any(start <= shown < end for start, end in week)
        before, market = market, retiming.to_market(moment)
        assert market >= before
        if retiming.is_open(moment):
            assert retiming.to_clock(np.array([market], np.int64)).tolist() == [moment]


@pytest.mark.parametrize(("change", "hours"), [(at(26, 0, month=4), 119), (at(31, 23, month=10), 121)])
def test_a_week_in_which_the_clock_changes_is_shorter_or_longer(change: int, hours: int) -> None:
    """Market time goes on through all of it, and is what it was in the weeks after."""
    server = ServerClock(0, "Africa/Cairo")
    retiming = Retiming(START, Fraction(1), FOREX_WEEK, server)
    monday = (change - MONDAY_MSC) // WEEK_MSC * WEEK_MSC + MONDAY_MSC
    edges = [retiming.to_market(server.utc(monday + week * WEEK_MSC)) for week in range(-1, 3)]
    assert [(after - before) // HOUR_MSC for before, after in pairwise(edges)] == [120, hours, 120]
    times = retiming.to_clock(np.arange(edges[0], edges[-1], MINUTE_MSC, dtype=np.int64))
    assert set(np.diff(times).tolist()) == {MINUTE_MSC, 2 * DAY_MSC + MINUTE_MSC}


@pytest.mark.parametrize(
    ("symbol", "moment", "is_open"),
    [
        ("GBPUSD", at(5, 23, 59, second=59), True),
        ("GBPUSD", at(6, 0), False),
        ("GBPUSD", at(7, 23, 59, second=59), False),
        ("GBPUSD", at(8, 0), True),
        ("XAUUSD", at(8, 0, 59, second=59), False),
        ("XAUUSD", at(8, 1), True),
        ("XAUUSD", at(8, 23, 59), True),
        ("XAUUSD", at(9, 0), False),
        ("US500", at(8, 0, 30), False),
        ("US500", at(8, 23, 14), True),
        ("US500", at(8, 23, 15), False),
        ("US500", at(8, 23, 30), True),
        ("BTCUSD", at(6, 12), True),
        ("BTCUSD", at(9, 0, 30), True),
    ],
)
def test_each_symbol_trades_in_its_own_hours_of_the_server(
    start: Start, symbol: str, moment: int, is_open: bool
) -> None:
    market = start(sessions="real", ticks="").market
    assert market.is_open(symbol, market.utc(moment)) is is_open
    assert start(ticks="").market.is_open(symbol, market.utc(moment))


def test_no_tick_falls_into_a_break(start: Start) -> None:
    market = start(sessions="real", ticks="")
    market.advance(2 * 86_400)
    for symbol, breaks in (("XAUUSD", [(0, 60)]), ("US500", [(0, 60), (1395, 1410)])):
        mt5.symbol_select(symbol)
        now = market.now() // 1000 + 7200
        ticks = mt5.copy_ticks_range(symbol, now - 2 * 86_400, now, mt5.COPY_TICKS_ALL)
        minutes = ticks["time_msc"] // MINUTE_MSC % 1440
        for first, end in breaks:
            assert not ((minutes >= first) & (minutes < end)).any()
        assert (minutes == 60).any()
        assert (minutes == 1439).any()


@pytest.mark.parametrize("zone", ["EET", "Europe/Athens"])
def test_sessions_keep_the_servers_hours_through_summer_time(start: Start, zone: str) -> None:
    """From Sunday, 31 March, the server's day begins an hour earlier in UTC; so does the week."""
    market = start(sessions="real", ticks="", server_timezone=zone).market
    for week_before, utc_hour in ((at(25, 0, month=3), 22), (at(1, 0, month=4), 21)):
        opening = market.utc(week_before)
        assert datetime.fromtimestamp(opening / 1000, UTC).hour == utc_hour
        assert market.is_open("GBPUSD", opening)
        assert not market.is_open("GBPUSD", opening - 1)
        number = market.feeds["GBPUSD"].source.index(opening)
        first = int(market.feeds["GBPUSD"].source.slice(number, number + 1)[0][0])
        assert first - opening < timedelta(seconds=1) // timedelta(milliseconds=1)


def test_a_request_in_a_break_is_refused(start: Start) -> None:
    market = start(sessions="real", ticks="")
    mt5.symbol_select("XAUUSD")
    market.advance((market.market.utc(at(4, 0, 30)) - market.now()) / 1000)
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "XAUUSD", "volume": 0.1, "type": mt5.ORDER_TYPE_BUY}
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_MARKET_CLOSED
    market.advance(1860)
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_DONE

"""The server's wall clock, with summer time and faults."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mt5_bridge.simulator as mt5
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.config import parse
from mt5_bridge.simulator.market.clock import ManualClock
from mt5_bridge.simulator.market.serverclock import ServerClock

Start = Callable[..., MarketControl]
HOUR = 3_600_000
SPRING = int(datetime(2024, 3, 31, 1, tzinfo=UTC).timestamp()) * 1000
AUTUMN = int(datetime(2024, 10, 27, 1, tzinfo=UTC).timestamp()) * 1000


@given(
    st.integers(631_152_000, 2_200_000_000), st.sampled_from(["Europe/Athens", "America/New_York", "Africa/Casablanca"])
)
def test_it_reads_what_the_zone_says(second: int, zone: str) -> None:
    clock = ServerClock(0, zone)
    offset = datetime.fromtimestamp(second, ZoneInfo(zone)).utcoffset()
    assert offset is not None
    assert clock.server_time(second * 1000) == (second + int(offset.total_seconds())) * 1000
    shown = clock.server_time(second * 1000)
    first = clock.utc(shown)
    assert clock.server_time(first) == shown
    assert first <= second * 1000
    assert any(start <= second * 1000 < end for start, end in clock.stretches(shown, shown + 1))


@given(st.lists(st.integers(SPRING - 10 * HOUR, AUTUMN + 10 * HOUR), max_size=20))
def test_many_at_once_are_as_one_by_one(moments: list[int]) -> None:
    for clock in (ServerClock(0, "EET"), ServerClock(7200)):
        shown = clock.server_times(np.array(moments, np.int64))
        assert shown.tolist() == [clock.server_time(moment) for moment in moments]


def test_an_hour_is_skipped_in_spring_and_passes_twice_in_autumn() -> None:
    clock = ServerClock(0, "Europe/Athens")
    assert clock.server_time(SPRING) - clock.server_time(SPRING - 1) == HOUR + 1
    assert clock.utc(SPRING + 2 * HOUR + 5) == SPRING  # what the clock never shows is the moment it leaps
    assert clock.stretches(SPRING + 2 * HOUR, SPRING + 3 * HOUR) == []
    shown = AUTUMN + 2 * HOUR
    assert clock.stretches(shown, shown + HOUR) == [(AUTUMN - HOUR, AUTUMN), (AUTUMN, AUTUMN + HOUR)]
    assert clock.utc(shown) == AUTUMN - HOUR
    assert clock.highest(AUTUMN + 5) == AUTUMN - 1 + 3 * HOUR
    assert clock.highest(AUTUMN - 5) == AUTUMN - 5 + 3 * HOUR
    clock.change(AUTUMN + 5, 0)
    assert clock.highest(AUTUMN + 10) == AUTUMN - 1 + 3 * HOUR
    assert clock.highest(AUTUMN + 4 * HOUR) == AUTUMN + 4 * HOUR


def test_a_fault_overrules_what_was_foreseen() -> None:
    clock = ServerClock(0, "Europe/Athens")
    clock.change(SPRING - HOUR, -18_000)
    assert clock.server_time(SPRING - HOUR - 1) == SPRING - HOUR - 1 + 2 * HOUR
    for moment in (SPRING - HOUR, SPRING, AUTUMN + 1):
        assert clock.server_time(moment) == moment - 5 * HOUR
        assert clock.server_time(clock.utc(moment)) == moment
    clock.change(SPRING, 0)
    assert clock.server_time(SPRING) == SPRING
    assert clock.version == 2


def test_ticks_and_bars_through_the_change_in_spring(start: Start) -> None:
    market = start(ticks="", server_timezone="Europe/Athens", speed="0.01")
    mt5.symbol_select("GBPUSD")
    market.advance((SPRING - market.now()) / 1000 + 1800)
    ticks = mt5.copy_ticks_range("GBPUSD", SPRING // 1000 + 3600, SPRING // 1000 + 4 * 3600, mt5.COPY_TICKS_ALL)
    hours = set((ticks["time"] - SPRING // 1000) // 3600)
    assert hours == {1, 3}
    gap = np.diff(ticks["time_msc"]).max()
    assert HOUR < gap < HOUR + 120_000
    bars = mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_M30, SPRING // 1000 + 3600, SPRING // 1000 + 4 * 3600)
    assert ((bars["time"] - SPRING // 1000) // 1800).tolist() == [2, 3, 6]
    assert int(bars["tick_volume"].sum()) == len(ticks)


def test_ticks_and_bars_through_the_change_in_autumn(start: Start) -> None:
    """The second pass of an hour falls into the bars of the first, and no tick is lost."""
    market = start(ticks="", server_timezone="Europe/Athens", speed="0.01")
    mt5.symbol_select("GBPUSD")
    market.advance((AUTUMN - market.now()) / 1000 + 1200)
    first = AUTUMN // 1000 + 2 * 3600
    early = mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_H1, first, first)
    market.advance(2 * 3600 - 1200)
    ticks = mt5.copy_ticks_range("GBPUSD", first, first + 2 * 3600, mt5.COPY_TICKS_ALL)
    assert (np.diff(ticks["time_msc"]) < 0).sum() == 1
    bars = mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_H1, first, first + 7200)
    assert bars["time"].tolist() == [first, first + 3600]
    passes = ticks[ticks["time"] < first + 3600]
    assert bars["tick_volume"][0] == len(passes) > early["tick_volume"][0] > len(passes) // 2
    assert (bars["open"][0], bars["close"][0]) == (passes["bid"][0], passes["bid"][-1])
    minutes = mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_M1, first, first + 7200)
    assert (np.diff(minutes["time"]) > 0).all()
    assert mt5.symbol_info_tick("GBPUSD").time_msc == AUTUMN + 2 * HOUR + int(ticks["time_msc"][-1]) % HOUR + HOUR


def test_the_zone_goes_before_the_offset_and_must_exist() -> None:
    config = parse({"PAPER_SERVER_OFFSET": "7200", "PAPER_SERVER_TIMEZONE": "America/New_York"})
    assert config.server_zone == "America/New_York"
    for name in ("Middle/Earth", "../etc", "EE T"):
        with pytest.raises(SettingsError, match="PAPER_SERVER_TIMEZONE"):
            parse({"PAPER_SERVER_TIMEZONE": name})


@pytest.fixture
def autumn() -> Iterator[MarketControl]:
    """A market three hours before its server's clock is set back."""
    market = mt5.install(clock=ManualClock(AUTUMN - 3 * HOUR), ticks="", server_timezone="Europe/Athens")
    assert mt5.initialize()
    mt5.symbol_select("GBPUSD")
    yield market
    mt5.uninstall()


def test_a_range_of_ticks_holds_what_was_shown_in_it_when_the_clock_is_set_back(autumn: MarketControl) -> None:
    """Of both passes of the hour, in the order they came, and nothing else; as the bars of the same range."""
    autumn.advance(5 * 3600)
    hour = AUTUMN // 1000 + 2 * 3600
    every = mt5.copy_ticks_range("GBPUSD", hour - 3600, hour + 7200, mt5.COPY_TICKS_ALL)
    for lo, hi in ((hour + 1800, hour + 5400), (hour - 60, hour + 1), (hour + 600, hour + 1200), (hour, hour)):
        within = every[(every["time"] >= lo) & (every["time_msc"] <= hi * 1000)]
        assert (mt5.copy_ticks_range("GBPUSD", lo, hi, mt5.COPY_TICKS_ALL) == within).all()
        since = every[every["time"] >= lo]
        for count in (1, len(within) // 2 + 1, len(since)):
            assert (mt5.copy_ticks_from("GBPUSD", lo, count, mt5.COPY_TICKS_ALL) == since[:count]).all()
    minute = mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_M1, hour + 600, hour + 600)
    ticks = mt5.copy_ticks_range("GBPUSD", hour + 600, hour + 660, mt5.COPY_TICKS_ALL)
    assert minute["tick_volume"].tolist() == [(ticks["time"] < hour + 660).sum()]


def test_the_last_minutes_hold_the_newest_tick_when_the_clock_is_set_back(autumn: MarketControl) -> None:
    autumn.advance(3 * 3600 + 1200)
    newest = mt5.symbol_info_tick("GBPUSD")
    found = mt5.copy_ticks_range("GBPUSD", newest.time - 600, newest.time + 1, mt5.COPY_TICKS_ALL)
    assert found[-1].item() == tuple(newest)
    assert mt5.copy_ticks_from("GBPUSD", newest.time - 600, 100_000, mt5.COPY_TICKS_ALL)[-1].item() == tuple(newest)


def test_ticks_are_found_after_faults_have_set_the_clock_back_twice(start: Start) -> None:
    market = start(ticks="")
    for hours in (9, 5, 1):
        market.market.change_offset(hours * 3600)
        market.advance(60)
    shown = {int(time) // 3600 for time in mt5.copy_ticks_from("GBPUSD", 0, 10**6, mt5.COPY_TICKS_ALL)["time"][-600:]}
    midnight = market.now() // 3_600_000
    assert {hour - midnight for hour in shown} == {1, 5, 9}
    for hours in (9, 5, 1):
        lo = (midnight + hours) * 3600
        assert len(mt5.copy_ticks_range("GBPUSD", lo, lo + 600, mt5.COPY_TICKS_ALL)) > 100

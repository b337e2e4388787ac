"""Recordings in time: rounds of a loop, what was before the start, and hours in which a market was closed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market.clock import MANUAL_START_MSC
from mt5_bridge.simulator.market.sessions import DAY_MSC, HOUR_MSC, MINUTE_MSC, Retiming
from mt5_bridge.simulator.market.sources import Extra, RecordedSource, Ticks, without_closed_hours

Start = Callable[..., MarketControl]
ANCHOR = MANUAL_START_MSC
RETIMING = Retiming(ANCHOR, Fraction(1))
DAY = DAY_MSC // 1000
HOUR = HOUR_MSC // 1000
SERVER_S = 7200


def ticks_at(*times: int) -> Ticks:
    """Ticks at these times, ms, whose prices tell them apart."""
    bids = np.arange(100, 100 + len(times), dtype=np.int64)
    return np.array(times, np.int64), bids, bids + 2


def quotes(folder: Path, seconds: list[int]) -> Path:
    path = folder / "gbpusd.csv"
    rows = (f"{datetime(2024, 1, 3, tzinfo=UTC) + timedelta(seconds=at)},1.1{at % 999:03d},1.3" for at in seconds)
    path.write_text("\n".join(["timestamp,bid,ask", *rows]), encoding="utf-8")
    return path


def test_the_most_traded_symbols_have_a_past(start: Start) -> None:
    market = start()
    for symbol in ("EURUSD", "USDJPY"):
        bars = mt5.copy_rates_from_pos(symbol, mt5.TIMEFRAME_H1, 0, 100)
        assert len(bars) >= 49
        assert (np.diff(bars["time"]) == HOUR).all()
        assert len(mt5.copy_rates_from_pos(symbol, mt5.TIMEFRAME_M15, 0, 100)) == 100
        assert int(market.market.feeds[symbol].source.slice(0, 1)[0][0]) == ANCHOR


def test_a_recording_that_is_not_looped_has_none(start: Start) -> None:
    start(loop=False)
    assert len(mt5.copy_rates_from_pos("USDJPY", mt5.TIMEFRAME_H1, 0, 100)) == 1
    assert len(mt5.copy_ticks_from("USDJPY", 0, 100, mt5.COPY_TICKS_ALL)) == 1


@given(
    history=st.integers(1, 10**6), lo=st.integers(-400, 40), many=st.integers(0, 60), speed=st.sampled_from(["1", "3"])
)
def test_the_past_of_a_loop_is_its_rounds(history: int, lo: int, many: int, speed: str) -> None:
    """As much as is asked for, in whole rounds; ticks from the start on are those of a loop without past."""
    ticks, retiming = ticks_at(0, 3000, 3000, 12_000, 27_000), Retiming(ANCHOR, Fraction(speed))
    extra = Extra(np.arange(5), np.arange(5.0), np.arange(5) > 2, np.arange(5))
    plain = RecordedSource(ticks, retiming, loop=True, extra=extra)
    source = RecordedSource(ticks, retiming, loop=True, extra=extra, history=history)
    period = 33_750
    assert plain.first == 0
    assert source.first == -5 * -(-history // period)
    times, bids, asks = source.slice(lo, lo + many)
    numbers = np.arange(lo, lo + many)
    assert ((times - ANCHOR) * int(speed) == numbers // 5 * period + ticks[0][numbers % 5]).all()
    assert (bids == 100 + numbers % 5).all()
    assert (asks == bids + 2).all()
    found = source.extras(lo, lo + many)
    assert found is not None
    assert (found.weights == numbers % 5).all()
    for number, msc in zip(numbers.tolist(), times.tolist(), strict=True):
        if number >= source.first:
            assert int(source.slice(source.index(msc), source.index(msc) + 1)[0][0]) == msc
    assert source.index(ANCHOR - 10**9) == source.first
    if lo >= 0:
        assert all((a == b).all() for a, b in zip((times, bids, asks), plain.slice(lo, lo + many), strict=True))


@pytest.mark.parametrize("times", [(0,), (0, 0, 0)])
def test_ticks_without_a_pause_come_once_a_minute(times: tuple[int, ...]) -> None:
    source = RecordedSource(ticks_at(*times), RETIMING, loop=True)
    assert source.index(ANCHOR + 60 * MINUTE_MSC) == 60 * len(times)


def test_a_round_of_bars_is_whole_minutes() -> None:
    ticks = ticks_at(*range(0, 10 * MINUTE_MSC, MINUTE_MSC // 4))
    source = RecordedSource(ticks, RETIMING, loop=True, of_bars=True)
    times = source.slice(0, 400)[0]
    assert (times[::4] % MINUTE_MSC == 0).all()
    assert (np.diff(times) == MINUTE_MSC // 4).all()
    without = ticks_at(0, 15_000, 30_000, 45_000, 180_000)
    assert RecordedSource(without, RETIMING, loop=True, of_bars=True).index(ANCHOR + 240_000) == 5


def test_bars_come_back_in_the_second_round_too(start: Start, tmp_path: Path) -> None:
    rows = "".join(f"2024-01-03 12:{i:02d}:00,1.30{i:02d},1.31{i:02d},1.29{i:02d},1.3050\n" for i in (0, 1, 2, 4))
    path = tmp_path / "gbpusd.csv"
    path.write_text("timestamp,open,high,low,close\n" + rows, encoding="utf-8")
    market = start(ticks=path)
    market.advance(600)
    begin = ANCHOR // 1000 + SERVER_S
    bars = mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_M1, begin - 300, begin + 599)
    shown = bars[["open", "high", "low", "close"]].tolist()
    assert shown == [(1.3 + i / 1e4, 1.31 + i / 1e4, 1.29 + i / 1e4, 1.305) for i in (0, 1, 2, 4)] * 3
    assert ((bars["time"] - begin) % 300 // 60).tolist() == [0, 1, 2, 4] * 3


def test_what_a_recording_was_closed_is_taken_out_in_whole_minutes() -> None:
    weekend, lunch, metals = 48 * HOUR_MSC + 7_321, 45 * MINUTE_MSC, HOUR_MSC + 500
    pauses = np.array([1000, 250, weekend, 500, 1000, lunch, 1000, metals, 250], np.int64)
    times = np.concatenate(([5_000_000], 5_000_000 + np.cumsum(pauses)))
    found = np.diff(without_closed_hours(times))
    assert found.tolist() == [1000, 250, 7_321, 500, 1000, lunch, 1000, 500, 250]
    assert without_closed_hours(times)[0] == times[0]


def test_a_recording_of_few_ticks_keeps_its_pauses() -> None:
    hourly = np.arange(0, 100 * HOUR_MSC, HOUR_MSC)
    assert (without_closed_hours(hourly) == hourly).all()
    assert without_closed_hours(hourly[:1]).tolist() == [0]


def test_a_recorded_weekend_is_no_working_day(start: Start, tmp_path: Path) -> None:
    """Real sessions have weekends of their own: a symbol that is open has a market."""
    seconds = [*range(0, 12 * HOUR, 20), *range(60 * HOUR, 90 * HOUR, 20)]
    path = quotes(tmp_path, seconds)
    market = start(ticks=path, sessions="real")
    mt5.symbol_select("GBPUSD")
    for _ in range(60):
        market.advance(HOUR)
        if market.market.is_open("GBPUSD", market.now()):
            assert market.now() // 1000 + SERVER_S - mt5.symbol_info_tick("GBPUSD").time < 60
    mt5.uninstall()
    market = start(ticks=path)
    mt5.symbol_select("GBPUSD")
    market.advance(DAY)
    assert market.now() // 1000 + SERVER_S - mt5.symbol_info_tick("GBPUSD").time > 11 * HOUR


def test_a_weekend_in_the_past_is_none_either(start: Start, tmp_path: Path) -> None:
    head = "timestamp,open,high,low,close\n"
    minutes = [*range(0, 60), *range(48 * 60 + 30, 48 * 60 + 90)]
    rows = (f"{datetime(2024, 1, 5, 21, tzinfo=UTC) + timedelta(minutes=at)},1.3,1.3,1.3,1.3\n" for at in minutes)
    (tmp_path / "gbpusd-m1.csv").write_text(head + "".join(rows), encoding="utf-8")
    start(ticks=f"{quotes(tmp_path, [0, 1])},{tmp_path / 'gbpusd-m1.csv'}", sessions="real")
    bars = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 1, 200)
    assert (np.diff(bars["time"]) == 60).all()
    assert len(bars) == 120

"""Bars of all timeframes, against bars made the plain way."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market.bars import TIMEFRAMES, bar_start

Start = Callable[..., MarketControl]
NAMES = [name for name in dir(mt5) if name.startswith("TIMEFRAME_")]
DAY = 86_400


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two days of ticks with pauses of up to hours."""
    draw = random.Random(4)
    second, bid, rows = 0.0, 1.3, ["timestamp,bid,ask"]
    while second < 2 * DAY:
        when = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
        rows.append(f"{when.isoformat()},{bid:.5f},{bid + draw.randint(1, 30) / 1e5:.5f}")
        second += draw.choice((0.1, 1.0, 20.0, 50.0, 400.0)) * draw.random()
        second += draw.random() * 10_000 if draw.random() < 0.003 else 0
        bid += draw.randint(-9, 9) / 1e5
    path = tmp_path / "gbpusd.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def opened(second: int, name: str) -> int:
    """When the bar opened, by the calendar: name is TIMEFRAME_M1 … TIMEFRAME_MN1."""
    when = datetime.fromtimestamp(second, UTC)
    midnight = when.replace(hour=0, minute=0, second=0)
    kind = name.removeprefix("TIMEFRAME_")
    if kind == "MN1":
        return int(midnight.replace(day=1).timestamp())
    if kind == "W1":
        return int((midnight - timedelta(days=(when.weekday() + 1) % 7)).timestamp())
    if kind == "D1":
        return int(midnight.timestamp())
    length = int(kind[1:]) * (60 if kind[0] == "M" else 3600)
    return second - (second - int(midnight.timestamp())) % length


def plain(ticks: Any, name: str) -> list[tuple[Any, ...]]:
    bars: dict[int, list[Any]] = {}
    for time, bid, ask in zip(ticks["time"].tolist(), ticks["bid"].tolist(), ticks["ask"].tolist(), strict=True):
        spread = round((ask - bid) * 1e5)
        bar = bars.setdefault(opened(time, name), [bid, bid, bid, bid, 0, spread, 0])
        bar[1], bar[2], bar[3] = max(bar[1], bid), min(bar[2], bid), bid
        bar[4] += 1
        bar[5] = min(bar[5], spread)
    return [(time, *bar) for time, bar in bars.items()]


def test_there_are_21_timeframes() -> None:
    assert len(NAMES) == len(TIMEFRAMES) == 21
    assert {getattr(mt5, name) for name in NAMES} == set(TIMEFRAMES)


@pytest.mark.parametrize("name", NAMES)
def test_bars_are_what_their_ticks_make(start: Start, file: Path, name: str) -> None:
    """Asked in between or not, in a weekend's gap, from the ticks' first to the newest."""
    timeframe = getattr(mt5, name)
    market = start(ticks=file, sessions="real")
    for seconds in (1234, 97, 3, 3 * DAY, 3600, 5 * DAY, 30):
        market.advance(seconds)
        mt5.copy_rates_from_pos("GBPUSD", timeframe, 0, 3)
        mt5.copy_rates_from("GBPUSD", timeframe, market.now() // 1000 - 3 * DAY, 3)
    market.advance(30 * DAY if name in ("TIMEFRAME_W1", "TIMEFRAME_MN1") else 1)
    ticks = mt5.copy_ticks_range("GBPUSD", 0, 2_000_000_000, mt5.COPY_TICKS_ALL)
    bars = mt5.copy_rates_range("GBPUSD", timeframe, 0, 2_000_000_000)
    expected = plain(ticks, name)
    assert bars.tolist() == expected
    assert mt5.copy_rates_from_pos("GBPUSD", timeframe, 0, 99_999).tolist() == expected
    assert mt5.copy_rates_from_pos("GBPUSD", timeframe, 1, 2).tolist() == expected[:-1][-2:]
    assert all(bar_start(bar[0] * 1000 + 5000, timeframe) == bar[0] * 1000 for bar in expected)


@pytest.mark.parametrize("name", ["TIMEFRAME_M1", "TIMEFRAME_H4", "TIMEFRAME_D1", "TIMEFRAME_MN1"])
def test_what_is_asked_for_is_a_part_of_the_whole(start: Start, file: Path, name: str) -> None:
    """copy_rates_from gives bars up to a date, copy_rates_range those that open between two, both included."""
    timeframe = getattr(mt5, name)
    market = start(ticks=file)
    market.advance(40 * DAY if name == "TIMEFRAME_MN1" else 2 * DAY)
    whole = mt5.copy_rates_range("GBPUSD", timeframe, 0, 2_000_000_000)
    times = whole["time"]
    for place in (0, 1, len(whole) // 2, len(whole) - 1):
        moment = int(times[min(place, len(whole) - 1)])
        for shift in (-1, 0, 1):
            upto = whole[times <= moment + shift]
            assert (mt5.copy_rates_from("GBPUSD", timeframe, moment + shift, 3) == upto[-3:]).all()
            part = mt5.copy_rates_range("GBPUSD", timeframe, int(times[0]), moment + shift)
            assert part.tobytes() == upto.tobytes()
            after = mt5.copy_rates_range("GBPUSD", timeframe, moment + shift, int(times[-1]))
            assert after.tobytes() == whole[times >= moment + shift].tobytes()
    assert len(mt5.copy_rates_range("GBPUSD", timeframe, int(times[-1]), int(times[0]) - 1)) == 0
    assert mt5.copy_rates_from_pos("GBPUSD", timeframe, len(whole), 5) is None
    assert mt5.last_error() == (mt5.RES_E_FAIL, "Terminal: Call failed")
    assert len(mt5.copy_rates_from_pos("GBPUSD", timeframe, len(whole) - 1, 5)) == 1


def test_bars_outlive_their_symbols_change_of_hands(start: Start) -> None:
    market = start(ticks="", speed="0.1")
    market.advance(3 * 3600 + 90)
    before = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 10_000)
    market.tick("GBPUSD", 2.0, 2.0003)
    after = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 10_000)
    assert (after[:-1] == before[:-1]).all()
    assert (after["high"][-1], after["close"][-1]) == (2.0, 2.0)
    assert after["tick_volume"][-1] == before["tick_volume"][-1] + 1
    market.advance(7200)
    assert (mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 10_000) == after).all()


def test_a_fault_of_the_clock_makes_all_bars_anew(start: Start) -> None:
    market = start(ticks="", speed="0.1")
    market.advance(600)
    before = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 3)
    market.market.change_offset(10_800)
    market.advance(600)
    after = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 30)
    assert after["time"][-1] - before["time"][-1] == 600 + 3600
    assert (np.diff(after["time"]) > 0).all()


def test_bad_requests(start: Start) -> None:
    start(ticks="")
    for count in (0, -1, mt5.terminal_info().maxbars):
        assert mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, count) is None
        assert mt5.last_error() == (mt5.RES_E_INVALID_PARAMS, "Terminal: Invalid params")
        assert mt5.copy_rates_from("GBPUSD", mt5.TIMEFRAME_M1, 2_000_000_000, count) is None
        assert mt5.last_error()[0] == mt5.RES_E_INVALID_PARAMS
    assert mt5.copy_rates_range("GBPUSD", 7, 0, 10) is None
    assert mt5.last_error()[0] == mt5.RES_E_INVALID_PARAMS
    for function in (mt5.copy_rates_range, mt5.copy_rates_from, mt5.copy_rates_from_pos):
        assert function("NOPE", 1, 0, 10) is None
        assert mt5.last_error() == (mt5.RES_E_FAIL, "Terminal: Call failed")
    mt5.shutdown()
    assert mt5.copy_rates_range("NOPE", 1, 0, 10) is None
    assert mt5.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_CONNECT


def test_a_terminal_has_as_many_bars_as_its_charts(start: Start) -> None:
    """Seen on real terminals: 100,000 bars can be paged through; who asks for as many at once gets none."""
    market = start(ticks="", speed="1/300")
    market.advance(75 * DAY)
    most = mt5.terminal_info().maxbars
    newest = mt5.copy_rates_from_pos("BTCUSD", mt5.TIMEFRAME_M1, 0, most - 1)
    assert len(newest) == most - 1
    older = mt5.copy_rates_from_pos("BTCUSD", mt5.TIMEFRAME_M1, most - 5, 50)
    assert len(older) == 5
    assert (older[1:] == newest[:4]).all()
    assert mt5.copy_rates_from_pos("BTCUSD", mt5.TIMEFRAME_M1, most, 5) is None
    assert mt5.last_error()[0] == mt5.RES_E_FAIL
    end, before = int(newest["time"][-1]), int(older["time"][0])
    assert mt5.copy_rates_range("BTCUSD", mt5.TIMEFRAME_M1, before, end) is None
    assert mt5.last_error() == (mt5.RES_E_INVALID_PARAMS, "Terminal: Invalid params")
    assert len(mt5.copy_rates_range("BTCUSD", mt5.TIMEFRAME_M1, before + 60, end)) == most - 1

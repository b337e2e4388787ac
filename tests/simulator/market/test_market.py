"""Ticks: a pure function of anchor, files, seed and speed."""

import gzip
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mt5_bridge.simulator as mt5
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.config import parse
from mt5_bridge.simulator.market import tickfile
from mt5_bridge.simulator.market.catalogue import catalogue
from mt5_bridge.simulator.market.clock import ManualClock, SystemClock
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.market.serverclock import ServerClock
from mt5_bridge.simulator.market.sessions import FOREX_WEEK, MONDAY_MSC, WEEK_MSC, Retiming
from mt5_bridge.simulator.market.sources import RecordedSource, Source
from mt5_bridge.simulator.market.walk import WalkSource

Start = Callable[..., MarketControl]
SCRIPTS = Path(__file__).parents[3] / "scripts"
MIDNIGHT = ManualClock().now()
HOUR = 3_600_000


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def make(**settings: str) -> tuple[Market, ManualClock]:
    clock = ManualClock()
    return Market(parse(settings), clock, clock.now()), clock


@pytest.mark.parametrize("name", ["GBPUSD", "XAUUSD", "BTCUSD"])
def test_a_walk_gives_the_same_ticks_whatever_is_asked_first(name: str) -> None:
    retiming = Retiming(MIDNIGHT, Fraction(1))
    one, other = (WalkSource(catalogue()[name], 7, retiming) for _ in range(2))
    whole = one.slice(1000, 2000)
    for part, again in zip(whole, other.slice(1500, 1600), strict=True):
        assert (part[500:600] == again).all()
    times, bids, asks = whole
    assert (np.diff(times) >= 0).all()
    assert (asks > bids).all()
    assert len(set((asks - bids).tolist())) > 3
    assert (WalkSource(catalogue()[name], 8, retiming).slice(1000, 2000)[1] != bids).any()


def test_a_walk_stays_sane_over_years() -> None:
    spec = catalogue()["GBPUSD"]
    walk = WalkSource(spec, 0, Retiming(0, Fraction(1)))
    base = spec.base_price * spec.scale
    for year in range(0, 20):
        bids = walk.slice(year * 117_000_000, year * 117_000_000 + 1000)[1]
        assert abs(int(bids[0]) / base - 1) < 0.3
        assert int(np.abs(np.diff(bids)).max()) < 100


@given(msc=st.integers(-(10**8), 10**10), speed=st.sampled_from(["1", "10", "0.5", "7/3", "1000"]))
def test_index_and_times_agree(msc: int, speed: str) -> None:
    retiming = Retiming(5_000, Fraction(speed))
    sources: list[Source] = [
        WalkSource(catalogue()["EURUSD"], 1, retiming),
        RecordedSource(tickfile.read([tickfile.shipped()["USDJPY"]]).ticks, retiming, loop=True),
    ]
    for source in sources:
        number = source.index(msc)
        assert int(source.slice(number, number + 1)[0][0]) >= msc
        if number > source.first:
            assert int(source.slice(number - 1, number)[0][0]) < msc


@given(start=st.integers(0, WEEK_MSC), market=st.integers(0, 10**10))
def test_market_time_stands_still_at_weekends(start: int, market: int) -> None:
    retiming = Retiming(start, Fraction(1), FOREX_WEEK, ServerClock(7200))
    moment = int(retiming.to_clock(np.array([market], np.int64))[0])
    assert retiming.is_open(moment)
    assert retiming.to_market(moment) == market


def test_a_recording_starts_with_its_first_tick_and_keeps_its_intervals(tmp_path: Path) -> None:
    rows = "timestamp,bid,ask\n" + "".join(
        f"2013-01-01 22:00:0{second}.295000+00:00,{bid},86.728\n"
        for second, bid in ((0, 86.655), (1, 86.657), (1, 86.655))
    )
    market, clock = make(PAPER_TICKS=str(write(tmp_path, "usdjpy-x.csv", rows)), PAPER_SPEED="2")
    first = market.quote("USDJPY")
    assert first is not None
    assert (first.time_msc, first.bid, first.ask) == (MIDNIGHT, 86.655, 86.728)
    clock.advance(0.5)
    records = market.tick_records("USDJPY", 0, market.feeds["USDJPY"].index_after(clock.now()))
    assert records["time_msc"].tolist() == [MIDNIGHT + 7_200_000 + late for late in (0, 500, 500)]
    assert records["flags"].tolist() == [6, 2, 2]
    clock.advance(10)
    assert market.feeds["USDJPY"].index_after(clock.now()) > 3


def test_a_recording_ends_when_it_is_not_looped(tmp_path: Path) -> None:
    path = write(tmp_path, "q.csv.gz", "20200101 170000065,1.1212,1.12172,0\n20200101 170010447,1.1212,1.12192,0\n")
    market, clock = make(PAPER_TICKS=f"EURGBP={path}", PAPER_LOOP="false")
    clock.advance(3600)
    feed = market.feeds["EURGBP"]
    assert feed.index_after(clock.now()) == 2
    assert feed.next_time(2) > clock.now()
    assert feed.spec.digits == 5
    assert feed.spec.currency_profit == "GBP"
    quote = market.quote("EURGBP")
    assert quote is not None
    assert quote.time_msc == MIDNIGHT + 10_382


def test_bars_become_four_ticks_a_minute(tmp_path: Path) -> None:
    head = "timestamp,open,high,low,close\n"
    bid = write(tmp_path, "usdjpy-m1-bid.csv.gz", head + "2013-02-01 00:00:00+00:00,91.715,91.720,91.653,91.660\n")
    ask = write(tmp_path, "usdjpy-m1-ask.csv", head + "2013-02-01 00:00:00+00:00,91.717,91.722,91.655,91.662\n")
    times, bids, asks = tickfile.read([bid, ask], 3).ticks
    assert np.diff(times).tolist() == [15_000] * 3
    assert bids.tolist() == [91715, 91720, 91653, 91660]
    assert (asks - bids).tolist() == [2, 2, 2, 2]
    assert len(tickfile.read([bid]).ticks[0]) == 4


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hello\n", "not known"),
        ("timestamp,bid,ask\n", "holds no ticks"),
        ("timestamp,bid,ask\nyesterday,1,2\n", "Invalid isoformat"),
        ("timestamp,bid,ask\n2013-01-01 22:00:00,2.0,1.0\n", "below its bid"),
        ("", "not known"),
    ],
)
def test_bad_tick_files_are_told(tmp_path: Path, text: str, fault: str) -> None:
    path = write(tmp_path, "eurusd.csv", text)
    with pytest.raises(SettingsError, match=fault):
        make(PAPER_TICKS=str(path))
    mt5.configure({"PAPER_TICKS": str(path)})
    assert mt5.initialize() is False
    assert mt5.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_INIT
    mt5.configure({})


def test_a_missing_tick_file_is_told() -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        make(PAPER_TICKS="nowhere.csv")


def packing() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("pack_ticks", SCRIPTS / "pack_ticks.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_a_packed_recording_begins_where_it_is_busiest_and_loses_nothing(tmp_path: Path) -> None:
    seconds = [0, 400, 401, 402, 403, 1000]
    rows = [f"2026-01-05 10:{at // 60:02d}:{at % 60:02d},1.1{at:04d},1.2" for at in seconds]
    path = write(tmp_path, "eurusd-x.csv", "\n".join(["timestamp,bid,ask", *rows]))
    name, data = packing().pack(path)
    (tmp_path / name).write_bytes(data)
    times, bids, asks = tickfile.read([tmp_path / name]).ticks
    assert (times - times[0]).tolist() == [0, 1000, 2000, 3000, 600_000, 800_000]
    assert (bids - 110_000).tolist() == [400, 401, 402, 403, 1000, 0]
    assert set(asks.tolist()) == {120_000}


@pytest.mark.parametrize("symbol", ["EURUSD", "USDJPY"])
def test_what_ships_quotes_from_the_start(symbol: str) -> None:
    times = tickfile.read([tickfile.shipped()[symbol]]).ticks[0]
    assert int(np.diff(times[times < times[0] + 60_000]).max()) < 20_000
    assert int((times < times[0] + 300_000).sum()) > 200


def test_packing_repeats_and_reads_back(tmp_path: Path) -> None:
    script = packing()
    path = write(tmp_path, "eurusd-x.csv", "20200101 170000065,1.1212,1.12172,0\n20200101 170010447,1.1212,1.12192,0\n")
    name, data = script.pack(path)
    assert (name, script.pack(path)[1]) == ("eurusd-x.ticks.gz", data)
    (tmp_path / name).write_bytes(data)
    one, other = tickfile.read([path], 5), tickfile.read([tmp_path / name])
    assert one.digits == other.digits
    assert all((a == b).all() for a, b in zip(one.ticks, other.ticks, strict=True))
    assert sum(file.stat().st_size for file in tickfile.shipped().values()) < 300_000


def test_ticks_are_asked_by_whole_seconds_of_server_time(start: Start) -> None:
    market = start()
    mt5.symbol_select("GBPUSD")
    market.advance(100)
    now = mt5.symbol_info_tick("GBPUSD").time
    ticks = mt5.copy_ticks_from("GBPUSD", now - 50, 1000, mt5.COPY_TICKS_ALL)
    assert ticks["time_msc"][0] >= (now - 50) * 1000
    assert ticks["time_msc"][-1] == mt5.symbol_info_tick("GBPUSD").time_msc
    assert (ticks["time"] == ticks["time_msc"] // 1000).all()
    again = mt5.copy_ticks_range("GBPUSD", now - 50, now - 40, mt5.COPY_TICKS_INFO)
    assert (again == ticks[: len(again)]).all()
    assert again["time_msc"][-1] <= (now - 40) * 1000
    assert len(mt5.copy_ticks_from("GBPUSD", now - 50, 10, mt5.COPY_TICKS_TRADE)) == 0
    assert len(mt5.copy_ticks_from("GBPUSD", now + 50, 10, mt5.COPY_TICKS_ALL)) == 0
    assert mt5.copy_ticks_from("GBPUSD", now, 10, 77) is None


@pytest.mark.parametrize("timeframe", [mt5.TIMEFRAME_M1, mt5.TIMEFRAME_M5, mt5.TIMEFRAME_H1, mt5.TIMEFRAME_D1])
def test_bars_are_made_of_the_ticks(start: Start, timeframe: int) -> None:
    market = start()
    market.advance(3700)
    now = market.now() // 1000 + 7200
    bars = mt5.copy_rates_from_pos("GBPUSD", timeframe, 0, 5)
    assert (np.diff(bars["time"]) > 0).all()
    bar = bars[-2] if len(bars) > 1 else bars[-1]
    length = int(bars["time"][-1] - bar["time"])
    ticks = mt5.copy_ticks_range("GBPUSD", int(bar["time"]), int(bar["time"]) + length, mt5.COPY_TICKS_ALL)
    ticks = ticks[ticks["time"] < bar["time"] + length]
    assert bar["tick_volume"] == len(ticks)
    assert (bar["open"], bar["close"]) == (ticks["bid"][0], ticks["bid"][-1])
    assert (bar["high"], bar["low"]) == (ticks["bid"].max(), ticks["bid"].min())
    older = mt5.copy_rates_from_pos("GBPUSD", timeframe, 1, 2)
    assert (older == bars[-3:-1]).all()
    assert (mt5.copy_rates_from("GBPUSD", timeframe, now, 5) == bars).all()
    ranged = mt5.copy_rates_range("GBPUSD", timeframe, int(bars["time"][0]), now)
    assert (ranged == bars).all()
    assert mt5.copy_rates_from_pos("GBPUSD", timeframe, -1, 2) is None


def test_months_and_weeks_begin_where_the_calendar_says(start: Start) -> None:
    start()
    month = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_MN1, 0, 2)
    week = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_W1, 0, 2)
    assert month["time"].tolist()[-1] == 1704067200  # 2024-01-01
    assert week["time"].tolist()[-1] == 1703980800  # Sunday 2023-12-31
    assert len(mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_MN1, 1704067200, 1704067200)) == 1
    assert len(mt5.copy_rates_from("GBPUSD", mt5.TIMEFRAME_M1, 0, 10)) == 0
    assert len(mt5.copy_rates_range("GBPUSD", mt5.TIMEFRAME_M1, 0, 10)) == 0


def test_a_changed_server_clock_holds_from_then_on(start: Start) -> None:
    market = start()
    market.advance(1)
    market.tick("EURUSD", 1.1, 1.1001)
    market.market.change_offset(10_800)
    market.advance(1)
    market.tick("EURUSD", 1.2, 1.2001)
    ticks = mt5.copy_ticks_from("EURUSD", (MIDNIGHT + 2 * HOUR) // 1000, 1000, mt5.COPY_TICKS_ALL)
    assert ticks["time_msc"].tolist()[-2:] == [MIDNIGHT + 1000 + 2 * HOUR, MIDNIGHT + 2000 + 3 * HOUR]
    for msc in (MIDNIGHT, MIDNIGHT + 5000):
        assert market.market.utc(market.market.server_time(msc)) == msc


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 50), st.integers(0, 400)), max_size=8))
def test_ticks_at_hand_are_the_same_as_those_made_anew(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[int, int, int]]
) -> None:
    """However near the symbol's beginning and whenever the server's clock changes."""
    rows = (f"2026-01-05 10:00:{n // 5:02d}.{n % 5}00,{0.9 + n % 7 / 10_000:.4f},0.9010" for n in range(250))
    file = write(tmp_path_factory.mktemp("ticks"), "usdchf.csv", "\n".join(["timestamp,bid,ask", *rows]))
    market, clock = make(PAPER_TICKS=str(file))
    feed = market.feeds["USDCHF"]
    for seconds, back, many in asked:
        clock.advance(seconds)
        if seconds == 7:
            market.change_offset(10_800)
        end = feed.index_after(market.now())
        lo = max(end - back, feed.source.first)
        found = market.tick_records("USDCHF", lo, lo + many)
        assert found.tobytes() == (feed._pack(lo, lo + many) if many else found[:0]).tobytes()
        found["bid"] = 0.0  # whoever gets ticks may do with them as he likes


@pytest.mark.parametrize(
    ("suffix", "given", "symbol"),
    [
        (".m", "EURUSD.m", "EURUSD.m"),
        (".m", "eurusd", "EURUSD.m"),
        ("d", "audusd", "AUDUSDd"),
        ("d", "audusdd", "AUDUSDd"),
        ("d", "cadusd", "CADUSDd"),
        ("d", "eurnokd", "EURNOKd"),
        ("d", "gold", "GOLDd"),
        ("d", "d", "Dd"),
        (".m", "gold.m", "GOLD.m"),
        ("", "gold", "GOLD"),
    ],
)
def test_a_file_may_be_named_with_the_brokers_suffix(tmp_path: Path, suffix: str, given: str, symbol: str) -> None:
    """But a name that ends with the same letters is whole."""
    path = write(tmp_path, "x.csv", "timestamp,bid,ask\n2024-01-03 12:00:00,0.7,0.7001\n")
    market, _ = make(PAPER_TICKS=f"{given}={path}", PAPER_SYMBOL_SUFFIX=suffix)
    quote = market.quote(symbol)
    assert quote is not None
    assert quote.bid == 0.7
    assert set(market.feeds) == {name + suffix for name in catalogue()} | {symbol}


def test_sessions_close_the_market_at_weekends(start: Start) -> None:
    market = start(sessions="real", ticks="")
    saturday = (market.now() // WEEK_MSC + 1) * WEEK_MSC + MONDAY_MSC + 5 * 86_400_000 - 7_200_000
    market.advance((saturday - market.now()) / 1000 + 60)
    mt5.symbol_select("GBPUSD")
    mt5.symbol_select("BTCUSD")
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "GBPUSD", "volume": 0.1, "type": 0}
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_MARKET_CLOSED
    assert mt5.order_send({**request, "symbol": "BTCUSD"}).retcode == mt5.TRADE_RETCODE_DONE
    closed = mt5.symbol_info_tick("GBPUSD").time_msc
    assert closed < saturday + 7_200_000
    market.advance(86_400)
    assert mt5.symbol_info_tick("GBPUSD").time_msc == closed


def test_the_system_clock_never_steps_back() -> None:
    clock = SystemClock()
    first = clock.now()
    assert clock.now() >= first
    with pytest.raises(ValueError, match="does not go back"):
        ManualClock().advance(-1)

"""Tick files of all forms, and the bars and trades they bring."""

import gzip
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mt5_bridge.simulator as mt5
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market import tickfile
from mt5_bridge.simulator.market.clock import ManualClock

Start = Callable[..., MarketControl]
EXPORT = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n"
EXPORT_BARS = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
NOON = int(datetime(2024, 1, 3, 12, tzinfo=UTC).timestamp()) * 1000
MIDNIGHT_S = ManualClock().now() // 1000 + 7200


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_the_terminals_own_export_of_ticks(tmp_path: Path, encoding: str) -> None:
    """A field that did not change is empty; a tick before both prices are known is none."""
    rows = (
        "2024.01.03\t12:00:00.000\t1.10000\t\t\t\t2\n"
        "2024.01.03\t12:00:00.100\t\t1.10010\t\t\t4\n"
        "2024.01.03\t12:00:00.250\t1.10005\t1.10012\t\t\t6\n"
    )
    times, bids, asks = tickfile.read([write(tmp_path, "eurusd.csv", EXPORT + rows, encoding)]).ticks
    assert times.tolist() == [NOON + 100, NOON + 250]
    assert (bids.tolist(), asks.tolist()) == ([110_000, 110_005], [110_010, 110_012])


def test_an_exchanges_ticks_carry_the_newest_trade_on(tmp_path: Path) -> None:
    rows = (
        "2024.01.03\t12:00:00.000\t99.98\t100.02\t\t\t6\n"
        "2024.01.03\t12:00:01.000\t\t\t100.02\t5\t56\n"
        "2024.01.03\t12:00:02.000\t99.99\t\t\t\t2\n"
    )
    recording = tickfile.read([write(tmp_path, "acme.csv", EXPORT + rows)], 2)
    assert recording.extra is not None
    assert recording.extra.lasts.tolist() == [0, 10_002, 10_002]
    assert recording.extra.volumes.tolist() == [0.0, 5.0, 5.0]
    assert recording.extra.traded.tolist() == [False, True, False]
    iso = (
        "timestamp,bid,ask,last,volume\n2024-01-03 12:00:00,99.98,100.02,,\n2024-01-03 12:00:01,99.98,100.02,100.02,5\n"
    )
    again = tickfile.read([write(tmp_path, "acme2.csv", iso + "2024-01-03 12:00:02,99.99,100.02,0,0\n")], 2)
    assert again.extra is not None
    assert [c.tolist() for c in (*again.ticks, *again.extra)] == [
        c.tolist() for c in (*recording.ticks, *recording.extra)
    ]


def bars_file(folder: Path, name: str, first: datetime, count: int) -> tuple[Path, list[tuple[int, ...]]]:
    """An export of `count` bars, and what each should be: open, high, low, close (points), ticks, spread, volume."""
    bars: list[tuple[int, ...]] = [
        (110_000 + i, 110_009 + i, 109_990 + i, 110_003 + i - i % 7, 40 + i, 3 + i % 4, 0) for i in range(count)
    ]
    lines = []
    for i, (*prices, ticks, spread, volume) in enumerate(bars):
        when = datetime.fromtimestamp(first.timestamp() + 60 * i, UTC)
        shown = "\t".join(f"{price / 1e5:.5f}" for price in prices)
        lines.append(f"{when:%Y.%m.%d}\t{when:%H:%M:%S}\t{shown}\t{ticks}\t{volume}\t{spread}")
    return write(folder, name, EXPORT_BARS + "\n".join(lines)), bars


def rows_of(bars: np.ndarray) -> list[tuple[int, ...]]:
    return [
        (*(round(float(bar[name]) * 1e5) for name in ("open", "high", "low", "close")),
         int(bar["tick_volume"]), int(bar["spread"]), int(bar["real_volume"]))
        for bar in bars
    ]  # fmt: skip


def test_bars_of_a_file_are_the_terminals_bars(start: Start, tmp_path: Path) -> None:
    """Whatever the moment the market begins: the file's minutes are minutes of the clock."""
    path, bars = bars_file(tmp_path, "gbpusd-m1.csv", datetime(2023, 5, 4, 10, tzinfo=UTC), 30)
    clock = ManualClock(ManualClock().now() + 47_123)
    market = mt5.install(clock=clock, ticks=path, loop=False)
    assert mt5.initialize()
    mt5.symbol_select("GBPUSD")
    assert mt5.symbol_info_tick("GBPUSD").time == MIDNIGHT_S + 45  # the fourth of the first minute's
    market.advance(3600)
    made = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 100)
    assert rows_of(made) == bars
    assert made["time"].tolist() == [MIDNIGHT_S + 60 * i for i in range(30)]
    five = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M5, 0, 100)
    assert rows_of(five)[0] == (
        bars[0][0], max(b[1] for b in bars[:5]), min(b[2] for b in bars[:5]), bars[4][3],
        sum(b[4] for b in bars[:5]), min(b[5] for b in bars[:5]), 0,
    )  # fmt: skip
    mt5.uninstall()


def test_bars_beside_ticks_are_the_past(start: Start, tmp_path: Path) -> None:
    path, bars = bars_file(tmp_path, "gbpusd-m1.csv", datetime(2020, 5, 4, 10, tzinfo=UTC), 600)
    ticks = write(tmp_path, "gbpusd-ticks.csv", "timestamp,bid,ask\n2024-01-03 12:00:00.5,1.2,1.2001\n")
    market = start(ticks=f"{ticks},{path}", loop=False)
    made = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 1000)
    assert rows_of(made)[:-1] == bars
    assert made["time"].tolist() == [MIDNIGHT_S + 60 * i for i in range(-600, 1)]
    assert made["close"][-1] == 1.2
    assert len(mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_H1, 0, 1000)) == 11
    mt5.symbol_select("GBPUSD")
    assert mt5.symbol_info("GBPUSD").bid == 1.2
    feed = market.market.feeds["GBPUSD"]
    assert feed.source.first == -4 * len(bars)
    whole = feed.source.slice(feed.source.first, 1)
    for lo in (-2400, -7, -1, 0):
        for hi in (lo, lo + 1, 1):
            part = feed.source.slice(lo, hi)
            assert all((a[lo + 2400 : hi + 2400] == b).all() for a, b in zip(whole, part, strict=True))
            extra = feed.source.extras(lo, hi)
            assert extra is not None
            assert len(extra.lasts) == hi - lo
    for number in range(-2400, 1, 97):
        assert feed.source.index(int(whole[0][number + 2400])) == number


def test_bars_beside_a_packed_recording_are_its_past(start: Start, tmp_path: Path) -> None:
    path, bars = bars_file(tmp_path, "usdjpy-m1.csv", datetime(2020, 5, 4, 10, tzinfo=UTC), 50)
    start(ticks=f"USDJPY={tickfile.shipped()['USDJPY']},{path}")
    made = mt5.copy_rates_from_pos("USDJPY", mt5.TIMEFRAME_M1, 0, 100)
    assert len(made) == 51
    assert made["close"][-2] == round(bars[-1][3] / 1e5, 3)
    assert made["close"][-1] == 86.771


def test_a_packed_recording_of_other_decimals(tmp_path: Path) -> None:
    """The symbol's count; of one that only the file knows, the file's."""
    packed = tickfile.shipped()["EURUSD"]
    whole, rounded = tickfile.read([packed]), tickfile.read([packed], 3)
    assert (whole.digits, rounded.digits) == (5, 3)
    assert (int(whole.ticks[1][0]), int(rounded.ticks[1][0])) == (112_143, 1_121)


HEAD = '{"format":"ticks/1","symbol":"EURUSD","digits":%s,"start_msc":%s,"bid":%s,"count":%s}\n'


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (HEAD % (5, 0, 110_000, 100) + "\0" * 100, "damaged"),
        (HEAD % (5, 0, 110_000, 0), "damaged"),
        (HEAD % (5, 0, 110_000, -1), "damaged"),
        (HEAD % (5, 0, 110_000, 1), "damaged"),
        (HEAD % (400, 0, 110_000, 1) + "\0" * 12, "damaged"),
        (HEAD % (5, 0, 0, 1) + "\0" * 12, "a price or volume that is none"),
        (HEAD % (5, 0, 2**62, 1) + "\0" * 12, "a price or volume that is none"),
        (HEAD % (5, 2**70, 1, 1) + "\0" * 12, "use a format"),
        (HEAD % (5, -(2**63), 1, 1) + "\0" * 12, "-9223372036854775808 ms"),
        ('{"format":"ticks/1","symbol":"EURUSD"}\n', "digits"),
        ('{"format":"ticks/1', "use a format"),
    ],
)
def test_a_damaged_packed_file_is_told(tmp_path: Path, content: str, fault: str) -> None:
    path = write(tmp_path, "eurusd.ticks", content)
    with pytest.raises(SettingsError, match=fault):
        tickfile.read([path])
    mt5.install(clock="manual", ticks=path)
    assert mt5.initialize() is False
    assert mt5.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_INIT
    mt5.uninstall()


def test_a_damaged_gzip_file_is_told(tmp_path: Path) -> None:
    text = "timestamp,bid,ask\n" + "".join(
        f"2024-01-03 12:00:{i % 60:02d},1.1{i * 7919 % 997:03d},1.3\n" for i in range(999)
    )
    whole = gzip.compress(text.encode(), mtime=0)
    path, told = tmp_path / "eurusd.csv.gz", 0
    for place in range(2, len(whole), 61):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            tickfile.read([path])
        except SettingsError as error:
            told += "eurusd.csv.gz" in str(error)
    assert told > 20


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("1.1,nan", "ask nan at 2024-01-03 12:00:01"),
        ("nan,1.1", "bid nan"),
        ("1.1,inf", "ask inf"),
        ("1.1,1e300", "ask 1e"),
        ("1.1,1e308", "ask 1e"),
        ("-inf,1.1", "bid -inf"),
        ("0.000001,1.1", "bid 1e-06"),
        ("1.1,1.0", "below its bid"),
        ("1.1,1.2,nan,1", "none"),
        ("1.1,1.2,-1,1", "none"),
        ("1.1,1.2,1.1,inf", "none"),
        ("1.1,1.2,1.1,-1", "none"),
    ],
)
def test_a_price_that_is_none_is_refused(tmp_path: Path, row: str, fault: str) -> None:
    """Cast to an int64 it would be anything."""
    trades, ordinary = (",last,volume", "1.1,1.2,,") if row.count(",") > 1 else ("", "1.1,1.2")
    text = f"timestamp,bid,ask{trades}\n2024-01-03 12:00:00,{ordinary}\n2024-01-03 12:00:01,{row}\n"
    with pytest.raises(SettingsError, match=fault):
        tickfile.read([write(tmp_path, "eurusd.csv", text)], 5)
    with pytest.raises(SettingsError, match="none"):
        tickfile.read([write(tmp_path, "newpar.csv", text)], None if "1e-06" not in fault else 5)


def test_decimals_are_those_of_the_whole_file(tmp_path: Path) -> None:
    rows = [f"2024-01-03 12:{i // 60:02d}:{i % 60:02d},1.1,1.2" for i in range(2001)]
    text = "\n".join(["timestamp,bid,ask", *rows, "2024-01-03 13:00:00,1.12345,1.23456"])
    recording = tickfile.read([write(tmp_path, "newpar.csv", text)])
    assert recording.digits == 5
    assert [int(column[-1]) for column in recording.ticks[1:]] == [112_345, 123_456]


@given(st.lists(st.decimals(0, 10**5, places=8, allow_nan=False), max_size=5), st.integers(0, 8))
def test_decimals_are_counted(prices: list[Decimal], digits: int) -> None:
    kept = [round(price, digits) for price in prices]
    most = max((-int(price.normalize().as_tuple().exponent) for price in kept), default=0)
    assert tickfile._decimals(np.array([float(price) for price in kept])) == max(most, 0)


def test_without_pyarrow_a_table_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and nothing more PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match=r"x\.parquet is Parquet, and pyarrow is not installed"):
        tickfile.read([path])


def test_a_binary_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(SettingsError, match="use a format of docs"):
        tickfile.read([path])


def test_a_symbol_of_trades_is_a_share(start: Start, tmp_path: Path) -> None:
    rows = "".join(
        f"2024-01-03 12:00:{second:02d},{100 + second / 100:.2f},{100.02 + second / 100:.2f},"
        + (f"{100.02 + second / 100:.2f},{second}\n" if second % 3 == 1 else ",\n")
        for second in range(60)
    )
    start(ticks=write(tmp_path, "acme.csv", "timestamp,bid,ask,last,volume\n" + rows), loop=False).advance(120)
    mt5.symbol_select("ACME")
    info = mt5.symbol_info("ACME")
    assert (info.trade_calc_mode, info.trade_exemode) == (
        mt5.SYMBOL_CALC_MODE_EXCH_STOCKS,
        mt5.SYMBOL_TRADE_EXECUTION_EXCHANGE,
    )
    assert info.chart_mode == mt5.SYMBOL_CHART_MODE_LAST
    trades = [second for second in range(60) if second % 3 == 1]
    assert (info.last, info.lasthigh, info.lastlow) == (100.6, 100.6, 100.03)
    assert (info.volume, info.volume_real, info.volumehigh, info.volumelow) == (58, 58.0, 58, 1)
    assert (info.session_deals, info.session_volume) == (len(trades), float(sum(trades)))
    turnover = sum(second * (100.02 + second / 100) for second in trades)
    assert info.session_turnover == pytest.approx(turnover)
    assert info.session_aw == round(turnover / sum(trades), 2)
    tick = mt5.symbol_info_tick("ACME")
    assert (tick.last, tick.volume, tick.volume_real, tick.flags) == (100.6, 58, 58.0, 6)
    ticks = mt5.copy_ticks_from("ACME", 0, 1000, mt5.COPY_TICKS_ALL)
    assert len(ticks) == 60
    bars = mt5.copy_rates_from_pos("ACME", mt5.TIMEFRAME_M1, 0, 10)
    assert bars["tick_volume"].tolist() == [len(trades)]
    assert bars["real_volume"].tolist() == [sum(trades)]
    assert (bars["open"][0], bars["close"][0]) == (100.03, 100.6)

"""Lines of tick files: what they say, and where they are wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mt5_bridge.simulator as mt5
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market import tickfile, tickrows

Start = Callable[..., MarketControl]
TICKS = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n"
BARS = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
HISTDATA = "20200101 170000000,1.1212,1.1213,0\n"
ISO = "timestamp,bid,ask\n2024-01-03 12:00:00,1.1,1.2\n"
ISO_BARS = "timestamp,open,high,low,close\n2024-01-03 12:00:00,1.2,1.3,1.1,1.2\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        (ISO + "\n2024-01-03 12:00:50,1.1\n", 4, "2 fields, at least 3"),
        (ISO + "2024-01-03 12:00:50,1.1,a\n", 3, "could not convert"),
        ("timestamp,bid,ask,last,volume\n2024-01-03 12:00:00,1.1,1.2\n", 2, "3 fields, at least 5"),
        (HISTDATA + "20200101 999999999,1.1212,1.1213,0\n", 2, "'999999999' is no time of day"),
        (HISTDATA + "20200101 240000000,1.1212,1.1213,0\n", 2, "no time of day"),
        (HISTDATA + "20200101 176000000,1.1212,1.1213,0\n", 2, "no time of day"),
        (HISTDATA + "20200101 170060000,1.1212,1.1213,0\n", 2, "no time of day"),
        (HISTDATA + "20200101 17000065,1.1212,1.1213,0\n", 2, "no time of day"),
        (HISTDATA + "20200101 +70000065,1.1212,1.1213,0\n", 2, "no time of day"),
        (HISTDATA + "20200101,1.1212,1.1213,0\n", 2, "no time of day"),
        (HISTDATA + "20201301 170000065,1.1212,1.1213,0\n", 2, "month must be"),
        (ISO_BARS + "2024-01-03 12:01:00,1.2,1.1,1.3,1.2\n", 3, "outside its low of 1.3 and high of 1.1"),
        (ISO_BARS + "2024-01-03 12:01:00,1.2,1.3,1.1,1.4\n", 3, "outside"),
        (ISO_BARS + "2024-01-03 12:01:00,1.2,1.3,nan,1.2\n", 3, "outside"),
        (ISO_BARS + "2024-01-03 12:01:00,1.2,1.3\n", 3, "3 fields, at least 5"),
        (BARS + "2024.01.03\t12:00:00\t1.2\t1.3\t1.1\t1.2\t-1\t0\t0\n", 2, "below 0"),
        (BARS + "2024.01.03\t12:00:00\t1.2\t1.3\t1.1\t1.2\t9\t0\t-2\n", 2, "below 0"),
        (BARS + f"2024.01.03\t12:00:00\t1.2\t1.3\t1.1\t1.2\t{10**30}\t0\t2\n", 2, "beyond all bounds"),
        (BARS + f"2024.01.03\t12:00:00\t1.2\t1.3\t1.1\t1.2\t1\t{10**400}\t2\n", 2, "too large"),
        (TICKS + "2024.01.03\t12:00:00.000\t1.2\t1.1\t\t\t6\n", 2, "an ask of 1.1 below its bid of 1.2"),
        (TICKS + "2024.01.03\t12:00:00.000\t1.1\t1.2\t\t\tsix\n", 2, "invalid literal"),
    ],
)
def test_the_line_that_is_wrong_is_named(tmp_path: Path, text: str, line: int, fault: str) -> None:
    path = write(tmp_path, "eurusd.csv", text)
    with pytest.raises(SettingsError, match=rf"eurusd\.csv, line {line}: .*{fault}"):
        tickfile.read([path])
    mt5.install(clock="manual", ticks=path)
    assert mt5.initialize() is False
    assert mt5.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_INIT
    assert f"line {line}" in mt5.last_error()[1]
    mt5.uninstall()


def test_a_price_that_is_carried_on_gives_way(tmp_path: Path) -> None:
    rows = "2024.01.03\t12:00:00.000\t1.1\t1.2\t\t\t6\n2024.01.03\t12:00:01.000\t1.3\t\t\t\t2\n"
    _, bids, asks = tickfile.read([write(tmp_path, "eurusd.csv", TICKS + rows)], 1).ticks
    assert (bids.tolist(), asks.tolist()) == ([11, 13], [12, 13])


def test_bars_of_few_ticks_and_no_spread_come_back(start: Start, tmp_path: Path) -> None:
    rows = "".join(
        f"2024.01.03\t12:{i:02d}:00\t1.3\t1.3001\t1.2999\t1.30005\t{ticks}\t0\t{spread}\n"
        for i, (ticks, spread) in enumerate([(1, 0), (2, 7), (3, 0), (4, 1), (7, 0)])
    )
    market = start(ticks=write(tmp_path, "gbpusd.csv", BARS + rows), loop=False)
    running = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 1)
    assert running["tick_volume"].tolist() == [1]
    market.advance(600)
    bars = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 10)
    assert bars["tick_volume"].tolist() == [1, 2, 3, 4, 7]
    assert bars["spread"].tolist() == [0, 7, 0, 1, 0]


def test_bars_without_ticks_and_spread_have_some(tmp_path: Path) -> None:
    short = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\n2024.01.03\t12:00:00\t1.3\t1.4\t1.2\t1.3\n"
    for name, text in (("a.csv", short), ("b.csv", ISO_BARS.replace("1.2,1.3,1.1,1.2", "1.3,1.4,1.2,1.3"))):
        recording = tickfile.read([write(tmp_path, name, text)], 1)
        assert recording.extra is None
        assert [column.tolist() for column in recording.ticks[1:]] == [[13, 12, 14, 13], [14, 13, 15, 14]]


@pytest.mark.parametrize("volume", [300, 301, 3, 1])
def test_bars_of_a_share_come_back(start: Start, tmp_path: Path, volume: int) -> None:
    """Bars of an exchange's symbol are of trades: the bar's four prices are."""
    rows = f"2024.01.03\t12:00:00\t100.00\t101.00\t99.00\t100.50\t40\t{volume}\t2\n"
    market = start(ticks=write(tmp_path, "acme.csv", BARS + rows), loop=False)
    market.advance(600)
    bar = mt5.copy_rates_from_pos("ACME", mt5.TIMEFRAME_M1, 0, 10)[0]
    shown = tuple(bar[["open", "high", "low", "close", "tick_volume", "spread", "real_volume"]])
    assert shown == (100.0, 101.0, 99.0, 100.5, 40, 2, volume)
    assert mt5.symbol_info("ACME").digits == 1


def test_saved_ticks_of_an_exchange_trade_no_more_than_they_did(start: Start) -> None:
    """The terminal shows the newest trade on every tick; flags say where it came."""
    market = start()
    market.tick("EURUSD", 1.1, 1.1002, last=1.1002, volume=2.0)
    market.tick("EURUSD", 1.1001, 1.1003)
    market.tick("EURUSD", 1.1002, 1.1004, last=1.1002, volume=1.0)
    market.tick("EURUSD", 1.1002, 1.1005)
    ticks = mt5.copy_ticks_from("EURUSD", market.now() // 1000 + 7200, 100, mt5.COPY_TICKS_ALL)[-4:]
    assert ticks["volume_real"].tolist() == [2.0, 2.0, 1.0, 1.0]
    columns = {name: ticks[name].tolist() for name in ticks.dtype.names}
    assert [row.volume for row in tickrows.table(columns)] == [2.0, 0.0, 1.0, 0.0]
    del columns["flags"]
    assert [row.volume for row in tickrows.table(columns)] == [2.0, 2.0, 1.0, 1.0]


def test_flags_of_an_export_tell_its_trades(tmp_path: Path) -> None:
    rows = (
        "2024.01.03\t12:00:00.000\t99.98\t100.02\t100.02\t5\t62\n"
        "2024.01.03\t12:00:01.000\t99.99\t100.02\t100.02\t5\t2\n"
        "2024.01.03\t12:00:02.000\t\t\t\t4\t16\n"
        "2024.01.03\t12:00:03.000\t99.98\t\t\t4\t\n"
    )
    extra = tickfile.read([write(tmp_path, "acme.csv", TICKS + rows)]).extra
    assert extra is not None
    assert extra.traded.tolist() == [True, False, True, False]
    assert np.array_equal(extra.volumes, [5.0, 5.0, 4.0, 4.0])

"""A day's figures take in all its ticks and keep none of them."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]
BUSY = 40_000
"""Ticks of a round; a day holds many rounds."""


def test_counting_a_long_day_leaves_no_ticks_in_memory(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "gbpusd.csv"
    stamps = (f"2024-01-03 10:{at // 6000:02d}:{at // 100 % 60:02d}.{at % 100 * 10:03d}" for at in range(BUSY))
    rows = (f"{stamp},1.{1000 + at % 777},1.3" for at, stamp in enumerate(stamps))
    path.write_text("\n".join(["timestamp,bid,ask", *rows]), encoding="utf-8")
    start(ticks=path)
    mt5.symbol_select("GBPUSD", True)
    mt5.symbol_info_tick("GBPUSD")
    tracemalloc.start()
    try:
        info = mt5.symbol_info("GBPUSD")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (info.bidlow, info.bidhigh) == (1.1, 1.1776)
    assert kept < 200_000

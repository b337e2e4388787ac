"""The paper terminal under the official package's name, with what a benchmark needs to see and to do.

A daemon with `TERMINAL=mt5` and this folder on `PYTHONPATH` takes it for the real thing. Told by the environment:

    PAPER_*, MT5_*, DATA_DIR   the paper terminal's settings
    BENCH_FLOOD                instead of the paper market's ticks, so many for each of SYMBOLS, 100 a second,
    BENCH_FLOOD_END            up to this time (UTC ms)
    BENCH_MANY                 instead of the paper market's symbols, so many (`many_symbols`),
    BENCH_MANY_SINCE           with ticks since then (UTC ms)
    BENCH_NOTES                a file that gets a line `time_ns magic action` for every `order_send`, before it acts
    BENCH_HANG                 a file: as long as it exists, `positions_get` does not return
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.terminal import many_symbols
from mt5_bridge import simulator
from mt5_bridge.simulator import *  # noqa: F403 - a terminal's module is its 223 constants and 36 functions
from mt5_bridge.simulator.api import configure as configure_paper
from mt5_bridge.simulator.structs import Tick

# What follows replaces functions that the star import brought: that is the point of this module.
_FLOOD = int(os.environ.get("BENCH_FLOOD", "0"))
_FLOOD_END = int(os.environ.get("BENCH_FLOOD_END", "0"))
EVERY_MS = 10
_MANY = int(os.environ.get("BENCH_MANY", "0"))
_NOTES = os.environ.get("BENCH_NOTES")
_HANG = os.environ.get("BENCH_HANG")
_arrays: dict[str, Any] = {}
_seconds: dict[str, Any] = {}


def configure(settings: dict[str, str]) -> None:  # type: ignore[no-redef]
    """The daemon tells a real terminal nothing, so the paper terminal's settings come from the environment."""
    told = {
        name: value for name, value in os.environ.items() if name.startswith(("PAPER_", "MT5_")) or name == "DATA_DIR"
    }
    configure_paper(told | settings)
    if _FLOOD:
        for symbol in os.environ["SYMBOLS"].split(","):
            past(symbol)


def past(symbol: str) -> Any:
    """All ticks of a symbol when flooding, prices in a narrow band."""
    if symbol not in _arrays:
        ticks = np.zeros(_FLOOD, many_symbols.DTYPE)
        at = _FLOOD_END + EVERY_MS * (np.arange(_FLOOD, dtype=np.int64) - _FLOOD)
        steps = np.random.default_rng(sum(symbol.encode())).integers(-50, 50, _FLOOD)
        ticks["time_msc"], ticks["time"], ticks["flags"] = at, at // 1000, 6
        ticks["bid"] = np.round(1.1 + steps * 0.00001, 5)
        ticks["ask"] = np.round(ticks["bid"] + 0.00012, 5)
        _arrays[symbol] = ticks
        _seconds[symbol] = at // 1000
    return _arrays[symbol]


if _FLOOD:

    def copy_ticks_from(symbol: str, date_from: int, count: int, flags: int, /) -> Any:  # type: ignore[misc]
        """As the package's, for whole seconds only."""
        ticks = past(symbol)
        first = int(np.searchsorted(_seconds[symbol], date_from))
        return ticks[first : first + count]

    def symbol_info_tick(symbol: str, /) -> Any:  # type: ignore[misc]
        """The newest tick there will ever be."""
        return Tick(past(symbol)[-1].item()) if simulator.symbol_info_tick(symbol) else None


if _MANY:
    _many = many_symbols.Many(_MANY, int(os.environ["BENCH_MANY_SINCE"]))
    symbols_get: Any = _many.symbols_get  # type: ignore[no-redef]
    symbol_info: Any = _many.symbol_info  # type: ignore[no-redef]
    symbol_info_tick: Any = _many.symbol_info_tick  # type: ignore[no-redef]
    copy_ticks_from: Any = _many.copy_ticks_from  # type: ignore[no-redef]


if _NOTES:
    _notes = os.open(_NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def order_send(request: dict[str, Any], /) -> Any:  # type: ignore[misc]
        """As the package's, noted down first."""
        os.write(_notes, f"{time.time_ns()} {request.get('magic', 0)} {request.get('action')}\n".encode())
        return simulator.order_send(request)


if _HANG:
    _hang = Path(_HANG)

    def positions_get(*arguments: Any, **keywords: Any) -> Any:  # type: ignore[misc]
        """As the package's, but not while the file exists."""
        while _hang.exists():
            time.sleep(0.05)
        return simulator.positions_get(*arguments, **keywords)

"""A terminal with a long past: speaks like the `MetaTrader5` package, its ticks made beforehand.

For `TerminalConfig(backend="benchmarks.flood_terminal")`: the account and the symbols are the paper terminal's, ticks
come from arrays, so that what is measured is the bridge and not the market.
"""

from typing import Any

import numpy as np

from mt5_bridge import simulator
from mt5_bridge.simulator import *  # noqa: F403 - a terminal's module is its 223 constants and 36 functions

START_S = 1_700_000_000
_DTYPE = np.dtype(
    [
        ("time", "<i8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("last", "<f8"),
        ("volume", "<u8"),
        ("time_msc", "<i8"),
        ("flags", "<u4"),
        ("volume_real", "<f8"),
    ]
)
_ticks = 0
_arrays: dict[str, Any] = {}


def configure(settings: dict[str, str]) -> None:
    """`FLOOD_TICKS` per symbol; the rest goes to the paper terminal."""
    global _ticks
    _ticks = int(settings.pop("FLOOD_TICKS"))
    simulator.configure(settings)


def past(symbol: str) -> Any:
    """All ticks of a symbol: one a millisecond, prices in a narrow band."""
    if symbol not in _arrays:
        ticks = np.zeros(_ticks, _DTYPE)
        at = START_S * 1000 + np.arange(_ticks, dtype=np.int64)
        steps = np.random.default_rng(len(symbol)).integers(-50, 50, _ticks)
        ticks["time_msc"], ticks["time"], ticks["flags"] = at, at // 1000, 6
        ticks["bid"] = np.round(1.1 + steps * 0.00001, 5)
        ticks["ask"] = np.round(ticks["bid"] + 0.00012, 5)
        _arrays[symbol] = ticks
    return _arrays[symbol]


def copy_ticks_from(symbol: str, date_from: int, count: int, flags: int, /) -> Any:
    """As the package's, for whole seconds only."""
    ticks = past(symbol)
    first = int(np.searchsorted(ticks["time"], date_from))
    return ticks[first : first + count]


def symbol_info_tick(symbol: str, /) -> Any:
    """The newest tick there will ever be."""
    return simulator.Tick(past(symbol)[-1].item()) if simulator.symbol_info_tick(symbol) else None

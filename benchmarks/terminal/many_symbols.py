"""A market of many symbols that costs next to nothing, so that what is measured is the bridge.

Each symbol ticks ten times a second, the symbols evenly spread over the 100 ms; every time a function is asked, the
answer is worked out from the clock. The paper terminal's own symbols are there as well.
"""

import time
from typing import Any

import numpy as np

from mt5_bridge import simulator
from mt5_bridge.simulator.structs import SymbolInfo, Tick

EVERY_MS = 100
DTYPE = np.dtype(
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
BIDS = np.round(1.1 + np.arange(40) * 7 % 40 * 1e-5, 5)
ASKS = np.round(BIDS + 0.00012, 5)


def names(count: int) -> list[str]:
    """The symbols, for the daemon's settings as well."""
    return [f"M{number:04d}" for number in range(count)]


class Many:
    """The functions of the terminal's module that know of the market.

    Args:
        count: how many symbols.
        since_msc: when the market began: a whole second, UTC ms.
    """

    def __init__(self, count: int, since_msc: int) -> None:
        self._since = since_msc
        self._late = {name: number * 37 % EVERY_MS for number, name in enumerate(names(count))}

    def symbols_get(self, group: str = "*") -> Any:
        """As the package's, for masks that are a name between stars."""
        ours = tuple(self.symbol_info(name) for name in self._late if group.strip("*") in name)
        return ours or simulator.symbols_get(group=group)

    def symbol_info(self, name: str, /) -> Any:
        """The rules of EURUSD under another name."""
        if name not in self._late:
            return simulator.symbol_info(name)
        # Not kept: the host's memory is measured, and the package keeps none of it either.
        model = simulator.symbol_info("EURUSD")
        return SymbolInfo.of({**model._asdict(), "name": name, "select": True})

    def symbol_info_tick(self, name: str, /) -> Any:
        """The last tick."""
        if name not in self._late:
            return simulator.symbol_info_tick(name)
        number = self._last(name)
        at = self._since + self._late[name] + number * EVERY_MS
        place = number % 40
        return Tick((at // 1000, float(BIDS[place]), float(ASKS[place]), 0.0, 0, at, 6, 0.0))

    def _last(self, name: str) -> int:
        return (time.time_ns() // 1_000_000 - self._since - self._late[name]) // EVERY_MS

    def copy_ticks_from(self, name: str, date_from: int, count: int, flags: int, /) -> Any:
        """Ticks from a whole second on."""
        if name not in self._late:
            return simulator.copy_ticks_from(name, date_from, count, flags)
        begin = self._since + self._late[name]
        first = max(0, -((begin - date_from * 1000) // EVERY_MS))
        numbers = np.arange(first, min(first + count, self._last(name) + 1), dtype=np.int64)
        ticks = np.zeros(len(numbers), DTYPE)
        at = begin + numbers * EVERY_MS
        ticks["time_msc"], ticks["time"], ticks["flags"] = at, at // 1000, 6
        ticks["bid"], ticks["ask"] = BIDS[numbers % 40], ASKS[numbers % 40]
        return ticks

"""When a symbol trades, and how market time, which stands still while it does not, maps to the clock.

Sessions are those of a retail server whose days begin at its own midnight: "Sessions" in the MetaTrader 5 help's symbol
specification, SymbolInfoSessionTrade in the MQL5 reference.
"""

from bisect import bisect_right
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mt5_bridge.simulator.market.serverclock import ServerClock

Ints: TypeAlias = NDArray[np.int64]
Week: TypeAlias = tuple[tuple[int, int], ...]
"""Open stretches, ms since the first midnight of Monday on the server's wall clock, in order."""

MINUTE_MSC = 60_000
HOUR_MSC = 60 * MINUTE_MSC
DAY_MSC = 24 * HOUR_MSC
WEEK_MSC = 7 * DAY_MSC
MONDAY_MSC = 4 * DAY_MSC
"""A Monday's first midnight: 1970-01-05."""


def _each_working_day(*stretches: tuple[int, int]) -> Week:
    return tuple(
        (day * DAY_MSC + start * MINUTE_MSC, day * DAY_MSC + end * MINUTE_MSC)
        for day in range(5)
        for start, end in stretches
    )


AROUND_THE_CLOCK: Week = ((0, WEEK_MSC),)
"""Crypto."""
FOREX_WEEK: Week = ((0, 5 * DAY_MSC),)
"""From Monday's first to Friday's last midnight."""
METALS_WEEK: Week = _each_working_day((60, 1440))
"""A break in the first hour of each day."""
INDICES_WEEK: Week = _each_working_day((60, 1395), (1410, 1440))
"""As metals, with another break of a quarter of an hour at 23:15."""


class Retiming:
    """Market time to the clock and back: `speed` market milliseconds pass in one of the clock, from `anchor` on.

    With sessions, market time stands still while the market is closed: no tick is lost, and ticks keep their numbers.
    Each week's sessions are counted from its Monday's midnight on the server's wall clock.
    """

    def __init__(
        self, anchor_msc: int, speed: Fraction, week: Week = AROUND_THE_CLOCK, clock: ServerClock | None = None
    ) -> None:
        self._clock = clock or ServerClock(0)
        self._always = week == AROUND_THE_CLOCK
        self._starts = [start for start, _ in week]
        self._ends = [end for _, end in week]
        lengths = np.array([end - start for start, end in week], np.int64)
        self._before: list[int] = [0, *np.cumsum(lengths).tolist()]
        """Open time of the week before each stretch, and of the whole."""
        self._up, self._down = speed.numerator, speed.denominator
        self._anchor = self._open(anchor_msc)
        self._anchor_closed = anchor_msc - self._anchor

    def to_market(self, msc: int) -> int:
        """The first market millisecond that falls at or after `msc`."""
        return -((self._anchor - self._open(msc)) * self._up // self._down)

    def to_clock(self, market: Ints) -> Ints:
        """When market milliseconds fall, UTC."""
        times = self._opened(market)
        if self._always:
            return times
        weeks, rest = np.divmod(times, self._before[-1])
        place = np.searchsorted(self._before, rest, "right") - 1
        rest += np.array(self._starts, np.int64)[place] - np.array(self._before, np.int64)[place]
        if len(weeks):
            low, high = int(weeks[0]), int(weeks[-1])
            rest += np.array([self._monday(week) for week in range(low, high + 1)], np.int64)[weeks - low]
        return rest

    def closed_before(self, market: Ints, times: Ints) -> Ints:
        """Closed time since the anchor, in market milliseconds, at `market`, which falls at `times`."""
        closed: Ints = (times - self._opened(market) - self._anchor_closed) * self._up // self._down
        return closed

    def server_times(self, times: Ints) -> Ints:
        """The server's wall clock at `times`."""
        return self._clock.server_times(times)

    def is_open(self, msc: int) -> bool:
        """Whether the market trades at `msc`."""
        if self._always:
            return True
        rest = self._rest(msc)[1]
        place = bisect_right(self._starts, rest) - 1
        return place >= 0 and rest < self._ends[place]

    def _opened(self, market: Ints) -> Ints:
        if self._up == self._down:
            return market + self._anchor
        times: Ints = self._anchor + market * self._down // self._up
        return times

    def _open(self, msc: int) -> int:
        """Open milliseconds up to `msc`; of what never closes simply `msc`."""
        if self._always:
            return msc
        week, rest = self._rest(msc)
        place = bisect_right(self._starts, rest) - 1
        inside = min(rest, self._ends[place]) - self._starts[place] + self._before[place] if place >= 0 else 0
        return week * self._before[-1] + inside

    def _rest(self, msc: int) -> tuple[int, int]:
        """The server's week, and how much of it has passed."""
        week = (self._clock.server_time(msc) - MONDAY_MSC) // WEEK_MSC
        if msc < self._monday(week):
            week -= 1
        return week, msc - self._monday(week)

    def _monday(self, week: int) -> int:
        return self._clock.utc(week * WEEK_MSC + MONDAY_MSC)

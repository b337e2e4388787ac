"""When a symbol trades, and how market time, which stands still while it does not, maps to the clock.

Sessions are those of a retail server whose days begin at its own midnight: "Sessions" in the MetaTrader 5 help's symbol
specification, SymbolInfoSessionTrade in the MQL5 reference.
"""

from bisect import bisect_left, bisect_right
from fractions import Fraction
from typing import NamedTuple, TypeAlias

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


class _Stretches(NamedTuple):
    """When a week's market is open, UTC: since its `monday`, with so much open time `before` it, and at each start."""

    monday: int
    before: int
    starts: list[int]
    ends: list[int]
    opened: list[int]


class Retiming:
    """Market time to the clock and back: `speed` market milliseconds pass in one of the clock, from `anchor` on.

    With sessions, market time stands still while the market is closed: no tick is lost, and ticks keep their numbers.
    It is open while the server's wall clock says so: an hour that passes twice is open twice, one left out is lost.
    """

    def __init__(
        self, anchor_msc: int, speed: Fraction, week: Week = AROUND_THE_CLOCK, clock: ServerClock | None = None
    ) -> None:
        self._clock = clock or ServerClock(0)
        self._always = week == AROUND_THE_CLOCK
        self._sessions = week
        self._length = sum(end - start for start, end in week)
        """Open time of a week in which the clock does not change."""
        self._weeks: dict[int, _Stretches] = {}
        self._odd: list[int] = []
        self._more = [0]
        """Weeks whose open time is another, and how much more than that all weeks before the next of them have had."""
        if not self._always:
            self._find_odd_weeks()
        self._up, self._down = speed.numerator, speed.denominator
        self._anchor = self._open(anchor_msc)
        self._anchor_closed = anchor_msc - self._anchor

    def to_market(self, msc: int) -> int:
        """The first market millisecond that falls at or after `msc`."""
        return -((self._anchor - self._open(msc)) * self._up // self._down)

    def to_clock(self, market: Ints) -> Ints:
        """When market milliseconds fall, UTC."""
        times = self._opened(market)
        if self._always or not len(times):
            return times
        weeks = range(self._week_of(int(times[0])), self._week_of(int(times[-1])) + 1)
        tables = [self._stretches(week) for week in weeks]
        opened = np.array([moment for table in tables for moment in table.opened], np.int64)
        starts = np.array([moment for table in tables for moment in table.starts], np.int64)
        times += (starts - opened)[np.searchsorted(opened, times, "right") - 1]
        return times

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
        table = self._stretches_at(msc)
        place = bisect_right(table.starts, msc) - 1
        return place >= 0 and msc < table.ends[place]

    def _opened(self, market: Ints) -> Ints:
        if self._up == self._down:
            return market + self._anchor
        times: Ints = self._anchor + market * self._down // self._up
        return times

    def _open(self, msc: int) -> int:
        """Open milliseconds up to `msc`; of what never closes simply `msc`."""
        if self._always:
            return msc
        table = self._stretches_at(msc)
        place = bisect_right(table.starts, msc) - 1
        return min(msc, table.ends[place]) - table.starts[place] + table.opened[place] if place >= 0 else table.before

    def _find_odd_weeks(self) -> None:
        readings = (reading for moment in self._clock.changes for reading in (moment - 1, moment))
        for week, rest in [divmod(self._clock.server_time(reading) - MONDAY_MSC, WEEK_MSC) for reading in readings]:
            if rest < self._sessions[-1][1] and week not in self._odd:
                more = sum(end - start for start, end in self._shown(week)) - self._length
                self._odd.append(week)
                self._more.append(self._more[-1] + more)

    def _stretches_at(self, msc: int) -> "_Stretches":
        """The open stretches of the server's week, which begins when Monday is first shown, whatever comes later."""
        week = (self._clock.server_time(msc) - MONDAY_MSC) // WEEK_MSC + 1
        table = self._stretches(week)
        while msc < table.monday:
            week -= 1
            table = self._stretches(week)
        return table

    def _stretches(self, week: int) -> "_Stretches":
        table = self._weeks.get(week)
        if table is None:
            monday = self._monday(week)
            if week in self._odd:
                shown = self._shown(week)
            else:
                shown = [(monday + start, monday + end) for start, end in self._sessions]
            table = _Stretches(monday, self._before(week), [], [], [])
            opened = table.before
            for start, end in shown:
                table.starts.append(start)
                table.ends.append(end)
                table.opened.append(opened)
                opened += end - start
            self._weeks[week] = table
        return table

    def _shown(self, week: int) -> list[tuple[int, int]]:
        """When the server's clock shows a week's sessions."""
        midnight = week * WEEK_MSC + MONDAY_MSC
        sessions = ((midnight + start, midnight + end) for start, end in self._sessions)
        return sorted(stretch for session in sessions for stretch in self._clock.stretches(*session))

    def _before(self, week: int) -> int:
        """Open time before a week."""
        return week * self._length + self._more[bisect_left(self._odd, week)]

    def _week_of(self, opened: int) -> int:
        """The week in which so much open time has passed."""
        week = opened // self._length
        while self._before(week) > opened:
            week -= 1
        while self._before(week + 1) <= opened:
            week += 1
        return week

    def _monday(self, week: int) -> int:
        return self._clock.utc(week * WEEK_MSC + MONDAY_MSC)

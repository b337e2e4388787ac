"""The trade server's wall clock: UTC plus an offset that may change with summer time, or by a fault.

Times inside the market are UTC; what a terminal shows is this clock's reading, encoded as if it were UTC. Both in ms.
"""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

FOREVER_MSC = 1 << 62
_FIRST_YEAR, _LAST_YEAR = 1990, 2040
"""Changes of a time zone are known between these years; before and after them the nearest offset holds."""
_STEP_S = 7 * 86_400
"""Two changes of a zone are further apart than this (the shortest on record, Ramadan in Morocco, by four weeks)."""


class ServerClock:
    """Converts between UTC and the server's wall clock.

    Args:
        offset_s: UTC offset in seconds, for ever.
        zone: IANA name of a time zone whose rules hold instead.
    """

    def __init__(self, offset_s: int, zone: str | None = None) -> None:
        changes = zone_changes(zone) if zone else ((-FOREVER_MSC, offset_s * 1000),)
        self._starts = [start for start, _ in changes]
        self._offsets = [offset for _, offset in changes]
        self.version = 0
        """Counts the changes nobody could foresee."""
        self._prepare()

    @property
    def changes(self) -> list[int]:
        """The moments (UTC, ms) at which the offset changes."""
        return self._starts[1:]

    def offset(self, msc: int) -> int:
        """What the clock adds at the moment `msc` (UTC), in ms."""
        if len(self._starts) == 1:
            return self._offsets[0]
        return self._offsets[bisect_right(self._starts, msc) - 1]

    def server_time(self, msc: int) -> int:
        """UTC to the wall clock."""
        return msc + self.offset(msc)

    def server_times(self, times: Ints) -> Ints:
        """UTC to the wall clock, many at once."""
        if len(self._starts) == 1:
            return times + self._offsets[0]
        if len(times):
            low, high = int(times.min()), int(times.max())
            place = bisect_right(self._starts, low) - 1
            if place == bisect_right(self._starts, high) - 1:
                return times + self._offsets[place]
        shifted: Ints = times + self._offset_array[np.searchsorted(self._start_array, times, "right") - 1]
        return shifted

    def utc(self, server_msc: int) -> int:
        """The wall clock to UTC: the earliest moment where a clock set back leaves two, the next where one set
        forward leaves none."""
        place = max(bisect_right(self._starts, server_msc - self._largest) - 1, 0)
        while place + 1 < len(self._starts) and server_msc - self._offsets[place] >= self._starts[place + 1]:
            place += 1
        return max(server_msc - self._offsets[place], self._starts[place])

    def stretches(self, lo: int, hi: int, until: int = FOREVER_MSC) -> list[tuple[int, int]]:
        """The stretches of UTC before `until`, in order, in which the wall clock reads from `lo` up to, not
        including, `hi`."""
        if len(self._starts) == 1:
            first, last = lo - self._largest, min(hi - self._largest, until)
            return [(first, last)] if first < last else []
        found = []
        lowest = max(bisect_right(self._starts, lo - self._largest) - 1, 0)
        for place in range(lowest, bisect_right(self._starts, min(hi - self._smallest, until))):
            offset = self._offsets[place]
            first, last = max(self._starts[place], lo - offset), min(self._ends[place], hi - offset, until)
            if first < last:
                found.append((first, last))
        return found

    def highest(self, msc: int) -> int:
        """The latest reading up to the moment `msc` (UTC): a clock set back has shown later ones."""
        place = bisect_right(self._starts, msc) - 1
        return max(msc + self._offsets[place], self._highest[place])

    def change(self, from_msc: int, offset_s: int) -> None:
        """From `from_msc` (UTC) on the clock shows UTC + `offset_s`, whatever was foreseen."""
        place = bisect_right(self._starts, from_msc - 1)
        self._starts[place:] = [from_msc]
        self._offsets[place:] = [offset_s * 1000]
        self.version += 1
        self._prepare()

    def _prepare(self) -> None:
        self._ends = [*self._starts[1:], FOREVER_MSC]
        self._largest, self._smallest = max(self._offsets), min(self._offsets)
        ends = [start - 1 + offset for start, offset in zip(self._starts[1:], self._offsets, strict=False)]
        self._highest = list(accumulate(ends, max, initial=-FOREVER_MSC))
        self._start_array = np.array(self._starts, np.int64)
        self._offset_array = np.array(self._offsets, np.int64)


@cache
def zone_changes(name: str) -> tuple[tuple[int, int], ...]:
    """A time zone as (from when, UTC in ms; offset, ms), the first from the beginning of time.

    Raises:
        ZoneInfoNotFoundError, ValueError: no such zone.
    """
    zone = ZoneInfo(name)
    first = int(datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp())
    last = int(datetime(_LAST_YEAR, 1, 1, tzinfo=UTC).timestamp())
    offset = _offset(zone, first)
    changes = [(-FOREVER_MSC, offset * 1000)]
    for moment in range(first, last, _STEP_S):
        later = _offset(zone, moment + _STEP_S)
        if later != offset:
            changes.append((_change(zone, moment, offset) * 1000, later * 1000))
            offset = later
    return tuple(changes)


def _change(zone: ZoneInfo, before: int, offset: int) -> int:
    """The second at which `offset` ends, within a step after `before`."""
    low, high = before, before + _STEP_S
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return high


def _offset(zone: ZoneInfo, second: int) -> int:
    delta = datetime.fromtimestamp(second, zone).utcoffset()
    assert delta is not None, "a ZoneInfo knows its offset"
    return delta // timedelta(seconds=1)

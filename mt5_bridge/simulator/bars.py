"""Ticks and bars in the terminal's own packed layouts."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.sources import Ints, Ticks

Records: TypeAlias = NDArray[Any]

TICKS_DTYPE = np.dtype(
    [
        ("time", "<i8"), ("bid", "<f8"), ("ask", "<f8"), ("last", "<f8"),
        ("volume", "<u8"), ("time_msc", "<i8"), ("flags", "<u4"), ("volume_real", "<f8"),
    ]
)  # fmt: skip
RATES_DTYPE = np.dtype(
    [
        ("time", "<i8"), ("open", "<f8"), ("high", "<f8"), ("low", "<f8"), ("close", "<f8"),
        ("tick_volume", "<u8"), ("spread", "<i4"), ("real_volume", "<u8"),
    ]
)  # fmt: skip

MINUTE_MSC = 60_000
HOUR_MSC = 60 * MINUTE_MSC
DAY_MSC = 24 * HOUR_MSC
_SUNDAY_MSC = 3 * DAY_MSC
"""A Sunday's first midnight, 1970-01-04: weeks begin there."""

TIMEFRAMES: dict[int, int] = {
    **{minutes: minutes * MINUTE_MSC for minutes in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)},
    **{0x4000 | hours: hours * HOUR_MSC for hours in (1, 2, 3, 4, 6, 8, 12)},
    c.TIMEFRAME_D1: DAY_MSC,
    c.TIMEFRAME_W1: 7 * DAY_MSC,
    c.TIMEFRAME_MN1: 31 * DAY_MSC,
}
"""Lengths in ms; of a month, the longest."""

_CHUNK = 65_536


def tick_records(times: Ints, bids: Ints, asks: Ints, scale: int, *, skip: int) -> Records:
    """Packs ticks; the first `skip` (0 or 1) only tell what changed at the next one."""
    records = np.zeros(len(times) - skip, TICKS_DTYPE)
    now, new_bids, new_asks = times[skip:], bids[skip:], asks[skip:]
    records["time_msc"] = now
    records["time"] = now // 1000
    records["bid"] = new_bids / scale
    records["ask"] = new_asks / scale
    flags = np.full(len(records), c.TICK_FLAG_BID | c.TICK_FLAG_ASK, np.uint32)
    changed = (bids[1:] != bids[:-1]) * np.uint32(c.TICK_FLAG_BID) + (asks[1:] != asks[:-1]) * np.uint32(
        c.TICK_FLAG_ASK
    )
    # A tick that repeats both prices is a full quote, as is the first of a history.
    flags[1 - skip :] = np.where(changed == 0, c.TICK_FLAG_BID | c.TICK_FLAG_ASK, changed)
    records["flags"] = flags
    return records


def bar_start(msc: int, timeframe: int) -> int:
    """When the bar that holds `msc` opened; both on the server's wall clock."""
    if timeframe == c.TIMEFRAME_MN1:
        when = datetime.fromtimestamp(msc // 1000, UTC)
        return int(when.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1000
    length = TIMEFRAMES[timeframe]
    origin = _SUNDAY_MSC if timeframe == c.TIMEFRAME_W1 else 0
    return (msc - origin) // length * length + origin


def _starts(times: Ints, timeframe: int) -> Ints:
    if timeframe == c.TIMEFRAME_MN1:
        starts: Ints = times.astype("datetime64[ms]").astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)
        return starts
    length = TIMEFRAMES[timeframe]
    origin = _SUNDAY_MSC if timeframe == c.TIMEFRAME_W1 else 0
    floored: Ints = (times - origin) // length * length + origin
    return floored


class Builder:
    """Makes bars from ticks, chunk by chunk, so that memory does not grow with the range."""

    def __init__(
        self, *, read: Callable[[int, int], Ticks], index: Callable[[int], int], first: int, end: int, scale: int
    ) -> None:
        self._read, self._index = read, index
        self._first, self._end, self._scale = first, end, scale

    def between(self, timeframe: int, from_msc: int, to_msc: int) -> Records:
        """Bars that open from `from_msc` to `to_msc`, both included (server time, ms)."""
        lo = max(self._index(bar_start(from_msc + TIMEFRAMES[timeframe] - 1, timeframe)), self._first)
        if timeframe == c.TIMEFRAME_MN1:
            lo = max(self._index(bar_start(from_msc, timeframe)), self._first)
        hi = min(self._index(bar_start(to_msc, timeframe) + TIMEFRAMES[timeframe]), self._end)
        bars = self._build(timeframe, lo, hi)
        return bars[(bars["time"] * 1000 >= from_msc) & (bars["time"] * 1000 <= to_msc)]

    def last(self, timeframe: int, count: int, *, until_msc: int | None = None, skip: int = 0) -> Records:
        """The last `count` bars that open at or before `until_msc`, after leaving out the newest `skip`."""
        hi = self._end
        if until_msc is not None:
            hi = min(hi, self._index(bar_start(until_msc, timeframe) + TIMEFRAMES[timeframe]))
        if hi <= self._first:
            return np.empty(0, RATES_DTYPE)
        wanted = count + skip
        newest = bar_start(int(self._read(hi - 1, hi)[0][0]), timeframe)
        # Bars are missing where nothing traded: reach back further until there are enough, or no more history.
        reach = wanted
        while True:
            lo = max(self._index(bar_start(newest - reach * TIMEFRAMES[timeframe], timeframe)), self._first)
            bars = self._build(timeframe, lo, hi)
            if until_msc is not None:
                bars = bars[bars["time"] * 1000 <= until_msc]
            if len(bars) >= wanted or lo <= self._first:
                break
            reach *= 4
        stop = len(bars) - skip
        return bars[max(stop - count, 0) : max(stop, 0)].copy()

    def _build(self, timeframe: int, lo: int, hi: int) -> Records:
        parts: list[Records] = []
        for start in range(lo, hi, _CHUNK):
            part = self._aggregate(timeframe, self._read(start, min(start + _CHUNK, hi)))
            if parts and parts[-1]["time"][-1] == part["time"][0]:
                _merge(parts[-1], part)
                part = part[1:]
            if len(part):
                parts.append(part)
        return np.concatenate(parts) if parts else np.empty(0, RATES_DTYPE)

    def _aggregate(self, timeframe: int, ticks: Ticks) -> Records:
        times, bids, asks = ticks
        starts = _starts(times, timeframe)
        edges = np.concatenate(([0], np.flatnonzero(np.diff(starts)) + 1))
        closes = np.concatenate((edges[1:], [len(times)])) - 1
        bars = np.zeros(len(edges), RATES_DTYPE)
        bars["time"] = starts[edges] // 1000
        bars["open"] = bids[edges] / self._scale
        bars["high"] = np.maximum.reduceat(bids, edges) / self._scale
        bars["low"] = np.minimum.reduceat(bids, edges) / self._scale
        bars["close"] = bids[closes] / self._scale
        bars["tick_volume"] = closes - edges + 1
        bars["spread"] = np.minimum.reduceat(asks - bids, edges)
        return bars


def _merge(earlier: Records, later: Records) -> None:
    """Adds the first bar of `later` to the last of `earlier`: the same bar, cut by a chunk's edge."""
    bar, more = earlier[-1:], later[:1]
    bar["high"] = np.maximum(bar["high"], more["high"])
    bar["low"] = np.minimum(bar["low"], more["low"])
    bar["close"] = more["close"]
    bar["tick_volume"] += more["tick_volume"]
    bar["spread"] = np.minimum(bar["spread"], more["spread"])

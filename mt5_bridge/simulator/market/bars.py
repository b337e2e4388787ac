"""Ticks and bars in the terminal's own packed layouts."""

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.market.serverclock import ServerClock
from mt5_bridge.simulator.market.sessions import DAY_MSC, HOUR_MSC, MINUTE_MSC
from mt5_bridge.simulator.market.sources import Extra, Ints, Source, Ticks

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

MAX_BARS = 100_000
"""TERMINAL_MAXBARS, "Max. bars in chart": older ones cannot be had, and a request that reaches this fails whole."""

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

QUOTE_FLAGS = c.TICK_FLAG_BID | c.TICK_FLAG_ASK
TRADE_FLAGS = c.TICK_FLAG_LAST | c.TICK_FLAG_VOLUME
_CHANGED = np.array([0, c.TICK_FLAG_BID, c.TICK_FLAG_ASK, QUOTE_FLAGS], np.uint32)
"""By what differs from the tick before: nothing, the bid, the ask, both."""
_CHUNK = 65_536
_KEPT_HOURS = 4_096
"""Of one symbol: half a year of trading, at most 15 MB."""


def tick_records(ticks: Ticks, scale: int, *, skip: int, extra: Extra | None = None) -> Records:
    """Packs ticks; the first `skip` (0 or 1) only tell what changed at the next one.

    "MqlTick" and "CopyTicks" of the MQL5 reference: every tick shows all prices, and its flags which of them changed.
    """
    times, bids, asks = ticks
    records = np.zeros(len(times) - skip, TICKS_DTYPE)
    now = times[skip:]
    records["time_msc"] = now
    records["time"] = now // 1000
    records["bid"] = bids[skip:] / scale
    records["ask"] = asks[skip:] / scale
    flags = np.full(len(records), QUOTE_FLAGS, np.uint32)
    flags[1 - skip :] = _CHANGED[(bids[1:] != bids[:-1]) + 2 * (asks[1:] != asks[:-1]).view(np.uint8)]
    if extra is not None:
        flags |= _trade_flags(extra, ticks, skip)
        volumes = extra.volumes[skip:]
        records["last"] = extra.lasts[skip:] / scale
        records["volume_real"] = volumes
        records["volume"] = volumes.astype(np.uint64)
    # A tick that repeats both prices is a full quote, as is the first of a history.
    flags[flags == 0] = QUOTE_FLAGS
    records["flags"] = flags
    return records


def _trade_flags(extra: Extra, ticks: Ticks, skip: int) -> NDArray[np.uint32]:
    """A trade at the ask or above was a purchase, one at the bid or below a sale."""
    _, bids, asks = (column[skip:] for column in ticks)
    lasts = extra.lasts[skip:]
    sides = np.where(lasts >= asks, c.TICK_FLAG_BUY, np.where(lasts <= bids, c.TICK_FLAG_SELL, 0))
    return np.where(extra.traded[skip:], TRADE_FLAGS | sides, 0).astype(np.uint32)


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


class _Hour(NamedTuple):
    """The one-minute bars of an hour of the server's clock, made of ticks `first` up to, not including, `end`."""

    number: int
    first: int
    end: int
    bars: Records


class Reader(Protocol):
    """A symbol's ticks by number, as `feed.Feed` gives them."""

    source: Source

    def index_after(self, msc: int) -> int:
        """How many ticks came at or before `msc` (UTC)."""
        ...

    def raw(self, lo: int, hi: int) -> Ticks:
        """Ticks `lo` up to, not including, `hi`."""
        ...

    def once(self, lo: int, hi: int) -> Ticks:
        """The same, for a range that nobody is going to ask for again."""
        ...

    def extras(self, lo: int, hi: int) -> Extra | None:
        """What they hold beside quotes."""
        ...


class BarHistory:
    """A symbol's bars: one-minute bars made of ticks, all others of these.

    Hours that are over are kept, so that asking again costs nothing; the running one grows. Where the server's clock
    was set back, both passes of an hour are in its bars.

    Args:
        feed: the ticks.
        clock: the server's.
        scale: points in one unit of price.
        by_last: bars show prices of trades (SYMBOL_CHART_MODE_LAST), not bids.
    """

    def __init__(self, feed: Reader, clock: ServerClock, scale: int, *, by_last: bool = False) -> None:
        self._feed = feed
        self._clock = clock
        self._scale = scale
        self._by_last = by_last
        self._version = clock.version
        self._hours: OrderedDict[int, Records] = OrderedDict()
        self._running: _Hour | None = None
        self._oldest: int | None = None

    def between(self, timeframe: int, from_msc: int, to_msc: int, now: int) -> Records:
        """Bars that open from `from_msc` to `to_msc`, both included (server time, ms), as they are at `now` (UTC)."""
        start, end = bar_start(from_msc, timeframe), bar_start(to_msc, timeframe) + TIMEFRAMES[timeframe]
        bars = self._made(timeframe, start, end, now)
        return bars[(bars["time"] * 1000 >= from_msc) & (bars["time"] * 1000 <= to_msc)]

    def last(self, timeframe: int, count: int, now: int, *, until_msc: int | None = None, skip: int = 0) -> Records:
        """The last `count` bars that open at or before `until_msc` (server time), leaving out the newest `skip`."""
        bounds = self._bounds(now)
        if bounds is None:
            return np.empty(0, RATES_DTYPE)
        oldest, newest = bounds
        if until_msc is not None:
            newest = min(newest, until_msc)
        length = TIMEFRAMES[timeframe]
        wanted = count + skip
        top = bar_start(newest, timeframe)
        # Bars are missing where nothing traded: reach back further until there are enough, or no more history.
        reach = wanted
        while True:
            start = bar_start(max(top - reach * length, oldest), timeframe)
            bars = self._made(timeframe, start, top + length, now)
            bars = bars[bars["time"] * 1000 <= newest]
            if len(bars) >= wanted or start <= oldest:
                break
            reach *= 4
        stop = len(bars) - skip
        return bars[max(stop - count, 0) : max(stop, 0)].copy()

    def _bounds(self, now: int) -> tuple[int, int] | None:
        """The server's clock at the first tick, and its latest reading up to the newest."""
        first, end = self._feed.source.first, self._feed.index_after(now)
        if end <= first:
            return None
        if self._oldest is None:
            self._oldest = int(self._feed.source.slice(first, first + 1)[0][0])
        newest = int(self._feed.raw(end - 1, end)[0][0])
        return self._clock.server_time(self._oldest), self._clock.highest(newest)

    def _made(self, timeframe: int, start: int, end: int, now: int) -> Records:
        bounds = self._bounds(now)
        if bounds is None:
            return np.empty(0, RATES_DTYPE)
        first = max(start, bounds[0]) // HOUR_MSC
        last = min(end - 1, bounds[1]) // HOUR_MSC
        minutes = self._of_hours(first, last + 1, now)
        return minutes if timeframe == c.TIMEFRAME_M1 or not len(minutes) else _joined(minutes, timeframe)

    def _of_hours(self, first: int, end: int, now: int) -> Records:
        """One-minute bars of the server's hours `first` up to, not including, `end`."""
        if self._version != self._clock.version:
            self._version = self._clock.version
            self._hours.clear()
            self._running = None
        parts = [np.empty(0, RATES_DTYPE)]
        hour = first
        while hour < end:
            found = self._hours.get(hour)
            if found is None:
                stop = hour + 1
                while stop < end and stop not in self._hours:
                    stop += 1
                parts.append(self._missing(hour, stop, now))
                hour = stop
            else:
                self._hours.move_to_end(hour)
                parts.append(found)
                hour += 1
        return np.concatenate(parts)

    def _missing(self, first: int, end: int, now: int) -> Records:
        """The same, of hours that are not kept: those that are over are, from now on."""
        stretches = self._clock.stretches(first * HOUR_MSC, end * HOUR_MSC)
        if len(stretches) == 1 and stretches[0][1] <= now:
            return self._keep(first, end, self._between(*stretches[0]))
        if end - first > 1:
            # The running hour, or one in which the clock was changed, is among them: all before that in one go.
            parts = [self._missing(first, (first + end) // 2, now), self._missing((first + end) // 2, end, now)]
            return np.concatenate(parts)
        if len(stretches) == 1:
            return self._grown(first, stretches[0][0], now)
        bars = np.empty(0, RATES_DTYPE)
        for start, stop in stretches:
            bars = _merged(bars, self._between(start, min(stop, now + 1)))
        return self._keep(first, end, bars) if stretches and stretches[-1][1] <= now else bars

    def _keep(self, first: int, end: int, bars: Records) -> Records:
        edges = np.searchsorted(bars["time"], np.arange(first, end + 1) * 3600)
        for hour, lo, hi in zip(range(first, end), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            self._hours[hour] = bars[lo:hi].copy()
        while len(self._hours) > _KEPT_HOURS:
            self._hours.popitem(last=False)
        return bars

    def _between(self, start: int, end: int) -> Records:
        """One-minute bars of the ticks from `start` up to, not including, `end` (UTC)."""
        return self._minutes(self._feed.source.index(start), self._feed.source.index(end))

    def _grown(self, number: int, start: int, now: int) -> Records:
        """The hour that is not over: what is new is added to what there was."""
        held = self._running
        end = self._feed.index_after(now)
        if held is None or held.number != number or held.end > end:
            first = self._feed.source.index(start)
            held = _Hour(number, first, first, np.empty(0, RATES_DTYPE))
        if held.end < end:
            held = held._replace(end=end, bars=_merged(held.bars, self._minutes(held.end, end)))
        self._running = held
        return held.bars

    def _minutes(self, lo: int, hi: int) -> Records:
        """One-minute bars of ticks `lo` up to, not including, `hi`."""
        parts = [np.empty(0, RATES_DTYPE)]
        for start in range(lo, hi, _CHUNK):
            end = min(start + _CHUNK, hi)
            times, bids, asks = self._feed.once(start, end)
            part = self._aggregated((self._clock.server_times(times), bids, asks), self._feed.extras(start, end))
            if len(part) and len(parts[-1]) and parts[-1]["time"][-1] == part["time"][0]:
                parts[-1], part = _merged(parts[-1], part[:1]), part[1:]
            parts.append(part)
        return np.concatenate(parts)

    def _aggregated(self, ticks: Ticks, extra: Extra | None) -> Records:
        times, bids, asks = ticks
        prices = bids
        if extra is not None and self._by_last:
            traded = np.flatnonzero(extra.traded)
            times, bids, asks, extra = times[traded], bids[traded], asks[traded], extra.rows(traded)
            prices = extra.lasts
        if not len(times):
            return np.empty(0, RATES_DTYPE)
        starts = times // MINUTE_MSC * 60
        edges = np.concatenate(([0], np.flatnonzero(np.diff(starts)) + 1))
        closes = np.concatenate((edges[1:], [len(times)])) - 1
        bars = np.zeros(len(edges), RATES_DTYPE)
        bars["time"] = starts[edges]
        bars["open"] = prices[edges] / self._scale
        bars["high"] = np.maximum.reduceat(prices, edges) / self._scale
        bars["low"] = np.minimum.reduceat(prices, edges) / self._scale
        bars["close"] = prices[closes] / self._scale
        bars["tick_volume"] = closes - edges + 1 if extra is None else np.add.reduceat(extra.weights, edges)
        bars["spread"] = np.minimum.reduceat(asks - bids, edges)
        if extra is not None:
            bars["real_volume"] = np.add.reduceat(np.where(extra.traded, extra.volumes, 0.0), edges)
        return bars


def _merged(earlier: Records, later: Records) -> Records:
    """Both, in order of time; what falls into the same minute becomes one bar."""
    if not len(earlier) or not len(later):
        return later if len(later) else earlier
    both = np.concatenate((earlier, later))
    if earlier["time"][-1] < later["time"][0]:
        return both
    return _joined(both[np.argsort(both["time"], kind="stable")], c.TIMEFRAME_M1)


def _joined(minutes: Records, timeframe: int) -> Records:
    """Bars of a timeframe from one-minute bars in order of time."""
    starts = _starts(minutes["time"] * 1000, timeframe)
    edges = np.concatenate(([0], np.flatnonzero(np.diff(starts)) + 1))
    closes = np.concatenate((edges[1:], [len(minutes)])) - 1
    bars = np.zeros(len(edges), RATES_DTYPE)
    bars["time"] = starts[edges] // 1000
    bars["open"] = minutes["open"][edges]
    bars["high"] = np.maximum.reduceat(minutes["high"], edges)
    bars["low"] = np.minimum.reduceat(minutes["low"], edges)
    bars["close"] = minutes["close"][closes]
    bars["tick_volume"] = np.add.reduceat(minutes["tick_volume"], edges)
    bars["spread"] = np.minimum.reduceat(minutes["spread"], edges)
    bars["real_volume"] = np.add.reduceat(minutes["real_volume"], edges)
    return bars

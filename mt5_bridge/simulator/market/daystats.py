"""What a symbol did today: highs, lows and trades of the server's day, counted up tick by tick."""

import msgspec
import numpy as np

from mt5_bridge.simulator.market.feed import Feed
from mt5_bridge.simulator.market.serverclock import ServerClock
from mt5_bridge.simulator.market.sessions import DAY_MSC

_CHUNK = 8_192
"""Ticks counted at once: few, because a busy day has a million, and the memory they took is not given back."""


class Day(msgspec.Struct, gc=False):
    """One day of the server's clock. Prices in points, 0 where there was none; volumes in lots."""

    start: int = -1
    """Server time, ms."""
    next: int = 0
    """The first tick not counted."""
    opened: int = 0
    """The first bid."""
    closed: int = 0
    """The last bid of the day before; without one the first of this."""
    bid_high: int = 0
    bid_low: int = 0
    ask_high: int = 0
    ask_low: int = 0
    last_high: int = 0
    last_low: int = 0
    volume_high: float = 0.0
    volume_low: float = 0.0
    volume: float = 0.0
    turnover: float = 0.0
    """Volumes times prices in points."""
    deals: int = 0
    last: int = 0
    last_volume: float = 0.0

    def count(self, feed: Feed, end: int) -> None:
        """Takes in the ticks up to, not including, number `end`."""
        for lo in range(self.next, end, _CHUNK):
            hi = min(lo + _CHUNK, end)
            _, bids, asks = feed.once(lo, hi)
            self.bid_high = max(self.bid_high, int(bids.max()))
            self.ask_high = max(self.ask_high, int(asks.max()))
            self.bid_low = min(self.bid_low or int(bids[0]), int(bids.min()))
            self.ask_low = min(self.ask_low or int(asks[0]), int(asks.min()))
            self._count_trades(feed, lo, hi)
        self.next = max(self.next, end)

    def _count_trades(self, feed: Feed, lo: int, hi: int) -> None:
        extra = feed.extras(lo, hi)
        if extra is None:
            return
        traded = np.flatnonzero(extra.traded)
        if not len(traded):
            return
        lasts, volumes = extra.lasts[traded], extra.volumes[traded]
        self.last_high = max(self.last_high, int(lasts.max()))
        self.last_low = min(self.last_low or int(lasts[0]), int(lasts.min()))
        self.volume_high = max(self.volume_high, float(volumes.max()))
        self.volume_low = min(self.volume_low or float(volumes[0]), float(volumes.min()))
        self.volume += float(volumes.sum())
        self.turnover += float((volumes * lasts).sum())
        self.deals += len(traded)
        self.last, self.last_volume = int(lasts[-1]), float(volumes[-1])


class DayStats:
    """The current day of one symbol: the one its newest tick falls into, so that a weekend shows Friday's."""

    def __init__(self) -> None:
        self._day = Day()
        self._version = -1

    def at(self, feed: Feed, clock: ServerClock, msc: int) -> Day | None:
        """The day as it is at `msc` (UTC); None before the first tick."""
        quote = feed.quote(msc)
        if quote is None:
            return None
        start = clock.server_time(quote.time_msc) // DAY_MSC * DAY_MSC
        end = feed.index_after(msc)
        if self._day.start != start or self._version != clock.version or end < self._day.next:
            self._day, self._version = _begun(feed, clock, start), clock.version
        if self._day.next < end:
            self._day.count(feed, end)
        return self._day


def _begun(feed: Feed, clock: ServerClock, start: int) -> Day:
    number = max(feed.source.index(clock.utc(start)), feed.source.first)
    opened = int(feed.raw(number, number + 1)[1][0])
    closed = int(feed.raw(number - 1, number)[1][0]) if number > feed.source.first else opened
    return Day(start=start, next=number, opened=opened, closed=closed)

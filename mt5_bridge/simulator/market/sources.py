"""Where ticks come from: a seeded walk, a recorded file, or a test's hand.

A source numbers its ticks and gives any range of them without making those before: a tick is a pure function of its
number, so that two processes, or one before and after a restart, see the same market.
"""

from bisect import bisect_left
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mt5_bridge.simulator.market.sessions import MINUTE_MSC, Retiming

Ints: TypeAlias = NDArray[np.int64]
Ticks: TypeAlias = tuple[Ints, Ints, Ints]
"""Times (UTC, ms since the epoch, never falling), bids and asks (in points)."""

_CLOSED_MSC = 50 * MINUTE_MSC
_CLOSED_PAUSES = 10
"""A market was closed in a pause longer than that, and than so many ordinary ones: metals are for an hour a day."""


class Extra(NamedTuple):
    """What ticks may hold beside a quote, one value each.

    `lasts` and `volumes` are price (in points) and volume (in lots) of the newest trade, 0 before the first; `traded`
    says where one came; `weights` how many ticks each stands for in a bar, as those made from bars do.
    """

    lasts: Ints
    volumes: NDArray[np.float64]
    traded: NDArray[np.bool_]
    weights: Ints

    def part(self, lo: int, hi: int) -> "Extra":
        """Rows `lo` up to, not including, `hi`."""
        return Extra._make(column[lo:hi] for column in self)

    def rows(self, places: Ints) -> "Extra":
        """The rows at `places`."""
        return Extra._make(column[places] for column in self)

    def join(self, other: "Extra") -> "Extra":
        """These rows, then the other's."""
        return Extra._make(np.concatenate(pair) for pair in zip(self, other, strict=True))

    @classmethod
    def plain(cls, count: int) -> "Extra":
        """Of ticks that are quotes and nothing else."""
        return cls(np.zeros(count, np.int64), np.zeros(count), np.zeros(count, np.bool_), np.ones(count, np.int64))


class Source(Protocol):
    """Ticks by number. Numbers of existing ticks run from `first` up to, not including, `end` (None: endless)."""

    first: int
    end: int | None

    def index(self, msc: int) -> int:
        """The number of the first tick at or after `msc`."""
        ...

    def slice(self, lo: int, hi: int) -> Ticks:
        """Ticks `lo` up to, not including, `hi`."""
        ...

    def extras(self, lo: int, hi: int) -> Extra | None:
        """What the same ticks hold beside quotes; None where that is nothing."""
        ...


class RecordedSource:
    """A tick file, retimed; looped with time going on, or silent after its end.

    Args:
        ticks: the file's.
        retiming: market time to the clock.
        loop: begin again after the last tick.
        extra: what the ticks hold beside quotes.
        past: ticks from before the first, their times counted back from it (so all below 0).
        past_extra: what those hold beside quotes.
        of_bars: the ticks are those of one-minute bars: the next round begins with a minute, too.
        early: by how much the first tick falls before the market's start, ms of market time.
        history: of a loop without `past`, how much there was of it before the first tick, ms of market time, in whole
            rounds.
    """

    def __init__(
        self, ticks: Ticks, retiming: Retiming, *, loop: bool, extra: Extra | None = None,
        past: Ticks | None = None, past_extra: Extra | None = None,
        of_bars: bool = False, early: int = 0, history: int = 0,
    ) -> None:  # fmt: skip
        times, self._bids, self._asks = ticks
        if not len(times):
            raise ValueError("a tick file without ticks")
        self._offsets: Ints = times - times[0]
        self._count = len(times)
        self._period = _period(int(self._offsets[-1]), self._count, of_bars=of_bars)
        self._retiming = retiming
        self._early = early
        self._extra = extra
        self._past = past
        self._past_extra = past_extra
        rounds = -(-history // self._period) if loop else 0
        self.first = -rounds * self._count if past is None else -len(past[0])
        self.end = None if loop else self._count

    def index(self, msc: int) -> int:
        market = self._retiming.to_market(msc) + self._early
        if market <= 0 and self._past is not None:
            return self.first + int(np.searchsorted(self._past[0], market, "left"))
        rounds, rest = divmod(market, self._period)
        number = max(rounds * self._count + int(np.searchsorted(self._offsets, rest, "left")), self.first)
        return number if self.end is None else min(number, self.end)

    def slice(self, lo: int, hi: int) -> Ticks:
        if lo >= 0 or self._past is None:
            return self._rounds(lo, hi)
        before, bids, asks = (column[lo - self.first : min(hi, 0) - self.first] for column in self._past)
        old = self._retiming.to_clock(before), bids, asks
        if hi <= 0:
            return old
        times, bids, asks = (np.concatenate(pair) for pair in zip(old, self._rounds(0, hi), strict=True))
        return times, bids, asks

    def _rounds(self, lo: int, hi: int) -> Ticks:
        """Ticks of the file, which repeat; before 0 they did."""
        parts = []
        while lo < hi:
            turn, place = divmod(lo, self._count)
            stop = min(place + hi - lo, self._count)
            times = self._offsets[place:stop] + (turn * self._period - self._early)
            parts.append((times, self._bids[place:stop], self._asks[place:stop]))
            lo += stop - place
        if not parts:
            parts.append((self._offsets[:0], self._bids[:0], self._asks[:0]))
        times, bids, asks = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        return self._retiming.to_clock(times), bids, asks

    def extras(self, lo: int, hi: int) -> Extra | None:
        if self._extra is None and self._past_extra is None:
            return None
        start = lo if self._past is None else max(lo, 0)
        places = np.arange(start, max(start, hi), dtype=np.int64) % self._count
        found = Extra.plain(len(places)) if self._extra is None else self._extra.rows(places)
        if lo >= start:
            return found
        old = Extra.plain(min(hi, 0) - lo)
        if self._past_extra is not None:
            old = self._past_extra.part(lo - self.first, min(hi, 0) - self.first)
        return old.join(found)


def _period(length: int, count: int, *, of_bars: bool) -> int:
    """How long a round is: the pause between the last tick and the first of the next is an ordinary one."""
    if of_bars or not length:
        return length // MINUTE_MSC * MINUTE_MSC + MINUTE_MSC
    return length + max(1, length // (count - 1))


def without_closed_hours(times: Ints) -> Ints:
    """Times of a recording as time in which its market was open: weekends, nights and holidays are taken out.

    They are what is far longer than its other pauses. Whole minutes go, so that bars still begin with minutes.
    """
    pauses = np.diff(times)
    if not len(pauses):
        return times
    closed = pauses > max(_CLOSED_MSC, _CLOSED_PAUSES * int(np.median(pauses)))
    open_times: Ints = times.copy()
    open_times[1:] -= np.cumsum(np.where(closed, pauses // MINUTE_MSC * MINUTE_MSC, 0))
    return open_times


class HandSource:
    """Ticks given one by one by a test, after those of the source it replaces."""

    end: int | None

    def __init__(self, base: Source, cut: int) -> None:
        self._base = base
        self._cut = cut
        self._rows: list[tuple[int, int, int]] = []
        self._times: list[int] = []
        self._trades: list[tuple[int, float, bool]] = []
        self._traded = False
        self.first = base.first
        self.end = cut

    def append(self, msc: int, bid: int, ask: int, last: int = 0, volume: float = 0.0) -> None:
        """A tick after all others. `last` 0: no trade, what the one before showed stays."""
        self._rows.append((msc, bid, ask))
        self._times.append(msc)
        traded = last > 0
        if not traded and self._trades:
            last, volume, _ = self._trades[-1]
        self._traded = self._traded or traded
        self._trades.append((last, volume, traded))
        self.end = self._cut + len(self._rows)

    def index(self, msc: int) -> int:
        earlier = min(self._base.index(msc), self._cut)
        if earlier < self._cut:
            return earlier
        return self._cut + bisect_left(self._times, msc)

    def slice(self, lo: int, hi: int) -> Ticks:
        old = self._base.slice(lo, min(hi, self._cut)) if lo < self._cut else None
        rows = self._rows[max(lo - self._cut, 0) : max(hi - self._cut, 0)]
        new = np.array(rows, np.int64).reshape(-1, 3)
        if old is None:
            return new[:, 0], new[:, 1], new[:, 2]
        times, bids, asks = (np.concatenate((a, new[:, i])) for i, a in enumerate(old))
        return times, bids, asks

    def extras(self, lo: int, hi: int) -> Extra | None:
        stop = min(hi, self._cut)
        old = self._base.extras(lo, stop) if lo < self._cut else None
        if old is None and not self._traded:
            return None
        trades = self._trades[max(lo - self._cut, 0) : max(hi - self._cut, 0)]
        new = Extra(
            np.array([last for last, _, _ in trades], np.int64),
            np.array([volume for _, volume, _ in trades], np.float64),
            np.array([traded for _, _, traded in trades], np.bool_),
            np.ones(len(trades), np.int64),
        )
        if lo >= self._cut:
            return new
        return (old or Extra.plain(stop - lo)).join(new)

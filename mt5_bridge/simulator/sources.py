"""Where ticks come from: a seeded walk, a recorded file, or a test's hand.

A source numbers its ticks and gives any range of them without making those before: a tick is a pure function of its
number, so that two processes, or one before and after a restart, see the same market.
"""

from bisect import bisect_left
from fractions import Fraction
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mt5_bridge.simulator.catalogue import SymbolSpec

Ints: TypeAlias = NDArray[np.int64]
Ticks: TypeAlias = tuple[Ints, Ints, Ints]
"""Times (UTC, ms since the epoch, never falling), bids and asks (in points)."""

DAY_MSC = 86_400_000
WEEK_MSC = 7 * DAY_MSC
OPEN_MSC = 5 * DAY_MSC
MONDAY_MSC = 4 * DAY_MSC
"""A Monday's first midnight: 1970-01-05."""

WALK_HISTORY_MSC = 2 * DAY_MSC
"""How much of a walk's past the terminal holds when a market is first opened."""


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


class Retiming:
    """Market time to the clock and back: `speed` market milliseconds pass in one of the clock, from `anchor` on.

    With sessions, market time stands still from Friday's last midnight to Monday's first, on the server's wall clock:
    no tick is lost to a weekend, and ticks keep their numbers.
    """

    def __init__(self, anchor_msc: int, speed: Fraction, *, sessions: bool = False, server_offset: int = 0) -> None:
        self._week_start = MONDAY_MSC - server_offset * 1000 if sessions else None
        self._up, self._down = speed.numerator, speed.denominator
        self._anchor = self._open(anchor_msc)

    def to_market(self, msc: int) -> int:
        """The first market millisecond that falls at or after `msc`."""
        return -((self._anchor - self._open(msc)) * self._up // self._down)

    def to_clock(self, market: Ints) -> Ints:
        times: Ints = self._anchor + market * self._down // self._up
        if self._week_start is not None:
            weeks, rest = np.divmod(times, OPEN_MSC)
            times = weeks * WEEK_MSC + rest + self._week_start
        return times

    def is_open(self, msc: int) -> bool:
        """Whether the market trades at `msc`."""
        return self._week_start is None or (msc - self._week_start) % WEEK_MSC < OPEN_MSC

    def _open(self, msc: int) -> int:
        """Open milliseconds up to `msc`; without sessions simply `msc`."""
        if self._week_start is None:
            return msc
        weeks, rest = divmod(msc - self._week_start, WEEK_MSC)
        return weeks * OPEN_MSC + min(rest, OPEN_MSC)


class RecordedSource:
    """A tick file, retimed; looped with time going on, or silent after its end."""

    def __init__(self, ticks: Ticks, retiming: Retiming, *, loop: bool) -> None:
        times, self._bids, self._asks = ticks
        if not len(times):
            raise ValueError("a tick file without ticks")
        self._offsets: Ints = times - times[0]
        self._count = len(times)
        length = int(self._offsets[-1])
        # The pause between the last tick and the first of the next round is an ordinary one.
        self._period = length + max(1, length // max(1, self._count - 1))
        self._retiming = retiming
        self.first = 0
        self.end = None if loop else self._count

    def index(self, msc: int) -> int:
        market = self._retiming.to_market(msc)
        if market <= 0:
            return 0
        rounds, rest = divmod(market, self._period)
        number = rounds * self._count + int(np.searchsorted(self._offsets, rest, "left"))
        return number if self.end is None else min(number, self.end)

    def slice(self, lo: int, hi: int) -> Ticks:
        rounds, places = np.divmod(np.arange(lo, hi, dtype=np.int64), self._count)
        times = self._retiming.to_clock(rounds * self._period + self._offsets[places])
        return times, self._bids[places], self._asks[places]


class WalkSource:
    """A price that wanders for ever around a base price: fractal noise of the seed, the symbol and the market's time.

    Octaves of smooth noise, each four times as long as the one before and, as in a random walk, twice as high: from
    four seconds to half a year. Only + - * / and integers, so that every platform gets the same bits.
    """

    end: int | None = None
    _OCTAVES = 12
    _SHORTEST_MSC = 4_000
    _AMPLITUDE = 4e-5

    def __init__(self, spec: SymbolSpec, seed: int, retiming: Retiming) -> None:
        self._slot = spec.slot_ms
        self._base = spec.base_price * spec.scale
        self._height = self._base * self._AMPLITUDE * spec.volatility
        self._spread = spec.spread
        self._retiming = retiming
        self._key = _key(f"{seed}/{spec.name}")
        self.first = -(WALK_HISTORY_MSC // self._slot)

    def index(self, msc: int) -> int:
        market = self._retiming.to_market(msc)
        number = market // self._slot
        if int(self._market_times(np.array([number], np.int64))[0]) < market:
            number += 1
        return max(number, self.first)

    def slice(self, lo: int, hi: int) -> Ticks:
        numbers = np.arange(lo, hi, dtype=np.int64)
        market = self._market_times(numbers)
        noise = _hash(numbers, self._key + np.uint64(1))
        wander = (noise - 0.5) * 0.6
        for octave in range(self._OCTAVES):
            wander += self._octave(market, octave)
        bids: Ints = np.rint(self._base + self._height * wander).astype(np.int64)
        np.maximum(bids, 1, out=bids)
        width = 0.75 + 0.75 * _hash(numbers // 5, self._key + np.uint64(2))
        spreads = np.maximum(np.rint(self._spread * width).astype(np.int64), 1)
        return self._retiming.to_clock(market), bids, bids + spreads

    def _market_times(self, numbers: Ints) -> Ints:
        shift = (_hash(numbers, self._key) * self._slot).astype(np.int64)
        times: Ints = numbers * self._slot + shift
        return times

    def _octave(self, market: Ints, octave: int) -> NDArray[np.float64]:
        if not len(market):
            return np.zeros(0)
        period = self._SHORTEST_MSC << (2 * octave)
        cells, inside = np.divmod(market, period)
        lowest = int(cells[0])
        lattice = _hash(np.arange(lowest, int(cells[-1]) + 2, dtype=np.int64), self._key + np.uint64(16 + octave))
        lattice = (lattice - 0.5) * float(1 << octave)
        at = cells - lowest
        part = inside / period
        part *= part * (3.0 - 2.0 * part)
        left = lattice[at]
        smooth: NDArray[np.float64] = left + (lattice[at + 1] - left) * part
        return smooth


class HandSource:
    """Ticks given one by one by a test, after those of the source it replaces."""

    end: int | None

    def __init__(self, base: Source, cut: int) -> None:
        self._base = base
        self._cut = cut
        self._rows: list[tuple[int, int, int]] = []
        self._times: list[int] = []
        self.first = base.first
        self.end = cut

    def append(self, msc: int, bid: int, ask: int) -> None:
        self._rows.append((msc, bid, ask))
        self._times.append(msc)
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


def _key(text: str) -> np.uint64:
    """FNV-1a: Python's own hash of a text differs from run to run."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return np.uint64(value & 0x7FFFFFFFFFFFFFFF)


def _hash(numbers: Ints, key: np.uint64) -> NDArray[np.float64]:
    """SplitMix64 of each number, as a float from 0 to 1."""
    x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key * np.uint64(1)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    part: NDArray[np.float64] = (x >> np.uint64(11)).astype(np.float64) * (1.0 / (1 << 53))
    return part

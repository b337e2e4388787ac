"""A price that wanders for ever: fractal noise of the seed, the symbol and the market's time.

Octaves of smooth noise, each four times as long as the one before and, as in a random walk, twice as high: from four
seconds to half a year. Only + - * / and integers, so that every platform gets the same bits.
"""

import numpy as np
from numpy.typing import NDArray

from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.sessions import DAY_MSC, Retiming
from mt5_bridge.simulator.market.sources import Extra, Ints, Ticks

Floats = NDArray[np.float64]

WALK_HISTORY_MSC = 2 * DAY_MSC
"""How much of a walk's past the terminal holds when a market is first opened."""

_OCTAVES = 12
_SHORTEST_MSC = 4_000
_HEIGHTS = np.array([1 << octave for octave in range(_OCTAVES)], np.float64)
_AMPLITUDE = 4e-5
_BLOCK = 8_192
"""Ticks made at once: what they need fits into a processor's cache."""

CLOSED_PACE = 16
"""While the market is closed its price goes on at this fraction of its pace: it opens with a gap."""
_NEWS_MSC = 6 * 3_600_000
"""One piece of news falls into each stretch of this length, at a moment of its own."""
_NEWS_PART = 0.25
_NEWS_HEIGHT = 24.0
_NEWS_DECAY_MSC = 240_000
_NEWS_SPREAD_MSC = 45_000
_NEWS_SPREAD = 5.0
_SPIKE_EVERY = 40_000
"""In how many ticks there is one spike: a price far off for a single tick."""
_SPIKE_HEIGHT = 9.0
_ROLLOVER_MSC = 300_000
"""How long before and after the server's midnight spreads are wide."""
_ROLLOVER_SPREAD = 4.0


class WalkSource:
    """Ticks of a seeded walk around a base price.

    Args:
        spec: the symbol; its name (without the broker's suffix), prices and pace shape the walk.
        seed: another seed is another market.
        retiming: market time to the clock.
        lively: the market as it is: gaps over closed hours, news, spikes, wide spreads at rollover.
    """

    end: int | None = None

    def __init__(self, spec: SymbolSpec, seed: int, retiming: Retiming, *, lively: bool = False) -> None:
        self._slot = spec.slot_ms
        self._base = spec.base_price * spec.scale
        self._height = self._base * _AMPLITUDE * spec.volatility
        self._spread = spec.spread
        self._retiming = retiming
        self._lively = lively
        self._key = key_of(f"{seed}/{spec.name}")
        self.first = -(WALK_HISTORY_MSC // self._slot)

    def index(self, msc: int) -> int:
        market = self._retiming.to_market(msc)
        number = market // self._slot
        if int(self._market_times(np.array([number], np.int64))[0]) < market:
            number += 1
        return max(number, self.first)

    def slice(self, lo: int, hi: int) -> Ticks:
        if hi - lo <= _BLOCK:
            return self._make(lo, hi)
        parts = [self._make(start, min(start + _BLOCK, hi)) for start in range(lo, hi, _BLOCK)]
        times, bids, asks = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return times, bids, asks

    def extras(self, lo: int, hi: int) -> Extra | None:
        return None  # quotes only

    def _make(self, lo: int, hi: int) -> Ticks:
        numbers = np.arange(lo, hi, dtype=np.int64)
        market = self._market_times(numbers)
        times = self._retiming.to_clock(market)
        noise = hashed(numbers, self._key + np.uint64(1))
        noise -= 0.5
        noise *= 0.6
        width = hashed(numbers // 5, self._key + np.uint64(2))
        width *= 0.75
        width += 0.75
        moments = market
        if self._lively:
            moments = market + self._retiming.closed_before(market, times) // CLOSED_PACE
            noise += self._events(numbers, market)
            width *= self._widening(market, times)
        wander = self._wander(noise, moments)
        wander *= self._height
        wander += self._base
        bids: Ints = np.rint(wander, out=wander).astype(np.int64)
        np.maximum(bids, 1, out=bids)
        width *= self._spread
        spreads: Ints = np.rint(width, out=width).astype(np.int64)
        np.maximum(spreads, 1, out=spreads)
        spreads += bids
        return times, bids, spreads

    def _market_times(self, numbers: Ints) -> Ints:
        times: Ints = (hashed(numbers, self._key) * self._slot).astype(np.int64)
        times += numbers * self._slot
        return times

    def _wander(self, wander: Floats, moments: Ints) -> Floats:
        """Adds all octaves, shortest first. `moments` never fall."""
        if not len(moments):
            return wander
        cells: Ints = moments // _SHORTEST_MSC
        exact = moments.astype(np.float64)  # whole numbers, as is all that is subtracted from them
        curve = np.empty_like(exact)
        for octave, lattice in enumerate(self._lattices(int(cells[0]), int(cells[-1]))):
            period = _SHORTEST_MSC << (2 * octave)
            lowest = int(cells[0])
            rises = lattice[1:] - lattice[:-1]
            inside_one = len(rises) == 1
            part: Floats = exact - (lowest if inside_one else cells) * period
            part /= period
            np.multiply(part, -2.0, out=curve)
            curve += 3.0
            curve *= part
            part *= curve
            if inside_one:
                part *= rises[0]
                part += lattice[0]
            else:
                at = cells - lowest
                part *= rises[at]
                part += lattice[at]
            wander += part
            cells >>= 2
        return wander

    def _lattices(self, lowest: int, highest: int) -> list[Floats]:
        """The heights between which each octave's noise runs, around these cells of the shortest one.

        Most octaves have few: all are drawn at once.
        """
        spans = [(lowest >> 2 * octave, (highest >> 2 * octave) + 2) for octave in range(_OCTAVES)]
        counts = [end - start for start, end in spans]
        keys = np.arange(16, 16 + _OCTAVES, dtype=np.uint64) + self._key
        numbers = np.concatenate([np.arange(start, end, dtype=np.int64) for start, end in spans])
        heights = hashed(numbers, np.repeat(keys, counts))
        heights -= 0.5
        heights *= np.repeat(_HEIGHTS, counts)
        return np.split(heights, np.cumsum(counts)[:-1])

    def _events(self, numbers: Ints, market: Ints) -> Floats:
        """News, whose move fades over minutes, and spikes of a single tick; in heights of the walk."""
        sign = hashed(numbers, self._key + np.uint64(3)) - 0.5
        chance = hashed(numbers, self._key + np.uint64(4))
        moves: Floats = np.where(chance * _SPIKE_EVERY < 1.0, np.where(sign < 0, -_SPIKE_HEIGHT, _SPIKE_HEIGHT), 0.0)
        since, height = self._news(market)
        fading = 1.0 + since / _NEWS_DECAY_MSC
        moves += height / (fading * fading)
        return moves

    def _news(self, market: Ints) -> tuple[Ints, Floats]:
        """Time since the stretch's piece of news, and how far it moves the price: 0 before it, or without one."""
        stretch = market // _NEWS_MSC
        # Never within the stretch's last quarter: what it moved has faded when the next one begins.
        moment = stretch * _NEWS_MSC + (hashed(stretch, self._key + np.uint64(5)) * (_NEWS_MSC * 0.75)).astype(np.int64)
        draw = hashed(stretch, self._key + np.uint64(6))
        signed = (hashed(stretch, self._key + np.uint64(7)) - 0.5) * (2.0 * _NEWS_HEIGHT)
        since: Ints = market - moment
        happened = (since >= 0) & (draw < _NEWS_PART)
        return np.maximum(since, 0), np.where(happened, signed, 0.0)

    def _widening(self, market: Ints, times: Ints) -> Floats:
        """By what the spread is multiplied: after news, and around the server's midnight."""
        since, height = self._news(market)
        wide: Floats = np.where((height != 0) & (since < _NEWS_SPREAD_MSC), _NEWS_SPREAD, 1.0)
        of_day = (self._retiming.server_times(times) + _ROLLOVER_MSC) % DAY_MSC
        return np.where(of_day < 2 * _ROLLOVER_MSC, np.maximum(wide, _ROLLOVER_SPREAD), wide)


def key_of(text: str) -> np.uint64:
    """FNV-1a: Python's own hash of a text differs from run to run."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return np.uint64(value & 0x7FFFFFFFFFFFFFFF)


def hashed(numbers: Ints, key: np.uint64 | NDArray[np.uint64]) -> Floats:
    """SplitMix64 of each number, as a float from 0 to 1. There may be a key for each."""
    x = numbers.astype(np.uint64)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x += key
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    x >>= np.uint64(11)
    part: Floats = x.astype(np.float64)
    part *= 1.0 / (1 << 53)
    return part

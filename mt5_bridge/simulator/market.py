"""What every symbol quotes at any moment, past or now: a pure function of anchor, files, seed and speed."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from mt5_bridge.simulator import bars, broker, tickfile
from mt5_bridge.simulator.bars import TICKS_DTYPE, Records
from mt5_bridge.simulator.catalogue import SymbolSpec, catalogue, unlisted
from mt5_bridge.simulator.clock import Clock
from mt5_bridge.simulator.config import PaperConfig
from mt5_bridge.simulator.sources import HandSource, Ints, RecordedSource, Retiming, Source, Ticks, WalkSource

_WINDOW = 128
_BEFORE = 32
"""How many ticks are kept at hand: those to come, and the last ones, which a poll asks for again."""
_FOREVER_MSC = 1 << 62
_CACHE_TICKS = 131_072


class Quote(NamedTuple):
    """Prices from `time_msc` (UTC) on."""

    time_msc: int
    bid: float
    ask: float


class Feed:
    """One symbol's ticks. The nearest ones are kept as plain lists, because single look-ups are frequent."""

    def __init__(self, spec: SymbolSpec, source: Source, retiming: Retiming) -> None:
        self.spec = spec
        self.source = source
        self.retiming = retiming
        self._lo = 0
        self._times: list[int] = []
        self._bids: list[float] = []
        self._asks: list[float] = []
        self._until = -1
        self._window: tuple[int, int, Ticks] | None = None
        self._cached: tuple[int, int, Ticks] | None = None
        self._packed: tuple[int, int, int, Records] | None = None

    def index_after(self, msc: int) -> int:
        """How many ticks came at or before `msc`: the number of the next one."""
        if self._times and msc < self._times[0]:
            return self.source.index(msc + 1)
        if not msc < self._until:
            self._load(msc)
        return self._lo + bisect_right(self._times, msc)

    def quote(self, msc: int) -> Quote | None:
        """The last tick at or before `msc`; None before the first."""
        if not self._times or msc < self._times[0] or msc >= self._until:
            self._load(msc)
        place = bisect_right(self._times, msc) - 1
        if place < 0:
            return None
        return Quote(self._times[place], self._bids[place], self._asks[place])

    def next_time(self, number: int) -> int:
        """When tick `number` falls; a time beyond all others when there is none."""
        if self.source.end is not None and number >= self.source.end:
            return _FOREVER_MSC
        place = number - self._lo
        if 0 <= place < len(self._times):
            return self._times[place]
        return int(self.source.slice(number, number + 1)[0][0])

    def raw(self, lo: int, hi: int) -> Ticks:
        """Ticks `lo` up to, not including, `hi`, in points. Large ranges are kept for the next call."""
        for held in (self._window, self._cached):
            if held is not None and held[0] <= lo and hi <= held[1]:
                start, _, (times, bids, asks) = held
                return times[lo - start : hi - start], bids[lo - start : hi - start], asks[lo - start : hi - start]
        ticks = self.source.slice(lo, hi)
        if _WINDOW < hi - lo <= _CACHE_TICKS:
            self._cached = (lo, hi, ticks)
        return ticks

    def replace(self, source: Source) -> None:
        self.source = source
        self.forget()

    def forget(self) -> None:
        """Drops the window: the source has new ticks."""
        self._times, self._until, self._window, self._cached, self._packed = [], -1, None, None, None

    def packed(self, lo: int, hi: int, version: int, pack: "Callable[[int, int], Records]") -> Records | None:
        """Ticks `lo` up to, not including, `hi` in the terminal's layout, if they are at hand: packed once for all.

        Args:
            version: of the server's clock, which the packed times are on.
            pack: makes records of a range.
        """
        held = self._packed
        if held is None or held[2] != version:
            if self._window is None:
                return None
            # The window's first tick only tells what changed at the next one, unless it is the history's first.
            start = self._window[0] + (self._window[0] > self.source.first)
            held = self._packed = (start, self._window[1], version, pack(start, self._window[1]))
        first, end, _, records = held
        return records[lo - first : hi - first].copy() if first <= lo and hi <= end else None

    def _load(self, msc: int) -> None:
        source = self.source
        after = source.index(msc + 1)
        lo = max(after - _BEFORE, source.first)
        hi = after + _WINDOW if source.end is None else min(after + _WINDOW, source.end)
        times, bids, asks = ticks = source.slice(lo, max(hi, lo))
        self._window = (lo, max(hi, lo), ticks)
        self._packed = None
        scale = self.spec.scale
        self._lo = lo
        self._times = times.tolist()
        self._bids = (bids / scale).tolist()
        self._asks = (asks / scale).tolist()
        at_end = source.end is not None and hi >= source.end
        self._until = _FOREVER_MSC if at_end else (self._times[-1] if self._times else -1)


class Market:
    """All symbols under one clock.

    Times inside are UTC. What a terminal shows is the server's wall clock: `server_time` converts, by the offsets
    that held at each moment.
    """

    def __init__(self, config: PaperConfig, clock: Clock, anchor_msc: int) -> None:
        self.clock = clock
        self.anchor_msc = anchor_msc
        self.speed = config.speed
        self._offsets: list[tuple[int, int]] = [(-_FOREVER_MSC, config.server_offset * 1000)]
        self.feeds: dict[str, Feed] = {}
        for spec, source, retiming in _sources(config, anchor_msc):
            self.feeds[spec.name] = Feed(spec, source, retiming)

    def now(self) -> int:
        """UTC, ms since the epoch."""
        return self.clock.now()

    def quote(self, symbol: str, msc: int | None = None) -> Quote | None:
        """The quote at `msc` (UTC; None: now); None when the symbol has none yet."""
        return self.feeds[symbol].quote(self.now() if msc is None else msc)

    def is_open(self, symbol: str, msc: int) -> bool:
        """Whether the symbol's session is open at `msc` (UTC)."""
        return self.feeds[symbol].retiming.is_open(msc)

    def server_time(self, msc: int) -> int:
        """UTC to the server's wall clock, both in ms."""
        offsets = self._offsets
        if len(offsets) == 1:
            return msc + offsets[0][1]
        return msc + next(offset for start, offset in reversed(offsets) if start <= msc)

    def utc(self, server_msc: int) -> int:
        """The server's wall clock to UTC: the earliest moment where a clock set back leaves two."""
        for place, (start, offset) in enumerate(self._offsets):
            last = place + 1 == len(self._offsets)
            if last or server_msc - offset < self._offsets[place + 1][0]:
                return max(server_msc - offset, start)
        raise AssertionError("unreachable: the last offset holds for ever")

    def change_offset(self, seconds: int) -> None:
        """After this millisecond the server's clock shows UTC + `seconds`."""
        self._offsets.append((self.now() + 1, seconds * 1000))

    def tick_records(self, symbol: str, lo: int, hi: int) -> Records:
        """Ticks `lo` up to, not including, `hi` in the terminal's own layout, times on the server's clock."""
        feed = self.feeds[symbol]
        if hi <= lo:
            return np.empty(0, TICKS_DTYPE)
        packed = feed.packed(lo, hi, len(self._offsets), lambda first, end: self._pack(feed, first, end))
        return self._pack(feed, lo, hi) if packed is None else packed

    def _pack(self, feed: Feed, lo: int, hi: int) -> Records:
        before = max(lo - 1, feed.source.first)
        times, bids, asks = feed.raw(before, hi)
        return bars.tick_records(self._server_times(times), bids, asks, feed.spec.scale, skip=lo - before)

    def bar_builder(self, symbol: str) -> "bars.Builder":
        """Builds the symbol's bars up to now."""
        feed = self.feeds[symbol]
        return bars.Builder(
            read=lambda lo, hi: self._server_ticks(feed, lo, hi),
            index=lambda server_msc: feed.source.index(self.utc(server_msc)),
            first=feed.source.first,
            end=feed.index_after(self.now()),
            scale=feed.spec.scale,
        )

    def hand_feed(self, symbol: str) -> HandSource:
        """Takes the symbol from its source: from now on only a test's ticks move it."""
        feed = self.feeds[symbol]
        if not isinstance(feed.source, HandSource):
            feed.replace(HandSource(feed.source, feed.index_after(self.now())))
        source = feed.source
        assert isinstance(source, HandSource)
        return source

    def _server_ticks(self, feed: Feed, lo: int, hi: int) -> Ticks:
        times, bids, asks = feed.source.slice(lo, hi)
        return self._server_times(times), bids, asks

    def _server_times(self, times: Ints) -> Ints:
        if len(self._offsets) == 1:
            return times + self._offsets[0][1]
        starts = np.array([start for start, _ in self._offsets], np.int64)
        offsets = np.array([offset for _, offset in self._offsets], np.int64)
        shifted: Ints = times + offsets[np.searchsorted(starts, times, "right") - 1]
        return shifted


def _sources(config: PaperConfig, anchor: int) -> Iterable[tuple[SymbolSpec, Source, Retiming]]:
    files: dict[str, list[Path]] = {}
    if config.ticks:
        for symbol, path in config.ticks:
            files.setdefault(symbol.removesuffix(config.suffix.upper()) or symbol, []).append(path)
    else:
        files = {symbol: [path] for symbol, path in tickfile.shipped().items()}
    specs = catalogue(config.suffix)
    recordings: Mapping[str, tickfile.Recording] = {
        symbol + config.suffix: tickfile.read(paths, _known_digits(specs, symbol + config.suffix))
        for symbol, paths in files.items()
    }
    for name, recording in recordings.items():
        if name not in specs:
            _, bids, asks = recording.ticks
            scale = 10**recording.digits
            spread = max(1, int(np.median(asks - bids)))
            specs[name] = unlisted(
                name.removesuffix(config.suffix), config.suffix, int(bids[0]) / scale, recording.digits, spread
            )
    for spec in broker.apply(specs.values(), config.broker, config.suffix).values():
        retiming = _retiming(config, anchor, config.speed, weekend=spec.weekend)
        found = recordings.get(spec.name)
        if found is not None:
            yield spec, RecordedSource(found.ticks, retiming, loop=config.loop), retiming
        else:
            plain = msgspec.structs.replace(spec, name=spec.name.removesuffix(config.suffix))
            yield spec, WalkSource(plain, config.seed, retiming), retiming


def _known_digits(specs: Mapping[str, SymbolSpec], name: str) -> int | None:
    return specs[name].digits if name in specs else None


def _retiming(config: PaperConfig, anchor: int, speed: Fraction, *, weekend: bool) -> Retiming:
    sessions = config.real_sessions and not weekend
    return Retiming(anchor, speed, sessions=sessions, server_offset=config.server_offset)

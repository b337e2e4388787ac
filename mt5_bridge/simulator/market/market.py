"""What every symbol quotes at any moment, past or now: a pure function of anchor, files, seed and speed."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np

from mt5_bridge.simulator import broker
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.config import PaperConfig
from mt5_bridge.simulator.market import depth, tickfile
from mt5_bridge.simulator.market.bars import QUOTE_FLAGS, TICKS_DTYPE, TRADE_FLAGS, BarHistory, Records
from mt5_bridge.simulator.market.catalogue import SymbolSpec, catalogue, unlisted
from mt5_bridge.simulator.market.clock import Clock
from mt5_bridge.simulator.market.daystats import Day, DayStats
from mt5_bridge.simulator.market.feed import Blocks
from mt5_bridge.simulator.market.feed import Feed as Feed
from mt5_bridge.simulator.market.feed import Quote as Quote
from mt5_bridge.simulator.market.grid import on_grid
from mt5_bridge.simulator.market.serverclock import ServerClock
from mt5_bridge.simulator.market.sessions import AROUND_THE_CLOCK, MINUTE_MSC, Retiming
from mt5_bridge.simulator.market.sources import RecordedSource, Source, Ticks, without_closed_hours
from mt5_bridge.simulator.market.walk import WALK_HISTORY_MSC, WalkSource

_CHUNK = 65_536
_PAIR = 6
"""Letters of a currency pair's name."""


class Market:
    """All symbols under one clock.

    Times inside are UTC. What a terminal shows is the server's wall clock: `server_time` converts, by the offsets
    that held at each moment.
    """

    def __init__(self, config: PaperConfig, clock: Clock, anchor_msc: int) -> None:
        self.clock = clock
        self.anchor_msc = anchor_msc
        self.speed = config.speed
        self.server = ServerClock(config.server_offset, config.server_zone)
        self.feeds: dict[str, Feed] = {}
        self._bars: dict[str, BarHistory] = {}
        self._days: dict[str, DayStats] = {}
        blocks = Blocks()
        for spec, source, retiming in _sources(config, anchor_msc):
            self.feeds[spec.name] = Feed(spec, on_grid(source, spec.step), retiming, self.server, blocks)

    @property
    def specs(self) -> dict[str, SymbolSpec]:
        """The symbols' rules, by name."""
        return {name: feed.spec for name, feed in self.feeds.items()}

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
        return self.server.server_time(msc)

    def utc(self, server_msc: int) -> int:
        """The server's wall clock to UTC: the earliest moment where a clock set back leaves two."""
        return self.server.utc(server_msc)

    def change_offset(self, seconds: int) -> None:
        """After this millisecond the server's clock shows UTC + `seconds`."""
        self.server.change(self.now() + 1, seconds)

    def day(self, symbol: str, msc: int) -> Day | None:
        """The symbol's day of the server's clock as it is at `msc` (UTC); None before its first tick."""
        return self._days.setdefault(symbol, DayStats()).at(self.feeds[symbol], self.server, msc)

    def book(self, symbol: str, msc: int) -> depth.Book:
        """The symbol's market book at `msc` (UTC), empty without a quote."""
        feed = self.feeds[symbol]
        quote = feed.quote(msc)
        if quote is None:
            return depth.Book((), ())
        return depth.book(feed.spec, quote.bid, quote.ask, feed.index_after(msc) - 1)

    def tick_records(self, symbol: str, lo: int, hi: int) -> Records:
        """Ticks `lo` up to, not including, `hi` in the terminal's own layout, times on the server's clock."""
        return self.feeds[symbol].records(lo, hi)

    def shown(self, symbol: str, from_msc: int, to_msc: int) -> list[tuple[int, int]]:
        """Which ticks up to now came while the server's clock read from `from_msc` to `to_msc`, both included.

        Returns:
            Runs of ticks in order: number of the first, number after the last. Where the clock is set back there may be
            more than one.
        """
        feed = self.feeds[symbol]
        runs = []
        for start, end in self.server.stretches(from_msc, to_msc + 1, self.now() + 1):
            hi, lo = feed.index_after(end - 1), feed.index_after(start - 1)
            if lo < hi:
                runs.append((lo, hi))
        return runs

    def changes(self, symbol: str, lo: int, hi: int, flags: int, count: int | None = None) -> Records:
        """Of ticks `lo` up to, not including, `hi` those that bring what `flags` ask for.

        Args:
            symbol: by name.
            lo: the first tick.
            hi: the one after the last.
            flags: a bit of COPY_TICKS_INFO (bid or ask changed) or COPY_TICKS_TRADE (a trade), or both.
            count: at most so many, the first ones.
        """
        wanted = (QUOTE_FLAGS if flags & c.COPY_TICKS_INFO else 0) | (TRADE_FLAGS if flags & c.COPY_TICKS_TRADE else 0)
        feed = self.feeds[symbol]
        if wanted == QUOTE_FLAGS | TRADE_FLAGS or feed.extras(lo, lo) is None:
            none = not wanted & QUOTE_FLAGS
            return feed.records(lo, lo if none else hi if count is None else min(lo + count, hi))
        parts = [np.empty(0, TICKS_DTYPE)]
        left = hi - lo if count is None else count
        for start in range(lo, hi, _CHUNK):
            records = feed.records(start, min(start + _CHUNK, hi))
            parts.append(records[records["flags"] & np.uint32(wanted) != 0][:left])
            left -= len(parts[-1])
            if left <= 0:
                break
        return np.concatenate(parts)

    def bars(self, symbol: str) -> BarHistory:
        """The symbol's bars."""
        found = self._bars.get(symbol)
        if found is None:
            feed = self.feeds[symbol]
            by_last = feed.spec.chart_mode == c.SYMBOL_CHART_MODE_LAST
            found = BarHistory(feed, self.server, feed.scale, by_last=by_last)
            self._bars[symbol] = found
        return found

    def hand_tick(self, symbol: str, bid: float, ask: float, last: float = 0.0, volume: float = 0.0) -> None:
        """A tick now. Takes the symbol from its source: from now on only such ticks move it."""
        feed = self.feeds[symbol]
        scale = feed.scale
        feed.push(self.now(), round(bid * scale), round(ask * scale), round(last * scale), volume)


def _sources(config: PaperConfig, anchor: int) -> Iterable[tuple[SymbolSpec, Source, Retiming]]:
    files: dict[str, list[Path]] = {}
    for symbol, path in config.ticks or tickfile.shipped().items():
        files.setdefault(_without_suffix(symbol, config.suffix.upper()), []).append(path)
    specs = catalogue(config.suffix)
    recordings: Mapping[str, tickfile.Recording] = {
        symbol + config.suffix: tickfile.read(paths, _known_digits(specs, symbol + config.suffix))
        for symbol, paths in files.items()
    }
    for name, recording in recordings.items():
        if name not in specs:
            specs[name] = _spec_of(name.removesuffix(config.suffix), config.suffix, recording)
    # Sessions follow the clock as it was foreseen, whatever a fault makes it show.
    server = ServerClock(config.server_offset, config.server_zone)
    for spec in broker.apply(specs.values(), config.broker, config.suffix).values():
        week = spec.sessions if config.real_sessions else AROUND_THE_CLOCK
        retiming = Retiming(anchor, config.speed, week, server)
        found = recordings.get(spec.name)
        if found is not None:
            # Bars of a file are whole minutes of the clock, so that the terminal's bars are the file's.
            late = server.server_time(anchor) % MINUTE_MSC if config.speed == Fraction(1) else 0
            sessions = week != AROUND_THE_CLOCK
            yield spec, _recorded(found, retiming, late, loop=config.loop, sessions=sessions), retiming
        else:
            plain = msgspec.structs.replace(spec, name=spec.name.removesuffix(config.suffix))
            yield spec, WalkSource(plain, config.seed, retiming, lively=config.real_sessions), retiming


def _recorded(
    recording: tickfile.Recording, retiming: Retiming, late: int, *, loop: bool, sessions: bool
) -> RecordedSource:
    """`late`: how far into its minute the market begins, ms. With `sessions` it closes by itself, not by the file."""
    past, ticks = recording.past, recording.ticks
    if sessions:
        ticks, past = _opened(ticks), None if past is None else _opened(past)
    return RecordedSource(
        ticks, retiming, loop=loop, extra=recording.extra, history=WALK_HISTORY_MSC,
        of_bars=recording.of_bars, early=late if recording.of_bars else 0,
        past=None if past is None else (past[0] - late, past[1], past[2]), past_extra=recording.past_extra,
    )  # fmt: skip


def _opened(ticks: Ticks) -> Ticks:
    return without_closed_hours(ticks[0]), ticks[1], ticks[2]


def _without_suffix(symbol: str, suffix: str) -> str:
    """The symbol of a file that was named with the broker's suffix, or without; both in capitals.

    A suffix of letters may be the end of the name itself: it is only one after a name that is known, or a pair's.
    """
    plain = symbol.removesuffix(suffix)
    known = catalogue()
    suffixed = plain in known or len(plain) == _PAIR or not suffix.isalnum()
    return plain if plain and suffixed and symbol not in known else symbol


def _spec_of(name: str, suffix: str, recording: tickfile.Recording) -> SymbolSpec:
    _, bids, asks = recording.ticks
    price = int(bids[0]) / 10**recording.digits
    spread = max(1, int(np.median(asks - bids)))
    traded = recording.extra is not None and bool(recording.extra.traded.any())
    return unlisted(name, suffix, price, recording.digits, spread, traded=traded)


def _known_digits(specs: Mapping[str, SymbolSpec], name: str) -> int | None:
    return specs[name].digits if name in specs else None

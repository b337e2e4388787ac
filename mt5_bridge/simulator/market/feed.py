"""One symbol's ticks at hand: what is asked often is kept in the form it is asked for."""

from bisect import bisect_right
from collections import OrderedDict
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from mt5_bridge.core.model import TICK_RECORD
from mt5_bridge.simulator.market.bars import TICKS_DTYPE, Records, tick_records
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.serverclock import FOREVER_MSC, ServerClock
from mt5_bridge.simulator.market.sessions import Retiming
from mt5_bridge.simulator.market.sources import Extra, HandSource, Source, Ticks

_ROW = Struct(TICK_RECORD)
_SIZE = _ROW.size
_WINDOW = 512
_BEFORE = 32
"""How many ticks are kept at hand: those to come, and the last ones, which a poll asks for again."""
_PAGE = 4_096
_KEPT_PAGES = 4
"""Ticks are made in pages, a few of which are kept: a walk makes a page about as fast as a single tick."""
_KEPT_RAW = 131_072
_FEW = 24
"""Ticks that are looked at one by one sooner than all at once."""
_BLOCK = 16_384
_MANY = 8_192
"""From this many ticks on they are packed in whole blocks, which are kept."""
_KEPT_BLOCKS = 24
"""Of all symbols together: 24 MB."""


class Quote(NamedTuple):
    """Prices from `time_msc` (UTC) on."""

    time_msc: int
    bid: float
    ask: float


class Blocks:
    """Packed ticks of all symbols, in blocks of equal length; the ones not asked for longest go first."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, int], Records] = OrderedDict()

    def get(self, symbol: str, number: int) -> Records | None:
        """Block `number` of a symbol, if it is here."""
        found = self._blocks.get((symbol, number))
        if found is not None:
            self._blocks.move_to_end((symbol, number))
        return found

    def put(self, symbol: str, number: int, records: Records) -> None:
        """Keeps a block."""
        self._blocks[symbol, number] = records
        while len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)

    def drop(self, symbol: str | None = None) -> None:
        """Forgets a symbol's blocks, or all."""
        for key in [key for key in self._blocks if symbol in (None, key[0])]:
            del self._blocks[key]


class Feed:
    """One symbol's ticks. The nearest ones are kept as plain lists, because single look-ups are frequent.

    Args:
        spec: the symbol.
        source: where its ticks come from.
        retiming: when it trades.
        clock: the server's, which packed ticks show.
        blocks: where packed ticks are kept.
    """

    def __init__(
        self, spec: SymbolSpec, source: Source, retiming: Retiming, clock: ServerClock, blocks: Blocks | None = None
    ) -> None:
        self.spec = spec
        self.scale = spec.scale
        """Points in one unit of price."""
        self.source = source
        self.retiming = retiming
        self._clock = clock
        self._blocks = blocks if blocks is not None else Blocks()
        self._version = clock.version
        self._lo = 0
        self._times: list[int] = []
        self._bids: list[float] = []
        self._asks: list[float] = []
        self._until = -1
        self._window: tuple[int, int, Ticks] | None = None
        self._pages: OrderedDict[int, Ticks] = OrderedDict()
        self._cached: tuple[int, int, Ticks] | None = None
        self._packed: tuple[int, int, bytearray] | None = None

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

    def span(self, msc: int) -> tuple[int, int]:
        """The moments from which and until which (not included) the quote at `msc` holds; none before the first."""
        times = self._times
        if not times or msc < times[0] or msc >= self._until:
            self._load(msc)
            times = self._times
        place = bisect_right(times, msc)
        if not place:
            return msc, msc
        return times[place - 1], times[place] if place < len(times) else self._until

    def next_time(self, number: int) -> int:
        """When tick `number` falls; a time beyond all others when there is none."""
        if self.source.end is not None and number >= self.source.end:
            return FOREVER_MSC
        place = number - self._lo
        if 0 <= place < len(self._times):
            return self._times[place]
        return int(self.raw(number, number + 1)[0][0])

    def listed(self, lo: int, hi: int) -> tuple[list[float], list[float]] | None:
        """Bids and asks of ticks `lo` up to, not including, `hi`, where they are at hand as prices."""
        first, end = lo - self._lo, hi - self._lo
        if first < 0 or end > len(self._times):
            return None
        return self._bids[first:end], self._asks[first:end]

    def extremes(self, lo: int, hi: int) -> tuple[float, float] | None:
        """The lowest bid and the highest ask of ticks `lo` up to, not including, `hi`; None without any."""
        if hi <= lo:
            return None
        near = self.listed(lo, hi) if hi - lo <= _FEW else None
        if near is not None:
            return min(near[0]), max(near[1])
        _, bids, asks = self.raw(lo, hi)
        return int(np.min(bids)) / self.scale, int(np.max(asks)) / self.scale

    def raw(self, lo: int, hi: int) -> Ticks:
        """Ticks `lo` up to, not including, `hi`, in points. Large ranges are kept for the next call."""
        for held in (self._window, self._cached):
            if held is not None and held[0] <= lo and hi <= held[1]:
                start, _, (times, bids, asks) = held
                return times[lo - start : hi - start], bids[lo - start : hi - start], asks[lo - start : hi - start]
        if hi - lo <= _PAGE:
            return self._paged(lo, hi)
        ticks = self.source.slice(lo, hi)
        if hi - lo <= _KEPT_RAW:
            self._cached = (lo, hi, ticks)
        return ticks

    def once(self, lo: int, hi: int) -> Ticks:
        """As `raw`, for a range that nobody is going to ask for again."""
        return self.raw(lo, hi) if hi - lo <= _PAGE else self.source.slice(lo, hi)

    def _paged(self, lo: int, hi: int) -> Ticks:
        """A range of at most a page: it touches one or two."""
        source = self.source
        number = lo // _PAGE
        start, stop = number * _PAGE, (number + 1) * _PAGE
        if hi > stop:
            pairs = zip(self._paged(lo, stop), self._paged(stop, hi), strict=True)
            times, bids, asks = (np.concatenate(pair) for pair in pairs)
            return times, bids, asks
        page = self._pages.get(number)
        if page is None:
            if start < source.first or (source.end is not None and stop > source.end):
                return source.slice(lo, hi)
            page = self._pages[number] = source.slice(start, stop)
            if len(self._pages) > _KEPT_PAGES:
                self._pages.popitem(last=False)
        times, bids, asks = page
        return times[lo - start : hi - start], bids[lo - start : hi - start], asks[lo - start : hi - start]

    def by_hand(self, msc: int) -> HandSource:
        """Takes the symbol from its source at `msc`: what comes after is given tick by tick, by `push`."""
        if not isinstance(self.source, HandSource):
            self.source = HandSource(self.source, self.index_after(msc))
            self._times, self._until, self._window, self._cached, self._packed = [], -1, None, None, None
            self._pages.clear()
            self._blocks.drop(self.spec.name)
        return self.source

    def push(self, msc: int, bid: int, ask: int, last: int = 0, volume: float = 0.0) -> None:
        """A tick given by hand: after all others, in points."""
        source = self.by_hand(msc)
        source.append(msc, bid, ask, last, volume)
        self._window = self._packed = None
        if not self._times or self._until != FOREVER_MSC or len(self._times) > 4 * _WINDOW:
            self._times, self._until = [], -1
            return
        self._times.append(msc)
        self._bids.append(bid / self.scale)
        self._asks.append(ask / self.scale)

    def records(self, lo: int, hi: int) -> Records:
        """Ticks `lo` up to, not including, `hi` in the terminal's layout, times on the server's clock."""
        if hi <= lo:
            return np.empty(0, TICKS_DTYPE)
        if (packed := self._at_hand(lo, hi)) is not None:
            records = np.empty(hi - lo, TICKS_DTYPE)
            # As bytes: numpy needs long to get ready for records of many fields, however few there are.
            records.data.cast("B")[:] = packed
            return records
        return self._from_blocks(lo, hi) if hi - lo >= _MANY else self._pack(lo, hi)

    def record(self, number: int) -> tuple[Any, ...]:
        """One tick as `records` has it, field by field."""
        packed = self._at_hand(number, number + 1)
        return _ROW.unpack(packed) if packed is not None else self._pack(number, number + 1).item()

    def _at_hand(self, lo: int, hi: int) -> bytearray | None:
        """Some ticks as packed bytes, where the window has them."""
        if self._version != self._clock.version:
            self._version, self._packed = self._clock.version, None
            self._blocks.drop()
        if self._packed is None and self._window is not None:
            # The window's first tick only tells what changed at the next one, unless it is the history's first.
            start = self._window[0] + (self._window[0] > self.source.first)
            self._packed = (start, self._window[1], bytearray(self._pack(start, self._window[1]).tobytes()))
        if self._packed is None or not self._packed[0] <= lo <= hi <= self._packed[1]:
            return None
        start, _, packed = self._packed
        return packed[(lo - start) * _SIZE : (hi - start) * _SIZE]

    def extras(self, lo: int, hi: int) -> Extra | None:
        """What the ticks hold beside quotes."""
        return self.source.extras(lo, hi)

    def _from_blocks(self, lo: int, hi: int) -> Records:
        records = np.empty(hi - lo, TICKS_DTYPE)
        raw = records.view(np.uint8)
        for number in range(lo // _BLOCK, (hi - 1) // _BLOCK + 1):
            start = number * _BLOCK
            first, end = max(lo, start), min(hi, start + _BLOCK)
            block, start = self._block(number, first, end)
            # As bytes: numpy copies records of 60 bytes one by one.
            part = block.view(np.uint8)[(first - start) * _SIZE : (end - start) * _SIZE]
            raw[(first - lo) * _SIZE : (end - lo) * _SIZE] = part
        return records

    def _block(self, number: int, first: int, end: int) -> tuple[Records, int]:
        """Records from some number on that hold ticks `first` up to `end`; the whole block where it exists."""
        name = self.spec.name
        found = self._blocks.get(name, number)
        start, stop = number * _BLOCK, (number + 1) * _BLOCK
        if found is not None:
            return found, start
        source = self.source
        if start < source.first or (source.end is not None and stop > source.end):
            return self._pack(first, end), first
        found = self._pack(start, stop)
        self._blocks.put(name, number, found)
        return found, start

    def _pack(self, lo: int, hi: int) -> Records:
        before = max(lo - 1, self.source.first)
        times, bids, asks = self.once(before, hi)
        shown = self._clock.server_times(times)
        extra = self.source.extras(before, hi)
        return tick_records((shown, bids, asks), self.scale, skip=lo - before, extra=extra)

    def _load(self, msc: int) -> None:
        source = self.source
        after = source.index(msc + 1)
        lo = max(after - _BEFORE, source.first)
        hi = after + _WINDOW if source.end is None else min(after + _WINDOW, source.end)
        times, bids, asks = ticks = self.raw(lo, max(hi, lo))
        self._window = (lo, max(hi, lo), ticks)
        self._packed = None
        self._lo = lo
        self._times = times.tolist()
        self._bids = (bids / self.scale).tolist()
        self._asks = (asks / self.scale).tolist()
        at_end = source.end is not None and hi >= source.end
        self._until = FOREVER_MSC if at_end else (self._times[-1] if self._times else -1)

"""Reading ticks in the host: a cheap look at every symbol, copies only of what moved, in slices of a few ms.

The terminal answers whole seconds only, so a page is asked from the cursor's second and what was already read is
cut off. Pages are bytes (60-byte records); numpy is never imported here, its arrays just give their bytes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import pairwise
from struct import Struct
from time import perf_counter
from typing import Any

from mt5_bridge.core.model import TICK_RECORD_SIZE
from mt5_bridge.terminal.frames import IPC_FAIL, HostError
from mt5_bridge.terminal.raw import Passes, RawBlock, RawCursor

COPY_TICKS_ALL = -1
MIN_PAGE = 512
MAX_PAGE = 1 << 23
"""No second holds more ticks: beyond it a terminal that always answers full pages would be asked for ever."""

STEP_BACK_MS = 10 * 60_000
"""Times of ticks fall by less than this through disorder, by more through the broker's clock."""

_FEW = 256
"""Up to so many times are read all at once; of more, a search looks at a few."""
_each_time = Struct("<40xq12x").iter_unpack
_time_msc = Struct("<q").unpack_from


def times(data: bytes) -> "list[int] | _Times":
    """The raw times of a page, as a sequence to search in."""
    if len(data) <= _FEW * TICK_RECORD_SIZE:
        return [time for (time,) in _each_time(data)]
    return _Times(data)


class _Times:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // TICK_RECORD_SIZE

    def __getitem__(self, index: int) -> int:
        time: int = _time_msc(self._data, index * TICK_RECORD_SIZE + 40)[0]
        return time


def _steps_back(data: bytes) -> list[int]:
    """Where, in bytes, the times of a page step back by far: broker time itself did."""
    at = [time for (time,) in _each_time(data)]
    return [
        index * TICK_RECORD_SIZE for index, (one, next_) in enumerate(pairwise(at), 1) if next_ < one - STEP_BACK_MS
    ]


class TickReader:
    """Reads new ticks of many symbols.

    Args:
        module: the terminal's module.
        pick: selects a symbol, raising what the daemon shall hear.
        need: passes a value on, raising `last_error` where it is None.
    """

    def __init__(self, module: Any, pick: Callable[[str], Any], need: Callable[[Any, str], Any]) -> None:
        self._mt5 = module
        self._pick = pick
        self._need = need
        self._seen: dict[str, Any] = {}
        self._read_at: dict[str, Any] = {}
        self._pages: dict[str, int] = {}
        self._after = ""

    def poll(
        self, cursors: list[RawCursor], slice_ms: float, max_ticks: int, backfill_ms: int
    ) -> tuple[list[RawBlock], dict[str, Any], list[str], dict[str, str]]:
        """One slice.

        Args:
            cursors: the symbols and how far each is read.
            slice_ms: stop after so long; at least one symbol is always handled.
            max_ticks: stop after so many ticks.
            backfill_ms: how far back a symbol without cursor begins.

        Returns:
            (blocks, changed last ticks by symbol, symbols to ask for again, what is wrong by symbol).

        Raises:
            HostError: the pipe to the terminal is broken. What ails one symbol does not stop the others.
        """
        end = perf_counter() + slice_ms / 1000
        blocks: list[RawBlock] = []
        quotes: dict[str, Any] = {}
        unfinished: list[str] = []
        faults: dict[str, str] = {}
        left = max_ticks
        queue = self._rotated(cursors)
        for index, cursor in enumerate(queue):
            if index and (left <= 0 or perf_counter() >= end):
                unfinished.extend(c.symbol for c in queue[index:])
                break
            self._after = cursor.symbol
            try:
                block = self._one(cursor, quotes, max(left, 1), backfill_ms)
            except HostError as error:
                if error.failure.code is None or error.failure.code <= IPC_FAIL:
                    raise
                faults[cursor.symbol] = error.failure.text
                continue
            if block is None:
                continue
            blocks.append(block)
            left -= len(block.data) // TICK_RECORD_SIZE
            if block.more:
                unfinished.append(cursor.symbol)
        return blocks, quotes, unfinished, faults

    def _rotated(self, cursors: list[RawCursor]) -> list[RawCursor]:
        """Begin behind the symbol handled last, so that none starves."""
        start = next((i + 1 for i, c in enumerate(cursors) if c.symbol == self._after), 0)
        return cursors[start:] + cursors[:start]

    def _one(self, cursor: RawCursor, quotes: dict[str, Any], left: int, backfill_ms: int) -> RawBlock | None:
        symbol = cursor.symbol
        tick = self._mt5.symbol_info_tick(symbol)
        if tick is None or not tick.time_msc:
            self._pick(symbol)
            return None
        if tick != self._seen.get(symbol):
            self._seen[symbol] = quotes[symbol] = tick
        if cursor.time_msc is None:
            return self._begin(symbol, tick.time_msc, backfill_ms)
        # Same ms and yet another tick: equal times say nothing, the tick itself does.
        before = cursor.passes == Passes.BEFORE
        if tick.time_msc <= cursor.time_msc and tick == self._read_at.get(symbol) and not before:
            return None
        size = self._pages.get(symbol, MIN_PAGE)
        block = self.page(cursor, min(size, max(left, MIN_PAGE)), left)
        self._pages[symbol] = size * 4 if block.more else MIN_PAGE
        if not block.more:
            self._read_at[symbol] = tick
        if block.data and (block.time_msc > tick.time_msc or (not block.more and block.time_msc != tick.time_msc)):
            # It has what came since: if the broker's clock stepped in between, only a look that is newer tells.
            self._seen[symbol] = quotes[symbol] = self._mt5.symbol_info_tick(symbol) or tick
        return block if block.data or before else None

    def _begin(self, symbol: str, time_msc: int, backfill_ms: int) -> RawBlock:
        """Where a new symbol starts: at its last tick, or some time before it."""
        if backfill_ms > 0:
            return RawBlock(symbol, b"", 0, True, time_msc - backfill_ms, 0)
        at = times(self._second(symbol, time_msc // 1000, MIN_PAGE))
        known = bisect_right(at, time_msc) - bisect_left(at, time_msc)
        return RawBlock(symbol, b"", 0, False, time_msc, known)

    def page(self, cursor: RawCursor, size: int, limit: int) -> RawBlock:
        """The next ticks behind a cursor.

        Args:
            cursor: with a time.
            size: how many to ask for at first.
            limit: at most so many are answered.

        Returns:
            The block with the cursor behind it; the same cursor and no data where nothing is new.
        """
        start = cursor.time_msc or 0
        data, full = self._one_pass(cursor, start // 1000, size)
        at = times(data)
        first = bisect_left(at, start)
        same = bisect_right(at, start, lo=first) - first
        skip = first + min(same, cursor.count)
        first_seq = cursor.count if skip < first + same else 0
        stop = min(len(at), skip + limit)
        if skip >= stop:
            return RawBlock(cursor.symbol, b"", 0, False, start, cursor.count)
        last = at[stop - 1]
        count = stop - bisect_left(at, last, lo=skip, hi=stop)
        if last == start:
            count += first_seq
        return RawBlock(
            cursor.symbol,
            data[skip * TICK_RECORD_SIZE : stop * TICK_RECORD_SIZE],
            first_seq,
            full or stop < len(at),
            last,
            count,
            # The tick on which reading stands has gone from the terminal's history: so may others behind it.
            max(0, cursor.count - same),
        )

    def _one_pass(self, cursor: RawCursor, second: int, size: int) -> tuple[bytes, bool]:
        """Ticks from a second on whose times only grow, and whether the terminal has more of them.

        Where broker time stepped back, history has the ticks of both passes in the order they came.
        """
        data = self._second(cursor.symbol, second, size)
        if cursor.passes == Passes.ONE:
            return data, len(data) // TICK_RECORD_SIZE >= size
        steps = _steps_back(data)
        while cursor.passes == Passes.BEHIND and not steps and size < MAX_PAGE:
            if len(data) // TICK_RECORD_SIZE < size:
                # Nothing has come behind the step, or it cannot be told: nothing newer than now, at least.
                tick = self._need(self._mt5.symbol_info_tick(cursor.symbol), f"symbol_info_tick {cursor.symbol}")
                known = bisect_right(times(data), tick.time_msc)
                return data[: known * TICK_RECORD_SIZE], False
            size *= 4
            data = self._second(cursor.symbol, second, size)
            steps = _steps_back(data)
        full = len(data) // TICK_RECORD_SIZE >= size
        if cursor.passes == Passes.BEHIND and steps:
            begin, *steps = steps
        else:
            begin = 0
        end = steps[0] if steps else len(data)
        return data[begin:end], full and not steps

    def _second(self, symbol: str, second: int, size: int) -> bytes:
        """At least the whole second: a full page that ends inside it is asked again with twice the count."""
        while True:
            answer = self._mt5.copy_ticks_from(symbol, second, size, COPY_TICKS_ALL)
            data: bytes = self._need(answer, f"copy_ticks_from {symbol}").tobytes()
            found = len(data) // TICK_RECORD_SIZE
            if found < size or _Times(data)[found - 1] // 1000 != second or size >= MAX_PAGE:
                return data
            size *= 2

    def stretch(self, symbol: str, start_s: int, end_s: int | None, count: int | None) -> bytes:
        """Ticks of the past, by dates (broker seconds) or by count."""
        if end_s is not None:
            found = self._mt5.copy_ticks_range(symbol, start_s, end_s, COPY_TICKS_ALL)
        else:
            found = self._mt5.copy_ticks_from(symbol, start_s, count or MIN_PAGE, COPY_TICKS_ALL)
        data: bytes = self._need(found, f"copy_ticks {symbol}").tobytes()
        return data

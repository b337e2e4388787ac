"""Ticks and bars of the past as a backend asks for them, read from the terminal in pieces that fit the memory."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from mt5_bridge.core.model import TICK_RECORD_SIZE, Bar, Deal, Order, TickBlock
from mt5_bridge.core.times import DAY, HOUR, MINUTE
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.clock import BrokerClock
from mt5_bridge.terminal.port import Terminal

Row = tuple[int, int, float, float, float, float, int]
"""(utc_msc, seq, bid, ask, last, volume, flags)."""

Past = TypeVar("Past", Deal, Order)

_LOOK_BACKS_MS = (MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY)
_SLACK = 512
_MOST_BARS = 50_000
_LEAST_PIECE_MS = 7 * DAY
_MOST_PIECES = 32
_BAR_MS = {"M": MINUTE, "H": HOUR, "D": DAY, "W": 7 * DAY, "MN": 28 * DAY}
"""At the least: more bars may be asked for than there are, never fewer."""


async def ticks_after(terminal: Terminal, symbol: str, after: tuple[int, int], until: int, count: int) -> list[Row]:
    """The first `count` ticks behind the one of this UTC time (ms) and `seq`, up to a UTC time.

    Raises:
        MT5Error: the terminal cannot be asked.
    """
    size, clock = count + _SLACK, terminal.clock
    # Where the broker's clock passed an hour twice, all that bears its times is read: what follows bears smaller ones.
    since = min(after[0], 2 * after[0] - clock.to_utc(clock.to_broker(after[0])))
    while True:
        blocks = await terminal.get_ticks(symbol, since, None, size)
        # The terminal reads from whole seconds on.
        rows = [row for block in blocks for row in convert.ticks(block, clock) if row[:2] > after]
        over = bool(rows) and rows[-1][0] > until
        if len(rows) >= count or over or sum(block.count for block in blocks) < size:
            return [row for row in rows if row[0] <= until][:count]
        size *= 2


async def ticks_before(terminal: Terminal, symbol: str, until: int, count: int) -> list[Row]:
    """The last `count` ticks up to a UTC time, of the 24 hours before it; ms.

    Raises:
        MT5Error: the terminal cannot be asked.
    """
    rows: list[Row] = []
    for look_back in _LOOK_BACKS_MS:
        blocks = await terminal.get_ticks(symbol, until - look_back, until)
        rows = _tail(blocks, terminal.clock, until, count)
        if len(rows) >= count:
            break
    return rows


def _tail(blocks: Sequence[TickBlock], clock: BrokerClock, until: int, count: int) -> list[Row]:
    """Only what is asked for is unpacked: a day of ticks as Python objects would be a hundred megabytes."""
    rows: list[Row] = []
    for block in reversed(blocks):
        end = block.count
        while end > 0 and clock.to_utc(convert.raw_time_at(block.data, end - 1)) > until:
            end -= 1
        start = max(0, end - (count - len(rows)))
        # From the first tick of its ms on, so that the numbers within it are right.
        while start > 0 and convert.raw_time_at(block.data, start - 1) == convert.raw_time_at(block.data, start):
            start -= 1
        first_seq = block.first_seq if start == 0 else 0
        data = block.data[start * TICK_RECORD_SIZE : end * TICK_RECORD_SIZE]
        rows = [*convert.ticks(TickBlock(block.symbol, data, first_seq), clock), *rows]
        if len(rows) >= count:
            break
    return rows[-count:]


async def bars_from(terminal: Terminal, symbol: str, timeframe: str, since: int, count: int, now: int) -> list[Bar]:
    """The first `count` bars that begin at or after a UTC time, in ms. The terminal itself only counts back.

    Raises:
        MT5Error: the terminal cannot be asked.
    """
    step = _bar_ms(timeframe)
    span = count * step
    found: list[Bar] = []
    while since <= now and len(found) < count:
        end = min(now, since + span)
        # Days and weeks are an hour longer or shorter where the broker's clock steps.
        asked = (end - since) // step + 2
        found += [bar for bar in await terminal.get_rates(symbol, timeframe, asked, end) if since <= bar.time_msc]
        # A weekend, a quiet symbol, or years before the first bar lie in between.
        since, span = end + 1, min(span * 4, _MOST_BARS * step)
    return found[:count]


async def in_pieces(read: Callable[[int, int], Awaitable[list[Past]]], since: int, until: int) -> list[Past]:
    """Deals or orders between two UTC times (ms), asked for piece by piece: a stop waits for one of them at most.

    Args:
        read: gives those between two times, both included.

    Raises:
        MT5Error: the terminal cannot be asked.
    """
    if since > until:
        return []
    piece = max(_LEAST_PIECE_MS, -(-(until - since) // _MOST_PIECES))
    found: dict[int, Past] = {}
    while True:
        end = min(until, since + piece)
        # The terminal's dates are whole seconds: what lies on an edge comes twice.
        found |= {each.ticket: each for each in await read(since, end)}
        if end >= until:
            return list(found.values())
        since = end


def _bar_ms(timeframe: str) -> int:
    unit = timeframe.rstrip("0123456789")
    return _BAR_MS[unit] * int(timeframe[len(unit) :])

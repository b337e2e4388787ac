"""Bars out: those of the timeframes in BARS, of every symbol that is streamed, once they are over.

The terminal's history is the spool, as for ticks: nothing is kept here but a ledger per series (a symbol and timeframe)
of what was told (`core.bars`), durable before a bar leaves and again when it has arrived. The terminal is asked behind
everything else, in the history host where there is one. A series is looked at when its bar ends, whenever the terminal
comes back or its clock changes, and every ten minutes for bars that were corrected; where nothing moved and no bar is
open it is left alone until then.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from loguru import logger

from mt5_bridge.core import bars as core
from mt5_bridge.core import wire
from mt5_bridge.core.bars import Ledger, Telling
from mt5_bridge.core.errors import BrokerError, ChannelClosedError, JournalError, MT5DataError, MT5Error
from mt5_bridge.core.messages import bar_message
from mt5_bridge.core.model import Bar
from mt5_bridge.core.times import iso
from mt5_bridge.flows.bar_ways import BarWay, Records
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.clock import Segment
from mt5_bridge.terminal.port import Terminal, TerminalState

PAUSE_S = 0.2
LAG_MS = 250
"""A bar's end is looked for so long after it: the next one's first tick is often there by then."""
GRACE_MS = 2_000
"""A bar that no other follows counts as over so long after its end: its last tick may still be on its way."""
LOOK_AGAIN_MS = 600_000
"""Corrected bars are looked for so often."""
PAGE = 1000
"""Bars of one look at most, beside those looked at again."""
AT_ONCE = 64
"""Series whose bars leave together: one flush of the disk for all of them."""
RETRY_MS = 1_000
RETRY_MOST_MS = 60_000
GIVE_UP_AFTER = 5
"""A stretch of the past that the terminal failed to show so often is none that it has."""
_SKEW_MOST_MS = 5 * 60_000


@dataclass
class BarStats:
    """Counters of the bars."""

    looks: int = 0
    published: int = 0
    corrected: int = 0
    failures: int = 0
    unusable: int = 0
    given_up: int = 0


@dataclass(eq=False)
class Series:
    """One symbol and timeframe.

    Attributes:
        ledger: what was told; None: the journal has not been asked yet.
        durable: the journal has the ledger as it is.
        due_msc: when it is to be looked at, UTC ms of the PC's clock.
        again_msc: when it is to be looked at though nothing moved.
        reached_msc: how far a catch-up has come, 0 outside of one: where the market was closed the ledger stands.
        quote_msc: the last quote before the last look.
        settled: no bar was open or waited for at the last look.
        unusable_msc: the newest bar left out because a price is no number.
    """

    symbol: str
    timeframe: str
    ledger: Ledger | None = None
    durable: bool = False
    due_msc: int = 0
    again_msc: int = 0
    reached_msc: int = 0
    quote_msc: int | None = None
    settled: bool = False
    unusable_msc: int = 0
    failures: int = 0
    trouble: str = ""

    @property
    def memo(self) -> str:
        """Under which the journal has its ledger."""
        return f"bars/{self.symbol}/{self.timeframe}"

    def at_once(self) -> None:
        """Look whatever was planned."""
        self.due_msc = self.again_msc = 0
        self.settled = False


class Look(NamedTuple):
    """What a look at a series brought; without tellings its ledger only is to be made durable."""

    series: Series
    ledger: Ledger
    tellings: list[Telling]


class BarFlow:
    """Looks at the series in turn and tells what is over.

    Args:
        symbols: what is streamed now, as the terminal names it.
        timeframes: BARS.
        way: where bars go; None: nowhere.
    """

    def __init__(
        self,
        terminal: Terminal,
        journal: Journal,
        book: Book,
        clock: Clock,
        *,
        symbols: Callable[[], Sequence[str]],
        timeframes: Sequence[str],
        way: BarWay | None,
    ) -> None:
        self.stats = BarStats()
        self._terminal = terminal
        self._journal = journal
        self._book = book
        self._clock = clock
        self._symbols = symbols
        self._timeframes = tuple(timeframes)
        self._way = way
        self._series: dict[tuple[str, str], Series] = {}
        self._timeline: tuple[Segment, ...] = ()
        self._leaving = asyncio.Lock()
        self._closing = False

    @property
    def on(self) -> bool:
        """Bars are asked for, and there is a way for them."""
        return bool(self._timeframes) and self._way is not None

    def status(self) -> dict[str, Any]:
        """For `get_status`."""
        troubles = {f"{s.symbol} {s.timeframe}": s.trouble for s in self._series.values() if s.trouble}
        newest = max((s.ledger.newest_msc for s in self._series.values() if s.ledger and s.ledger.noted), default=None)
        return {
            "timeframes": list(self._timeframes),
            "series": len(self._series),
            "newest": None if newest is None else iso(newest),
            "troubles": troubles,
            **msgspec.to_builtins(self.stats),
        }

    def reconnected(self) -> None:
        """The terminal came back: it may know better about bars that were told, and others that were not."""
        for series in self._series.values():
            series.at_once()

    async def run(self) -> None:
        """Look and tell, for ever."""
        while True:
            if self._ready():
                await self._round()
            await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Let what is leaving arrive and be noted; nothing leaves after it."""
        self._closing = True
        async with self._leaving:
            return

    def _ready(self) -> bool:
        """Bars wait in the terminal's history while the broker is away, or the clock not known."""
        terminal, way = self._terminal, self._way
        return (
            way is not None
            and way.open
            and terminal.state is TerminalState.CONNECTED
            and terminal.clock.settled
            and not self._closing
        )

    # --- what to look at

    async def _round(self) -> None:
        self._follow()
        due = sorted((s for s in self._series.values() if self._is_due(s)), key=lambda s: s.due_msc)
        for start in range(0, len(due), AT_ONCE):
            looks = [look async for look in self._looks(due[start : start + AT_ONCE])]
            async with self._leaving:
                if looks and not self._closing:
                    await self._tell(looks)
            if not self._ready():
                return

    def _follow(self) -> None:
        """Begin series of new symbols, forget those of gone ones; their ledgers stay in the journal."""
        wanted = {(symbol, timeframe) for symbol in self._symbols() for timeframe in self._timeframes}
        for key in self._series.keys() - wanted:
            del self._series[key]
        for key in wanted - self._series.keys():
            self._series[key] = Series(*key)
        timeline = self._terminal.clock.timeline
        if timeline != self._timeline:
            self._timeline = timeline
            for series in self._series.values():
                series.at_once()

    def _is_due(self, series: Series) -> bool:
        now = self._clock.now_ms()
        # A date further off than any that is made here: the PC's clock was set back.
        if now < series.due_msc <= now + LOOK_AGAIN_MS:
            return False
        quote = self._book.quotes.get(series.symbol)
        if series.settled and now < series.again_msc and quote is not None and quote.time_msc == series.quote_msc:
            series.due_msc = min(self._end_of_bar(series, self._now()), series.again_msc)
            return False
        return True

    def _end_of_bar(self, series: Series, now: int) -> int:
        """When to look for the end of the bar of `now` (UTC ms as the broker has it), UTC ms of the PC's clock."""
        raw = self._terminal.clock.to_broker(now)
        left = core.ending(raw, series.timeframe) - raw
        return self._clock.now_ms() - (self._now() - now) + left + LAG_MS

    def _now(self) -> int:
        """UTC ms as the broker has it: it is the broker's clock that ends bars, and the PC's may be off."""
        skew = self._terminal.clock.skew_ms or 0
        return self._clock.now_ms() + min(max(skew, -_SKEW_MOST_MS), _SKEW_MOST_MS)

    # --- looking

    async def _looks(self, part: Sequence[Series]) -> AsyncIterator[Look]:
        for series in part:
            try:
                look = await self._look(series)
            except JournalError as error:
                self._failed(series, error)
            except MT5Error as error:
                self._failed(series, error)
                if not isinstance(error, MT5DataError):
                    return  # not this series' fault: the others would wait for the same
            else:
                if look is not None:
                    yield look

    async def _look(self, series: Series) -> Look | None:
        """Read on where the ledger stands, one page; None: there is nothing to tell.

        Raises:
            MT5Error: the terminal does not show it.
            JournalError: the ledger cannot be read.
        """
        ledger = series.ledger = series.ledger or await self._taken_up(series)
        clock, quote = self._terminal.clock, self._book.quotes.get(series.symbol)
        timeline, now = clock.timeline, self._now()
        step = core.LENGTHS[series.timeframe]
        end = min(now, max(ledger.told_msc, series.reached_msc) + PAGE * step)
        # As many as there can be since the floor: what the terminal fills in later stands between those told.
        count = core.KEPT + 2 + min(PAGE, max(0, end - ledger.floor_msc) // step)
        self.stats.looks += 1
        try:
            bars = await self._terminal.get_rates(series.symbol, series.timeframe, count, end)
        except MT5DataError as error:
            if end == now or series.failures < GIVE_UP_AFTER:
                raise
            self._give_up(series, end, error)
            bars = []
        if clock.timeline != timeline or not clock.settled:
            series.at_once()  # their times may be wrong
            return None
        over, waiting, opened = self._over(series, bars, now)
        self._plan(series, end, now, waiting=waiting, opened=opened)
        series.quote_msc = None if quote is None else quote.time_msc
        tellings = core.to_tell(ledger, over)
        if not tellings:
            self._recovered(series)
        return Look(series, ledger, tellings) if tellings or not series.durable else None

    async def _taken_up(self, series: Series) -> Ledger:
        """The ledger of an earlier life; without one the series begins with the bar that is open now."""
        stored = await self._journal.memo(series.memo)
        if stored is not None:
            try:
                ledger = msgspec.msgpack.decode(stored, type=Ledger)
            except msgspec.DecodeError as error:
                logger.bind(event="memo_unreadable", memo=series.memo).error(
                    "ERROR the note {n} is lost, its bars begin anew: {e}", n=series.memo, e=error
                )
            else:
                series.durable = True
                return ledger
        clock = self._terminal.clock
        return Ledger(clock.to_utc(core.opening(clock.to_broker(self._now()), series.timeframe)) - 1)

    def _give_up(self, series: Series, end: int, error: MT5DataError) -> None:
        self.stats.given_up += 1
        logger.bind(event="bars_given_up", symbol=series.symbol, timeframe=series.timeframe).error(
            "ERROR the terminal does not show {symbol}'s {timeframe} bars up to {end}, going on behind them: {error}",
            symbol=series.symbol,
            timeframe=series.timeframe,
            end=iso(end),
            error=error,
        )

    def _over(self, series: Series, bars: Sequence[Bar], now: int) -> tuple[list[Bar], bool, bool]:
        """The bars that are over, whether one waits for its grace, and whether one is open."""
        clock, info = self._terminal.clock, self._book.terminal_info
        raw_now = clock.to_broker(now)
        # A terminal that has lost its server shows half a bar as the last one, however late it is.
        lost = info is not None and not info.connected
        over, waiting, opened = [], False, False
        for number, bar in enumerate(bars, 1):
            past = raw_now - core.ending(clock.to_broker(bar.time_msc), series.timeframe)
            last = number == len(bars)
            if past < 0 or (last and lost):
                opened = True
            elif last and past < GRACE_MS:
                waiting = True
            elif self._usable(series, bar):
                over.append(bar)
        return over, waiting, opened

    def _usable(self, series: Series, bar: Bar) -> bool:
        if all(map(math.isfinite, (bar.open, bar.high, bar.low, bar.close))):
            return True
        if bar.time_msc > series.unusable_msc:
            series.unusable_msc = bar.time_msc
            self.stats.unusable += 1
            logger.bind(event="bar_unusable", symbol=series.symbol, timeframe=series.timeframe).error(
                "ERROR a bar of {symbol} without a price is left out", symbol=series.symbol
            )
        return False

    def _plan(self, series: Series, end: int, now: int, *, waiting: bool, opened: bool) -> None:
        if end < now:
            series.reached_msc, series.due_msc, series.settled = end, 0, False
            return
        pc = self._clock.now_ms()
        series.reached_msc = 0
        series.settled = not waiting and not opened
        series.again_msc = pc + LOOK_AGAIN_MS
        # From when it was asked on: the call may have lasted beyond the bar's end.
        series.due_msc = min(self._end_of_bar(series, now), series.again_msc, *([pc + GRACE_MS] if waiting else []))

    # --- telling

    async def _tell(self, looks: Sequence[Look]) -> None:
        """Note, send, note: who dies in between finds in the journal what may have left."""
        looks = [x for x in looks if self._series.get((x.series.symbol, x.series.timeframe)) is x.series]
        for look in looks:
            look.series.ledger = core.promised(look.ledger, look.tellings)
        if not await self._noted(looks):
            for look in looks:
                look.series.ledger = look.ledger  # nothing has left
            return
        looks = [look for look in looks if look.tellings]
        assert self._way is not None
        work = [self._way.put(look.series.symbol, self._records(look)) for look in looks]
        ends = await asyncio.gather(*work, return_exceptions=True)
        arrived = []
        for look, end in zip(looks, ends, strict=True):
            if end is None:
                arrived.append(look)
                self._arrived(look)
            elif isinstance(end, BrokerError | ChannelClosedError):
                self._failed(look.series, end)
            else:
                raise end
        await self._noted(arrived)

    async def _noted(self, looks: Sequence[Look]) -> bool:
        """Make the ledgers durable; whether they are."""
        if not looks:
            return True
        memos = [
            changes.Memo(name=look.series.memo, value=msgspec.msgpack.encode(look.series.ledger)) for look in looks
        ]
        try:
            await self._journal.commit(*memos)
        except JournalError as error:
            for look in looks:
                look.series.durable = False
                self._failed(look.series, error)
            return False
        for look in looks:
            look.series.durable = True
        return True

    def _records(self, look: Look) -> Records:
        clock, now = self._terminal.clock, self._clock.now_ms()

        def made() -> Iterator[tuple[int, bytes]]:
            for bar, corrected in look.tellings:
                ended = clock.to_utc(core.ending(clock.to_broker(bar.time_msc), bar.timeframe))
                message = bar_message(bar, corrected=corrected)
                yield min(ended, now), wire.encode("bar_data", message, now_msc=now)

        return list(made())

    def _arrived(self, look: Look) -> None:
        series = look.series
        assert series.ledger is not None
        series.ledger = core.kept(series.ledger, look.tellings)
        self.stats.published += len(look.tellings)
        self.stats.corrected += sum(telling.corrected for telling in look.tellings)
        self._recovered(series)

    def _recovered(self, series: Series) -> None:
        series.failures, series.trouble = 0, ""

    def _failed(self, series: Series, error: Exception) -> None:
        """Try again, with growing patience."""
        self.stats.failures += 1
        series.failures += 1
        wait = min(RETRY_MOST_MS, RETRY_MS << min(series.failures - 1, 10))
        series.due_msc, series.again_msc, series.settled = self._clock.now_ms() + wait, 0, False
        series.reached_msc = 0
        if series.trouble != str(error):
            series.trouble = str(error) or type(error).__name__
            logger.bind(event="bars_wait", symbol=series.symbol, timeframe=series.timeframe).warning(
                "{timeframe} bars of {symbol} wait: {error}",
                symbol=series.symbol,
                timeframe=series.timeframe,
                error=series.trouble,
            )

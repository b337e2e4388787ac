"""Ticks out: asked for at TICK_HZ from where reading stands, published, and the cursor moved when the broker took them.

The terminal's own history is the spool (P5): nothing is kept here but a cursor per symbol. This module knows which
symbols there are and when to ask; `tick_delivery` publishes, `tick_catch_up` reads what is far behind, `tick_cursors`
keeps the cursors.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from loguru import logger

from mt5_bridge.core.errors import MT5DataError, MT5Error, MT5ValidationError
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.core.model import Cursor, TickBlock
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.tick_catch_up import CatchUp
from mt5_bridge.flows.tick_cursors import Cursors
from mt5_bridge.flows.tick_delivery import Delivery
from mt5_bridge.flows.tick_feed import Feed, Headers, TickPublisher, TickStats, TickStream
from mt5_bridge.flows.tick_quotes import Quotes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.port import PollResult, Terminal, TerminalState

SLICE_SYMBOLS = 200
"""Asked about in one round trip: about what a host looks at in its slice of a few ms."""
_LOOK_AGAIN_S = 5.0
_IDLE_S = 0.1


class TickFlow:
    """Polls and publishes.

    Args:
        symbols: names as the settings have them.
        hz: polls per second.
        latest_only: TICK_CAPTURE=latest: of what one poll brings, only the newest tick.
        backfill_ms: how far back a symbol without cursor begins.
        producer: where ticks go in hybrid mode; None in standard mode.
        stream: where the latest tick goes besides: in standard mode the backend; None: nowhere.
    """

    def __init__(
        self,
        terminal: Terminal,
        journal: Journal,
        book: Book,
        clock: Clock,
        *,
        symbols: Sequence[str],
        hz: float,
        latest_only: bool,
        backfill_ms: int,
        topic: str,
        headers: Callable[[str], Headers],
        producer: TickPublisher | None,
        stream: TickStream | None,
        on_defect: Callable[[BaseException], None],
    ) -> None:
        self.stats = TickStats()
        self._terminal = terminal
        self._journal = journal
        self._book = book
        self._clock = clock
        self._wanted = list(dict.fromkeys(symbols))
        self._period = 1.0 / hz
        self._backfill_ms = backfill_ms if producer is not None else 0
        self._producer = producer
        self._feeds: dict[str, Feed] = {}
        self._known: dict[str, Cursor] = {}
        self._missing: dict[str, str] = {}
        self._look_again: dict[str, float] = {}
        self._cursors = Cursors(journal, self._feeds)
        self._delivery = Delivery(
            lambda: terminal.clock,
            clock,
            self.stats,
            self._cursors,
            latest_only=latest_only,
            topic=topic,
            headers=headers,
            producer=producer,
            stream=stream,
            on_defect=on_defect,
        )
        self._catch_up = CatchUp(terminal, clock, self.stats, self._delivery)
        self._quotes = Quotes(terminal, book, clock, self._feeds)

    @property
    def ages(self) -> Histogram:
        """How old ticks were when they were delivered, seconds."""
        return self._delivery.ages

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is streamed, as the terminal names it."""
        return tuple(self._feeds)

    @property
    def missing(self) -> Mapping[str, str]:
        """Symbols of the settings that cannot be streamed, and why."""
        return self._missing

    def stream_to(self, stream: TickStream | None) -> None:
        """Where the latest tick of each symbol goes from now on besides; None: nowhere."""
        self._delivery.stream = stream

    def quoted(self) -> Iterator[tuple[str, bytes]]:
        """Of each symbol streamed the last known prices, as a `tick_data` message."""
        return self._quotes.known()

    async def restore(self) -> None:
        """Take up the cursors of an earlier life; where only the latest tick counts, none matters.

        Raises:
            JournalError: the journal cannot be read.
        """
        if self._producer is not None:
            self._known = await self._journal.cursors()

    async def subscribe(self, name: str) -> str:
        """Stream a symbol from now on; returns the terminal's name of it.

        Raises:
            MT5Error: unknown, ambiguous, or the terminal cannot be asked.
        """
        symbol = await self._book.resolve(name)
        info = await self._book.symbol(symbol)
        if info is None:
            raise MT5DataError(f"the terminal has no symbol {name}", code=-4)
        if info.point <= 0:
            raise MT5ValidationError(f"{symbol} has no point: the terminal says {info.point}")
        if symbol not in self._feeds:
            cursor = self._known.get(symbol)
            self._feeds[symbol] = Feed(info, symbol.encode(), read=cursor, acked=cursor)
        return symbol

    async def unsubscribe(self, name: str) -> bool:
        """Stop streaming a symbol, by the terminal's name or the backend's; its cursor stays in the journal."""
        if name in self._wanted:
            self._wanted.remove(name)
        self._missing.pop(name, None)
        if name not in self._feeds:
            try:
                name = await self._book.resolve(name)
            except MT5Error:
                return False
        feed = self._feeds.pop(name, None)
        if feed is None:
            return False
        feed.gone = True
        if feed.busy is not None and not feed.handed:  # what was handed over may be other symbols', too
            feed.busy.cancel()
        if feed.acked is not None and self._producer is not None:
            self._known[name] = feed.acked
            await self._cursors.keep(name, feed.acked)
        return True

    async def run(self) -> None:
        """Poll at absolute deadlines; a slot that is over is skipped and counted, never made up for."""
        due = self._clock.monotonic()
        due += self._clock.until_beat(self._period) - self._period  # the beat of before, so that the first is at once
        while True:
            if self._terminal.state is TerminalState.CONNECTED:
                try:
                    await self._find_wanted(due + self._period)
                    await self._poll()
                    await self._show_prices()
                except MT5Error as error:
                    self.stats.poll_failures += 1
                    logger.bind(event="tick_poll_failed").debug("Ticks cannot be read: {error}", error=error)
                    await asyncio.sleep(_IDLE_S)
            due += self._period
            late = self._clock.monotonic() - due
            if late > 0:
                skipped = int(late / self._period) + 1
                self.stats.missed_slots += skipped
                due += skipped * self._period
            await self._clock.until(due, first=True)

    async def run_cursors(self) -> None:
        """Make acknowledged cursors durable, for ever."""
        await self._cursors.run()

    async def save_cursors(self) -> None:
        """Write the cursors that moved.

        Raises:
            JournalError: they are not durable; they will be written next time.
        """
        await self._cursors.save()

    async def close(self) -> None:
        """End what is under way and write the cursors."""
        await self._delivery.close(self._feeds.values())
        await self._cursors.try_save()

    async def _show_prices(self) -> None:
        """While the broker is away no ticks are read: the terminal keeps them. Who listens sees prices all the same."""
        stream = self._delivery.stream
        if stream is not None and self._producer is not None and not self._producer.connected:
            await self._quotes.stream(stream)

    # --- symbols

    async def _find_wanted(self, until: float) -> None:
        """Symbols of the settings that are not streamed yet; one that is not there is asked for once a connection.

        Args:
            until: of many symbols, those found by then are streamed before the next are looked for (monotonic).

        Raises:
            MT5Error: the terminal cannot be asked at all; what ails one symbol does not stop the others.
        """
        if not self._wanted:
            return
        now = self._clock.monotonic()
        for name in [n for n in self._wanted if n not in self._missing and self._look_again.get(n, 0.0) <= now]:
            try:
                await self.subscribe(name)
                self._wanted.remove(name)
            except (MT5DataError, MT5ValidationError) as error:
                if error.retriable and error.code != -4:
                    self._look_again[name] = now + _LOOK_AGAIN_S
                else:
                    self._missing[name] = str(error)
                logger.bind(event="symbol_missing", symbol=name).warning(
                    "Symbol {symbol} cannot be streamed: {error}", symbol=name, error=error
                )
            if self._clock.monotonic() >= until:
                return

    def reconnected(self) -> None:
        """The terminal came back: symbols that were missing are looked for again."""
        self._wanted += [name for name in self._missing if name not in self._wanted]
        self._missing.clear()
        self._look_again.clear()

    # --- reading

    async def _poll(self) -> None:
        """One round over all symbols, slice by slice; while one is delivered, the host reads the next."""
        may_publish = self._producer is None or self._producer.connected
        waiting = self._to_ask(may_publish)
        result = await self._slice(waiting[:SLICE_SYMBOLS]) if waiting else None
        waiting = waiting[SLICE_SYMBOLS:]
        while result is not None:
            waiting = [symbol for symbol in result.unfinished if symbol not in result.cursors] + waiting
            if waiting:
                result = await self._overlapping(result, waiting[:SLICE_SYMBOLS], may_publish)
                waiting = waiting[SLICE_SYMBOLS:]
            else:
                self._take(result, may_publish)
                # Begun a while ago, which is known only now: the first of them come at once. Others are under way.
                begun = [symbol for symbol in result.unfinished if symbol not in result.blocks]
                result = await self._slice(begun) if begun else None

    async def _overlapping(self, result: PollResult, symbols: Sequence[str], may_publish: bool) -> PollResult:
        """Ask for the next slice, and deliver the last one meanwhile."""
        reading = asyncio.create_task(self._slice(symbols), name="ticks-slice")
        await asyncio.sleep(0)  # the request is on its way before the work begins
        try:
            self._take(result, may_publish)
            return await reading
        finally:
            reading.cancel()

    def _to_ask(self, may_publish: bool) -> list[str]:
        known = self._terminal.clock.settled
        asked = {
            symbol: feed.read
            for symbol, feed in self._feeds.items()
            if feed.free and (feed.read is None or may_publish or not known)
        }
        if not (known and may_publish):
            return list(asked)
        for symbol in self._catch_up.behind(asked, self._feeds, self._book.quotes):
            feed = self._feeds[symbol]
            if self._producer is None:
                # Only the latest tick counts here: what was missed is of no use to anyone.
                feed.read = feed.acked = None
            else:
                del asked[symbol]
                self._catch_up.begin(self._producer, feed)
        return list(asked)

    async def _slice(self, symbols: Sequence[str]) -> PollResult:
        cursors = {symbol: self._feeds[symbol].read for symbol in symbols if symbol in self._feeds}
        self.stats.polls += 1
        return await self._terminal.poll_ticks(cursors, backfill_ms=self._backfill_ms)

    def _take(self, result: PollResult, may_publish: bool) -> None:
        """Deliver what a slice brought."""
        self._book.quotes.update(result.quotes)
        self._delivery.slice_came()
        may_publish = may_publish and self._terminal.clock.settled
        for symbol, cursor in result.cursors.items():
            self._advance(symbol, cursor, result.blocks.get(symbol), may_publish)
        self._delivery.slice_over()

    def _advance(self, symbol: str, cursor: Cursor, block: TickBlock | None, may_publish: bool) -> None:
        feed = self._feeds.get(symbol)
        if feed is None:
            return
        if block is None:
            if feed.read is None:
                # Where it begins is settled now, so that nothing is missed until the broker's offset is known.
                self._delivery.starts(feed, cursor)
            elif cursor.epoch > feed.read.epoch and feed.read == feed.acked:
                # Nothing is left of the time before broker time stepped back.
                self._delivery.delivered(feed, cursor, self.stats.last_tick_msc)
            return
        if feed.read is None:
            first = convert.raw_time_at(block.data, 0)
            self._delivery.starts(feed, Cursor(first - 1, 0, cursor.epoch))
        if may_publish:
            self._delivery.take(feed, block, cursor)

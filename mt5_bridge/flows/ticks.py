"""Ticks out: asked for at TICK_HZ from where reading stands, published, and the cursor moved when the broker took them.

The terminal's own history is the spool (P5): nothing is kept here but a cursor per symbol. While a symbol's ticks are
under way it is not asked again; when they fail it is read again from the last acknowledged one.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

from loguru import logger

from mt5_bridge.core.errors import BrokerError, JournalError, MT5DataError, MT5Error, MT5ValidationError
from mt5_bridge.core.model import Cursor, Quote, SymbolInfo, TickBlock
from mt5_bridge.core.ticks import Framed, Label, encode_ticks
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.port import EncodedTicks, Terminal, TerminalState

CHUNK = 1000
"""Ticks encoded in one go: a few ms, so that the loop never stalls behind a catch-up."""
CATCH_UP_BEHIND_MS = 30_000
"""A symbol further behind than this is read by the history host, away from the live one."""
CATCH_UP_PAGE = 1600
"""Ticks of one page: half a MiB once framed, two batches; two pages of a symbol are in hand at a time."""
CATCH_UP_AT_ONCE = 3
"""Symbols that catch up side by side: enough to keep host, bridge and broker busy, few enough for the memory."""
CURSOR_S = 0.9
"""A life killed publishes at most so long again at the next start; each write is a flush of the disk."""
_LIVE_AFTER_CATCH_UP_S = 10.0
"""A symbol that history had nothing more of is left to the live host so long, whatever its quote says."""
_LOOK_AGAIN_S = 5.0
_RETRY_S = 1.0
_REFUSED_S = 5.0
_IDLE_S = 0.1

Row = tuple[int, int, float, float, float, float, int]
Headers = Sequence[tuple[str, bytes]]


class TickPublisher(Protocol):
    """What this flow needs of the Redpanda producer."""

    @property
    def connected(self) -> bool: ...

    async def wait_connected(self) -> None: ...

    def offer(
        self, topic: str, key: bytes | None, records: Sequence[tuple[int | None, bytes | None]], headers: Headers
    ) -> "asyncio.Future[None] | None": ...

    async def publish(
        self, topic: str, key: bytes | None, records: Sequence[tuple[int | None, bytes | None]], headers: Headers
    ) -> None: ...

    async def publish_framed(self, topic: str, key: bytes, batches: Sequence[Framed]) -> None: ...


class TickStream(Protocol):
    """What this flow needs of the WebSocket client."""

    def send_latest(self, slot: str, frame: bytes) -> None: ...


@dataclass
class TickStats:
    """Counters of the tick path; `age_ms` is the age of the last published tick when the broker had taken it."""

    polls: int = 0
    missed_slots: int = 0
    published: int = 0
    failed_publishes: int = 0
    unusable: int = 0
    poll_failures: int = 0
    catch_ups: int = 0
    age_ms: int | None = None
    last_tick_msc: int | None = None


@dataclass(eq=False)
class Feed:
    """One symbol: what has been read, what the broker has."""

    info: SymbolInfo
    read: Cursor | None = None
    acked: Cursor | None = None
    busy: "asyncio.Future[None] | None" = None
    handed: bool = False
    """What is in `busy` went to the producer without a task, and its end has not been looked at."""
    dirty: bool = False
    starting: bool = False
    live_until: float = 0.0

    @property
    def free(self) -> bool:
        return self.busy is None or (self.busy.done() and not self.handed)


class TickFlow:
    """Polls and publishes.

    Args:
        symbols: names as the settings have them.
        hz: polls per second.
        latest_only: TICK_CAPTURE=latest: of what one poll brings, only the newest tick.
        backfill_ms: how far back a symbol without cursor begins.
        producer: where ticks go in hybrid mode; None in standard mode.
        stream: where the latest tick goes in standard mode; None in hybrid mode.
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
        self._latest_only = latest_only
        self._backfill_ms = backfill_ms if producer is not None else 0
        self._topic = topic
        self._headers = headers
        self._producer = producer
        self._stream = stream
        self._on_defect = on_defect
        self._feeds: dict[str, Feed] = {}
        self._cursors: dict[str, Cursor] = {}
        self._missing: dict[str, str] = {}
        self._look_again: dict[str, float] = {}
        self._catching_up = asyncio.Semaphore(CATCH_UP_AT_ONCE)
        self._at_once = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is streamed, as the terminal names it."""
        return tuple(self._feeds)

    @property
    def missing(self) -> Mapping[str, str]:
        """Symbols of the settings that cannot be streamed, and why."""
        return self._missing

    async def restore(self) -> None:
        """Take up the cursors of an earlier life; where only the latest tick counts, none matters.

        Raises:
            JournalError: the journal cannot be read.
        """
        if self._producer is None:
            return
        self._cursors = await self._journal.cursors()

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
            cursor = self._cursors.get(symbol)
            self._feeds[symbol] = Feed(info, read=cursor, acked=cursor)
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
        if feed.busy is not None:
            feed.busy.cancel()
        if feed.acked is not None and self._producer is not None:
            self._cursors[name] = feed.acked
            await self._save({name: feed.acked})
        return True

    async def run(self) -> None:
        """Poll at absolute deadlines; a slot that is over is skipped and counted, never made up for."""
        due = self._clock.monotonic()
        while True:
            if self._terminal.state is TerminalState.CONNECTED:
                try:
                    await self._find_wanted()
                    await self._poll()
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
            await asyncio.sleep(max(0.0, due - self._clock.monotonic()))

    async def run_cursors(self) -> None:
        """Make acknowledged cursors durable every `CURSOR_S`; one that is lost costs duplicates, never ticks."""
        while True:
            await asyncio.sleep(CURSOR_S)
            try:
                await self.save_cursors()
            except JournalError as error:
                logger.bind(event="cursors_not_saved").warning("Cursors not saved: {error}", error=error)

    async def save_cursors(self) -> None:
        """Write the cursors that moved.

        Raises:
            JournalError: they are not durable; they will be written next time.
        """
        moved = [(symbol, feed) for symbol, feed in self._feeds.items() if feed.dirty and feed.acked is not None]
        if not moved:
            return
        for _, feed in moved:
            feed.dirty = False
        try:
            await self._journal.commit(*(_moved(symbol, feed.acked) for symbol, feed in moved if feed.acked))
        except JournalError:
            for _, feed in moved:
                feed.dirty = True
            raise

    async def close(self) -> None:
        """End what is under way and write the cursors."""
        tasks = tuple(self._tasks)
        for work in (*tasks, *(feed.busy for feed in self._feeds.values() if feed.busy is not None)):
            work.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self.save_cursors()
        except JournalError as error:
            logger.bind(event="cursors_not_saved").warning("Cursors not saved: {error}", error=error)

    async def _save(self, cursors: Mapping[str, Cursor]) -> None:
        try:
            await self._journal.commit(*(_moved(symbol, cursor) for symbol, cursor in cursors.items()))
        except JournalError as error:
            logger.bind(event="cursors_not_saved").warning("Cursors not saved: {error}", error=error)

    # --- reading

    async def _find_wanted(self) -> None:
        """Symbols of the settings that are not streamed yet; one that is not there is asked for once a connection.

        Raises:
            MT5Error: the terminal cannot be asked at all; what ails one symbol does not stop the others.
        """
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

    def reconnected(self) -> None:
        """The terminal came back: symbols that were missing are looked for again."""
        self._wanted += [name for name in self._missing if name not in self._wanted]
        self._missing.clear()
        self._look_again.clear()

    async def _poll(self) -> None:
        may_publish = self._producer is None or self._producer.connected
        known = self._terminal.clock.settled
        asked = {
            symbol: feed.read
            for symbol, feed in self._feeds.items()
            if feed.free and (feed.read is None or may_publish or not known)
        }
        for symbol in self._behind(asked) if known and may_publish else ():
            feed = self._feeds[symbol]
            if self._producer is None:
                # Only the latest tick counts here: what was missed is of no use to anyone.
                asked[symbol] = feed.read = feed.acked = None
            else:
                asked.pop(symbol)
                self._begin(feed, self._catch_up(feed))
        self._at_once = CHUNK
        while asked:
            self.stats.polls += 1
            result = await self._terminal.poll_ticks(asked, backfill_ms=self._backfill_ms)
            self._note(result.quotes)
            by_symbol: dict[str, list[TickBlock]] = {}
            for block in result.blocks:
                if block.count:
                    by_symbol.setdefault(block.symbol, []).append(block)
            for symbol, cursor in result.cursors.items():
                self._advance(symbol, cursor, by_symbol.get(symbol, []), may_publish)
            asked = {
                symbol: self._feeds[symbol].read
                for symbol in result.unfinished
                if symbol in self._feeds and self._feeds[symbol].free and symbol not in by_symbol
            }

    def _advance(self, symbol: str, cursor: Cursor, blocks: list[TickBlock], may_publish: bool) -> None:
        feed = self._feeds.get(symbol)
        if feed is None:
            return
        if not blocks:
            if feed.read is None:
                # Where it begins is settled now, so that nothing is missed until the broker's offset is known.
                self._starts(feed, cursor)
            return
        if feed.read is None:
            first = convert.raw_time_at(blocks[0].data, 0)
            self._starts(feed, Cursor(first - 1, 0, cursor.epoch))
        known = self._terminal.clock.settled
        if known and may_publish and not self._deliver_now(feed, blocks, cursor):
            self._begin(feed, self._deliver(feed, blocks, cursor))

    def _starts(self, feed: Feed, cursor: Cursor) -> None:
        """Where a symbol begins is kept, too: what comes before the first acknowledgement must survive a crash."""
        feed.read = feed.acked = cursor
        feed.dirty = feed.starting = self._producer is not None

    def _behind(self, asked: Mapping[str, Cursor | None]) -> list[str]:
        clock = self._terminal.clock
        now = self._clock.now_ms() + (clock.offset_ms or 0)
        found = []
        for symbol, cursor in asked.items():
            quote = self._book.quotes.get(symbol)
            newest = now if quote is None else quote.time_msc + (clock.offset_ms or 0)
            live = self._clock.monotonic() < self._feeds[symbol].live_until
            if cursor is not None and not live and min(now, newest) - cursor.time_msc > CATCH_UP_BEHIND_MS:
                found.append(symbol)
        return found

    def _note(self, quotes: Mapping[str, Quote]) -> None:
        self._book.quotes.update(quotes)

    # --- publishing

    def _begin(self, feed: Feed, work: Coroutine[Any, Any, None]) -> None:
        feed.busy = asyncio.create_task(work, name=f"ticks-{feed.info.name}")
        self._tasks.add(feed.busy)
        feed.busy.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_defect(error)

    async def _catch_up(self, feed: Feed) -> None:
        """Read on from the cursor in the history host until the symbol is live again."""
        self.stats.catch_ups += 1
        logger.bind(event="catch_up", symbol=feed.info.name).info("Catching up ticks of {s}", s=feed.info.name)
        await self._keep_start(feed)
        try:
            async with self._catching_up:
                await self._publish_pages(feed)
        except MT5Error as error:
            logger.bind(event="catch_up_failed", symbol=feed.info.name).warning(
                "Catching up {symbol} failed: {error}", symbol=feed.info.name, error=error
            )
            await asyncio.sleep(_RETRY_S)
        except BrokerError as error:
            await self._not_delivered(feed, error)

    async def _publish_pages(self, feed: Feed) -> None:
        """Page by page; while one is on its way to the broker, the host makes the next."""
        label = Label(feed.info.name, feed.info.point, list(self._headers("tick_data")))
        asked = self._ask_page(label, feed.read)
        try:
            while asked is not None:
                page = await asked
                asked = self._ask_page(label, page.after) if page.more and page.ticks else None
                if not page.ticks:
                    feed.live_until = self._clock.monotonic() + _LIVE_AFTER_CATCH_UP_S
                else:
                    await self._publish_page(feed, page)
        finally:
            if asked is not None:
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)

    def _ask_page(self, label: Label, cursor: Cursor | None) -> "asyncio.Task[EncodedTicks] | None":
        if cursor is None:
            return None
        asking = self._terminal.catch_up(label, cursor, CATCH_UP_PAGE, latest_only=self._latest_only)
        return asyncio.create_task(asking, name=f"page-{label.symbol}")

    async def _publish_page(self, feed: Feed, page: EncodedTicks) -> None:
        if page.unusable:
            self._left_out(feed, page.unusable)
        if self._producer is not None:
            await self._producer.publish_framed(self._topic, feed.info.name.encode(), page.batches)
        self.stats.published += page.count
        self._delivered(feed, page.after, page.newest_msc)

    def _rows(self, blocks: list[TickBlock], epoch: int) -> Iterable[Row]:
        clock = self._terminal.clock
        rows: Iterable[Row] = (row for block in blocks for row in convert.ticks(block, clock, epoch))
        return list(rows)[-1:] if self._latest_only or self._producer is None else rows

    def _deliver_now(self, feed: Feed, blocks: list[TickBlock], after: Cursor) -> bool:
        """What a quiet poll brings goes its way here and now: a task a symbol would be most of its cost.

        False: where the symbol begins must be written down first, or it is too much to do in one go.
        """
        self._at_once -= sum(block.count for block in blocks)
        if self._at_once < 0 or feed.starting:
            return False
        rows = list(self._rows(blocks, after.epoch))
        records = self._encoded(feed, rows)
        last = rows[-1][0] if rows else None
        if self._producer is None or not records:
            self._stream_latest(feed, records)
            self.stats.published += len(records)
            self._delivered(feed, after, last)
            return True
        headers = self._headers("tick_data")
        feed.busy = self._producer.offer(self._topic, feed.info.name.encode(), records, headers)
        if feed.busy is None:
            self._begin(feed, self._publish(self._producer, feed, records, after, last))
        else:
            feed.handed = True
            feed.busy.add_done_callback(partial(self._taken, feed, after, last, len(records)))
        return True

    async def _publish(
        self, producer: TickPublisher, feed: Feed, records: list[tuple[int, bytes]], after: Cursor, last: int | None
    ) -> None:
        try:
            await producer.publish(self._topic, feed.info.name.encode(), records, self._headers("tick_data"))
        except BrokerError as error:
            await self._not_delivered(feed, error)
        else:
            self.stats.published += len(records)
            self._delivered(feed, after, last)

    def _taken(self, feed: Feed, after: Cursor, last: int | None, count: int, future: "asyncio.Future[None]") -> None:
        feed.handed = False
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.stats.published += count
            self._delivered(feed, after, last)
        elif isinstance(error, BrokerError):
            self._begin(feed, self._not_delivered(feed, error))
        else:
            self._on_defect(error)

    def _stream_latest(self, feed: Feed, records: list[tuple[int, bytes]]) -> None:
        if self._stream is not None and records:
            self._stream.send_latest(f"tick:{feed.info.name}", records[-1][1])

    async def _deliver(self, feed: Feed, blocks: list[TickBlock], after: Cursor) -> None:
        await self._keep_start(feed)
        try:
            last = await self._send(feed, self._rows(blocks, after.epoch))
        except BrokerError as error:
            await self._not_delivered(feed, error)
        else:
            self._delivered(feed, after, last)

    async def _keep_start(self, feed: Feed) -> None:
        if feed.starting and feed.acked is not None:
            # Durable before the first tick leaves: a life killed right after would leave a gap to the next one's "now".
            feed.starting = False
            await self._save({feed.info.name: feed.acked})

    def _delivered(self, feed: Feed, after: Cursor, newest_msc: int | None) -> None:
        feed.read = feed.acked = after
        feed.dirty = self._producer is not None
        self.stats.last_tick_msc = newest_msc
        if newest_msc is not None:
            self.stats.age_ms = self._clock.now_ms() - newest_msc

    async def _not_delivered(self, feed: Feed, error: BrokerError) -> None:
        self.stats.failed_publishes += 1
        feed.read = feed.acked
        await self._wait_for_broker(feed, error)

    async def _wait_for_broker(self, feed: Feed, error: BrokerError) -> None:
        name = feed.info.name
        if error.retriable:
            logger.bind(event="ticks_wait", symbol=name).debug("Ticks of {s} wait: {error}", s=name, error=error)
        else:
            # As a timestamp in the future of the broker's clock: nothing of this symbol leaves until that is mended.
            logger.bind(event="ticks_refused", symbol=name).error(
                "ERROR the broker refuses ticks of {symbol}: {error}", symbol=name, error=error
            )
            await asyncio.sleep(_REFUSED_S)
        if self._producer is not None:
            await self._producer.wait_connected()

    async def _send(self, feed: Feed, rows: Iterable[Row]) -> int | None:
        source = iter(rows)
        last: int | None = None
        while chunk := list(islice(source, CHUNK)):
            last = chunk[-1][0]
            records = self._encoded(feed, chunk)
            if not records:
                continue
            if self._producer is not None:
                key = feed.info.name.encode()
                await self._producer.publish(self._topic, key, records, self._headers("tick_data"))
            self._stream_latest(feed, records)
            self.stats.published += len(records)
            await asyncio.sleep(0)
        return last

    def _encoded(self, feed: Feed, chunk: list[Row]) -> list[tuple[int, bytes]]:
        now = self._clock.now_ms()
        try:
            return encode_ticks(feed.info.name, feed.info.point, chunk, now_msc=now)
        except (ValueError, OverflowError):
            # A price that is no number: JSON cannot carry it, and it must not keep those behind it.
            usable = [row for row in chunk if all(map(math.isfinite, row[2:6]))]
            self._left_out(feed, len(chunk) - len(usable))
            return encode_ticks(feed.info.name, feed.info.point, usable, now_msc=now)

    def _left_out(self, feed: Feed, count: int) -> None:
        self.stats.unusable += count
        logger.bind(event="ticks_unusable", symbol=feed.info.name, count=count).error(
            "ERROR ticks of {symbol} without a price are left out", symbol=feed.info.name
        )


def _moved(symbol: str, cursor: Cursor) -> changes.CursorMoved:
    return changes.CursorMoved(symbol=symbol, epoch=cursor.epoch, time_msc=cursor.time_msc, count=cursor.count)

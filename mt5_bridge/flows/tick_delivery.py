"""Ticks to the broker, or the newest to the socket; a symbol's cursor moves when the broker took what came before it.

While a symbol's ticks are under way it is not asked again; when they fail it is read again from the last acknowledged
one.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from loguru import logger

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.core.histogram import AGE_S, Histogram
from mt5_bridge.core.model import Cursor, TickBlock
from mt5_bridge.core.ticks import encode_ticks
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.tick_cursors import Cursors
from mt5_bridge.flows.tick_feed import Feed, Headers, TickPublisher, TickStats, TickStream
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.clock import BrokerClock

CHUNK = 1000
"""Ticks encoded in one go: a few ms, so that the loop never stalls behind a burst."""
_REFUSED_S = 5.0


class _Little(NamedTuple):
    """What a slice brought of a symbol: its records, where it stands behind them, the newest one's UTC time in ms."""

    feed: Feed
    records: list[tuple[int, bytes]]
    after: Cursor
    last: int | None


class Delivery:
    """Publishes what was read, symbol by symbol, and remembers what arrived.

    Args:
        broker_time: the terminal's clock, as it is at the moment of asking.
        latest_only: of what one poll brings of a symbol, only the newest tick.
        producer: where ticks go in hybrid mode; None in standard mode.
        stream: where the newest tick goes besides; None: nowhere.
    """

    def __init__(
        self,
        broker_time: Callable[[], BrokerClock],
        clock: Clock,
        stats: TickStats,
        cursors: Cursors,
        *,
        latest_only: bool,
        topic: str,
        headers: Callable[[str], Headers],
        producer: TickPublisher | None,
        stream: TickStream | None,
        on_defect: Callable[[BaseException], None],
    ) -> None:
        self.producer = producer
        self.topic = topic
        self.headers = headers
        self.latest_only = latest_only or producer is None
        self.ages = Histogram(AGE_S)
        """Seconds: how old the newest tick of what was delivered together was by then."""
        self.tasks: set[asyncio.Task[None]] = set()
        self._broker_time = broker_time
        self._clock = clock
        self._stats = stats
        self._cursors = cursors
        self.stream = stream
        self._on_defect = on_defect
        self._polled_msc = 0
        self._room = 0
        self._little: list[_Little] = []

    def begin(self, feed: Feed, work: Coroutine[Any, Any, None]) -> None:
        """Do what takes longer in a task of the symbol's own."""
        task = feed.busy = asyncio.create_task(work, name=f"ticks-{feed.info.name}")
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_defect(error)

    async def close(self, feeds: Iterable[Feed]) -> None:
        """End what is under way."""
        tasks = tuple(self.tasks)
        for work in (*tasks, *(feed.busy for feed in feeds if feed.busy is not None)):
            work.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def starts(self, feed: Feed, cursor: Cursor) -> None:
        """Where a symbol begins is kept, too: what comes before the first acknowledgement must survive a crash."""
        feed.read = feed.acked = cursor
        feed.dirty = feed.starting = self.producer is not None

    async def keep_start(self, feed: Feed) -> None:
        """Durable before the first tick leaves: a life killed right after would leave a gap to the next one's "now".

        A disk that takes nothing holds up the symbols that begin then, and no others.
        """
        if feed.starting and feed.acked is not None:
            feed.starting = not await self._cursors.keep(feed.info.name, feed.acked)
        while feed.starting:
            await self._cursors.next_save()

    def slice_came(self) -> None:
        """What follows was seen by one poll: it bears one time, and is few enough to be encoded at once or is not."""
        self._polled_msc = self._clock.now_ms()
        self._room = CHUNK
        self._little = []

    def take(self, feed: Feed, block: TickBlock, after: Cursor) -> None:
        """Deliver what a slice brought of a symbol.

        What is little goes its way with `slice_over`: a task a symbol would be most of its cost.

        Args:
            feed: the symbol.
            block: its new ticks.
            after: where it stands once they are published.
        """
        self._room -= block.count
        if block.lost:
            self.gap(feed)
        if feed.starting or self._room < 0:
            self.begin(feed, self._deliver(feed, block, after))
            return
        rows = self._rows(block)
        records = self._encoded(feed, rows, self._polled_msc)
        last = rows[-1][0] if rows else None
        self._stream_latest(feed, records)
        if self.producer is None or not records:
            self._stats.published += len(records)
            self.delivered(feed, after, last)
            return
        self._little.append(_Little(feed, records, after, last))

    def slice_over(self) -> None:
        """What it brought is handed to the producer, a partition's symbols together."""
        little, self._little = self._little, []
        together = [each for each in little if not each.feed.apart]
        for group in (together, *([each] for each in little if each.feed.apart)):
            if group and self.producer is not None:
                self._offer(self.producer, group)

    def _offer(self, producer: TickPublisher, little: "list[_Little]") -> None:
        parts = [(each.feed.key, each.records) for each in little]
        for future, indices in producer.offer(self.topic, parts, self.headers("tick_data")):
            together = [little[index] for index in indices]
            for each in together:
                each.feed.busy, each.feed.handed = future, True
            future.add_done_callback(partial(self._taken, together))
        for each in little:
            if not each.feed.handed:
                self.begin(each.feed, self._publish(producer, each))

    def gap(self, feed: Feed) -> None:
        """The terminal no longer has the tick up to which the symbol was read: what followed may be gone, too."""
        self._stats.gaps += 1
        logger.bind(event="tick_gap", symbol=feed.info.name).warning(
            "The terminal's history of {symbol} has changed where reading stood: ticks may be missing",
            symbol=feed.info.name,
        )

    def _rows(self, block: TickBlock) -> list[convert.Tick]:
        rows = convert.ticks(block, self._broker_time(), block.epoch)
        if self.latest_only and len(rows) > 1:
            self._stats.conflated += len(rows) - 1
            return rows[-1:]
        return rows

    async def _publish(self, producer: TickPublisher, little: "_Little") -> None:
        try:
            await producer.publish(self.topic, little.feed.key, little.records, self.headers("tick_data"))
        except BrokerError as error:
            await self.failed(little.feed, error, len(little.records))
        else:
            self._arrived(little, self._clock.now_ms())

    def _arrived(self, little: "_Little", now: int) -> None:
        little.feed.apart = False
        self._stats.published += len(little.records)
        self.delivered(little.feed, little.after, little.last, now)

    def _taken(self, together: "list[_Little]", future: "asyncio.Future[None]") -> None:
        for each in together:
            each.feed.handed = False
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            now = self._clock.now_ms()
            for each in together:
                self._arrived(each, now)
        elif not isinstance(error, BrokerError):
            self._on_defect(error)
        elif error.retriable or len(together) == 1:
            for each in together:
                if not each.feed.gone:
                    self.begin(each.feed, self.failed(each.feed, error, len(each.records)))
        else:
            for each in together:
                # Whose it was is known when they go one by one; the others must not wait for it.
                each.feed.apart = True
                self._again(each.feed, len(each.records))

    def _stream_latest(self, feed: Feed, records: list[tuple[int, bytes]]) -> None:
        if self.stream is not None and records:
            self.stream.send_latest(f"tick:{feed.info.name}", records[-1][1])

    async def _deliver(self, feed: Feed, block: TickBlock, after: Cursor) -> None:
        """More than fits in one go: piece by piece, letting the loop breathe."""
        await self.keep_start(feed)
        given = 0
        last: int | None = None
        source = iter(self._rows(block))
        try:
            while chunk := list(islice(source, CHUNK)):
                last = chunk[-1][0]
                records = self._encoded(feed, chunk, self._clock.now_ms())
                given += len(records)
                if self.producer is not None and records:
                    await self.producer.publish(self.topic, feed.key, records, self.headers("tick_data"))
                self._stream_latest(feed, records)
                self._stats.published += len(records)
                await asyncio.sleep(0)
        except BrokerError as error:
            await self.failed(feed, error, given)
        else:
            self.delivered(feed, after, last)

    def delivered(self, feed: Feed, after: Cursor, newest_msc: int | None, now: int | None = None) -> None:
        """The broker has all up to there; `now` in UTC ms where it is known."""
        feed.read = feed.acked = after
        feed.dirty = self.producer is not None
        self._stats.last_tick_msc = newest_msc
        if newest_msc is not None:
            self._stats.age_ms = age_ms = (self._clock.now_ms() if now is None else now) - newest_msc
            self.ages.observe(age_ms / 1000)

    async def failed(self, feed: Feed, error: BrokerError, given: int) -> None:
        """Read again from the last acknowledged one, when there is a broker.

        Args:
            feed: the symbol.
            error: what the producer said.
            given: how many ticks it had been given, some of which may have arrived.
        """
        self._again(feed, given)
        name = feed.info.name
        if error.retriable:
            logger.bind(event="ticks_wait", symbol=name).debug("Ticks of {s} wait: {error}", s=name, error=error)
        else:
            # As a timestamp in the future of the broker's clock: nothing of this symbol leaves until that is mended.
            logger.bind(event="ticks_refused", symbol=name).error(
                "ERROR the broker refuses ticks of {symbol}: {error}", symbol=name, error=error
            )
            await asyncio.sleep(_REFUSED_S)
        if self.producer is not None:
            await self.producer.wait_connected()

    def _again(self, feed: Feed, given: int) -> None:
        self._stats.failed_publishes += 1
        self._stats.resent += given
        feed.read = feed.acked

    def _encoded(self, feed: Feed, chunk: list[convert.Tick], now: int) -> list[tuple[int, bytes]]:
        try:
            return encode_ticks(feed.info.name, feed.info.point, chunk, now_msc=now)
        except (ValueError, OverflowError):
            # A price that is no number: JSON cannot carry it, and it must not keep those behind it.
            usable = [row for row in chunk if all(map(math.isfinite, row[2:6]))]
            self.left_out(feed, len(chunk) - len(usable))
            return encode_ticks(feed.info.name, feed.info.point, usable, now_msc=now)

    def left_out(self, feed: Feed, count: int) -> None:
        """Count ticks that no broker can be given."""
        self._stats.unusable += count
        logger.bind(event="ticks_unusable", symbol=feed.info.name, count=count).error(
            "ERROR ticks of {symbol} without a price are left out", symbol=feed.info.name
        )

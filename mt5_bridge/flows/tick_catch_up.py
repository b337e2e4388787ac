"""Symbols far behind, read by the history host at full speed, away from what is live and from orders."""

import asyncio
from collections.abc import Mapping

from loguru import logger

from mt5_bridge.core.errors import BrokerError, MT5Error
from mt5_bridge.core.model import Cursor, Quote
from mt5_bridge.core.ticks import Label
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.tick_delivery import Delivery
from mt5_bridge.flows.tick_feed import Feed, TickPublisher, TickStats
from mt5_bridge.terminal.port import EncodedTicks, Terminal

BEHIND_MS = 30_000
"""A symbol further behind than this is read by the history host."""
PAGE = 1600
"""Ticks of one page: half a MiB once framed, two batches; two pages of a symbol are in hand at a time."""
AT_ONCE = 3
"""Symbols that catch up side by side: enough to keep host, bridge and broker busy, few enough for the memory."""
_LIVE_AFTER_S = 10.0
"""A symbol that history had nothing more of is left to the live host so long, whatever its quote says."""
_RETRY_S = 1.0


class CatchUp:
    """Brings symbols from a cursor far back to the present."""

    def __init__(self, terminal: Terminal, clock: Clock, stats: TickStats, delivery: Delivery) -> None:
        self._terminal = terminal
        self._clock = clock
        self._stats = stats
        self._delivery = delivery
        self._room = asyncio.Semaphore(AT_ONCE)

    def behind(
        self, asked: Mapping[str, Cursor | None], feeds: Mapping[str, Feed], quotes: Mapping[str, Quote]
    ) -> list[str]:
        """Those of the symbols that have too much before them for the live host.

        Args:
            asked: how far each is read.
            feeds: the symbols by name.
            quotes: the last prices, which tell that a quiet symbol is not behind at all.
        """
        offset = self._terminal.clock.offset_ms or 0
        now, monotonic = self._clock.now_ms() + offset, self._clock.monotonic()
        found = []
        for symbol, cursor in asked.items():
            if cursor is None or now - cursor.time_msc <= BEHIND_MS or monotonic < feeds[symbol].live_until:
                continue
            quote = quotes.get(symbol)
            if quote is None or quote.time_msc + offset - cursor.time_msc > BEHIND_MS:
                found.append(symbol)
        return found

    def begin(self, producer: TickPublisher, feed: Feed) -> None:
        """Read on from the cursor in the history host until the symbol is live again."""
        self._delivery.begin(feed, self._run(producer, feed))

    async def _run(self, producer: TickPublisher, feed: Feed) -> None:
        self._stats.catch_ups += 1
        logger.bind(event="catch_up", symbol=feed.info.name).info("Catching up ticks of {s}", s=feed.info.name)
        await self._delivery.keep_start(feed)
        try:
            async with self._room:
                await self._pages(producer, feed)
        except MT5Error as error:
            logger.bind(event="catch_up_failed", symbol=feed.info.name).warning(
                "Catching up {symbol} failed: {error}", symbol=feed.info.name, error=error
            )
            await asyncio.sleep(_RETRY_S)
        except BrokerError as error:
            # Outside of the room: a symbol that the broker refuses must not keep others from catching up.
            await self._delivery.failed(feed, error, 0)

    async def _pages(self, producer: TickPublisher, feed: Feed) -> None:
        """Page by page; while one is on its way to the broker, the host makes the next."""
        label = Label(feed.info.name, feed.info.point, list(self._delivery.headers("tick_data")))
        asked = self._ask(label, feed.read)
        try:
            while asked is not None:
                page = await asked
                asked = self._ask(label, page.after) if page.more and page.ticks else None
                if not page.ticks:
                    feed.live_until = self._clock.monotonic() + _LIVE_AFTER_S
                else:
                    await self._publish(producer, feed, page)
        finally:
            if asked is not None:
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)

    def _ask(self, label: Label, cursor: Cursor | None) -> "asyncio.Task[EncodedTicks] | None":
        if cursor is None:
            return None
        asking = self._terminal.catch_up(label, cursor, PAGE, latest_only=self._delivery.latest_only)
        return asyncio.create_task(asking, name=f"page-{label.symbol}")

    async def _publish(self, producer: TickPublisher, feed: Feed, page: EncodedTicks) -> None:
        if page.lost:
            self._delivery.gap(feed)
        if page.unusable:
            self._delivery.left_out(feed, page.unusable)
        try:
            await producer.publish_framed(self._delivery.topic, feed.key, page.batches)
        except BrokerError:
            self._stats.resent += page.count
            raise
        self._stats.published += page.count
        self._stats.conflated += page.ticks - page.unusable - page.count
        self._delivery.delivered(feed, page.after, page.newest_msc)

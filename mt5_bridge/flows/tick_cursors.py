"""The durable cursors: how far each symbol is published, for the next life to read on from."""

import asyncio
from collections.abc import Mapping

from loguru import logger

from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.model import Cursor
from mt5_bridge.flows.tick_feed import Feed
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal

CURSOR_S = 0.9
"""A life killed publishes at most so long again at the next start; each write is a flush of the disk."""


class Cursors:
    """Keeps the acknowledged cursors in the journal.

    Args:
        feeds: the symbols streamed now, by name.
    """

    def __init__(self, journal: Journal, feeds: Mapping[str, Feed]) -> None:
        self._journal = journal
        self._feeds = feeds
        self._saved = asyncio.Event()

    async def next_save(self) -> None:
        """Return when the disk has taken cursors again."""
        await self._saved.wait()

    async def run(self) -> None:
        """Make acknowledged cursors durable every `CURSOR_S`; one that is lost costs duplicates, never ticks."""
        while True:
            await asyncio.sleep(CURSOR_S)
            await self.try_save()

    async def try_save(self) -> None:
        """Write the cursors that moved; those that cannot be written now are written next time."""
        try:
            await self.save()
        except JournalError as error:
            _tell(error)

    async def save(self) -> None:
        """Write the cursors that moved.

        Raises:
            JournalError: they are not durable; they will be written next time.
        """
        moved = [(symbol, feed, feed.acked) for symbol, feed in self._feeds.items() if feed.dirty and feed.acked]
        if not moved:
            return
        for _, feed, _ in moved:
            feed.dirty = False
        try:
            await self._journal.commit(*(_moved(symbol, cursor) for symbol, _, cursor in moved))
        except JournalError:
            for _, feed, _ in moved:
                feed.dirty = True
            raise
        for _, feed, cursor in moved:
            feed.starting = feed.starting and feed.acked is not cursor
        self._saved.set()
        self._saved = asyncio.Event()

    async def keep(self, symbol: str, cursor: Cursor) -> bool:
        """Write one cursor now, whatever else moved; whether it is durable. A journal that fails is told."""
        try:
            await self._journal.commit(_moved(symbol, cursor))
        except JournalError as error:
            _tell(error)
            return False
        return True


def _moved(symbol: str, cursor: Cursor) -> changes.CursorMoved:
    return changes.CursorMoved(symbol=symbol, epoch=cursor.epoch, time_msc=cursor.time_msc, count=cursor.count)


def _tell(error: JournalError) -> None:
    logger.bind(event="cursors_not_saved").warning("Cursors not saved: {error}", error=error)

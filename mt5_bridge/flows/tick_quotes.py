"""The last prices for who listens: at the beginning, and while the broker is away and no ticks are read."""

from collections.abc import Iterator, Mapping
from itertools import islice

from mt5_bridge.core.errors import MT5DataError, MT5ValidationError
from mt5_bridge.core.model import Quote
from mt5_bridge.core.ticks import encode_ticks
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.tick_feed import Feed, TickStream
from mt5_bridge.terminal.port import Priority, Terminal

AT_ONCE = 8
"""Symbols asked for in one turn of the tick flow: each is a round trip."""


class Quotes:
    """Prices as `tick_data`: the terminal says of a last price neither its flags nor its rank within the millisecond.

    Args:
        feeds: the symbols streamed.
    """

    def __init__(self, terminal: Terminal, book: Book, clock: Clock, feeds: Mapping[str, Feed]) -> None:
        self._terminal = terminal
        self._book = book
        self._clock = clock
        self._feeds = feeds
        self._told: dict[str, Quote] = {}
        self._turn = 0

    def known(self) -> Iterator[tuple[str, bytes]]:
        """Of each symbol the last price that is known."""
        for symbol, feed in self._feeds.items():
            quote = self._book.quotes.get(symbol)
            frame = None if quote is None else self._frame(feed, quote)
            if frame is not None:
                yield symbol, frame

    async def stream(self, stream: TickStream) -> None:
        """Ask for the next few symbols' last prices and tell those that changed.

        Raises:
            MT5Error: the terminal cannot be asked.
        """
        self._turn = self._turn + AT_ONCE if self._turn + AT_ONCE < len(self._feeds) else 0
        for symbol, feed in tuple(islice(self._feeds.items(), self._turn, self._turn + AT_ONCE)):
            try:
                quote = await self._terminal.get_price(symbol, priority=Priority.NORMAL)
            except (MT5DataError, MT5ValidationError):
                continue  # it has no price now; the others may
            if quote != self._told.get(symbol) and (frame := self._frame(feed, quote)) is not None:
                self._told[symbol] = quote
                stream.send_latest(f"tick:{symbol}", frame)

    def _frame(self, feed: Feed, quote: Quote) -> bytes | None:
        row = (quote.time_msc, 0, quote.bid, quote.ask, quote.last, quote.volume, 0)
        try:
            ((_, frame),) = encode_ticks(feed.info.name, feed.info.point, [row], now_msc=self._clock.now_ms())
        except (ValueError, OverflowError):  # a price that is no number
            return None
        return frame

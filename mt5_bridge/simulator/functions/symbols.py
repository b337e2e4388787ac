"""The package's functions that show symbols, their prices and their depth."""

from typing import Any

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.functions import arguments as a
from mt5_bridge.simulator.functions import views
from mt5_bridge.simulator.functions.arguments import ArgumentError
from mt5_bridge.simulator.functions.groups import Group
from mt5_bridge.simulator.functions.pipe import Pipe
from mt5_bridge.simulator.market.market import Feed
from mt5_bridge.simulator.structs import BookInfo, SymbolInfo, Tick
from mt5_bridge.simulator.terminal import NOT_FOUND, TerminalError
from mt5_bridge.simulator.trading.session import Session


class Symbols(Pipe):
    """`symbol*` and `market_book_*`."""

    def symbols_total(self) -> int:
        self.terminal.require_session()
        return len(self.terminal.market.feeds)

    def symbols_get(self, *args: Any, **kwargs: Any) -> tuple[SymbolInfo, ...]:
        if len(args) > 1:
            raise ArgumentError("Invalid number of arguments")
        mask = "*"
        if args:
            mask = a.text(args[0], "Invalid 1st unnamed argument", limit=a.MAX_GROUP)
        if "group" in kwargs:
            mask = a.text(kwargs["group"], 'Invalid "group" argument', limit=a.MAX_GROUP)
        session, _ = self.terminal.synced()
        group = Group(mask)
        return tuple(
            self._symbol_info(feed, session) for name, feed in self.terminal.market.feeds.items() if name in group
        )

    def symbol_info(self, *args: Any) -> SymbolInfo:
        feed = self.feed(*_one_text(args))
        session, _ = self.terminal.synced()
        return self._symbol_info(feed, session)

    def symbol_info_tick(self, *args: Any) -> Tick:
        name = _one_text(args)[0]
        feed = self.feed(name)
        terminal = self.terminal
        now = terminal.clock.now()
        count = feed.index_after(now)
        if count <= feed.source.first or not terminal.is_selected(name):
            raise TerminalError(*NOT_FOUND)
        return views.tick(feed.record(count - 1))

    def symbol_select(self, *args: Any) -> bool:
        if len(args) not in (1, 2):
            raise ArgumentError
        enable = len(args) == 1 or a.truth(args[1])
        name = a.text(args[0])
        self.feed(name)
        if enable:
            self.terminal.watch.add(name)
        elif not self.terminal.watch.remove(name):
            raise TerminalError(c.RES_E_FAIL, "Terminal: Call failed")
        return True

    def market_book_add(self, *args: Any) -> bool:
        name = _one_text(args)[0]
        if not self.feed(name).spec.book_depth:
            raise TerminalError(c.RES_E_FAIL, "Terminal: Call failed")
        self.books[name] = None
        return True

    def market_book_release(self, *args: Any) -> bool:
        name = _one_text(args)[0]
        self.feed(name)
        if name not in self.books:
            raise TerminalError(c.RES_E_FAIL, "Terminal: Call failed")
        del self.books[name]
        return True

    def market_book_get(self, *args: Any) -> tuple[BookInfo, ...]:
        name = _one_text(args)[0]
        self.feed(name)
        if name not in self.books:
            raise TerminalError(*NOT_FOUND)
        return views.book(self.terminal.market.book(name, self.terminal.clock.now()))

    def _symbol_info(self, feed: Feed, session: Session) -> SymbolInfo:
        return views.symbol_info(feed.spec, self.terminal, session.account)


def _one_text(args: tuple[Any, ...]) -> tuple[str]:
    a.exactly(args, 1)
    return (a.text(args[0]),)

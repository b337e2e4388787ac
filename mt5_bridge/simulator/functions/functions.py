"""The package's functions, as methods on a terminal: arguments in, structures out. `api` gives them their manners."""

import sqlite3
from typing import Any

import numpy as np

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.books.folder import PaperStateError
from mt5_bridge.simulator.books.store import BooksChangedError
from mt5_bridge.simulator.core.records import Deal, Order
from mt5_bridge.simulator.core.rules import Request
from mt5_bridge.simulator.functions import arguments as a
from mt5_bridge.simulator.functions import views
from mt5_bridge.simulator.functions.arguments import ArgumentError
from mt5_bridge.simulator.functions.groups import Group
from mt5_bridge.simulator.functions.queries import Wanted, credentials, past
from mt5_bridge.simulator.market import bars
from mt5_bridge.simulator.market.bars import Records
from mt5_bridge.simulator.market.market import Feed
from mt5_bridge.simulator.structs import (
    AccountInfo,
    BookInfo,
    OrderCheckResult,
    OrderSendResult,
    SymbolInfo,
    TerminalInfo,
    Tick,
    TradeDeal,
    TradeOrder,
    TradePosition,
)
from mt5_bridge.simulator.terminal import BAD_PARAMS, NOT_FOUND, RACES, Session, Terminal, TerminalError
from mt5_bridge.simulator.trading.dealer import Check, Outcome, UnknownSymbolError

_MAX_BARS = 1_000_000
_NEVER_SENT = frozenset(
    {
        c.TRADE_RETCODE_INVALID, c.TRADE_RETCODE_INVALID_PRICE, c.TRADE_RETCODE_PRICE_OFF,
        c.TRADE_RETCODE_CLIENT_DISABLES_AT,
    }
)  # fmt: skip
"""What the terminal refuses by itself: answers that people publish have no request number and no prices with these."""


class Functions:
    """All 31 functions that talk to the terminal. Each raises `ArgumentError` or `TerminalError` where it fails."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._books: dict[str, None] = {}
        self._request_id = 0

    # Connection.

    def initialize(self, *args: Any, **kwargs: Any) -> bool:
        if len(args) > 1:
            raise ArgumentError("Invalid number of arguments")
        if args:
            a.text(args[0], "Invalid 1st unnamed argument", limit=a.MAX_PATH)
        login, password, server = credentials(kwargs)
        if "path" in kwargs:
            a.text(kwargs["path"], 'Invalid "path" argument', limit=a.MAX_PATH)
        self._books.clear()
        self.terminal.initialize(login, password, server)
        return True

    def login(self, *args: Any, **kwargs: Any) -> bool:
        if len(args) > 3:
            raise ArgumentError("Invalid number of arguments")
        login = password = server = None
        if args:
            login = a.python_int(args[0], "Invalid 1st unnamed argument")
        if len(args) > 1:
            password = a.text(args[1], "Invalid 2nd unnamed argument", limit=a.MAX_SECRET)
        if len(args) > 2:
            server = a.text(args[2], "Invalid 3rd unnamed argument", limit=a.MAX_SECRET)
        if kwargs:
            named = credentials(kwargs)
            login = named[0] if "login" in kwargs else login
            password = named[1] if named[1] is not None else password
            server = named[2] if named[2] is not None else server
        if not login:
            raise ArgumentError('Invalid "login" argument')
        self.terminal.login(login, password, server)
        return True

    def shutdown(self) -> bool:
        self.terminal.shutdown()
        return True

    def version(self) -> tuple[int, int, str]:
        assert self.terminal.session
        return 500, views.BUILD + self.terminal.updates, views.BUILD_DATE

    def terminal_info(self) -> TerminalInfo:
        assert self.terminal.session
        return views.terminal_info(self.terminal)

    def account_info(self) -> AccountInfo:
        session, _ = self.terminal.synced()
        return views.account_info(self.terminal, session, session.login)

    # Symbols.

    def symbols_total(self) -> int:
        assert self.terminal.session
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
        return tuple(self._symbol_info(feed, session) for name, feed in self._feeds() if name in group)

    def symbol_info(self, *args: Any) -> SymbolInfo:
        feed = self._feed(*_one_text(args))
        session, _ = self.terminal.synced()
        return self._symbol_info(feed, session)

    def symbol_info_tick(self, *args: Any) -> Tick:
        name = _one_text(args)[0]
        feed = self._feed(name)
        terminal = self.terminal
        now = terminal.clock.now()
        quote = feed.quote(now) if terminal.is_selected(name) else None
        if quote is None:
            raise TerminalError(*NOT_FOUND)
        return views.tick(quote, terminal.market, feed.last_trade(feed.index_after(now) - 1))

    def symbol_select(self, *args: Any) -> bool:
        if len(args) not in (1, 2):
            raise ArgumentError
        enable = len(args) == 1 or a.truth(args[1])
        name = a.text(args[0])
        self._feed(name)
        if enable:
            self.terminal.watch.add(name)
        elif not self.terminal.watch.remove(name):
            raise TerminalError(c.RES_E_FAIL, "Terminal: Call failed")
        return True

    def market_book_add(self, *args: Any) -> bool:
        name = _one_text(args)[0]
        if not self._feed(name).spec.book_depth:
            raise TerminalError(c.RES_E_FAIL, "Terminal: Call failed")
        self._books[name] = None
        return True

    def market_book_release(self, *args: Any) -> bool:
        name = _one_text(args)[0]
        self._feed(name)
        if name not in self._books:
            raise TerminalError(c.RES_E_FAIL, "Terminal: Call failed")
        del self._books[name]
        return True

    def market_book_get(self, *args: Any) -> tuple[BookInfo, ...]:
        name = _one_text(args)[0]
        self._feed(name)
        if name not in self._books:
            raise TerminalError(*NOT_FOUND)
        return views.book(self.terminal.market.book(name, self.terminal.clock.now()))

    # Ticks and bars.

    def copy_ticks_from(self, *args: Any) -> Records:
        a.exactly(args, 4)
        count, flags = a.int32(args[2]), a.int32(args[3])
        name, start = a.text(args[0]), a.seconds(args[1])
        feed = self._feed(name)
        if count <= 0:
            raise TerminalError(*BAD_PARAMS)
        lo, end = self._tick_range(feed, start)
        return self._ticks(name, lo, end, flags, count)

    def copy_ticks_range(self, *args: Any) -> Records:
        a.exactly(args, 4)
        flags = a.int32(args[3])
        name, start, stop = a.text(args[0]), a.seconds(args[1]), a.seconds(args[2])
        feed = self._feed(name)
        lo, end = self._tick_range(feed, start)
        hi = feed.index_after(self.terminal.market.utc(stop * 1000))
        return self._ticks(name, lo, min(hi, end), flags)

    def copy_rates_from(self, *args: Any) -> Records:
        a.exactly(args, 4)
        timeframe, count = a.int32(args[1]), a.int32(args[3])
        name, until = a.text(args[0]), a.seconds(args[2])
        history = self._bars(name, timeframe, count)
        return history.last(timeframe, count, self.terminal.clock.now(), until_msc=until * 1000)

    def copy_rates_from_pos(self, *args: Any) -> Records:
        a.exactly(args, 4)
        timeframe, position, count = (a.int32(value) for value in args[1:])
        name = a.text(args[0])
        history = self._bars(name, timeframe, count)
        if position < 0:
            raise TerminalError(*BAD_PARAMS)
        return history.last(timeframe, count, self.terminal.clock.now(), skip=position)

    def copy_rates_range(self, *args: Any) -> Records:
        a.exactly(args, 4)
        timeframe = a.int32(args[1])
        name, start, stop = a.text(args[0]), a.seconds(args[2]), a.seconds(args[3])
        history = self._bars(name, timeframe, 1)
        return history.between(timeframe, start * 1000, stop * 1000, self.terminal.clock.now())

    # Trading.

    def order_calc_margin(self, *args: Any) -> float:
        a.exactly(args, 4)
        action, volume, price = a.action(args[0]), a.number(args[2]), a.number(args[3])
        name = a.text(args[1])
        feed = self._feed(name)
        session, _ = self.terminal.synced()
        known = c.ORDER_TYPE_BUY <= action <= c.ORDER_TYPE_SELL_STOP_LIMIT
        if not known or not (volume > 0 and price > 0) or np.isinf(volume) or np.isinf(price):
            raise TerminalError(*BAD_PARAMS)
        account = session.account
        if not account.convertible(feed.spec.name):
            raise TerminalError(*NOT_FOUND)
        return round(account.margin(feed.spec.name, action, volume, price), account.digits)

    def order_calc_profit(self, *args: Any) -> float:
        a.exactly(args, 5)
        action = a.action(args[0])
        volume, opened, closed = (a.number(value) for value in args[2:])
        name = a.text(args[1])
        feed = self._feed(name)
        session, _ = self.terminal.synced()
        values = (volume, opened, closed)
        if action not in (0, 1) or not all(value > 0 for value in values) or np.isinf(values).any():
            raise TerminalError(*BAD_PARAMS)
        if not session.account.convertible(feed.spec.name):
            raise TerminalError(*NOT_FOUND)
        return float(session.account.profit(feed.spec.name, action, volume, opened, closed))

    def order_check(self, *args: Any, **kwargs: Any) -> OrderCheckResult:
        request = a.request(args, kwargs)
        session, now = self.terminal.synced()
        try:
            barred = self._barred(session, request)
            check = Check(barred) if barred else session.dealer.check(request, now)
        except UnknownSymbolError:
            raise TerminalError(*NOT_FOUND) from None
        return views.checked(check, request)

    def order_send(self, *args: Any, **kwargs: Any) -> OrderSendResult:
        request = a.request(args, kwargs)
        try:
            outcome = self._executed(request)
        except UnknownSymbolError:
            raise TerminalError(*NOT_FOUND) from None
        if outcome.retcode in _NEVER_SENT:
            return views.sent(Outcome(outcome.retcode), request, 0)
        return views.sent(outcome, request, self.next_request_id())

    def positions_total(self) -> int:
        session, _ = self.terminal.synced()
        return len(session.account.ledger.positions)

    def positions_get(self, *args: Any, **kwargs: Any) -> tuple[TradePosition, ...]:
        wanted = Wanted(args, kwargs)
        session, _ = self.terminal.synced()
        account = session.account
        pricers = {symbol: account.pricer(symbol) for symbol in account.ledger.by_symbol}
        return tuple(
            views.position(record, pricers[record.symbol])
            for record in account.ledger.positions.values()
            if wanted.takes(record.ticket, record.symbol)
        )

    def orders_total(self) -> int:
        session, _ = self.terminal.synced()
        return len(session.account.ledger.orders)

    def orders_get(self, *args: Any, **kwargs: Any) -> tuple[TradeOrder, ...]:
        wanted = Wanted(args, kwargs)
        session, now = self.terminal.synced()
        market = self.terminal.market
        return tuple(
            views.order(record, market.quote(record.symbol, now))
            for record in session.account.ledger.orders.values()
            if wanted.takes(record.ticket, record.symbol)
        )

    # History.

    def history_orders_total(self, *args: Any) -> int:
        a.exactly(args, 2)
        start, stop = a.seconds(args[0]), a.seconds(args[1])
        session, _ = self.terminal.synced()
        return session.account.store.count_history(start * 1000, stop * 1000 + 999)

    def history_deals_total(self, *args: Any) -> int:
        a.exactly(args, 2)
        start, stop = a.seconds(args[0]), a.seconds(args[1])
        session, _ = self.terminal.synced()
        return session.account.store.count_deals(start * 1000, stop * 1000 + 999)

    def history_orders_get(self, *args: Any, **kwargs: Any) -> tuple[TradeOrder, ...]:
        by, values, group = past(args, kwargs)
        session, _ = self.terminal.synced()
        records: list[Order] = session.account.store.history(by, values)
        return tuple(views.order(record) for record in records if group is None or record.symbol in group)

    def history_deals_get(self, *args: Any, **kwargs: Any) -> tuple[TradeDeal, ...]:
        by, values, group = past(args, kwargs)
        session, _ = self.terminal.synced()
        records: list[Deal] = session.account.store.deals(by, values)
        return tuple(views.deal(record) for record in records if group is None or record.symbol in group)

    # What they share.

    def next_request_id(self) -> int:
        """The number under which the terminal sends the next request."""
        self._request_id += 1
        return self._request_id

    def _executed(self, request: Request) -> Outcome:
        for _ in range(RACES):
            session, now = self.terminal.synced()
            try:
                return self._send(session, request, now)
            except BooksChangedError:
                session.engine.reset()
            except (sqlite3.Error, PaperStateError):
                session.engine.reset()
                break
        return Outcome(c.TRADE_RETCODE_REJECT)

    def _send(self, session: Session, request: Request, now: int) -> Outcome:
        barred = self._barred(session, request)
        return Outcome(barred) if barred else session.dealer.send(request, now)

    def _barred(self, session: Session, request: Request) -> int:
        """The retcode where terminal, account or server take no requests, or the symbol is not in the market watch."""
        terminal, rules = self.terminal, session.account.rules
        if not terminal.autotrading:
            return c.TRADE_RETCODE_CLIENT_DISABLES_AT
        if terminal.read_only or session.investor or not rules.trade_allowed:
            return c.TRADE_RETCODE_TRADE_DISABLED
        if not rules.trade_expert:
            return c.TRADE_RETCODE_SERVER_DISABLES_AT
        opens = request.action in (c.TRADE_ACTION_DEAL, c.TRADE_ACTION_PENDING)
        hidden = opens and request.symbol in terminal.market.feeds and not terminal.is_selected(request.symbol)
        return c.TRADE_RETCODE_PRICE_OFF if hidden else 0

    def _feeds(self) -> list[tuple[str, Feed]]:
        return list(self.terminal.market.feeds.items())

    def _feed(self, name: str) -> Feed:
        assert self.terminal.session
        feed = self.terminal.market.feeds.get(name)
        if feed is None:
            raise TerminalError(*NOT_FOUND)
        return feed

    def _symbol_info(self, feed: Feed, session: Session) -> SymbolInfo:
        return views.symbol_info(feed.spec, self.terminal, session.account)

    def _tick_range(self, feed: Feed, start: int) -> tuple[int, int]:
        market = self.terminal.market
        end = feed.index_after(market.now())
        return feed.index_after(market.utc(start * 1000) - 1), end

    def _ticks(self, name: str, lo: int, hi: int, flags: int, count: int | None = None) -> Records:
        if flags not in (c.COPY_TICKS_ALL, c.COPY_TICKS_INFO, c.COPY_TICKS_TRADE, 3):
            raise TerminalError(*BAD_PARAMS)
        return self.terminal.market.changes(name, lo, hi, flags, count)

    def _bars(self, name: str, timeframe: int, count: int) -> bars.BarHistory:
        self._feed(name)
        if timeframe not in bars.TIMEFRAMES or not 0 < count <= _MAX_BARS:
            raise TerminalError(*BAD_PARAMS)
        return self.terminal.market.bars(name)


def _one_text(args: tuple[Any, ...]) -> tuple[str]:
    a.exactly(args, 1)
    return (a.text(args[0]),)

"""The package's functions that trade, and show what is open and waiting."""

import math
import sqlite3
from typing import Any

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.books.folder import PaperStateError
from mt5_bridge.simulator.books.store import BooksChangedError
from mt5_bridge.simulator.core.rules import Request
from mt5_bridge.simulator.functions import arguments as a
from mt5_bridge.simulator.functions import views
from mt5_bridge.simulator.functions.pipe import Pipe
from mt5_bridge.simulator.functions.queries import Wanted
from mt5_bridge.simulator.structs import OrderCheckResult, OrderSendResult, TradeOrder, TradePosition
from mt5_bridge.simulator.terminal import BAD_PARAMS, NOT_FOUND, RACES, Terminal, TerminalError
from mt5_bridge.simulator.trading.dealer import Check, Outcome, UnknownSymbolError
from mt5_bridge.simulator.trading.session import Session

_NEVER_SENT = frozenset(
    {
        c.TRADE_RETCODE_INVALID, c.TRADE_RETCODE_INVALID_PRICE, c.TRADE_RETCODE_PRICE_OFF,
        c.TRADE_RETCODE_CLIENT_DISABLES_AT,
    }
)  # fmt: skip
"""What the terminal refuses by itself: answers that people publish have no request number and no prices with these."""


class Trading(Pipe):
    """`order_*`, `orders_*` and `positions_*`."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(terminal)
        self._request_id = 0

    def order_calc_margin(self, *args: Any) -> float:
        a.exactly(args, 4)
        action, volume, price = a.action(args[0]), a.number(args[2]), a.number(args[3])
        name = a.text(args[1])
        feed = self.feed(name)
        session, _ = self.terminal.synced()
        known = c.ORDER_TYPE_BUY <= action <= c.ORDER_TYPE_SELL_STOP_LIMIT
        if not known or not (volume > 0 and price > 0) or math.isinf(volume) or math.isinf(price):
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
        feed = self.feed(name)
        session, _ = self.terminal.synced()
        values = (volume, opened, closed)
        if action not in (0, 1) or not all(value > 0 for value in values) or any(map(math.isinf, values)):
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
        return self.send(a.request(args, kwargs))

    def send(self, request: Request) -> OrderSendResult:
        """Sends a request whose fields have been read."""
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

    def refuses(self, request: Request) -> bool:
        """Whether the terminal says no by itself, so that no server gets to see the request.

        Raises:
            TerminalError: not connected.
        """
        session, now = self.terminal.synced()
        try:
            return bool(self._barred(session, request)) or session.dealer.check(request, now).retcode in _NEVER_SENT
        except UnknownSymbolError:
            return True

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
        terminal = self.terminal
        if not terminal.autotrading:
            return c.TRADE_RETCODE_CLIENT_DISABLES_AT
        if terminal.read_only or session.investor:
            return c.TRADE_RETCODE_TRADE_DISABLED
        if barred := session.barred():
            return barred
        opens = request.action in (c.TRADE_ACTION_DEAL, c.TRADE_ACTION_PENDING)
        hidden = opens and request.symbol in terminal.market.feeds and not terminal.is_selected(request.symbol)
        return c.TRADE_RETCODE_PRICE_OFF if hidden else 0

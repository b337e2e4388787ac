"""Judges trade requests against the rules, the account and the market: a retcode for each, 0 where nothing is wrong."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import structs

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import rules
from mt5_bridge.simulator.core.matching import is_buy
from mt5_bridge.simulator.core.records import Order, Position
from mt5_bridge.simulator.core.rules import OK, Request
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.market import Market, Quote
from mt5_bridge.simulator.trading.account import Account
from mt5_bridge.simulator.trading.engine import Engine

_ALIGNED = 1e-6
_OF_ORDERS = frozenset({c.TRADE_ACTION_PENDING, c.TRADE_ACTION_MODIFY, c.TRADE_ACTION_REMOVE})


class Case(NamedTuple):
    """A request, in the symbol's digits and steps, with what it is about.

    `position` and `order` are None where it names none that exists.
    """

    request: Request
    spec: SymbolSpec
    quote: Quote
    msc: int
    position: Position | None
    order: Order | None


class UnknownSymbolError(Exception):
    """The broker has no such symbol."""


class Judge:
    """Decides, and changes nothing."""

    def __init__(self, market: Market, account: Account, engine: Engine) -> None:
        self._market = market
        self._account = account
        self._ledger = account.ledger
        self._engine = engine
        self._judges: dict[int, Callable[[Case], int]] = {
            c.TRADE_ACTION_DEAL: self._deal,
            c.TRADE_ACTION_PENDING: self._pending,
            c.TRADE_ACTION_SLTP: self._stops,
            c.TRADE_ACTION_MODIFY: self._modify,
            c.TRADE_ACTION_REMOVE: self._remove,
            c.TRADE_ACTION_CLOSE_BY: self._close_by,
        }

    def case(self, request: Request, msc: int) -> Case | int:
        """Gathers what the request is about; a retcode where there is nothing to judge.

        Raises:
            UnknownSymbolError: the request's symbol does not exist.
        """
        if request.action not in self._judges:
            return c.TRADE_RETCODE_INVALID
        order = self._ledger.orders.get(request.order) if request.order else None
        position = self._ledger.positions.get(request.position) if request.position else None
        symbol = request.symbol
        if not symbol:
            symbol = order.symbol if order else position.symbol if position else ""
        if not symbol:
            return _nothing_named(request)
        feed = self._market.feeds.get(symbol)
        if feed is None:
            raise UnknownSymbolError(symbol)
        if request.action in _OF_ORDERS:
            position = self._met(symbol, order)
        elif position is None and not request.position and not self._hedging:
            position = self._ledger.of_symbol(symbol)
        quote = feed.quote(msc)
        if quote is None:
            return c.TRADE_RETCODE_PRICE_OFF
        return Case(_exact(feed.spec, request), feed.spec, quote, msc, position, order)

    def judge(self, case: Case) -> int:
        """The retcode of the first rule broken."""
        return rules.trading(case.spec) or self._judges[case.request.action](case) or rules.levels(case.request)

    def _met(self, symbol: str, order: Order | None) -> Position | None:
        """The position that a pending order changes when it fills, whatever the request names."""
        if not self._hedging:
            return self._ledger.of_symbol(symbol)
        return self._ledger.positions.get(order.position_id) if order is not None else None

    @property
    def _hedging(self) -> bool:
        return self._account.hedging

    def _closed(self, case: Case) -> int:
        return OK if self._market.is_open(case.spec.name, case.msc) else c.TRADE_RETCODE_MARKET_CLOSED

    # Deals.

    def _deal(self, case: Case) -> int:
        request, spec, quote = case.request, case.spec, case.quote
        if request.type not in (c.ORDER_TYPE_BUY, c.ORDER_TYPE_SELL):
            return c.TRADE_RETCODE_INVALID
        if not spec.order_mode & rules.ORDER_MARKET:
            return c.TRADE_RETCODE_INVALID_ORDER
        common = (
            self._closed(case)
            or rules.volume(spec, request.volume)
            or rules.filling(spec, request.type_filling)
            or rules.market_price(spec, request, quote.bid, quote.ask)
        )
        if common:
            return common
        if request.position:
            refused = rules.closing(case.position, request, self._account.mode)
            if refused or self._hedging:
                return refused or self._closing(case)
        return self._opening(case)

    def _closing(self, case: Case) -> int:
        """On a hedging account: what else keeps a position from being closed."""
        position, request, quote = case.position, case.request, case.quote
        assert position is not None, "judged before"
        waiting = sum(
            order.volume_current
            for order in self._ledger.orders.values()
            if order.position_id == position.ticket != order.ticket
        )
        if waiting + request.volume > position.volume + _ALIGNED:
            return c.TRADE_RETCODE_CLOSE_ORDER_EXIST
        if self._account.rules.fifo_close and position is not self._oldest(case.spec.name):
            return c.TRADE_RETCODE_FIFO_CLOSE
        return rules.frozen(case.spec, rules.stop_distance(position, quote.bid, quote.ask))

    def _opening(self, case: Case) -> int:
        request, spec, quote, held = case.request, case.spec, case.quote, case.position
        against = held is not None and (held.type == c.POSITION_TYPE_BUY) != is_buy(request.type)
        if against and held is not None and request.volume <= held.volume + _ALIGNED:
            return OK
        price = quote.ask if request.type == c.ORDER_TYPE_BUY else quote.bid
        refused = (
            rules.trade_mode(spec, request.type)
            or rules.stops(spec, request.type == c.ORDER_TYPE_BUY, request.sl, request.tp, quote.bid, quote.ask)
            or self._volume_limit(spec, request, held.volume if against and held is not None else 0.0)
            or self._places(spec.name)
        )
        if refused:
            return refused
        if not self._account.convertible(spec.name):
            return c.TRADE_RETCODE_PRICE_OFF
        return self._money(self._account.additional_margin(spec.name, request.type, request.volume, price), case.msc)

    def _volume_limit(self, spec: SymbolSpec, request: Request, covered: float = 0.0) -> int:
        """Open and waiting volume in one direction (MQL5, SYMBOL_VOLUME_LIMIT); `covered` closes what is opposite."""
        if not spec.volume_limit:
            return OK
        buy = is_buy(request.type)
        held = sum(
            position.volume
            for position in self._ledger.by_symbol.get(spec.name, {}).values()
            if (position.type == c.POSITION_TYPE_BUY) == buy
        )
        waiting = sum(
            order.volume_current
            for order in self._ledger.orders.values()
            if order.symbol == spec.name and is_buy(order.type) == buy
        )
        over = held + waiting + request.volume - covered > spec.volume_limit + _ALIGNED
        return c.TRADE_RETCODE_LIMIT_VOLUME if over else OK

    def _places(self, symbol: str) -> int:
        """The limit of positions: on a hedging account pendings count as well, on a netting one only new symbols."""
        limit = self._account.rules.limit_positions
        taken = len(self._ledger.positions)
        if self._hedging:
            taken += len(self._ledger.orders)
        elif symbol in self._ledger.by_symbol:
            return OK
        return c.TRADE_RETCODE_LIMIT_POSITIONS if limit and taken >= limit else OK

    # Pendings and stops.

    def _pending(self, case: Case) -> int:
        request, spec, quote = case.request, case.spec, case.quote
        buy = is_buy(request.type)
        server_s = self._market.server_time(case.msc) // 1000
        base = request.stoplimit if request.type in rules.STOP_LIMIT_TYPES else request.price
        return (
            self._closed(case)
            or rules.order_kind(spec, request.type)
            or rules.volume(spec, request.volume)
            or rules.pending_filling(spec, request.type, request.type_filling)
            or rules.trade_mode(spec, request.type)
            or rules.pending_price(spec, request.type, request.price, request.stoplimit, quote.bid, quote.ask)
            or rules.stops(spec, buy, request.sl, request.tp, base, base)
            or rules.expiration(spec, request.type_time, request.expiration, server_s)
            or self._orders_limit()
            or self._volume_limit(spec, request)
            or self._places(spec.name)
            or self._reserve(case, base)
        )

    def _reserve(self, case: Case, price: float) -> int:
        """The margin that a pending reserves from the start; most symbols ask for none before it fills."""
        request, symbol = case.request, case.spec.name
        if not self._account.convertible(symbol):
            return c.TRADE_RETCODE_PRICE_OFF
        return self._money(self._account.reserve(symbol, request.type, request.volume, price), case.msc)

    def _money(self, need: float, msc: int) -> int:
        """Whether so much margin is free."""
        if need <= 0 or self._engine.ample(need, msc):
            return OK
        return c.TRADE_RETCODE_NO_MONEY if need > self._account.estimate().free else OK

    def _orders_limit(self) -> int:
        limit = self._account.rules.limit_orders
        return c.TRADE_RETCODE_LIMIT_ORDERS if limit and len(self._ledger.orders) >= limit else OK

    def _stops(self, case: Case) -> int:
        position, request, spec, quote = case.position, case.request, case.spec, case.quote
        if position is None or position.symbol != spec.name:
            return c.TRADE_RETCODE_POSITION_CLOSED
        if refused := self._closed(case):
            return refused
        buy = position.type == c.POSITION_TYPE_BUY
        sl, tp = request.sl, request.tp
        if sl == position.sl and tp == position.tp:
            return c.TRADE_RETCODE_NO_CHANGES
        # Only what changes is measured: an old stop may since have come near.
        refused = rules.stops(
            spec, buy, sl if sl != position.sl else 0.0, tp if tp != position.tp else 0.0, quote.bid, quote.ask
        )
        return refused or rules.frozen(spec, rules.stop_distance(position, quote.bid, quote.ask))

    def _modify(self, case: Case) -> int:
        order, request, spec, quote = case.order, case.request, case.spec, case.quote
        if order is None or order.symbol != spec.name or order.type not in rules.PENDING_TYPES:
            return c.TRADE_RETCODE_INVALID_ORDER
        stoplimit = request.stoplimit or order.price_stoplimit
        base = stoplimit if order.type in rules.STOP_LIMIT_TYPES else request.price
        server_s = self._market.server_time(case.msc) // 1000
        refused = (
            self._closed(case)
            or rules.frozen(spec, rules.order_distance(order, quote.bid, quote.ask))
            or rules.pending_price(spec, order.type, request.price, stoplimit, quote.bid, quote.ask)
            or rules.stops(spec, is_buy(order.type), request.sl, request.tp, base, base)
            or rules.expiration(spec, request.type_time, request.expiration, server_s)
        )
        if refused:
            return refused
        same = modified(case, order, server_s) == (
            order.price_open, order.price_stoplimit, order.sl, order.tp, order.type_time, order.time_expiration
        )  # fmt: skip
        return c.TRADE_RETCODE_NO_CHANGES if same else OK

    def _remove(self, case: Case) -> int:
        order, quote = case.order, case.quote
        if order is None or order.symbol != case.spec.name:
            return c.TRADE_RETCODE_INVALID_ORDER
        return self._closed(case) or rules.frozen(case.spec, rules.order_distance(order, quote.bid, quote.ask))

    def _close_by(self, case: Case) -> int:
        other = self._ledger.positions.get(case.request.position_by)
        # A foreign symbol's sessions, quotes and rules say nothing of these positions.
        if case.position is not None and case.position.symbol != case.spec.name:
            return c.TRADE_RETCODE_INVALID
        refused = self._closed(case) or rules.close_by(case.spec, case.position, other, self._account.mode)
        if refused or case.position is None or other is None:
            return refused
        if self._account.rules.fifo_close and self._oldest(case.spec.name) not in (case.position, other):
            return c.TRADE_RETCODE_FIFO_CLOSE
        near = min(rules.stop_distance(one, case.quote.bid, case.quote.ask) for one in (case.position, other))
        return rules.frozen(case.spec, near)

    def _oldest(self, symbol: str) -> Position:
        positions = self._ledger.by_symbol[symbol].values()
        return min(positions, key=lambda position: (position.time_msc, position.ticket))


def modified(case: Case, order: Order, server_s: int) -> tuple[float, float, float, float, int, int]:
    """What a request makes of a pending: price, stop-limit price, stop, target, kind and time of expiration."""
    request = case.request
    stoplimit = request.stoplimit or order.price_stoplimit
    return (
        request.price,
        stoplimit if order.type in rules.STOP_LIMIT_TYPES else 0.0,
        request.sl,
        request.tp,
        request.type_time,
        rules.expires_at(request.type_time, request.expiration, server_s),
    )


def _exact(spec: SymbolSpec, request: Request) -> Request:
    """The request as the server keeps it, whose prices and lots are integers: what is judged is what is executed."""
    digits, price, stoplimit, sl, tp = spec.digits, request.price, request.stoplimit, request.sl, request.tp
    return structs.replace(
        request, volume=rules.stepped(spec, request.volume), price=price and round(price, digits),
        stoplimit=stoplimit and round(stoplimit, digits), sl=sl and round(sl, digits), tp=tp and round(tp, digits),
    )  # fmt: skip


def _nothing_named(request: Request) -> int:
    """The retcode where neither a symbol nor an existing ticket says what it is about."""
    if request.action in (c.TRADE_ACTION_SLTP, c.TRADE_ACTION_CLOSE_BY) and request.position:
        return c.TRADE_RETCODE_POSITION_CLOSED
    if request.action in (c.TRADE_ACTION_MODIFY, c.TRADE_ACTION_REMOVE):
        return c.TRADE_RETCODE_INVALID_ORDER
    return c.TRADE_RETCODE_INVALID

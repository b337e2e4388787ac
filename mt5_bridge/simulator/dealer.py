"""The trade server's desk: judges requests by the rules, and executes them at the current quote."""

import math
from collections.abc import Callable
from typing import NamedTuple

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator import rules
from mt5_bridge.simulator.account import Account, Valuation
from mt5_bridge.simulator.catalogue import SymbolSpec
from mt5_bridge.simulator.engine import Engine
from mt5_bridge.simulator.market import Market, Quote
from mt5_bridge.simulator.matching import is_buy
from mt5_bridge.simulator.records import Order, Position
from mt5_bridge.simulator.rules import OK, Request

_MAX_COMMENT = 31


class Outcome(NamedTuple):
    """The server's answer to a request."""

    retcode: int
    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    bid: float = 0.0
    ask: float = 0.0


class Check(NamedTuple):
    """What a request would do: its retcode (0 passes), and the account afterwards."""

    retcode: int
    after: Valuation


class _Case(NamedTuple):
    """A request with what it is about. `position` and `order` are None where it names none that exists."""

    request: Request
    spec: SymbolSpec
    quote: Quote
    msc: int
    position: Position | None
    order: Order | None


class UnknownSymbolError(Exception):
    """The broker has no such symbol."""


class Dealer:
    """Judges and executes. The account must be synchronised with the market up to now before every call."""

    def __init__(self, market: Market, account: Account, engine: Engine) -> None:
        self._market = market
        self._account = account
        self._ledger = account.ledger
        self._engine = engine
        self._judges: dict[int, Callable[[_Case], int]] = {
            c.TRADE_ACTION_DEAL: self._judge_deal,
            c.TRADE_ACTION_PENDING: self._judge_pending,
            c.TRADE_ACTION_SLTP: self._judge_stops,
            c.TRADE_ACTION_MODIFY: self._judge_modify,
            c.TRADE_ACTION_REMOVE: self._judge_remove,
            c.TRADE_ACTION_CLOSE_BY: self._judge_close_by,
        }
        self._actions: dict[int, Callable[[_Case], Outcome]] = {
            c.TRADE_ACTION_DEAL: self._deal,
            c.TRADE_ACTION_PENDING: self._place,
            c.TRADE_ACTION_SLTP: self._set_stops,
            c.TRADE_ACTION_MODIFY: self._modify,
            c.TRADE_ACTION_REMOVE: self._remove,
            c.TRADE_ACTION_CLOSE_BY: self._close_by,
        }

    def check(self, request: Request, msc: int) -> Check:
        """Judges without executing.

        Raises:
            UnknownSymbolError: the request's symbol does not exist.
        """
        case = self._case(request, msc)
        now = self._account.valuation()
        if isinstance(case, int):
            return Check(case, now)
        retcode = self._judges[request.action](case)
        need = 0.0
        if request.action == c.TRADE_ACTION_DEAL and retcode in (OK, c.TRADE_RETCODE_NO_MONEY):
            need = self._need(case)
        margin = round(now.margin + need, 2)
        level = now.equity / margin * 100 if margin else 0.0
        return Check(retcode, Valuation(now.profit, now.equity, margin, round(now.equity - margin, 2), level))

    def send(self, request: Request, msc: int) -> Outcome:
        """Judges, executes and writes.

        Raises:
            UnknownSymbolError: the request's symbol does not exist.
            sqlite3.Error: the store cannot be written; nothing was executed.
        """
        case = self._case(request, msc)
        if isinstance(case, int):
            return Outcome(case)
        retcode = self._judges[request.action](case)
        if retcode != OK:
            return Outcome(retcode, bid=case.quote.bid, ask=case.quote.ask)
        outcome = self._actions[request.action](case)
        self._engine.stale(case.spec.name)
        self._account.commit(msc)
        return outcome

    def _case(self, request: Request, msc: int) -> _Case | int:
        """Gathers what the request is about; a retcode where there is nothing to judge."""
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
        if position is None and not request.position and self._account.mode is not MarginMode.HEDGING:
            position = self._ledger.of_symbol(symbol)
        quote = feed.quote(msc)
        if quote is None:
            return c.TRADE_RETCODE_PRICE_OFF
        return _Case(request, feed.spec, quote, msc, position, order)

    # Judging.

    def _judge_deal(self, case: _Case) -> int:
        request, spec, quote = case.request, case.spec, case.quote
        if request.type not in (c.ORDER_TYPE_BUY, c.ORDER_TYPE_SELL):
            return c.TRADE_RETCODE_INVALID
        if not self._market.is_open(spec.name, case.msc):
            return c.TRADE_RETCODE_MARKET_CLOSED
        common = (
            rules.volume(spec, request.volume)
            or rules.filling(spec, request.type_filling)
            or rules.market_price(spec, request, quote.bid, quote.ask)
        )
        if common:
            return common
        if request.position:
            refused = rules.closing(case.position, request, self._account.mode)
            if refused or self._account.mode is MarginMode.HEDGING:
                return refused
        return self._judge_opening(case)

    def _judge_opening(self, case: _Case) -> int:
        request, spec, quote = case.request, case.spec, case.quote
        need = self._need(case)
        if need <= 0 and case.position is not None:
            return OK
        refused = rules.trade_mode(spec, request.type) or rules.stops(
            spec, request.type == c.ORDER_TYPE_BUY, request.sl, request.tp, quote.bid, quote.ask
        )
        if refused:
            return refused
        if spec.volume_limit and self._volume_held(case) + request.volume > spec.volume_limit:
            return c.TRADE_RETCODE_LIMIT_VOLUME
        if need > 0 and need > self._account.estimate().free:
            return c.TRADE_RETCODE_NO_MONEY
        return OK

    def _judge_pending(self, case: _Case) -> int:
        request, spec, quote = case.request, case.spec, case.quote
        if not self._market.is_open(spec.name, case.msc):
            return c.TRADE_RETCODE_MARKET_CLOSED
        buy = is_buy(request.type)
        server_s = self._market.server_time(case.msc) // 1000
        base = request.stoplimit if request.type in rules.STOP_LIMIT_TYPES else request.price
        return (
            rules.order_kind(spec, request.type)
            or rules.volume(spec, request.volume)
            or rules.pending_filling(spec, request.type_filling)
            or rules.trade_mode(spec, request.type)
            or rules.pending_price(spec, request.type, request.price, request.stoplimit, quote.bid, quote.ask)
            or rules.stops(spec, buy, request.sl, request.tp, base, base)
            or rules.expiration(spec, request.type_time, request.expiration, server_s)
        )

    def _judge_stops(self, case: _Case) -> int:
        position, request, spec, quote = case.position, case.request, case.spec, case.quote
        if position is None or position.symbol != spec.name:
            return c.TRADE_RETCODE_POSITION_CLOSED
        if not self._market.is_open(spec.name, case.msc):
            return c.TRADE_RETCODE_MARKET_CLOSED
        buy = position.type == c.POSITION_TYPE_BUY
        sl, tp = _price(spec, request.sl), _price(spec, request.tp)
        if sl == position.sl and tp == position.tp:
            return c.TRADE_RETCODE_NO_CHANGES
        # Only what changes is measured: an old stop may since have come near.
        refused = rules.stops(
            spec, buy, sl if sl != position.sl else 0.0, tp if tp != position.tp else 0.0, quote.bid, quote.ask
        )
        if refused:
            return refused
        now = quote.bid if buy else quote.ask
        near = min((abs(now - level) for level in (position.sl, position.tp) if level), default=math.inf)
        return rules.frozen(spec, near)

    def _judge_modify(self, case: _Case) -> int:
        order, request, spec, quote = case.order, case.request, case.spec, case.quote
        if order is None or order.symbol != spec.name:
            return c.TRADE_RETCODE_INVALID_ORDER
        if not self._market.is_open(spec.name, case.msc):
            return c.TRADE_RETCODE_MARKET_CLOSED
        stoplimit = request.stoplimit or order.price_stoplimit
        base = stoplimit if order.type in rules.STOP_LIMIT_TYPES else request.price
        server_s = self._market.server_time(case.msc) // 1000
        refused = (
            rules.frozen(spec, rules.order_distance(order, quote.bid, quote.ask))
            or rules.pending_price(spec, order.type, request.price, stoplimit, quote.bid, quote.ask)
            or rules.stops(spec, is_buy(order.type), request.sl, request.tp, base, base)
            or rules.expiration(spec, request.type_time, request.expiration, server_s)
        )
        if refused:
            return refused
        same = self._modified(case, order) == (
            order.price_open, order.price_stoplimit, order.sl, order.tp, order.type_time, order.time_expiration
        )  # fmt: skip
        return c.TRADE_RETCODE_NO_CHANGES if same else OK

    def _judge_remove(self, case: _Case) -> int:
        order, quote = case.order, case.quote
        if order is None:
            return c.TRADE_RETCODE_INVALID_ORDER
        return rules.frozen(case.spec, rules.order_distance(order, quote.bid, quote.ask))

    def _judge_close_by(self, case: _Case) -> int:
        if not self._market.is_open(case.spec.name, case.msc):
            return c.TRADE_RETCODE_MARKET_CLOSED
        other = self._ledger.positions.get(case.request.position_by)
        return rules.close_by(case.position, other, self._account.mode)

    # Executing.

    def _deal(self, case: _Case) -> Outcome:
        request, quote = case.request, case.quote
        price = quote.ask if request.type == c.ORDER_TYPE_BUY else quote.bid
        hedging = self._account.mode is MarginMode.HEDGING
        order = self._order(case, position_id=request.position if hedging else 0)
        order.price_open = price
        if hedging and request.position:
            order.sl = order.tp = 0.0
        deal = self._ledger.fill(order, price, order.time_setup_msc)
        return Outcome(
            c.TRADE_RETCODE_DONE, deal.ticket, order.ticket, deal.volume, price, bid=quote.bid, ask=quote.ask
        )

    def _place(self, case: _Case) -> Outcome:
        request, spec = case.request, case.spec
        order = self._order(case)
        order.state = c.ORDER_STATE_PLACED
        order.price_open = _price(spec, request.price)
        order.price_stoplimit = _price(spec, request.stoplimit) if request.type in rules.STOP_LIMIT_TYPES else 0.0
        order.type_time = request.type_time
        order.time_expiration = rules.expires_at(request.type_time, request.expiration, order.time_setup_msc // 1000)
        self._ledger.place(order)
        return self._placed(case, order)

    def _set_stops(self, case: _Case) -> Outcome:
        position, request, spec = case.position, case.request, case.spec
        assert position is not None, "judged before"
        position.sl, position.tp = _price(spec, request.sl), _price(spec, request.tp)
        self._ledger.touch(position, self._market.server_time(case.msc))
        return Outcome(c.TRADE_RETCODE_DONE, bid=case.quote.bid, ask=case.quote.ask)

    def _modify(self, case: _Case) -> Outcome:
        order = case.order
        assert order is not None, "judged before"
        (
            order.price_open, order.price_stoplimit, order.sl, order.tp, order.type_time, order.time_expiration
        ) = self._modified(case, order)  # fmt: skip
        self._ledger.place(order)
        return self._placed(case, order)

    def _remove(self, case: _Case) -> Outcome:
        order = case.order
        assert order is not None, "judged before"
        self._ledger.finish(order, c.ORDER_STATE_CANCELED, self._market.server_time(case.msc))
        return self._placed(case, order)

    def _close_by(self, case: _Case) -> Outcome:
        position, other = case.position, self._ledger.positions[case.request.position_by]
        assert position is not None, "judged before"
        volume = min(position.volume, other.volume)
        order = self._order(case)
        order.type = c.ORDER_TYPE_CLOSE_BY
        order.volume_initial = order.volume_current = volume
        order.symbol = position.symbol
        first, _ = self._ledger.close_by(position, other, order, order.time_setup_msc)
        return Outcome(
            c.TRADE_RETCODE_DONE, first.ticket, order.ticket, volume, first.price,
            bid=case.quote.bid, ask=case.quote.ask,
        )  # fmt: skip

    # What they share.

    def _order(self, case: _Case, position_id: int = 0) -> Order:
        request, spec = case.request, case.spec
        return Order(
            ticket=self._ledger.ticket(), symbol=spec.name, type=request.type, type_time=c.ORDER_TIME_GTC,
            type_filling=request.type_filling, state=c.ORDER_STATE_STARTED, volume_initial=request.volume,
            volume_current=request.volume, price_open=0.0, price_stoplimit=0.0, sl=_price(spec, request.sl),
            tp=_price(spec, request.tp), time_setup_msc=self._market.server_time(case.msc), magic=request.magic,
            reason=c.ORDER_REASON_EXPERT, comment=request.comment[:_MAX_COMMENT], position_id=position_id,
        )  # fmt: skip

    def _modified(self, case: _Case, order: Order) -> tuple[float, float, float, float, int, int]:
        request, spec = case.request, case.spec
        stoplimit = request.stoplimit or order.price_stoplimit
        return (
            _price(spec, request.price),
            _price(spec, stoplimit) if order.type in rules.STOP_LIMIT_TYPES else 0.0,
            _price(spec, request.sl),
            _price(spec, request.tp),
            request.type_time,
            rules.expires_at(request.type_time, request.expiration, self._market.server_time(case.msc) // 1000),
        )

    @staticmethod
    def _placed(case: _Case, order: Order) -> Outcome:
        return Outcome(
            c.TRADE_RETCODE_DONE, 0, order.ticket, order.volume_current, order.price_open,
            bid=case.quote.bid, ask=case.quote.ask,
        )  # fmt: skip

    def _need(self, case: _Case) -> float:
        request, quote = case.request, case.quote
        if self._account.mode is MarginMode.HEDGING and request.position:
            return 0.0
        price = quote.ask if request.type == c.ORDER_TYPE_BUY else quote.bid
        return self._account.additional_margin(case.spec.name, request.type, request.volume, price)

    def _volume_held(self, case: _Case) -> float:
        """Open and waiting volume of the symbol in the request's direction."""
        buy = is_buy(case.request.type)
        held = sum(
            position.volume
            for position in self._ledger.by_symbol.get(case.spec.name, {}).values()
            if (position.type == c.POSITION_TYPE_BUY) == buy
        )
        return held + sum(
            order.volume_current
            for order in self._ledger.orders.values()
            if order.symbol == case.spec.name and is_buy(order.type) == buy
        )


def _nothing_named(request: Request) -> int:
    """The retcode where neither a symbol nor an existing ticket says what it is about."""
    if request.action in (c.TRADE_ACTION_SLTP, c.TRADE_ACTION_CLOSE_BY) and request.position:
        return c.TRADE_RETCODE_POSITION_CLOSED
    if request.action in (c.TRADE_ACTION_MODIFY, c.TRADE_ACTION_REMOVE):
        return c.TRADE_RETCODE_INVALID_ORDER
    return c.TRADE_RETCODE_INVALID


def _price(spec: SymbolSpec, price: float) -> float:
    return round(price, spec.digits)

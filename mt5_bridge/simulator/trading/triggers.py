"""What one tick sets off: stops and targets of positions, pending orders, and the closing of a stop-out."""

from decimal import Decimal

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import fills, matching
from mt5_bridge.simulator.core.fills import Part
from mt5_bridge.simulator.core.matching import Cause, is_buy
from mt5_bridge.simulator.core.records import Order, Position
from mt5_bridge.simulator.core.rules import LIMIT_TYPES, PENDING_TYPES, STOP_LIMIT_TYPES
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.market import Market, Quote
from mt5_bridge.simulator.trading.account import Account


class Triggers:
    """Executes on one account what has become due."""

    def __init__(self, market: Market, account: Account, seed: int = 0) -> None:
        self._market = market
        self._account = account
        self._ledger = account.ledger
        self._seed = seed

    def tick(self, symbol: str, quote: Quote) -> None:
        """Does all that a quote triggers: positions before orders, the oldest first."""
        positions = list(self._ledger.by_symbol.get(symbol, {}).values())
        orders = [order for order in self._ledger.orders.values() if order.symbol == symbol]
        for position in positions:
            cause = matching.position_due(position, quote.bid, quote.ask)
            if cause is not None:
                self._close(position, cause, quote)
        for order in orders:
            if matching.order_due(order, quote.bid, quote.ask):
                self.trigger(order, quote)

    def trigger(self, order: Order, quote: Quote) -> None:
        """Executes a pending order that is due, or what is left of an order."""
        server_msc = self._market.server_time(quote.time_msc)
        if order.type in STOP_LIMIT_TYPES:
            # Reached its stop: from the next tick on it waits as a limit order.
            order.type = c.ORDER_TYPE_BUY_LIMIT if is_buy(order.type) else c.ORDER_TYPE_SELL_LIMIT
            order.price_open, order.price_stoplimit = order.price_stoplimit, 0.0
            passive = order.type_filling == c.ORDER_FILLING_BOC
            if passive and matching.order_due(order, quote.bid, quote.ask):
                self._ledger.finish(order, c.ORDER_STATE_CANCELED, server_msc)
            else:
                self._ledger.place(order)
            return
        if self._orphaned(order):
            self._ledger.finish(order, c.ORDER_STATE_CANCELED, server_msc)
            return
        spec, buying = self._account.spec(order.symbol), is_buy(order.type)
        price = quote.ask if buying else quote.bid
        if not self._affordable(order, price):
            self._ledger.finish(order, c.ORDER_STATE_REJECTED, server_msc, price)
            return
        limit = order.price_open if order.type in LIMIT_TYPES else None
        if limit is None:
            price = fills.slipped(spec, price, self._seed, order.ticket, buying=buying)
        parts = fills.plan(spec, order.volume_current, price, buying=buying, limit=limit)
        self._fill(order, parts, server_msc)

    def _fill(self, order: Order, parts: list[Part], server_msc: int) -> None:
        """What the market does not give waits on, but for orders that want all or nothing, or no rest."""
        # Files of before volumes were put on their step hold 0.1 * 3 as it is.
        whole = round(order.volume_current - fills.filled(parts), 8) <= 0
        if not whole and order.type_filling == c.ORDER_FILLING_FOK:
            self._ledger.finish(order, c.ORDER_STATE_CANCELED, server_msc)
            return
        for part in parts:
            self._ledger.fill(order, part.price, server_msc, part.volume)
        if not whole and order.type_filling == c.ORDER_FILLING_IOC:
            self._ledger.finish(order, c.ORDER_STATE_CANCELED, server_msc)
        elif not whole:
            self._ledger.place(order)

    def stop_out(self, victim: Order | Position, msc: int) -> None:
        """Takes away what a stop-out chose; a balance left below 0 is made good where the broker does so."""
        account = self._account
        account.msc = msc
        server_msc = self._market.server_time(msc)
        if isinstance(victim, Order):
            self._ledger.finish(victim, c.ORDER_STATE_CANCELED, server_msc)
            return
        quote = self._market.quote(victim.symbol, msc)
        assert quote is not None, "it was priced when it was chosen"
        self._close(victim, Cause.STOP_OUT, Quote(msc, quote.bid, quote.ask))
        ledger = self._ledger
        if account.rules.stop_out_compensation and not ledger.positions and ledger.balance < 0:
            ledger.transfer(Decimal(0) - ledger.balance, server_msc, c.DEAL_TYPE_CORRECTION, "so compensation")

    def _orphaned(self, order: Order) -> bool:
        """Whether it is the rest of a closing order whose position has gone another way."""
        if order.type in PENDING_TYPES or not self._account.hedging:
            return False
        return order.position_id not in (0, order.ticket) and order.position_id not in self._ledger.positions

    def _affordable(self, order: Order, price: float) -> bool:
        if order.position_id and order.position_id != order.ticket and self._account.hedging:
            return True
        side = 0 if is_buy(order.type) else 1
        need = self._account.additional_margin(order.symbol, side, order.volume_current, price)
        need -= self._account.order_margin(order)
        return need <= 0 or need <= self._account.estimate().free

    def _close(self, position: Position, cause: Cause, quote: Quote) -> None:
        """Closes the whole position: what exceeds the depth, at the worst price of it."""
        spec = self._account.spec(position.symbol)
        buying = position.type == c.POSITION_TYPE_SELL
        order = self._closing_order(spec, position, cause, self._market.server_time(quote.time_msc))
        price = quote.ask if buying else quote.bid
        if cause is not Cause.TARGET:
            price = fills.slipped(spec, price, self._seed, order.ticket, buying=buying)
        parts = fills.plan(spec, position.volume, price, buying=buying)
        for part in parts[:-1]:
            self._ledger.fill(order, part.price, order.time_setup_msc, part.volume)
        self._ledger.fill(order, parts[-1].price, order.time_setup_msc)

    def _closing_order(self, spec: SymbolSpec, position: Position, cause: Cause, server_msc: int) -> Order:
        words = {
            Cause.STOP: f"[sl {position.sl:.{spec.digits}f}]",
            Cause.TARGET: f"[tp {position.tp:.{spec.digits}f}]",
        }
        comment = words.get(cause) or f"[so {self._account.valuation().level:.2f}%]"
        return Order(
            ticket=self._ledger.ticket(), symbol=position.symbol,
            type=c.ORDER_TYPE_BUY if position.type == c.POSITION_TYPE_SELL else c.ORDER_TYPE_SELL,
            type_time=c.ORDER_TIME_GTC, type_filling=c.ORDER_FILLING_FOK, state=c.ORDER_STATE_STARTED,
            volume_initial=position.volume, volume_current=position.volume, price_open=0.0, price_stoplimit=0.0,
            sl=0.0, tp=0.0, time_setup_msc=server_msc, magic=position.magic, reason=cause.value, comment=comment,
            position_id=position.ticket,
        )  # fmt: skip

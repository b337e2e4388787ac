"""The server's midnight: swaps, and the end of what lives for a day.

Sources: MetaTrader 5 platform help, "Swaps"; ENUM_SYMBOL_ORDER_GTC_MODE ("Symbol Properties") of the MQL5 reference.
"""

from collections.abc import Iterable

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import swaps
from mt5_bridge.simulator.core.records import Position
from mt5_bridge.simulator.core.rules import PENDING_TYPES
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.trading.account import Account


class Rollover:
    """Carries one account's positions and orders over to the next day."""

    def __init__(self, market: Market, account: Account) -> None:
        self._market = market
        self._account = account
        self._ledger = account.ledger

    def concerns(self, symbols: Iterable[str]) -> bool:
        """Whether midnight changes anything for one of these symbols."""
        return any(_changes(self._market.feeds[symbol].spec) for symbol in symbols)

    def roll_over(self, midnight: int) -> list[str]:
        """Does what is due at `midnight` (UTC), at the prices before it; returns the symbols concerned."""
        server_msc = self._market.server_time(midnight)
        self._account.msc = midnight - 1
        symbols = {*self._ledger.by_symbol, *(order.symbol for order in self._ledger.orders.values())}
        concerned = sorted(symbol for symbol in symbols if _changes(self._market.feeds[symbol].spec))
        for symbol in concerned:
            spec = self._market.feeds[symbol].spec
            for position in list(self._ledger.by_symbol.get(symbol, {}).values()):
                self._swap(spec, position, swaps.nights(spec, server_msc), server_msc)
            if spec.order_gtc_mode != c.SYMBOL_ORDERS_GTC:
                self._end_day(spec, server_msc)
        self._account.msc = midnight
        return concerned

    def _swap(self, spec: SymbolSpec, position: Position, count: float, server_msc: int) -> None:
        if not count:
            return
        if spec.swap_mode not in swaps.REOPENING:
            amount = self._account.swap(position, count)
            if amount:
                self._ledger.charge_swap(position, amount)
            return
        quote = self._market.quote(spec.name, self._account.msc)
        if quote is not None:
            closed = quote.ask if position.type == c.POSITION_TYPE_SELL else quote.bid
            opened = swaps.reopening_price(spec, position.type, quote.bid, quote.ask, count)
            self._ledger.reopen(position, closed, opened, server_msc)

    def _end_day(self, spec: SymbolSpec, server_msc: int) -> None:
        """Pendings good till cancelled, and by the stricter mode stops and targets, live for one day here."""
        for order in [order for order in self._ledger.orders.values() if order.symbol == spec.name]:
            if order.type in PENDING_TYPES and order.type_time == c.ORDER_TIME_GTC:
                self._ledger.finish(order, c.ORDER_STATE_EXPIRED, server_msc)
        if spec.order_gtc_mode == c.SYMBOL_ORDERS_DAILY:
            for position in list(self._ledger.by_symbol.get(spec.name, {}).values()):
                if position.sl or position.tp:
                    position.sl = position.tp = 0.0
                    self._ledger.touch(position, server_msc)


def _changes(spec: SymbolSpec) -> bool:
    swapped = spec.swap_mode != c.SYMBOL_SWAP_MODE_DISABLED and (spec.swap_long or spec.swap_short)
    return bool(swapped) or spec.order_gtc_mode != c.SYMBOL_ORDERS_GTC

"""Stop-out: when the equity no longer carries the margin, and what goes first.

Source: MetaTrader 5 platform help, "Group Settings", section "Processing of Stop out by Server": pending orders by the
margin they reserve, the largest first; then positions by their loss; until the level is above the limit.
"""

from collections.abc import Mapping

import numpy as np

from mt5_bridge.simulator import rules
from mt5_bridge.simulator.account import Account
from mt5_bridge.simulator.market import Market
from mt5_bridge.simulator.records import Order, Position

_SAFE = 1.02


class StopOut:
    """Watches one account."""

    def __init__(self, market: Market, account: Account) -> None:
        self._market = market
        self._account = account

    def moment(self, until: int, since: int, ticks: Mapping[str, int], suspect: int | None = None) -> int | None:
        """The first moment up to `until` (UTC) at which the account is to be stopped out and something can go.

        Args:
            until: up to when.
            since: what came before is settled.
            ticks: by symbol with anything open, the number of the first tick not looked at.
            suspect: a moment to look at, too, because money changed there without a tick.
        """
        account = self._account
        floor = self._floor()
        if floor is None:
            return None
        account.msc = until
        if self._worst_equity(until, ticks) > floor + abs(floor) * (_SAFE - 1):
            return None
        moments: set[int] = {until}
        if suspect is not None:
            moments.add(suspect)
        for symbol in account.ledger.by_symbol:
            feed = self._market.feeds[symbol]
            moments.update(feed.raw(ticks[symbol], feed.index_after(until))[0].tolist())
        for moment in sorted(moment for moment in moments if moment >= since):
            account.msc = moment
            if account.estimate().equity <= floor and self.victim(moment) is not None:
                return moment
        return None

    def victim(self, msc: int) -> Order | Position | None:
        """What goes first at `msc`: only symbols that trade then count."""
        account = self._account
        account.msc = msc
        reserved = [
            (-margin, order.ticket)
            for order in account.ledger.orders.values()
            if (margin := account.order_margin(order)) > 0 and self._trades(order.symbol, msc)
        ]
        if reserved:
            return account.ledger.orders[min(reserved)[1]]
        losses = [
            (pricer.profit(position), position.ticket)
            for symbol, positions in account.ledger.by_symbol.items()
            if self._trades(symbol, msc) and (pricer := account.pricer(symbol)) is not None
            for position in positions.values()
        ]
        return account.ledger.positions[min(losses)[1]] if losses else None

    def _trades(self, symbol: str, msc: int) -> bool:
        return self._market.is_open(symbol, msc) and not rules.trading(self._account.spec(symbol))

    def _floor(self) -> float | None:
        """The equity at which it happens; None where nothing is reserved."""
        margin, limits = self._account.total_margin(), self._account.rules
        if margin <= 0:
            return None
        return limits.stop_out if limits.stop_out_mode == "money" else margin * limits.stop_out / 100

    def _worst_equity(self, until: int, ticks: Mapping[str, int]) -> float:
        """Less than the equity ever was since the last event: each symbol at its worst price."""
        account = self._account
        equity = float(account.ledger.balance + account.ledger.credit)
        for symbol, held in account.exposures().items():
            feed = self._market.feeds[symbol]
            quote = feed.quote(until)
            if quote is None:
                continue
            bid, ask = quote.bid, quote.ask
            lo, hi = ticks[symbol], feed.index_after(until)
            if hi > lo:
                _, bids, asks = feed.raw(lo, hi)
                bid = min(bid, int(np.min(bids)) / feed.spec.scale)
                ask = max(ask, int(np.max(asks)) / feed.spec.scale)
            equity += account.symbol_worth(symbol, held, bid, ask)
        return equity

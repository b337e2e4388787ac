"""What passing time does to an account: pendings, stops, targets, expirations and stop-outs, in the order of the ticks.

The result depends on the ticks alone, never on how often somebody looks: everything up to a moment is worked off tick
by tick, with each event at the time and price of its tick, also for the time no process was running.
"""

from typing import NamedTuple

import numpy as np

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator import matching
from mt5_bridge.simulator.account import Account
from mt5_bridge.simulator.market import Market, Quote
from mt5_bridge.simulator.matching import Cause, is_buy
from mt5_bridge.simulator.records import Order, Position
from mt5_bridge.simulator.rules import STOP_LIMIT_TYPES

STOP_OUT_LEVEL = 30.0
MARGIN_CALL_LEVEL = 50.0
"""Percent of margin."""

_STRETCH_MSC = 3_600_000
"""How much market time is worked off at once."""
_CHUNK = 32_768
_SAFE = 1.02
_FOREVER_MSC = 1 << 62


class _Due(NamedTuple):
    """The next event of a symbol: tick `number`, or none up to tick `number`."""

    msc: int
    number: int
    found: bool


class Engine:
    """Works the market's ticks off against the account's books."""

    def __init__(self, market: Market, account: Account) -> None:
        self._market = market
        self._account = account
        self._ledger = account.ledger
        self._stretch = max(1, int(_STRETCH_MSC / market.speed))
        self._next: dict[str, int] = {}
        """By watched symbol, the number of the first tick not worked off."""
        self._levels: dict[str, matching.Levels] = {}
        self._due: dict[str, _Due] = {}
        self._wakes: dict[str, int] = {}
        self._quiet_until = 0
        self._event_msc = 0
        """When the last event was: what came before it is settled."""

    def stale(self, symbol: str) -> None:
        """The symbol's positions or orders changed."""
        self._levels.pop(symbol, None)
        self._due.pop(symbol, None)
        self._quiet_until = 0

    def wake(self) -> None:
        """The market has ticks nobody could foresee."""
        self._due.clear()
        self._wakes.clear()
        self._quiet_until = 0

    def reset(self) -> None:
        """The books were read anew."""
        self._next.clear()
        self._levels.clear()
        self.wake()

    def sync(self, now: int) -> None:
        """Works off everything up to `now` (UTC) and writes what came of it.

        Raises:
            sqlite3.Error: the store cannot be written; nothing happened.
        """
        account = self._account
        account.msc = now
        if now < self._quiet_until:
            return
        self._watch()
        while True:
            # In stretches, so that a long absence needs no more memory than a short one.
            until = min(now, account.processed_msc + self._stretch) if self._next else now
            self._run(until)
            account.processed_msc = until
            if until >= now:
                break
        account.msc = now
        account.commit(now)
        self._quiet_until = self._quiet()

    def _watch(self) -> None:
        """Follows the symbols of which anything is open or waiting."""
        wanted = {*self._ledger.by_symbol, *(order.symbol for order in self._ledger.orders.values())}
        for symbol in self._next.keys() - wanted:
            del self._next[symbol]
            self._levels.pop(symbol, None)
            self._due.pop(symbol, None)
            self._wakes.pop(symbol, None)
        for symbol in wanted - self._next.keys():
            self._next[symbol] = self._market.feeds[symbol].index_after(self._account.processed_msc)

    def _wake(self, symbol: str) -> int:
        """When the symbol's next tick falls that is not worked off."""
        moment = self._wakes.get(symbol)
        if moment is None:
            moment = self._wakes[symbol] = self._market.feeds[symbol].next_time(self._next[symbol])
        return moment

    def _quiet(self) -> int:
        """The next moment at which anything can happen."""
        moments = [self._wake(symbol) for symbol in self._next]
        moments.extend(self._expiry(order) for order in self._ledger.orders.values() if order.time_expiration)
        return min(moments, default=_FOREVER_MSC)

    def _run(self, until: int) -> None:
        """Events up to `until`, one after the other."""
        while self._step(until):
            self._watch()
        for symbol in self._next:
            if self._wake(symbol) <= until:
                self._advance(symbol, self._market.feeds[symbol].index_after(until))

    def _step(self, until: int) -> bool:
        """Does the first event up to `until`; False when there is none."""
        awake = [symbol for symbol in self._next if self._wake(symbol) <= until]
        expiring = [
            (moment, order.ticket)
            for order in self._ledger.orders.values()
            if order.time_expiration and (moment := self._expiry(order)) <= until
        ]
        if not awake and not expiring:
            return False
        due = {symbol: self._find(symbol, until) for symbol in awake}
        found = min(((d.msc, symbol) for symbol, d in due.items() if d.found), default=(_FOREVER_MSC, ""))
        expiry = min(expiring, default=(_FOREVER_MSC, 0))
        moment = min(until, found[0], expiry[0])
        fatal = self._stop_out_moment(moment)
        self._event_msc = moment if fatal is None else fatal
        if fatal is not None:
            self._stop_out(fatal)
        elif expiring and expiry[0] <= found[0]:
            self._expire(*expiry)
        elif found[1]:
            self._apply(found[1], due[found[1]].number)
        else:
            return False
        return True

    def _advance(self, symbol: str, number: int) -> None:
        self._next[symbol] = max(self._next[symbol], number)
        self._wakes.pop(symbol, None)

    def _find(self, symbol: str, until: int) -> _Due:
        """The first tick up to `until` at which something of the symbol is due."""
        known = self._due.get(symbol)
        if known is not None and (known.found or known.msc >= until):
            return known if known.msc <= until else _Due(known.msc, known.number, found=False)
        feed = self._market.feeds[symbol]
        levels = self._levels.get(symbol)
        if levels is None:
            orders = [order for order in self._ledger.orders.values() if order.symbol == symbol]
            positions = self._ledger.by_symbol.get(symbol, {}).values()
            levels = self._levels[symbol] = matching.levels(positions, orders, feed.spec.scale)
        start = max(self._next[symbol], known.number) if known is not None else self._next[symbol]
        end = feed.index_after(until)
        result = _Due(until, end, found=False)
        for lo in range(start, end, _CHUNK):
            times, bids, asks = feed.raw(lo, min(lo + _CHUNK, end))
            place = levels.first_due(bids, asks)
            if place is not None:
                result = _Due(int(times[place]), lo + place, found=True)
                break
        self._due[symbol] = result
        return result

    def _apply(self, symbol: str, number: int) -> None:
        """Does all that one tick triggers, oldest ticket first."""
        feed = self._market.feeds[symbol]
        times, bids, asks = feed.raw(number, number + 1)
        scale = feed.spec.scale
        quote = Quote(int(times[0]), int(bids[0]) / scale, int(asks[0]) / scale)
        self._account.msc = quote.time_msc
        positions = list(self._ledger.by_symbol.get(symbol, {}).values())
        orders = [order for order in self._ledger.orders.values() if order.symbol == symbol]
        for position in positions:
            cause = matching.position_due(position, quote.bid, quote.ask)
            if cause is not None:
                self._close(position, cause, quote)
        for order in orders:
            if matching.order_due(order, quote.bid, quote.ask):
                self._trigger(order, quote)
        self._advance(symbol, number + 1)
        self.stale(symbol)

    def _trigger(self, order: Order, quote: Quote) -> None:
        if order.type in STOP_LIMIT_TYPES:
            # Reached its stop: from the next tick on it waits as a limit order.
            order.type = c.ORDER_TYPE_BUY_LIMIT if is_buy(order.type) else c.ORDER_TYPE_SELL_LIMIT
            order.price_open, order.price_stoplimit = order.price_stoplimit, 0.0
            self._ledger.place(order)
            return
        price = quote.ask if is_buy(order.type) else quote.bid
        server_msc = self._market.server_time(quote.time_msc)
        if not self._affordable(order, price):
            self._ledger.finish(order, c.ORDER_STATE_REJECTED, server_msc, price)
            return
        self._ledger.fill(order, price, server_msc)

    def _affordable(self, order: Order, price: float) -> bool:
        side = 0 if is_buy(order.type) else 1
        need = self._account.additional_margin(order.symbol, side, order.volume_current, price)
        return need <= 0 or need <= self._account.estimate().free

    def _close(self, position: Position, cause: Cause, quote: Quote) -> None:
        buy = position.type == c.POSITION_TYPE_BUY
        server_msc = self._market.server_time(quote.time_msc)
        words = {Cause.STOP: f"[sl {position.sl}]", Cause.TARGET: f"[tp {position.tp}]"}
        order = Order(
            ticket=self._ledger.ticket(), symbol=position.symbol,
            type=c.ORDER_TYPE_SELL if buy else c.ORDER_TYPE_BUY, type_time=c.ORDER_TIME_GTC,
            type_filling=c.ORDER_FILLING_FOK, state=c.ORDER_STATE_STARTED, volume_initial=position.volume,
            volume_current=position.volume, price_open=0.0, price_stoplimit=0.0, sl=0.0, tp=0.0,
            time_setup_msc=server_msc, magic=position.magic, reason=cause.value,
            comment=words.get(cause, "[so]"), position_id=position.ticket,
        )  # fmt: skip
        self._ledger.fill(order, quote.bid if buy else quote.ask, server_msc)

    def _expiry(self, order: Order) -> int:
        return self._market.utc(order.time_expiration * 1000)

    def _expire(self, msc: int, ticket: int) -> None:
        order = self._ledger.orders[ticket]
        self._ledger.finish(order, c.ORDER_STATE_EXPIRED, self._market.server_time(msc))
        self.stale(order.symbol)

    # Stop-out: the margin level falls to the limit.

    def _stop_out_moment(self, until: int) -> int | None:
        """The first moment not worked off, up to `until`, at which equity is at most the stop-out share of margin."""
        account = self._account
        margin = account.total_margin()
        if margin <= 0:
            return None
        floor = margin * STOP_OUT_LEVEL / 100
        account.msc = until
        if self._worst_equity(until) > floor * _SAFE:
            return None
        moments: set[int] = set()
        for symbol in self._ledger.by_symbol:
            feed = self._market.feeds[symbol]
            moments.update(feed.raw(self._next[symbol], feed.index_after(until))[0].tolist())
        for moment in sorted(moment for moment in moments if moment >= self._event_msc):
            account.msc = moment
            if account.estimate().equity <= floor:
                return moment
        account.msc = until
        return until if account.estimate().equity <= floor else None

    def _worst_equity(self, until: int) -> float:
        """Less than the equity ever was since the last event: each symbol at its worst price."""
        account = self._account
        equity = float(self._ledger.balance)
        for symbol, held in account.exposures().items():
            feed = self._market.feeds[symbol]
            quote = feed.quote(until)
            if quote is None:
                continue
            bid, ask = quote.bid, quote.ask
            lo, hi = self._next[symbol], feed.index_after(until)
            if hi > lo:
                _, bids, asks = feed.raw(lo, hi)
                bid = min(bid, int(np.min(bids)) / feed.spec.scale)
                ask = max(ask, int(np.max(asks)) / feed.spec.scale)
            equity += account.symbol_profit(symbol, held, bid, ask) + held.swap
        return equity

    def _stop_out(self, msc: int) -> None:
        """Closes the position that loses most."""
        self._account.msc = msc
        losses = [
            (pricer.profit(position), position.ticket, pricer.quote)
            for symbol, positions in self._ledger.by_symbol.items()
            if (pricer := self._account.pricer(symbol)) is not None
            for position in positions.values()
        ]
        _, ticket, quote = min(losses)
        position = self._ledger.positions[ticket]
        self._close(position, Cause.STOP_OUT, Quote(msc, quote.bid, quote.ask))
        self.stale(position.symbol)

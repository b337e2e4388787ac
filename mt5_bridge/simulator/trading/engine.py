"""What passing time does to an account: pendings, stops, targets, expirations, nights and stop-outs, in order.

The result depends on the ticks alone, never on how often somebody looks: everything up to a moment is worked off tick
by tick, with each event at the time and price of its tick, also for the time no process was running.
"""

from typing import NamedTuple

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import matching, swaps
from mt5_bridge.simulator.core.records import Order
from mt5_bridge.simulator.market.market import Feed, Market, Quote
from mt5_bridge.simulator.trading.account import Account
from mt5_bridge.simulator.trading.cushion import Cushion
from mt5_bridge.simulator.trading.rollover import Rollover
from mt5_bridge.simulator.trading.stopout import StopOut
from mt5_bridge.simulator.trading.triggers import Triggers

_STRETCH_MSC = 3_600_000
"""How much market time is worked off at once."""
_CHUNK = 32_768
_FEW = 32
"""Ticks that are looked at one by one sooner than all at once."""
_FOREVER_MSC = 1 << 62


class _Due(NamedTuple):
    """The next event of a symbol: tick `number`, or none up to tick `number`."""

    msc: int
    number: int
    found: bool


class Engine:
    """Works the market's ticks off against the account's books."""

    def __init__(self, market: Market, account: Account, seed: int = 0) -> None:
        self._market = market
        self._account = account
        self._ledger = account.ledger
        self._triggers = Triggers(market, account, seed)
        self._rollover = Rollover(market, account)
        self._cushion = Cushion(market, account)
        self._stop_outs = StopOut(market, account, self._cushion)
        self._stretch = max(1, int(_STRETCH_MSC / market.speed))
        self._next: dict[str, int] = {}
        """By watched symbol, the number of the first tick not worked off."""
        self._levels: dict[str, matching.Levels] = {}
        self._due: dict[str, _Due] = {}
        self._wakes: dict[str, int] = {}
        """When those ticks fall."""
        self._watching = False
        """Whether all symbols are followed that must be: until the books change."""
        self._overnight = False
        """Whether midnight changes anything for them."""
        self._ends: list[tuple[int, int]] | None = None
        """When orders expire (UTC), the first first, with their tickets; until the books or the clock change."""
        self._clock = market.server.version
        self._quiet_until = 0
        self._event_msc = 0
        """When the last event was: what came before it is settled."""
        self._suspect: int | None = None
        """A moment at which money changed without a tick."""
        self._asked: int | None = None
        """The same, until what came of it is written."""
        self._midnight = 0
        """The next rollover, UTC."""

    def meet(self, order: Order, quote: Quote, msc: int) -> None:
        """A pending placed or moved to where the market already is: only exchange execution lets it."""
        if not matching.order_due(order, quote.bid, quote.ask):
            return
        if order.type_filling == c.ORDER_FILLING_BOC:
            self._ledger.finish(order, c.ORDER_STATE_CANCELED, self._market.server_time(msc))
        else:
            self._triggers.trigger(order, Quote(msc, quote.bid, quote.ask))

    def ample(self, need: float, msc: int) -> bool:
        """Whether so much margin is surely free at `msc`, with all ticks up to then worked off; if not, it may be."""
        return self._watching and self._cushion.holds(self._next, (), msc, self._account.total_margin() + need)

    def stale(self, symbol: str) -> None:
        """The symbol's positions or orders changed."""
        self._levels.pop(symbol, None)
        self._due.pop(symbol, None)
        self._ends = None
        followed = self._next.keys() >= self._account.movers(symbol)
        # A symbol that was held before and is now changes nothing for the others.
        self._watching = self._watching and followed and symbol in self._ledger.by_symbol
        if self._ledger.orders or not followed:
            self._quiet_until = 0

    def wake(self, symbol: str) -> None:
        """The symbol has ticks nobody could foresee."""
        self._due.pop(symbol, None)
        if symbol in self._next:
            self._follow(symbol, self._next[symbol])
        self._account.forget_worths()
        self._quiet_until = 0

    def reconsider(self, msc: int) -> None:
        """Money changed at `msc` (UTC) without a tick: the account may have to be stopped out."""
        self._suspect = self._asked = self._event_msc = msc
        self._quiet_until = 0

    def reset(self) -> None:
        """The books were read anew, or others saw to it for a while: what is not written has not happened."""
        for known in (self._next, self._levels, self._due, self._wakes):
            known.clear()
        self._watching, self._ends = False, None
        self._quiet_until = self._midnight = self._event_msc = 0
        self._suspect = self._asked
        self._account.forget_worths()

    def quiet(self, now: int) -> bool:
        """Whether nothing can have happened up to `now` (UTC) since the last look."""
        return now < self._quiet_until

    def sync(self, now: int) -> None:
        """Works off everything up to `now` (UTC) and writes what came of it.

        Raises:
            sqlite3.Error: the store cannot be written; nothing happened.
        """
        account = self._account
        account.msc = now
        if now < self._quiet_until and self._clock == self._market.server.version:
            return
        if self._clock != self._market.server.version:
            self._clock, self._ends, self._midnight = self._market.server.version, None, 0
        if not self._watching:
            self._watch()
        if account.processed_msc >= self._midnight:
            self._midnight = self._next_midnight(account.processed_msc)
        while True:
            # In stretches, so that a long absence needs no more memory than a short one.
            until = min(now, account.processed_msc + self._stretch) if self._next else now
            self._run(until)
            account.processed_msc = until
            if until >= now:
                break
        account.msc = now
        account.commit(now)
        self._asked = None
        self._quiet_until = self._next_event()

    def _watch(self) -> None:
        """Follows the symbols of which anything is open or waiting."""
        wanted = {*self._ledger.by_symbol, *(order.symbol for order in self._ledger.orders.values())}
        # The symbols that turn profit into account money move the equity as well.
        wanted.update([name for symbol in wanted for name in self._account.movers(symbol)])
        for symbol in self._next.keys() - wanted:
            del self._next[symbol], self._wakes[symbol]
            self._levels.pop(symbol, None)
            self._due.pop(symbol, None)
        for symbol in wanted - self._next.keys():
            self._follow(symbol, self._market.feeds[symbol].index_after(self._account.processed_msc))
        self._watching, self._overnight = True, self._rollover.concerns(wanted)

    def _follow(self, symbol: str, number: int) -> None:
        """Ticks before `number` are worked off."""
        self._next[symbol] = number
        self._wakes[symbol] = self._market.feeds[symbol].next_time(number)

    def _next_event(self) -> int:
        """The next moment at which anything can happen."""
        ends = self._expiring()
        return min(
            min(self._wakes.values(), default=_FOREVER_MSC),
            ends[0][0] if ends else _FOREVER_MSC,
            self._midnight if self._overnight else _FOREVER_MSC,
        )

    def _expiring(self) -> list[tuple[int, int]]:
        """When orders expire, and their tickets, in order."""
        if self._ends is None:
            orders = self._ledger.orders.values()
            self._ends = sorted((self._expiry(order), order.ticket) for order in orders if order.time_expiration)
        return self._ends

    def _next_midnight(self, msc: int) -> int:
        """The first midnight after `msc`, UTC, that the server's clock has not shown: set back, it shows some again."""
        return self._market.utc(swaps.next_midnight(self._market.server.highest(msc)))

    def _run(self, until: int) -> None:
        """Events up to `until`, one after the other."""
        while self._step(until):
            if not self._watching:
                self._watch()

    def _step(self, until: int) -> bool:
        """Does the first event up to `until`; False when there is none, and all ticks up to then are worked off."""
        awake = [symbol for symbol, moment in self._wakes.items() if moment <= until]
        ends = self._expiring()
        expiry = ends[0] if ends and ends[0][0] <= until else (_FOREVER_MSC, 0)
        if not awake and not expiry[1] and self._midnight > until and self._suspect is None:
            return False
        due, found = {}, (_FOREVER_MSC, "")
        for symbol in awake:
            due[symbol] = one = self._find(symbol, until)
            if one.found:
                found = min(found, (one.msc, symbol))
        night = self._midnight if self._midnight <= until and self._next else _FOREVER_MSC
        # A night ends with its last millisecond: the tick of midnight belongs to the new day.
        moment = min(until, found[0], expiry[0], night - 1)
        fatal = self._stop_outs.moment(moment, self._event_msc, self._next, awake, self._suspect)
        self._suspect = None
        self._event_msc = moment if fatal is None else fatal
        if self._event(fatal, night, expiry, found, due):
            return True
        for symbol in awake:
            self._follow(symbol, due[symbol].number)
        return False

    def _event(
        self, fatal: int | None, night: int, expiry: tuple[int, int], found: tuple[int, str], due: dict[str, _Due]
    ) -> bool:
        """Does the first of what may come next; money that it moves is looked at before the next tick."""
        if fatal is not None:
            self._stop_out(fatal)
        elif night < _FOREVER_MSC and night <= min(found[0], expiry[0]):
            self._roll_over(night)
        elif expiry[1] and expiry[0] <= found[0]:
            self._expire(*expiry)
        elif found[1]:
            self._apply(found[1], due[found[1]].number)
        else:
            return False
        self._suspect = self._event_msc
        return True

    def _find(self, symbol: str, until: int) -> _Due:
        """The first tick up to `until` at which something of the symbol is due."""
        feed = self._market.feeds[symbol]
        start = self._next[symbol]
        known = self._due.get(symbol)
        if known is not None:
            if known.msc > until:
                return _Due(until, feed.index_after(until), found=False)
            if known.found or known.msc == until:
                return known
            start = max(start, known.number)
        result = self._due[symbol] = self._search(symbol, feed, start, until)
        return result

    def _search(self, symbol: str, feed: Feed, start: int, until: int) -> _Due:
        end = feed.index_after(until)
        if start >= end:
            return _Due(until, end, found=False)
        levels = self._levels.get(symbol)
        if levels is None:
            levels = self._levels[symbol] = self._gather(symbol, feed.scale)
        near = feed.listed(start, end) if end - start <= _FEW else None
        if near is None or levels.some_due(*near):
            for lo in range(start, end, _CHUNK):
                times, bids, asks = feed.raw(lo, min(lo + _CHUNK, end))
                place = levels.first_due(bids, asks)
                if place is not None:
                    return _Due(int(times[place]), lo + place, found=True)
        return _Due(until, end, found=False)

    def _gather(self, symbol: str, scale: int) -> matching.Levels:
        orders = [order for order in self._ledger.orders.values() if order.symbol == symbol]
        held = self._account.exposures().get(symbol)
        return matching.levels(held.armed.values() if held is not None else (), orders, scale)

    def _apply(self, symbol: str, number: int) -> None:
        """Does all that one tick triggers, oldest ticket first."""
        feed = self._market.feeds[symbol]
        times, bids, asks = feed.raw(number, number + 1)
        quote = Quote(int(times[0]), int(bids[0]) / feed.scale, int(asks[0]) / feed.scale)
        self._account.msc = quote.time_msc
        self._triggers.tick(symbol, quote)
        self._follow(symbol, number + 1)
        self.stale(symbol)

    def _roll_over(self, midnight: int) -> None:
        for symbol in self._rollover.roll_over(midnight):
            self.stale(symbol)
        self._event_msc = midnight
        self._midnight = self._next_midnight(midnight)

    def _stop_out(self, msc: int) -> None:
        victim = self._stop_outs.victim(msc)
        assert victim is not None, "the moment was chosen by it"
        self._triggers.stop_out(victim, msc)
        self.stale(victim.symbol)

    def _expiry(self, order: Order) -> int:
        return self._market.utc(order.time_expiration * 1000)

    def _expire(self, msc: int, ticket: int) -> None:
        order = self._ledger.orders[ticket]
        self._ledger.finish(order, c.ORDER_STATE_EXPIRED, self._market.server_time(msc))
        self.stale(order.symbol)

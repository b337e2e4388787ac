"""Stop-out: when the equity no longer carries the margin, and what goes first.

Source: MetaTrader 5 platform help, "Group Settings", section "Processing of Stop out by Server": pending orders by the
margin they reserve, the largest first; then positions by their loss; until the level is above the limit.
"""

from collections.abc import Collection, Mapping
from typing import TypeAlias

import numpy as np

from mt5_bridge.simulator.core import rules
from mt5_bridge.simulator.core.records import Order, Position
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.market.sources import Ints
from mt5_bridge.simulator.trading.account import Account
from mt5_bridge.simulator.trading.cushion import Cushion

Spans: TypeAlias = Mapping[str, tuple[int, int]]
"""Ranges of ticks, by symbol."""

_FEW = 24
"""Ticks that are looked at one by one."""


class StopOut:
    """Watches one account."""

    def __init__(self, market: Market, account: Account, cushion: Cushion) -> None:
        self._market = market
        self._account = account
        self._cushion = cushion

    def moment(
        self, until: int, since: int, ticks: Mapping[str, int], awake: Collection[str], suspect: int | None = None
    ) -> int | None:
        """The first moment up to `until` (UTC) at which the account is to be stopped out and something can go.

        That is a tick's, of a symbol held or one whose price turns money into the account's: never that of a look.

        Args:
            until: up to when.
            since: what came before is settled.
            ticks: by symbol with anything open, and by those they convert with, the number of the first tick not
                looked at.
            awake: those that may have such ticks up to `until`.
            suspect: a moment to look at, too, because money changed there without a tick.
        """
        floor = self._floor()
        if floor is None:
            return None
        if suspect is not None and since <= suspect <= until and self._falls(suspect, floor):
            return suspect
        if not awake or self._cushion.holds(ticks, awake, until, floor):
            return None
        feeds = self._market.feeds
        spans = {symbol: (number, feeds[symbol].index_after(until)) for symbol, number in ticks.items()}
        self._account.msc = until
        return self._first(spans, since, floor, now=True)

    def _first(self, spans: Spans, since: int, floor: float, *, now: bool = False) -> int | None:
        """The first such moment among these ticks, by halves: most have nowhere been near it."""
        count = sum(max(0, hi - lo) for lo, hi in spans.values())
        if not count or self._least_equity(spans, now=now) > floor:
            return None
        feeds = self._market.feeds
        times = {symbol: feeds[symbol].raw(lo, hi)[0] for symbol, (lo, hi) in spans.items() if hi > lo}
        halves = _halves(spans, times) if count > _FEW else None
        if halves is None:
            moments = sorted({moment for found in times.values() for moment in found.tolist() if moment >= since})
            return next((moment for moment in moments if self._falls(moment, floor)), None)
        earlier, later = halves
        found = self._first(earlier, since, floor)
        return found if found is not None else self._first(later, since, floor)

    def _falls(self, moment: int, floor: float) -> bool:
        self._account.msc = moment
        return self._account.estimate().equity <= floor and self.victim(moment) is not None

    def _least_equity(self, spans: Spans, *, now: bool) -> float:
        """At most what the equity is at these ticks: each symbol at its worst price, and a cent for the rounding.

        Args:
            spans: the ticks.
            now: the spans end with the moment that the account is at.
        """
        account = self._account
        found: dict[str, tuple[float, float] | None] = {}

        def extremes(symbol: str) -> tuple[float, float] | None:
            if symbol not in found:
                found[symbol] = self._extremes(symbol, spans.get(symbol))
            return found[symbol]

        moving = {symbol for symbol, (lo, hi) in spans.items() if hi > lo} if now else spans.keys()
        worths = [
            account.worth(symbol, held)
            if moving.isdisjoint(account.movers(symbol))
            else account.least_worth(symbol, held, extremes)
            for symbol, held in account.exposures().items()
        ]
        return float(account.ledger.balance + account.ledger.credit) + sum(worths) - 10.0**-account.digits

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

    def _extremes(self, symbol: str, span: tuple[int, int] | None) -> tuple[float, float] | None:
        """The lowest bid and the highest ask at the span's ticks and the one before, with which it began."""
        feed = self._market.feeds[symbol]
        lo, hi = span if span is not None else (feed.index_after(self._account.msc),) * 2
        return feed.extremes(max(lo - 1, feed.source.first), hi)


def _halves(spans: Spans, times: Mapping[str, Ints]) -> tuple[Spans, Spans] | None:
    """Cuts spans at one moment into about equal halves; None where all is one moment."""
    middle = int(np.median(np.concatenate(list(times.values()))))
    for moment in (middle, middle - 1):
        cuts = {symbol: spans[symbol][0] + int(np.searchsorted(times[symbol], moment, "right")) for symbol in times}
        if any(cuts[symbol] > spans[symbol][0] for symbol in cuts) and any(
            cuts[symbol] < spans[symbol][1] for symbol in cuts
        ):
            earlier = {symbol: (lo, cuts.get(symbol, hi)) for symbol, (lo, hi) in spans.items()}
            return earlier, {symbol: (cuts.get(symbol, hi), hi) for symbol, (_, hi) in spans.items()}
    return None

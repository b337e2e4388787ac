"""Whether an account is safely above its stop-out, looked at once for many ticks.

To value everything open at every tick is exact and slow. But while each price stays within a band around where it once
was, nothing is worth less than at the worst prices of its bands, and that needs no second look.
"""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.trading.account import Account

_WIDTH = 0.001
"""Of a band to either side, as a share of the price: it lasts for minutes, and rarely reaches as far as a stop-out."""


class _Band(NamedTuple):
    """No tick from `first` up to, not including, `end` has a bid below `low` or an ask above `high`."""

    first: int
    end: int
    low: float
    high: float


class Cushion:
    """Keeps the bands of one account's symbols. What is left of the equity in them is summed up anew at each look."""

    def __init__(self, market: Market, account: Account) -> None:
        self._market = market
        self._account = account
        self._bands: dict[str, _Band] = {}

    def holds(self, ticks: Mapping[str, int], awake: Collection[str], until: int, floor: float) -> bool:
        """Whether the equity is surely above `floor` up to `until` (UTC). If not, it may be all the same.

        Args:
            ticks: by symbol that moves the account, the number of the first tick not worked off.
            awake: those that have such ticks.
            until: up to when.
            floor: in account money.
        """
        for symbol, number in ticks.items():
            end = self._market.feeds[symbol].index_after(until) if symbol in awake else number
            band = self._bands.get(symbol)
            # The tick before the first one makes the price with which they begin.
            if band is None or number <= band.first or end > band.end:
                self._look(symbol, number, end)
        account = self._account
        worths = [
            held.least if held.least is not None else self._least(symbol)
            for symbol, held in account.exposures().items()
        ]
        rounding = 2 * 10.0**-account.digits  # of equity and margin
        return float(account.ledger.balance + account.ledger.credit) + sum(worths) - rounding > floor

    def _look(self, symbol: str, number: int, end: int) -> None:
        """Lengthens the symbol's band where its new ticks are inside, else makes one around them."""
        feed, band = self._market.feeds[symbol], self._bands.get(symbol)
        if band is not None and band.first < number <= band.end:
            found = feed.extremes(band.end, end)
            if found is not None and band.low <= found[0] and found[1] <= band.high:
                self._bands[symbol] = band._replace(end=end)
                return
        first = max(number - 1, feed.source.first)
        found = feed.extremes(first, end)
        if found is None:
            self._bands.pop(symbol, None)
        else:
            self._bands[symbol] = _Band(first, end, found[0] * (1 - _WIDTH), found[1] * (1 + _WIDTH))
        for name, held in self._account.exposures().items():
            if symbol in self._account.movers(name):
                held.least = None

    def _least(self, symbol: str) -> float:
        if not self._bands.keys() >= self._account.movers(symbol):
            return -math.inf
        held = self._account.exposures()[symbol]
        held.least = self._account.least_worth(symbol, held, self._prices)
        return held.least

    def _prices(self, symbol: str) -> tuple[float, float] | None:
        band = self._bands.get(symbol)
        return None if band is None else (band.low, band.high)

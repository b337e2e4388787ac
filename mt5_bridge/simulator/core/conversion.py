"""Exchange rates between currencies. Pure."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from mt5_bridge.simulator.core.margin import FOREX_MODES
from mt5_bridge.simulator.market.catalogue import SymbolSpec

Prices: TypeAlias = Callable[[str], tuple[float, float] | None]
"""A symbol's bid and ask, None without a quote."""
_PIVOT = "USD"


class Converter:
    """Exchange rates between currencies, from forex symbols, over USD where there is no direct one."""

    def __init__(self, specs: Mapping[str, SymbolSpec], prices: Prices) -> None:
        self._prices = prices
        self._pairs: dict[tuple[str, str], str] = {}
        for spec in specs.values():
            if spec.calc_mode in FOREX_MODES:
                self._pairs.setdefault((spec.currency_base, spec.currency_profit), spec.name)

    def rate(
        self, source: str, target: str, *, selling: bool, known: Mapping[str, float] | None = None
    ) -> float | None:
        """Units of `target` for one of `source`; None when a price is missing.

        Args:
            source: currency converted from.
            target: currency converted to.
            selling: True where `source` is sold (a profit), False where it is bought (a loss, a margin).
            known: prices that take the place of the market's, by symbol.
        """
        if source == target:
            return 1.0
        direct = self._step(source, target, selling, known)
        if direct is not None:
            return direct
        if _PIVOT in (source, target):
            return None
        first = self._step(source, _PIVOT, selling, known)
        second = self._step(_PIVOT, target, selling, known)
        return None if first is None or second is None else first * second

    def symbols(self, source: str, target: str) -> tuple[str, ...]:
        """The symbols whose prices make the rate."""
        if source == target:
            return ()
        direct = self._pair(source, target)
        if direct is not None or _PIVOT in (source, target):
            return () if direct is None else (direct,)
        steps = (self._pair(source, _PIVOT), self._pair(_PIVOT, target))
        return tuple(name for name in steps if name is not None)

    def bounds(self, source: str, target: str, extremes: Prices) -> tuple[float, float]:
        """The lowest and the highest rate while prices stay within `extremes` (lowest bid, highest ask)."""
        low = high = 1.0
        for name in self.symbols(source, target):
            prices = extremes(name)
            if prices is None:
                return 1.0, 1.0
            if (
                self._pairs.get((source, target)) == name
                or self._pairs.get((source, _PIVOT)) == name
                or (self._pairs.get((_PIVOT, target)) == name)
            ):
                low, high = low * prices[0], high * prices[1]
            else:
                low, high = low / prices[1], high / prices[0]
        return low, high

    def _pair(self, source: str, target: str) -> str | None:
        return self._pairs.get((source, target)) or self._pairs.get((target, source))

    def _step(self, source: str, target: str, selling: bool, known: Mapping[str, float] | None) -> float | None:
        name = self._pairs.get((source, target))
        if name is not None:
            return self._price(name, use_bid=selling, known=known)
        name = self._pairs.get((target, source))
        if name is None:
            return None
        price = self._price(name, use_bid=not selling, known=known)
        return None if price is None else 1 / price

    def _price(self, name: str, *, use_bid: bool, known: Mapping[str, float] | None) -> float | None:
        if known is not None and name in known:
            return known[name]
        prices = self._prices(name)
        return None if prices is None else prices[0 if use_bid else 1]

"""Exchange rates between currencies. Pure."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from mt5_bridge.simulator.catalogue import SymbolSpec
from mt5_bridge.simulator.margin import FOREX_MODES

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

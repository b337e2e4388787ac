"""Market Watch: which symbols are selected, and which of them are shown.

SymbolSelect, SYMBOL_SELECT and SYMBOL_VISIBLE in the MQL5 reference: a symbol with open positions or orders cannot be
taken out, and rates needed to convert a selected symbol's margin and profit are selected by themselves, unseen.
"""

from collections.abc import Callable, Iterable, Mapping

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.market.catalogue import SymbolSpec

_PIVOT = "USD"


class MarketWatch:
    """The symbols chosen, and those held in it by what is open.

    Args:
        currency: the account's.
        specs: all symbols, asked for when first needed.
        in_use: whether anything of a symbol is open or waiting.
    """

    def __init__(
        self, currency: str, specs: Callable[[], Mapping[str, SymbolSpec]], in_use: Callable[[str], bool]
    ) -> None:
        self._currency = currency
        self._specs = specs
        self._in_use = in_use
        self._chosen: dict[str, None] = {}
        self._needed: frozenset[str] | None = None

    def add(self, symbol: str) -> None:
        """Selects a symbol and shows it."""
        if symbol not in self._chosen:
            self._chosen[symbol] = None
            self._needed = None

    def remove(self, symbol: str) -> bool:
        """Takes a symbol out; False where something of it is open."""
        if self._in_use(symbol):
            return False
        if symbol in self._chosen:
            del self._chosen[symbol]
            self._needed = None
        return True

    def shows(self, symbol: str) -> bool:
        """Whether the symbol is in the window."""
        return symbol in self._chosen or self._in_use(symbol)

    def __contains__(self, symbol: str) -> bool:
        """Whether the symbol has prices: it is shown, or needed to convert one that is."""
        if self.shows(symbol):
            return True
        if self._needed is None:
            specs = self._specs()
            chosen = [specs[name] for name in self._chosen]
            self._needed = frozenset(conversions(chosen, specs.values(), self._currency))
        return symbol in self._needed


def conversions(chosen: Iterable[SymbolSpec], specs: Iterable[SymbolSpec], currency: str) -> set[str]:
    """The currency pairs that convert what `chosen` symbols' profit and margin are in to `currency`."""
    pairs: dict[frozenset[str], str] = {}
    for spec in specs:
        if spec.calc_mode == c.SYMBOL_CALC_MODE_FOREX:
            pairs.setdefault(frozenset((spec.currency_base, spec.currency_profit)), spec.name)
    found: set[str] = set()
    for spec in chosen:
        for source in {spec.currency_profit, spec.currency_margin} - {currency}:
            direct = pairs.get(frozenset((source, currency)))
            steps = (
                [direct] if direct else [pairs.get(frozenset(leg)) for leg in ((source, _PIVOT), (_PIVOT, currency))]
            )
            found.update(name for name in steps if name)
    return found

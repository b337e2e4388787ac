"""What a trade costs and brings: margin and profit by calculation mode, converted to the account's currency. Pure.

Formulas: "Margin calculation" and "Profit calculation" of the MetaTrader 5 help, by SYMBOL_CALC_MODE_*.
"""

from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import TypeAlias

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.catalogue import SymbolSpec

Prices: TypeAlias = Callable[[str], tuple[float, float] | None]
"""A symbol's bid and ask, None without a quote."""
_PIVOT = "USD"

_NO_LEVERAGE = frozenset({c.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE, c.SYMBOL_CALC_MODE_CFD, c.SYMBOL_CALC_MODE_CFDINDEX})
_PRICED = frozenset({c.SYMBOL_CALC_MODE_CFD, c.SYMBOL_CALC_MODE_CFDINDEX, c.SYMBOL_CALC_MODE_CFDLEVERAGE})


def currency_digits(currency: str) -> int:
    """Decimals in which the account's money is kept."""
    return 0 if currency == "JPY" else 2


def to_money(amount: Decimal, currency: str) -> Decimal:
    """Rounds half up to the currency's decimals."""
    return amount.quantize(Decimal(1).scaleb(-currency_digits(currency)), ROUND_HALF_UP)


def raw_margin(spec: SymbolSpec, volume: float, price: float, leverage: int) -> float:
    """Margin of `volume` lots opened at `price`, in the symbol's margin currency."""
    margin = volume * spec.contract_size * spec.margin_rate
    if spec.calc_mode in _PRICED:
        margin *= price
    if spec.calc_mode not in _NO_LEVERAGE:
        margin /= leverage
    return margin


def raw_profit(spec: SymbolSpec, order_type: int, volume: float, price_open: float, price_close: float) -> float:
    """Profit in the symbol's profit currency. `order_type` is 0 for a long, 1 for a short."""
    move = price_close - price_open if order_type == 0 else price_open - price_close
    return move * spec.contract_size * volume


def exact_profit(spec: SymbolSpec, order_type: int, volume: float, price_open: float, price_close: float) -> Decimal:
    """As `raw_profit`, in decimals: for what enters the books."""
    move = Decimal(repr(price_close)) - Decimal(repr(price_open))
    if order_type != 0:
        move = -move
    return move * Decimal(repr(spec.contract_size)) * Decimal(repr(volume))


class Converter:
    """Exchange rates between currencies, from forex symbols, over USD where there is no direct one."""

    def __init__(self, specs: Mapping[str, SymbolSpec], prices: Prices) -> None:
        self._prices = prices
        self._pairs: dict[tuple[str, str], str] = {}
        for spec in specs.values():
            if spec.calc_mode == c.SYMBOL_CALC_MODE_FOREX:
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

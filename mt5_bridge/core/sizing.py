"""Volumes and prices that fit the symbol, and the volume that a risk allows. Rounding goes through `decimal`.

Volumes always round down: rounding up would risk more than was asked for. Prices round to the nearest tick.
"""

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import lru_cache

from mt5_bridge.core.model import SymbolInfo

_exact = lru_cache(maxsize=256)(lambda step: Decimal(repr(step)))
"""The decimal that a symbol's step or tick size is meant as: there are few of them, and they are asked for often."""
_NOISE = 10
"""Decimals kept of a computed volume: 0.29999999999999993 is meant as 0.3, and not as the step below it."""
_PARTS: int = 10**_NOISE
_WHOLE_PARTS_BELOW = 1000.0
"""Lots up to which a float times `_PARTS` is exact to a thousandth of a part."""


@lru_cache(maxsize=256)
def _parts(step: float) -> int:
    """A step in parts of a lot; 0 where it is no whole number of them."""
    parts = _exact(step) * _PARTS
    return int(parts) if parts == int(parts) else 0


def round_volume_down(volume: float, step: float) -> float:
    """The largest multiple of `step` that is not above `volume`, lots. Binary noise below 1e-10 lots is not a lot.

    Args:
        volume: lots, from 0.
        step: SYMBOL_VOLUME_STEP; 0 or less (a broker's mistake) leaves the volume as it is.
    """
    if step <= 0:
        return volume
    parts = _parts(step)
    if parts and volume < _WHOLE_PARTS_BELOW:
        # What the line below says, in whole numbers: four times as fast.
        return round(volume * _PARTS) // parts * parts / _PARTS
    unit = _exact(step)
    return float((Decimal(repr(round(volume, _NOISE))) / unit).to_integral_value(ROUND_FLOOR) * unit)


def round_price(price: float, tick_size: float, digits: int) -> float:
    """The price nearest to `price` that the symbol can have: a multiple of `tick_size` with at most `digits` decimals.

    Args:
        price: quote currency.
        tick_size: SYMBOL_TRADE_TICK_SIZE; 0 or less: rounded to `digits` only.
        digits: SYMBOL_DIGITS.
    """
    exact = Decimal(repr(price))
    if tick_size > 0:
        unit = _exact(tick_size)
        exact = (exact / unit).to_integral_value(ROUND_HALF_EVEN) * unit
    return float(round(exact, digits))


def contract_loss_per_lot(symbol: SymbolInfo, entry: float, stop: float) -> float | None:
    """What one lot loses between entry and stop, account currency, by the symbol's tick value.

    The fallback where `order_calc_profit` gave nothing: brokers' tick values are often stale or wrong.

    Returns:
        A positive amount, or None when the symbol has no usable tick value or the stop is at the entry.
    """
    if symbol.tick_size <= 0 or symbol.tick_value <= 0:
        return None
    distance = abs(Decimal(repr(entry)) - Decimal(repr(stop)))
    return float(distance / Decimal(repr(symbol.tick_size)) * Decimal(repr(symbol.tick_value))) or None


def volume_for_risk(equity: float, risk_percent: float, loss_per_lot: float) -> float:
    """Lots whose loss at the stop is `risk_percent` of equity, not yet rounded to the symbol's step.

    Args:
        equity: account currency; nothing can be risked from 0 down.
        risk_percent: per cent of equity.
        loss_per_lot: positive, account currency.
    """
    money = Decimal(repr(equity)) * Decimal(repr(risk_percent)) / 100
    return max(0.0, float(money / Decimal(repr(loss_per_lot))))

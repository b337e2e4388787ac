"""What a night costs: swaps by mode, and how often each night counts. Pure.

Sources: "Swaps" of the MetaTrader 5 platform help, ENUM_SYMBOL_SWAP_MODE ("Symbol Properties") of the MQL5 reference.
"""

from typing import NamedTuple

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import margin
from mt5_bridge.simulator.market.catalogue import SymbolSpec

REOPENING = frozenset({c.SYMBOL_SWAP_MODE_REOPEN_CURRENT, c.SYMBOL_SWAP_MODE_REOPEN_BID})
"""Modes that close the position and open it again, the swap being in the new price."""

_DAY_MSC = 86_400_000
_WEEKEND = (c.DAY_OF_WEEK_SUNDAY, c.DAY_OF_WEEK_SATURDAY)


class Swap(NamedTuple):
    """`times` an amount of `currency` (None: the account's), which is converted and rounded before."""

    amount: float
    currency: str | None
    times: float = 1.0


def next_midnight(server_msc: int) -> int:
    """The first server midnight after `server_msc`: positions are rolled over there."""
    return (server_msc // _DAY_MSC + 1) * _DAY_MSC


def nights(spec: SymbolSpec, midnight_msc: int) -> float:
    """How many swaps are due when the day that ends at this server midnight is rolled over.

    Three on the triple day, none on Saturday and Sunday, unless the symbol has multipliers of its own.
    """
    day = (midnight_msc // _DAY_MSC + 3) % 7  # 1970-01-01 was a Thursday; the day that ends, with Sunday as 0
    if spec.swap_days is not None:
        return spec.swap_days[day]
    if day == spec.swap_rollover3days:
        return 3.0
    return 0.0 if day in _WEEKEND else 1.0


def rate(spec: SymbolSpec, side: int) -> float:
    """The symbol's swap for longs (0) or shorts (1), in the units of its mode."""
    return spec.swap_short if side else spec.swap_long


def one_night(spec: SymbolSpec, side: int, volume: float, price_open: float, price: float) -> Swap:
    """The swap of a position for one night.

    Args:
        spec: the symbol.
        side: 0 long, 1 short.
        volume: lots.
        price_open: of the position.
        price: at which the position would close now.
    """
    swap = rate(spec, side)
    match spec.swap_mode:
        case c.SYMBOL_SWAP_MODE_POINTS:
            return Swap(spec.point * margin.price_value(spec) * volume, spec.currency_profit, swap)
        case c.SYMBOL_SWAP_MODE_CURRENCY_SYMBOL:
            return Swap(swap * volume, spec.currency_base)
        case c.SYMBOL_SWAP_MODE_CURRENCY_MARGIN:
            return Swap(swap * volume, spec.currency_margin)
        case c.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT:
            return Swap(swap * volume, None)
        case c.SYMBOL_SWAP_MODE_INTEREST_CURRENT:
            return _interest(spec, swap, volume, price)
        case c.SYMBOL_SWAP_MODE_INTEREST_OPEN:
            return _interest(spec, swap, volume, price_open)
        case _:
            return Swap(0.0, None)


def reopening_price(spec: SymbolSpec, side: int, bid: float, ask: float, count: float) -> float:
    """Where a position opens again: a positive swap makes a long cheaper, and a short dearer."""
    closed = ask if side and spec.swap_mode == c.SYMBOL_SWAP_MODE_REOPEN_CURRENT else bid
    shift = rate(spec, side) * count * spec.point
    return round(closed + shift if side else closed - shift, spec.digits)


def _interest(spec: SymbolSpec, percent: float, volume: float, price: float) -> Swap:
    """A year's interest on the value of the position, by the days of the symbol's year.

    The help speaks of the base currency throughout; what has a price is worth its profit currency, which brokers name
    as the base of such symbols, too.
    """
    if spec.calc_mode in margin.FOREX_MODES:
        return Swap(spec.contract_size * volume * percent / 100 / spec.swap_year_days, spec.currency_base)
    worth = spec.contract_size * price
    if spec.calc_mode in margin.FUTURES_MODES and spec.tick_value:
        worth *= spec.tick_value / spec.tick
    return Swap(worth * volume * percent / 100 / spec.swap_year_days, spec.currency_profit)

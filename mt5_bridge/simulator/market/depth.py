"""The market book: what waits on both sides of the quote. Pure, and the same for the same tick.

Nearest the quote there is least, further off more, as in the depth that retail servers aggregate ("Depth of Market" in
the MetaTrader 5 help; MqlBookInfo and MarketBookGet in the MQL5 reference).
"""

from typing import NamedTuple

from mt5_bridge.simulator.market.catalogue import SymbolSpec

_FIRST_LOTS = 0.02
"""Of the largest order, what waits at the best price on average."""
_GROWTH = 1.6
_MASK = (1 << 64) - 1


class Level(NamedTuple):
    """What waits at one price."""

    price: float
    volume: float
    """Lots, a multiple of the symbol's step."""


class Book(NamedTuple):
    """Both sides, best price first: `asks` is what can be bought, `bids` what can be sold to."""

    asks: tuple[Level, ...]
    bids: tuple[Level, ...]


def book(spec: SymbolSpec, bid: float, ask: float, number: int) -> Book:
    """The depth at tick `number` of the symbol.

    Args:
        spec: the symbol; `book_depth` levels a side, or those that orders fill from, where their depth has an end.
        bid: the tick's.
        ask: the tick's.
        number: the tick's; another tick has other volumes.
    """
    bid_points, ask_points = round(bid * spec.scale), round(ask * spec.scale)
    asks, bids = [], []
    offset = 0
    for level in range(min(spec.book_depth, spec.depth_levels) if spec.depth_volume else spec.book_depth):
        asks.append(Level((ask_points + offset) / spec.scale, _lots(spec, number, level, 0)))
        if bid_points > offset:
            bids.append(Level((bid_points - offset) / spec.scale, _lots(spec, number, level, 1)))
        offset += spec.depth_step if spec.depth_volume else _gap(spec, number, level)
    return Book(tuple(asks), tuple(bids))


def _gap(spec: SymbolSpec, number: int, level: int) -> int:
    """Points from one level to the next, in whole steps of price."""
    least = max(1, spec.spread // 4)
    gap = least + _mixed(number, level, 2) % (least + 1)
    return -(-gap // spec.step) * spec.step


def _lots(spec: SymbolSpec, number: int, level: int, side: int) -> float:
    """From half to one and a half times what the level holds on average; what orders find, where that has an end."""
    if spec.depth_volume:
        return spec.depth_volume
    average = spec.volume_max * _FIRST_LOTS * _GROWTH**level
    share = 0.5 + (_mixed(number, level, side) % 1024) / 1024
    steps = max(1, round(average * share / spec.volume_step))
    return round(steps * spec.volume_step, 8)


def _mixed(number: int, level: int, side: int) -> int:
    """SplitMix64: Python's own hash is no promise."""
    x = (number * 64 + level * 4 + side + 1) * 0x9E3779B97F4A7C15 & _MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)

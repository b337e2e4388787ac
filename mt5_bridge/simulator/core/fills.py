"""What the market gives for an order: depth, slippage, requotes. Pure, and drawn from a seed and the order's ticket.

Without these, which symbols ask for one by one, every order fills in full at the quote. The depth is there anew for
every order and tick.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.market.catalogue import SymbolSpec

_ALIGNED = 1e-6


class Part(NamedTuple):
    """Lots at one price."""

    price: float
    volume: float


def book(spec: SymbolSpec, best: float, *, buying: bool) -> Iterator[Part]:
    """The offers one side finds, from the best price on: as deep as the symbol says, or one without end."""
    if not spec.depth_volume:
        yield Part(best, float("inf"))
        return
    step = spec.depth_step * spec.point * (1 if buying else -1)
    for level in range(spec.depth_levels):
        yield Part(round(best + level * step, spec.digits), spec.depth_volume)


def slipped(spec: SymbolSpec, price: float, seed: int, ticket: int, *, buying: bool) -> float:
    """The price an order gets that takes any: up to `slippage` points worse than quoted."""
    if not spec.slippage:
        return price
    points = Random(f"{seed}:{ticket}:slippage").randint(0, spec.slippage)  # noqa: S311 - a repeatable draw is wanted
    points -= points % spec.step
    return round(price + points * spec.point * (1 if buying else -1), spec.digits)


def requoted(spec: SymbolSpec, seed: int, ticket: int) -> bool:
    """Whether the dealer answers with new prices instead of a deal."""
    instant = spec.execution in (c.SYMBOL_TRADE_EXECUTION_INSTANT, c.SYMBOL_TRADE_EXECUTION_REQUEST)
    if not spec.requotes or not instant:
        return False
    return Random(f"{seed}:{ticket}:requote").random() < spec.requotes  # noqa: S311 - as above


def plan(spec: SymbolSpec, volume: float, best: float, *, buying: bool, limit: float | None = None) -> list[Part]:
    """The parts in which `volume` lots fill now, best price first; fewer lots where the depth or `limit` ends."""
    sign = 1 if buying else -1
    if not spec.depth_volume and limit is None:
        return [Part(best, round(volume, 8))]
    parts = []
    left = volume
    for offer in book(spec, best, buying=buying):
        if limit is not None and sign * (offer.price - limit) > spec.point * _ALIGNED:
            break
        lots = round(min(left, offer.volume), 8)
        parts.append(Part(offer.price, lots))
        left = round(left - lots, 8)
        if left <= 0:
            break
    return parts


def cut(parts: list[Part], most: float) -> list[Part]:
    """The first `most` lots of the parts."""
    kept = []
    for part in parts:
        lots = round(min(part.volume, most), 8)
        if lots > 0:
            kept.append(Part(part.price, lots))
        most = round(most - lots, 8)
    return kept


def filled(parts: list[Part]) -> float:
    """Lots in all."""
    if len(parts) == 1:
        return parts[0].volume
    return round(sum(part.volume for part in parts), 8)


def average(parts: list[Part], digits: int) -> float:
    """The price of all parts together, as an answer shows it."""
    if len(parts) == 1:
        return parts[0].price
    return round(sum(part.price * part.volume for part in parts) / filled(parts), digits)

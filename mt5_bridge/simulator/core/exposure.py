"""Sums over the open positions of each symbol, kept up to date position by position."""

from typing import NamedTuple

import msgspec

from mt5_bridge.simulator.core.ledger import Ledger
from mt5_bridge.simulator.core.margin import Leg
from mt5_bridge.simulator.core.records import Position


class Worth(NamedTuple):
    """Floating profit and collateral at the prices that hold from `since` until `until` (UTC, ms; not included)."""

    since: int
    until: int
    profit: float
    assets: float


class Exposure(msgspec.Struct, gc=False):
    """What is open of one symbol: a long and a short side, and the swap on both, in account money."""

    legs: tuple[Leg, Leg]
    swap: float = 0.0
    count: int = 0
    armed: dict[int, Position] = {}
    """Positions with a stop or a target, by ticket."""
    margin: float | None = None
    """Of the positions alone; None until somebody has worked it out."""
    worth: Worth | None = None
    """The last one known."""
    shown: Worth | None = None
    """The same, each position's profit rounded as it is shown."""
    least: float | None = None
    """At most what the positions are worth while prices stay where somebody expects them."""


class _Share(msgspec.Struct, frozen=True, gc=False):
    """What one position adds."""

    side: int
    lots: float
    price: float
    conversion: float
    swap: float


class Exposures:
    """The sums by symbol, of one ledger. A symbol without positions is absent."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sums: dict[str, Exposure] = {}
        self._shares: dict[int, _Share] = {}

    def current(self) -> dict[str, Exposure]:
        """The sums as of now."""
        if self._ledger.touched:
            for symbol, ticket in self._ledger.touched:
                self._update(symbol, ticket)
            self._ledger.touched.clear()
        return self._sums

    def forget_worths(self) -> None:
        """Prices changed that were thought to hold."""
        for held in self._sums.values():
            held.worth = held.shown = None

    def clear(self) -> None:
        """Forgets everything: the ledger is read anew."""
        self._sums.clear()
        self._shares.clear()

    def _update(self, symbol: str, ticket: int) -> None:
        held = self._sums.setdefault(symbol, Exposure((Leg(), Leg())))
        held.margin = held.worth = held.shown = held.least = None
        before = self._shares.pop(ticket, None)
        if before is not None:
            held.count -= 1
            held.armed.pop(ticket, None)
            _add(held, before, -1)
        position = self._ledger.positions.get(ticket)
        if position is not None:
            share = _Share(
                position.type, position.volume, position.price_open, position.margin_rate, position.swap
            )  # fmt: skip
            self._shares[ticket] = share
            held.count += 1
            if position.sl or position.tp:
                held.armed[ticket] = position
            _add(held, share, 1)
        if not held.count:
            # Also ends what rounding has left in the sums.
            del self._sums[symbol]


def _add(held: Exposure, share: _Share, sign: int) -> None:
    held.legs[share.side].add(sign * share.lots, share.price, share.conversion)
    held.swap += sign * share.swap

"""The deals that closed positions, as the book's reads of the day's deals bring them: none is asked for again."""

from collections.abc import Iterable

from mt5_bridge.core.model import Deal, DealEntry, Position

MOST = 2_000
"""Positions whose deals are remembered: most are announced, and forgotten, within a second."""
_SAME_VOLUME = 1e-9


def closing(position: Position, deals: Iterable[Deal]) -> list[Deal]:
    """Those of the deals that closed the position, in part at least.

    On netting one identifier lives on through reversals: a deal of the position's own side opened it.
    """
    return [
        deal
        for deal in deals
        if deal.is_trade
        and deal.entry is not DealEntry.IN
        and deal.side is position.side.opposite
        and deal.time_msc >= position.time_msc
    ]


class Closings:
    """Remembers closing deals by position until they are told."""

    def __init__(self) -> None:
        self._deals: dict[int, list[Deal]] = {}
        self._since_msc: int | None = None
        """From when on every deal has been noted."""

    def note(self, deals: Iterable[Deal], since_msc: int) -> None:
        """Take in deals not seen before.

        Args:
            deals: in order of time.
            since_msc: from when on deals have been read, UTC ms: that of the first call counts.
        """
        if self._since_msc is None:
            self._since_msc = since_msc
        for deal in deals:
            if deal.is_trade and deal.entry is not DealEntry.IN:
                self._deals.setdefault(deal.position_id, []).append(deal)
        while len(self._deals) > MOST:
            forgotten = self._deals.pop(next(iter(self._deals)))
            # Of a position older than these it is no longer certain that all its deals are here.
            self._since_msc = max(self._since_msc, forgotten[-1].time_msc + 1)

    def of(self, position: Position) -> list[Deal]:
        """What closed a position that is gone, as last seen; nothing when that is not known for certain."""
        if self._since_msc is None or position.time_msc < self._since_msc:
            return []
        found = closing(position, self._deals.get(_identifier(position), ()))
        whole = sum(deal.volume for deal in found) >= position.volume - _SAME_VOLUME
        return found if whole else []

    def forget(self, position: Position) -> None:
        """Its end has been told."""
        self._deals.pop(_identifier(position), None)


def _identifier(position: Position) -> int:
    return position.identifier or position.ticket

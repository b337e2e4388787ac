"""The deals of a trading day, added up as they come: a day of thousands costs no more to look at than an empty one."""

from collections.abc import Iterable

from mt5_bridge.core import risk
from mt5_bridge.core.model import Deal


class DayLedger:
    """Every deal of the day once, however often it is read.

    Attributes:
        start_msc: when the day began, UTC ms.
        latest_msc: the time of the latest deal, UTC ms; 0 without any.
    """

    def __init__(self, start_msc: int = 0) -> None:
        self.start_msc = start_msc
        self.latest_msc = 0
        self._tickets: set[int] = set()
        self._orders: set[int] = set()
        self._opened: dict[int, set[tuple[int, int]]] = {}
        """Magic → (order, position) of the deals that opened with it."""
        self._magics: set[int] = set()
        self._closed: set[int] = set()
        self._net = 0.0
        self._deposits = 0.0

    def add(self, deals: Iterable[Deal]) -> tuple[Deal, ...]:
        """Book deals of the day; those of earlier days are left out.

        Returns:
            The ones not seen before.
        """
        fresh = tuple(d for d in deals if d.time_msc >= self.start_msc and d.ticket not in self._tickets)
        for deal in fresh:
            self._tickets.add(deal.ticket)
            self._magics.add(deal.magic)
            self._net += deal.net
            self._deposits += risk.deposit_of(deal)
            self.latest_msc = max(self.latest_msc, deal.time_msc)
            if risk.opens(deal):
                self._orders.add(deal.order)
                self._opened.setdefault(deal.magic, set()).add((deal.order, deal.position_id))
            elif deal.is_trade:
                self._closed.add(deal.position_id)
        return fresh

    @property
    def totals(self) -> risk.Totals:
        """What the deals come to."""
        return risk.Totals(len(self._tickets), len(self._orders), self._net, self._deposits)

    def has(self, magic: int) -> bool:
        """Whether any deal carries the magic."""
        return magic in self._magics

    def orders_of(self, magics: Iterable[int]) -> set[int]:
        """Orders with one of the magics that opened or reversed a position."""
        return {order for magic in magics for order, _ in self._opened.get(magic, ())}

    def opened(self, magic: int) -> set[int]:
        """Positions that an order with the magic opened, added to or reversed."""
        return {position for _, position in self._opened.get(magic, ())}

    def closed(self, positions: set[int]) -> bool:
        """Whether any of the positions was closed, in part at least."""
        return not self._closed.isdisjoint(positions)

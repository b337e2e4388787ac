"""An account's books without a file: gone with the terminal. It answers as `store.Store` does."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from decimal import Decimal
from typing import Generic, TypeAlias, TypeVar

from mt5_bridge.simulator.books.folder import PaperStateError
from mt5_bridge.simulator.books.store import By, Store
from mt5_bridge.simulator.core.ledger import FIRST_TICKET, Ledger
from mt5_bridge.simulator.core.records import Change, Deal, Order, Position
from mt5_bridge.simulator.core.rules import LateOrder, Request

_Past = TypeVar("_Past", Order, Deal)


class _History(Generic[_Past]):
    """Finished records in order of time, and by order and position."""

    def __init__(self) -> None:
        self._sorted: list[tuple[int, int, _Past]] = []
        self._by_ticket: dict[int, list[_Past]] = defaultdict(list)
        self._by_position: dict[int, list[_Past]] = defaultdict(list)

    def add(self, msc: int, ticket: int, order: int, record: _Past) -> None:
        entry = (msc, ticket, record)
        # The server's clock can be set back.
        if self._sorted and entry[:2] < self._sorted[-1][:2]:
            insort(self._sorted, entry, key=lambda held: held[:2])
        else:
            self._sorted.append(entry)
        self._by_ticket[order].append(record)
        self._by_position[record.position_id].append(record)

    def find(self, by: By, values: Sequence[int]) -> list[_Past]:
        if by is By.TICKET:
            return list(self._by_ticket.get(values[0], ()))
        if by is By.POSITION:
            return list(self._by_position.get(values[0], ()))
        return [record for _, _, record in self._sorted[slice(*self._range(*values))]]

    def count(self, from_msc: int, to_msc: int) -> int:
        lo, hi = self._range(from_msc, to_msc)
        return max(hi - lo, 0)

    def _range(self, from_msc: int, to_msc: int) -> tuple[int, int]:
        times = self._sorted
        return bisect_left(times, (from_msc,)), bisect_right(times, (to_msc + 1,))


class MemoryStore:
    """Takes copies: what a session does to its records is nothing until it is committed."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._positions: dict[int, Position] = {}
        self._orders: dict[int, Order] = {}
        self._history: _History[Order] = _History()
        self._deals: _History[Deal] = _History()
        self._late: dict[int, LateOrder] = {}
        self._books = (Decimal(0), Decimal(0), FIRST_TICKET, 0)
        self.seen = 0

    def close(self) -> None:
        """Nothing is held."""

    def release(self) -> None:
        """The account stays for the next login."""

    @property
    def is_new(self) -> bool:
        """No account has been opened here yet."""
        return "login" not in self._values

    def get(self, name: str) -> str | None:
        return self._values.get(name)

    def put(self, values: Iterable[tuple[str, str]]) -> None:
        """Keeps something about the account beside its books."""
        self._values.update(values)

    def refuse(self, what: str) -> PaperStateError:
        """`what` was found here."""
        return PaperStateError(what)

    def foreign_writes(self) -> int:
        """Nobody else can write here."""
        return 0

    def load(self, ledger: Ledger) -> int:
        """Fills the ledger; returns up to when the market's ticks are accounted for (UTC, ms)."""
        ledger.balance, ledger.credit, ledger.next_ticket, processed_msc = self._books
        ledger.positions, ledger.by_symbol, ledger.touched = {}, {}, []
        for _, position in sorted(self._positions.items()):
            ledger.adopt(copy(position))
        ledger.late = dict(self._late)
        ledger.orders = {ticket: copy(order) for ticket, order in sorted(self._orders.items())}
        return processed_msc

    def commit(
        self, change: Change, ledger: Ledger, processed_msc: int, values: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Takes one step in, with `values` about the account."""
        for ticket, position in change.positions.items():
            if position is None:
                self._positions.pop(ticket, None)
            else:
                self._positions[ticket] = copy(position)
        for ticket, order in change.orders.items():
            if order is None:
                self._orders.pop(ticket, None)
            else:
                self._orders[ticket] = copy(order)
        for finished in change.history:
            self._history.add(finished.time_done_msc, finished.ticket, finished.ticket, copy(finished))
        for deal in change.deals:
            self._deals.add(deal.time_msc, deal.ticket, deal.order, deal)
        for number in change.late:
            del self._late[number]
        self._books = (ledger.balance, ledger.credit, ledger.next_ticket, processed_msc)
        self._values.update(values)

    def delay(self, due_msc: int, request: Request) -> LateOrder:
        """Puts a request on its way."""
        order = LateOrder(max(self._late, default=0) + 1, due_msc, request)
        self._late[order.number] = order
        return order

    def recall(self) -> None:
        """Takes back all that is on its way."""
        self._late.clear()

    def deals(self, by: By, values: Sequence[int]) -> list[Deal]:
        """Deals in order of time. A period is two server times in ms, both included."""
        return self._deals.find(by, values)

    def history(self, by: By, values: Sequence[int]) -> list[Order]:
        """Finished orders in order of the time they ended."""
        return self._history.find(by, values)

    def count_deals(self, from_msc: int, to_msc: int) -> int:
        """How many deals the period holds."""
        return self._deals.count(from_msc, to_msc)

    def count_history(self, from_msc: int, to_msc: int) -> int:
        """How many orders ended in the period."""
        return self._history.count(from_msc, to_msc)


AnyStore: TypeAlias = Store | MemoryStore

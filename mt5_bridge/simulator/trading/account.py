"""One account at work: its books, what they are worth, and the store that keeps them."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator.books.memory import AnyStore
from mt5_bridge.simulator.broker import AccountRules
from mt5_bridge.simulator.core.rules import Request
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.trading.valuation import Valuer


class Account(Valuer):
    """Reads the books from their store, and commits to it what was done."""

    def __init__(
        self, market: Market, store: AnyStore, mode: MarginMode, currency: str, leverage: int,
        rules: AccountRules = AccountRules(),  # noqa: B008 - frozen
    ) -> None:  # fmt: skip
        super().__init__(market, mode, currency, leverage)
        self.store = store
        self.rules = rules
        self.processed_msc = store.load(self.ledger)
        """Up to when the market's ticks are accounted for (UTC)."""
        self._issued = self.ledger.next_ticket
        """The next ticket that the store knows of."""

    def commit(self, msc: int) -> None:
        """Writes what the ledger did, as of `msc` (UTC).

        Raises:
            sqlite3.Error: nothing was written, and the books are again what the store holds. One that says
                `BooksChangedError` was too late: another process wrote first.
        """
        # Tickets of requests that came to nothing are spent, too: after a restart as before it.
        if self.ledger.change or self.ledger.next_ticket != self._issued:
            try:
                self.store.commit(self.ledger.take_change(), self.ledger, msc)
            except sqlite3.Error:
                self.reload()
                raise
            self._issued = self.ledger.next_ticket
        self.processed_msc = msc

    def delay(self, due_msc: int, request: Request) -> None:
        """Sends a request on its way: the server executes it at `due_msc` (UTC), whoever is connected then.

        Raises:
            sqlite3.Error: the store cannot be written; it is not on its way.
        """
        order = self.store.delay(due_msc, request)
        self.ledger.late[order.number] = order

    def recall(self) -> None:
        """Nothing is on its way any more.

        Raises:
            sqlite3.Error: the store cannot be written; all is as it was.
        """
        self.store.recall()
        self.ledger.late.clear()

    def reload(self) -> None:
        """Forgets what memory holds and reads the store."""
        self.ledger.take_change()
        self._exposures.clear()
        self._conversions.clear()
        self.processed_msc = self.store.load(self.ledger)
        self._issued = self.ledger.next_ticket

    def follow(self) -> bool:
        """Takes in what another process wrote; True if there was something."""
        if self.store.foreign_writes() == self.store.seen:
            return False
        self.reload()
        return True

    @contextmanager
    def rehearsal(self, symbol: str, tickets: Iterable[int]) -> Iterator[None]:
        """What happens inside to these positions and orders of a symbol, and to new ones, is undone at the end."""
        conversions = dict(self._conversions)
        with self.ledger.rehearsal(symbol, tickets):
            yield
        self._conversions = conversions

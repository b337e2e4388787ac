"""Orders on their way: the server executes them later than it should, whatever it answered, and whoever still waits."""

from base64 import b64decode, b64encode

import msgspec

from mt5_bridge.simulator.books.memory import AnyStore
from mt5_bridge.simulator.core.rules import Request

_NAME = "late_orders"


class LateOrder(msgspec.Struct):
    """A request and the moment (UTC, ms) at which the server will execute it."""

    due_msc: int
    request: Request


class LateOrders:
    """An account's late orders, kept with the account: they outlive the connection and the process.

    Raises:
        PaperStateError: what is kept cannot be read; the account's file was set aside.
    """

    def __init__(self, store: AnyStore) -> None:
        self._store = store
        try:
            stored = b64decode(store.get(_NAME) or "", validate=True)
            self._waiting = msgspec.msgpack.decode(stored, type=list[LateOrder]) if stored else []
        except (ValueError, msgspec.DecodeError) as error:
            raise store.refuse(f"orders on their way: {error}") from error

    def add(self, due_msc: int, request: Request) -> None:
        """Sends an order on its way."""
        self._waiting.append(LateOrder(due_msc, request))
        self._waiting.sort(key=lambda order: order.due_msc)
        self._write()

    def some_due(self, now: int) -> bool:
        """Whether `take` would give any."""
        return bool(self._waiting) and self._waiting[0].due_msc <= now

    def take(self, now: int) -> list[LateOrder]:
        """What is due, in order of time; it is not given again, even after a crash."""
        if not self.some_due(now):
            return []
        due = [order for order in self._waiting if order.due_msc <= now]
        self._waiting = self._waiting[len(due) :]
        self._write()
        return due

    def clear(self) -> None:
        """Nothing is on its way any more."""
        if self._waiting:
            self._waiting = []
            self._write()

    def _write(self) -> None:
        # Unlike JSON this keeps the NaN and infinity that a request may hold.
        self._store.put(((_NAME, b64encode(msgspec.msgpack.encode(self._waiting)).decode()),))

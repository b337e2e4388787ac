"""Which plan is for which position: by the intent that brought it, once the journal knows what became of that.

What no longer has a position ends, but only after several complete reads and a while: lists lag behind an answer, and
after an outage a terminal may show none at all (P8).
"""

from collections.abc import Callable

from mt5_bridge.core.intent import IntentState
from mt5_bridge.core.model import Position
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.plans import Managed, Plans, identifier
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import StoredIntent

BIND_S = 0.5
GONE_S = 60.0
GONE_READS = 3
WAITS_S = 24 * 3600.0
"""A pending order that has left the lists, or an order given up, may turn up as a fill so long."""

_NEVER = frozenset({IntentState.REJECTED, IntentState.CANCELLED, IntentState.SIMULATED, IntentState.CLOSED})
_FILLED = frozenset({IntentState.FILLED, IntentState.PARTIAL})
_WAITING = frozenset({IntentState.PLACED, IntentState.ABANDONED})


class Binder:
    """Gives plans their positions, and ends them.

    Args:
        reserved: whether a magic is that of an intent that is not durable yet.
    """

    def __init__(
        self, plans: Plans, book: Book, journal: Journal, clock: Clock, reserved: Callable[[int], bool]
    ) -> None:
        self._plans = plans
        self._book = book
        self._journal = journal
        self._clock = clock
        self._reserved = reserved
        self._due = float("-inf")
        self._absent: dict[int, tuple[float, int]] = {}
        """Magic → since when, and since which complete read, nothing of it has been seen."""

    async def bind(self) -> None:
        """Give plans whose intent has had its effect their position; the journal is asked twice a second.

        Raises:
            JournalError: it cannot be read.
        """
        self._absent = {magic: since for magic, since in self._absent.items() if magic in self._plans.open}
        waiting = [managed for managed in self._plans.here() if not managed.position]
        now = self._clock.monotonic()
        if not waiting or now < self._due:
            return
        self._due = now + BIND_S
        stored = await self._journal.intents_by_magic([managed.magic for managed in waiting])
        unclear: list[Managed] = []
        for managed in waiting:
            if any(self._same_position(older, managed) for older in unclear):
                unclear.append(managed)  # first the older one, or that would replace it when its turn comes
            elif not self._bind(managed, stored.get(managed.magic)):
                unclear.append(managed)

    def seen(self, managed: Managed) -> None:
        """Its position is there."""
        self._absent.pop(managed.magic, None)

    def not_seen(self, managed: Managed, patience_s: float = GONE_S) -> None:
        """Nothing of it is there: it ends when that stays so, in a terminal that is connected to its server."""
        if not self._book.connected:
            self.seen(managed)
            return
        now, reads = self._clock.monotonic(), self._book.complete_reads
        since, first = self._absent.setdefault(managed.magic, (now, reads))
        if now - since > patience_s and reads - first >= GONE_READS:
            self._plans.end(managed)

    def _same_position(self, older: Managed, managed: Managed) -> bool:
        """Whether the position that a MODIFY is about may be that of an older plan."""
        if older.asked_for or not managed.asked_for:
            return bool(managed.asked_for) and older.asked_for == managed.asked_for
        if self._book.netting:
            return (older.symbol, older.side) == (managed.symbol, managed.side)
        held = self._book.positions.values()
        return any(p.magic == older.magic for p in held if identifier(p) == managed.asked_for)

    def _bind(self, managed: Managed, intent: StoredIntent | None) -> bool:
        """False: the journal does not know yet what becomes of it."""
        if intent is None:
            if not self._reserved(managed.magic):  # on a disk that hangs it may be on its way for long
                self.not_seen(managed)
            return False
        state = IntentState(intent.state)
        standing = any(order.magic == managed.magic for order in self._book.orders.values())
        if state in _NEVER:
            self._plans.end(managed)
        elif state.open:
            self.seen(managed)
            return False
        elif (position := self._position_of(managed, intent, state, standing)) is not None:
            self.seen(managed)
            self._plans.bind(managed, position)
        elif standing:
            self.seen(managed)
        else:
            self.not_seen(managed, WAITS_S if state in _WAITING else GONE_S)
            return state is not IntentState.PLACED
        return True

    def _position_of(
        self, managed: Managed, intent: StoredIntent, state: IntentState, standing: bool
    ) -> Position | None:
        """The position that the intent opened, added to, or changed."""
        if state is IntentState.PLACED and not standing:
            return None  # it has just filled: first its stop is looked after, then its outcome is journalled
        for position in self._book.positions.values():
            if position.side is managed.side and self._is_its(position, managed, intent, state):
                return position
        return None

    def _is_its(self, position: Position, managed: Managed, intent: StoredIntent, state: IntentState) -> bool:
        if managed.asked_for:
            return identifier(position) == managed.asked_for
        if position.magic == managed.magic:
            return True
        if state not in _FILLED:
            return False
        if intent.position:
            return identifier(position) == intent.position
        return self._book.netting and position.symbol == managed.symbol

"""Cancels and closes, ticket by ticket, on one complete read after another: what an emergency stop does to the account.

Nothing is concluded from an answer alone: a ticket is gone when a complete read does not show it any more. P2: what
may have had an effect is sent again only after a read, at least 500 ms later, that shows the same ticket and volume
and no live order with its magic.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
from loguru import logger

from mt5_bridge.core import exits as plan
from mt5_bridge.core.errors import MT5Error
from mt5_bridge.core.intent import IntentState, comment_for
from mt5_bridge.core.model import Order, OrderRequest, Position, Quote
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.orders import Intent, OrderDesk, Sent
from mt5_bridge.flows.ownership import Ownership
from mt5_bridge.journal import changes
from mt5_bridge.terminal.port import Priority, Snapshot, Terminal

EMERGENCY = "EMERGENCY"
"""The action of its intents in the journal."""
SETTLE_S = 0.5
_BACK_OFF_FIRST_S = 0.2
_BACK_OFF_MOST_S = 30.0
_BACK_OFF_DOUBLINGS = 10
_ACTION_TIMEOUT_S = 10.0
_DEVIATION_POINTS = 1000
"""An emergency takes the price there is."""
OFFLINE = "the terminal has no connection to its trade server"
_NO_QUOTE = Quote("", 0.0, 0.0, 0.0, 0.0, 0)

Write = Callable[..., None]
"""Journals changes when it can be: acting does not wait for it."""


class StopOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a stop does beyond latching."""

    cancel_orders: bool = True
    close_positions: bool = True
    scope: str = "all"
    """`all`, or `mine`: only what is the bridge's."""

    def joined(self, other: "StopOptions | None") -> "StopOptions":
        """Both: a stop repeated while one is under way adds to it, and takes nothing back."""
        if other is None:
            return self
        return StopOptions(
            cancel_orders=self.cancel_orders or other.cancel_orders,
            close_positions=self.close_positions or other.close_positions,
            scope="all" if "all" in (self.scope, other.scope) else self.scope,
        )


_Place = tuple[bool, int]
"""Whether it is an order, and its ticket: the position that an order becomes has the same one."""


@dataclass
class _Ticket:
    """What happened to one ticket."""

    tries: int = 0
    wait_until: float = 0.0
    touched: bool = False
    """Something was sent that may have had an effect."""
    settled_from: float = 0.0
    volume: float = 0.0
    magic: int = 0
    unknown: bool = False
    why: str = ""


@dataclass(frozen=True)
class _Target:
    """A ticket that a read shows and the stop wants gone; `volume` of it."""

    held: Position | Order
    volume: float

    @property
    def ticket(self) -> int:
        return self.held.ticket

    @property
    def place(self) -> "_Place":
        return isinstance(self.held, Order), self.held.ticket

    @property
    def present(self) -> float:
        """The ticket's whole volume."""
        return self.held.volume if isinstance(self.held, Position) else self.held.volume_current


@dataclass
class Flattener:
    """The work of one stop, round by round.

    Attributes:
        key: of its intents in the journal.
        cancelled, closed: tickets that were tried and are gone.
        fault: why the last read failed; empty when it did not.
    """

    terminal: Terminal
    desk: OrderDesk
    book: Book
    ownership: Ownership
    clock: Clock
    write: Write
    key: str
    cancelled: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    fault: str = ""
    _tickets: dict[_Place, _Ticket] = field(default_factory=dict)
    _sends: int = 0

    def hurry(self) -> None:
        """Somebody asked again: what waits for its next try does not any more."""
        for ticket in self._tickets.values():
            ticket.wait_until, ticket.tries = 0.0, 0

    def why(self, left: Sequence[int]) -> str:
        """Why these are still there, in words."""
        told = [f"{number}: {t.why}" for (_, number), t in self._tickets.items() if number in left and t.why]
        return "; ".join([*told, *([f"the account cannot be read: {self.fault}"] if self.fault else [])])

    async def round(self, options: StopOptions, only: frozenset[int] | None = None) -> list[int] | None:
        """One complete read and a try at everything it shows.

        Args:
            options: what is wanted gone.
            only: magics; everything else is left alone, whatever the scope.

        Returns:
            The tickets wanted gone that the read showed. None: there was no complete read.
        """
        asked = self.clock.monotonic()
        try:
            snapshot = await self.terminal.snapshot(priority=Priority.CRITICAL)
            wanted = await self._wanted(snapshot, options, only)
        except MT5Error as error:
            self.fault = str(error)
            logger.bind(event="emergency_read_failed").warning("The account cannot be read: {error}", error=error)
            return None
        # P8: without its trade server a terminal that has just started shows an account with nothing in it.
        connected = snapshot.terminal.connected
        self.fault = "" if connected else OFFLINE
        if connected:
            self._note_gone(snapshot, wanted)
        alive = {order.magic for order in snapshot.orders}
        for target in wanted:
            if self._may_try(target, asked, alive):
                await self.desk.protect(self._try(target))
        return [target.ticket for target in wanted] if wanted or connected else None

    async def _wanted(self, snapshot: Snapshot, options: StopOptions, only: frozenset[int] | None) -> list[_Target]:
        """Cancels first, then closes, the largest risk first."""
        orders = snapshot.orders if options.cancel_orders else []
        positions = snapshot.positions if options.close_positions else []
        volumes = {position.ticket: position.volume for position in positions}
        if only is not None:
            orders = [order for order in orders if order.magic in only]
            positions = [position for position in positions if position.magic in only]
        elif options.scope == "mine":
            mine = await self.ownership.ours(order.magic for order in orders)
            orders = [order for order in orders if order.magic in mine]
            volumes = await self.ownership.volumes(positions, netting=self.book.netting, priority=Priority.CRITICAL)
        closes = [_Target(p, volumes[p.ticket]) for p in positions if volumes[p.ticket] > 0]
        closes.sort(key=self._risk, reverse=True)
        return [*(_Target(order, order.volume_current) for order in orders), *closes]

    def _risk(self, target: _Target) -> float:
        """Rank of a position: what it moves in account currency when its price moves by one percent."""
        held = target.held
        assert isinstance(held, Position)
        info = self.book.symbols.get(held.symbol)
        if info is None or info.tick_size <= 0:
            return target.volume * held.price_current
        return target.volume * held.price_current * info.tick_value / info.tick_size

    def _note_gone(self, snapshot: Snapshot, wanted: Sequence[_Target]) -> None:
        here = {target.place for target in wanted}
        positions = {position.ticket for position in snapshot.positions}
        for place, ticket in self._tickets.items():
            is_order, number = place
            if is_order and number in positions:
                ticket.touched = False  # it became a position: not cancelled
            elif ticket.touched and place not in here:
                gone = self.cancelled if is_order else self.closed
                if number not in gone:
                    gone.append(number)

    def _may_try(self, target: _Target, asked: float, alive: set[int]) -> bool:
        """Whether this read allows a send: see the module's words on P2."""
        ticket = self._tickets.setdefault(target.place, _Ticket())
        if self.clock.monotonic() < ticket.wait_until:
            return False
        if not ticket.touched:
            lost = self.desk.lost_close(target.ticket) if isinstance(target.held, Position) else None
            if lost is None:
                return True
            # A signal's or a person's close may still be executed: as if it were one of ours.
            ticket.touched = ticket.unknown = True
            ticket.magic, ticket.volume, ticket.settled_from = lost, target.present, asked
            return False
        if target.present != ticket.volume:
            if not ticket.unknown:
                return True
            # It did part of its work and may go on: what is seen now must stand for the settling time.
            ticket.volume, ticket.settled_from = target.present, asked
            return False
        return asked - ticket.settled_from >= SETTLE_S and not (ticket.unknown and ticket.magic in alive)

    async def _try(self, target: _Target) -> None:
        ticket = self._tickets[target.place]
        ticket.tries += 1
        self._sends += 1
        ticket.magic = magic = self.desk.natural_magic(self.key, self._sends)
        ticket.volume, ticket.unknown = target.present, False
        request = await self._request(target, magic, ticket.tries)
        intent = Intent(key=self.key, leg=self._sends, request=request, action=EMERGENCY, volume_before=target.present)
        self.write(self.desk.opened(intent, self.clock.now_ms()))
        sent = await self.desk.send(
            None, intent, check=lambda: None, priority=Priority.CRITICAL, timeout=_ACTION_TIMEOUT_S
        )
        self.write(self.desk.moved(magic, sent, self.clock.now_ms()))
        self._took(ticket, target, intent, sent)

    def _took(self, ticket: _Ticket, target: _Target, intent: Intent, sent: Sent) -> None:
        now = self.clock.monotonic()
        if sent.state in (IntentState.CLOSED, IntentState.PARTIAL, IntentState.CANCELLED, IntentState.UNKNOWN):
            ticket.touched, ticket.settled_from = True, now
            ticket.why = ""
            if sent.state is IntentState.UNKNOWN:
                ticket.unknown = True
                ticket.why = f"outcome unknown: {sent.detail or sent.retcode_text or 'no answer'}"
                self.desk.spawn(self._resolve(intent, sent))
            return
        simulated = "SIMULATION_MODE sends nothing" if sent.state is IntentState.SIMULATED else None
        ticket.why = sent.retcode_text or sent.detail or simulated or "refused"
        doublings = min(ticket.tries - 1, _BACK_OFF_DOUBLINGS)
        ticket.wait_until = now + min(_BACK_OFF_FIRST_S * 2**doublings, _BACK_OFF_MOST_S)
        logger.bind(event="emergency_refused", ticket=target.ticket).error(
            "ERROR emergency stop: ticket {ticket} stays: {why}", ticket=target.ticket, why=ticket.why
        )

    async def _resolve(self, intent: Intent, sent: Sent) -> None:
        """What became of an unknown one, for the journal; until then a resume is refused."""
        found = await self.desk.resolve(self.desk.case(intent, sent.sent_msc))
        known = Sent(state=found.state, request=intent.request, found=found, detail=found.detail)
        self.write(self.desk.moved(intent.magic, known, self.clock.now_ms()))

    async def _request(self, target: _Target, magic: int, tries: int) -> OrderRequest:
        held = target.held
        if isinstance(held, Order):
            return plan.cancel_request(held, magic=magic)
        info = self.book.symbols.get(held.symbol)
        volume = target.volume if info is None or info.volume_max <= 0 else min(target.volume, info.volume_max)
        # The position's own current price is that of its closing side, and has just been read.
        quote = msgspec.structs.replace(_NO_QUOTE, symbol=held.symbol, bid=held.price_current, ask=held.price_current)
        if tries > 1 or held.price_current <= 0:
            with suppress(MT5Error):
                quote = await self.terminal.get_price(held.symbol, priority=Priority.CRITICAL)
        return plan.close_request(
            plan.Close(held, volume),
            quote,
            magic=magic,
            comment=comment_for("emergency stop"),
            deviation_points=_DEVIATION_POINTS,
        )


def asked(at_msc: int, by: str, reason: str) -> changes.Audited:
    """The journal's record of a stop that flattens: who asked, and why."""
    return changes.Audited(at_msc=at_msc, who=by, what="emergency_stop", detail=reason)

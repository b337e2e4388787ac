"""Keeps the picture of the account fresh and tells what changed in it: positions, pendings, the account itself."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec
from loguru import logger

from mt5_bridge.core import wire
from mt5_bridge.core.errors import BridgeError, MT5Error
from mt5_bridge.core.intent import magic_base
from mt5_bridge.core.messages import (
    PendingChanged,
    PositionClosed,
    account_message,
    position_message,
)
from mt5_bridge.core.model import Deal, Order, OrderState, Position
from mt5_bridge.flows.book import Book, Change
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.closings import Closings, closing
from mt5_bridge.flows.flatten import EMERGENCY
from mt5_bridge.flows.memos import recalled
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.flows.signals import is_command
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import StoredIntent
from mt5_bridge.terminal.port import Priority, Terminal, TerminalState

KNOWN_MEMO = "book"
REFRESH_S = 0.5
_SPACING_S = 0.1
"""Between announcements: what many orders change in that time is looked up and written together."""
_HISTORY_TRIES = 5
_HISTORY_PAUSE_S = 0.2
_ASKED_AT_ONCE = 4
"""Positions or orders whose history is asked for at a time: orders must find room in the terminal's queue."""
_READS_AWAITED = 2
_ACCOUNT_SLOT = "account_info"
_POSITIONS_SLOT = "positions"
MOST_TOLD = 1800
"""Positions in a frame nobody asked for: below a mebibyte, whatever their comments; more some libraries do not take."""

_REASONS = {4: "stop", 5: "target", 6: "stop_out"}
"""DEAL_REASON_SL, TP, SO. What an order of ours closed is told by its magic; anything else was done by hand."""


_ENDS = {OrderState.CANCELED: "cancelled", OrderState.EXPIRED: "expired", OrderState.REJECTED: "rejected"}


class Telling(Protocol):
    """What this flow needs of who tells the newest state of something."""

    def send_latest(self, slot: str, frame: bytes, *, whole: bytes | None = None) -> None: ...


class Known(msgspec.Struct, frozen=True):
    """What was last announced, kept in the journal with the announcements themselves."""

    positions: list[Position] = []
    orders: list[Order] = []


class AccountFlow:
    """Polls the account and announces what changed.

    Args:
        control: for `account_info` and `positions` frames; None without a backend.
        interval_s: ACCOUNT_INTERVAL.
    """

    def __init__(
        self,
        terminal: Terminal,
        book: Book,
        journal: Journal,
        outbox: Outbox,
        clock: Clock,
        *,
        control: Telling | None,
        interval_s: float,
    ) -> None:
        self.refresh_failures = 0
        self._terminal = terminal
        self._book = book
        self._journal = journal
        self._outbox = outbox
        self._clock = clock
        self._control = control
        self._interval_s = interval_s
        self._known = Known()
        self._unknown: set[str] = set()
        # What a read showed since the last announcement: it may be gone again before the next.
        self._seen_positions: dict[int, Position] = {}
        self._seen_orders: dict[int, Order] = {}
        self._closings = Closings()
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._changed = asyncio.Event()
        self._announcing = asyncio.Lock()
        book.on_change(self._on_change)

    async def restore(self) -> None:
        """What was announced in an earlier life; the differences since then are announced by `catch_up`.

        Raises:
            JournalError: the journal cannot be read.
        """
        self._known = await recalled(self._journal, KNOWN_MEMO, Known) or Known()

    def take_as_known(self) -> changes.Memo:
        """What is there now is no news: the account was another before. To be written with what says so."""
        self._known = Known(list(self._book.positions.values()), list(self._book.orders.values()))
        self._seen_positions.clear()
        self._seen_orders.clear()
        return changes.Memo(name=KNOWN_MEMO, value=msgspec.json.encode(self._known))

    async def run_polling(self) -> None:
        """Read the account twice a second while the terminal is there."""
        while True:
            if self._terminal.state is TerminalState.CONNECTED and self._book.reconciled.is_set():
                try:
                    await self._book.refresh(priority=Priority.HIGH)
                    await self._learn_symbols()
                except MT5Error as error:
                    self.refresh_failures += 1
                    logger.bind(event="refresh_failed").warning("The account cannot be read: {error}", error=error)
            await self._clock.beat(REFRESH_S)

    async def _learn_symbols(self) -> None:
        """The rules of what is held: limits by class need them, and a stop to close the largest risk first."""
        held = {p.symbol for p in self._book.positions.values()} | {o.symbol for o in self._book.orders.values()}
        for name in sorted(held - self._book.symbols.keys() - self._unknown):
            if await self._book.symbol(name) is None:
                self._unknown.add(name)

    async def run_events(self) -> None:
        """Announce every difference between what was announced and what is."""
        while True:
            await self._changed.wait()
            await self._book.reconciled.wait()
            self._changed.clear()
            await self._announce_differences()
            await asyncio.sleep(_SPACING_S)

    async def announce_the_last(self) -> None:
        """Read the account once more, where it can be read, and announce what changed."""
        try:
            await self._book.refresh(priority=Priority.HIGH)
        except MT5Error as error:
            logger.bind(event="refresh_failed").warning("The account cannot be read: {error}", error=error)
        else:
            await self._announce_differences()

    async def run_account(self) -> None:
        """Send `account_info` every ACCOUNT_INTERVAL and on change, to the socket and the topic."""
        last: bytes | None = None
        last_sent = float("-inf")
        step = min(REFRESH_S, self._interval_s)
        while True:
            account = self._book.account
            if account is not None:
                content = msgspec.json.encode(account_message(account))
                due = self._clock.monotonic() - last_sent >= self._interval_s - step / 2
                if content != last or due:
                    self._tell_account(to_topic=due)
                    last_sent = self._clock.monotonic() if due else last_sent
                    last = content
            await self._clock.beat(step)

    def tell_positions(self) -> None:
        """Send the list to the backend (after hello, and on change).

        Of very many it gets as many as every WebSocket library takes in a frame, or the connection would end with it
        again and again; from where on it has to ask is told.
        """
        if self._control is None:
            return
        now = self._clock.now_ms()
        held = sorted(self._book.positions.values(), key=lambda position: position.ticket)
        rows = [position_message(position) for position in held]
        frame = whole = wire.encode("positions", rows, now_msc=now)
        if len(rows) > MOST_TOLD:
            following = str(rows[MOST_TOLD - 1].ticket)
            frame = wire.encode("positions", rows[:MOST_TOLD], now_msc=now, next=following)
        self._control.send_latest(_POSITIONS_SLOT, frame, whole=whole)

    def greet(self) -> None:
        """A backend has connected: it gets the picture at once."""
        self._tell_account(to_topic=False)
        if self._book.reconciled.is_set():
            self.tell_positions()

    def changed(self) -> None:
        """Look for differences as soon as possible."""
        self._changed.set()

    def _on_change(self, change: Change) -> None:
        self._closings.note(change.deals, self._book.deals_since_msc)
        if change.positions:
            self.tell_positions()
        # Of what is gone, as it was last: its stop may have been moved since it was announced.
        self._seen_positions |= {position.ticket: position for position in (*change.opened, *change.closed)}
        self._seen_orders |= {order.ticket: order for order in change.placed}
        if change.positions or change.placed or change.gone:
            self._changed.set()

    def _tell_account(self, *, to_topic: bool) -> None:
        account = self._book.account
        if account is None:
            return
        if self._control is not None:
            frame = wire.encode("account_info", account_message(account), now_msc=self._clock.now_ms())
            self._control.send_latest(_ACCOUNT_SLOT, frame)
        if to_topic:
            self._outbox.latest("account_info", account_message(account))

    async def _announce_differences(self) -> None:
        async with self._announcing:
            await self._announce()

    async def _announce(self) -> None:
        known_positions = {p.ticket: p for p in self._known.positions}
        known_orders = {o.ticket: o for o in self._known.orders}
        positions, orders = dict(self._book.positions), dict(self._book.orders)
        seen_positions, seen_orders = dict(self._seen_positions), dict(self._seen_orders)
        opened = [p for t, p in (seen_positions | positions).items() if t not in known_positions]
        closed = [p for t, p in (known_positions | seen_positions).items() if t not in positions]
        placed = [o for t, o in (seen_orders | orders).items() if t not in known_orders]
        gone = [o for t, o in (known_orders | seen_orders).items() if t not in orders]
        if not (opened or closed or placed or gone):
            self._forget(seen_positions, seen_orders)
            return
        try:
            events = await self._events(opened, closed, placed, gone)
            known = Known(list(positions.values()), list(orders.values()))
            await self._outbox.commit(*events, changes.Memo(name=KNOWN_MEMO, value=msgspec.json.encode(known)))
        except BridgeError as error:
            logger.bind(event="changes_not_announced").warning("Changes wait to be announced: {error}", error=error)
            self._changed.set()
            await asyncio.sleep(REFRESH_S)
            return
        self._known = known
        self._forget(seen_positions, seen_orders)
        for position in closed:
            self._closings.forget(position)

    def _forget(self, positions: Iterable[int], orders: Iterable[int]) -> None:
        """They have been announced; what was seen meanwhile comes next."""
        for ticket in positions:
            self._seen_positions.pop(ticket, None)
        for ticket in orders:
            self._seen_orders.pop(ticket, None)
        if self._seen_positions or self._seen_orders:
            self._changed.set()

    async def _events(
        self, opened: list[Position], closed: list[Position], placed: list[Order], gone: list[Order]
    ) -> list[changes.Announced]:
        ended = list(zip(closed, await self._ended(closed), strict=True))
        ends = await asyncio.gather(*map(self._how_ended, gone))
        magics = {position.magic for position in (*opened, *closed)} | {order.magic for order in (*placed, *gone)}
        closers = {deal.magic for _, deals in ended for deal in deals[-1:]}
        intents = await self._intents(magics | closers, closers)
        signals = {magic: intent.key for magic, intent in intents.items()}
        return [
            *(self._outbox.event("position_opened", position_message(p, signals.get(p.magic))) for p in opened),
            *(self._closed_event(position, deals, intents) for position, deals in ended),
            *(self._pending_event(order, "placed", signals) for order in placed),
            *(self._pending_event(order, end, signals) for order, end in zip(gone, ends, strict=True)),
        ]

    async def _intents(self, magics: set[int], closers: set[int]) -> dict[int, StoredIntent]:
        """What the journal knows of them. A stop closes before that is durable: what may be a close of ours is asked
        for a few times.
        """
        may_be_ours = {magic for magic in closers if magic_base(magic)}
        for _ in range(_HISTORY_TRIES):
            intents = await self._journal.intents_by_magic(magics - {0})
            if may_be_ours <= intents.keys():
                break
            await asyncio.sleep(_HISTORY_PAUSE_S)
        return intents

    def _closed_event(
        self, position: Position, deals: list[Deal], intents: Mapping[int, StoredIntent]
    ) -> changes.Announced:
        volume = sum(deal.volume for deal in deals)
        reason = _why_closed(deals, intents)
        opened = intents.get(position.magic)
        message = position_message(position, opened.key if opened else None)
        logger.bind(
            event="position_closed",
            ticket=position.ticket,
            reason=reason,
            signal_id=message.signal_id,
            deal=deals[-1].ticket if deals else None,
        ).info(
            "Position closed: {symbol} {ticket} ({reason})",
            symbol=position.symbol,
            ticket=position.ticket,
            reason=reason,
        )
        closed = PositionClosed(
            **{name: getattr(message, name) for name in message.__struct_fields__},
            price_close=sum(d.price * d.volume for d in deals) / volume if volume else None,
            commission=round(sum(d.commission + d.fee for d in deals), 8),
            reason=reason,
        )
        if deals:
            closed = msgspec.structs.replace(
                closed, profit=round(sum(d.profit for d in deals), 8), swap=round(sum(d.swap for d in deals), 8)
            )
        return self._outbox.event("position_closed", closed)

    async def _ended(self, closed: list[Position]) -> list[list[Deal]]:
        """The deals against each position since it was opened."""
        for _ in range(_READS_AWAITED):
            known = [self._closings.of(position) for position in closed]
            if sum(not deals for deals in known) <= _ASKED_AT_ONCE:
                break
            await asyncio.sleep(_HISTORY_PAUSE_S)  # of so many, the book is about to read the deals
        # Together: each may have to wait for a history that lags.
        asked = [p for p in closed if not self._closings.of(p)]
        answers = iter(await asyncio.gather(*map(self._closing_deals, asked)))
        return [self._closings.of(p) if p not in asked else next(answers) for p in closed]

    async def _closing_deals(self, position: Position) -> list[Deal]:
        """History may lag behind the positions: asked a few times."""
        identifier = position.identifier or position.ticket
        for _ in range(_HISTORY_TRIES):
            if known := self._closings.of(position):
                return known
            async with self._asking:
                deals = await self._terminal.get_history_deals(position=identifier, priority=Priority.NORMAL)
            if found := closing(position, deals):
                return found
            await asyncio.sleep(_HISTORY_PAUSE_S)
        return []

    async def _how_ended(self, order: Order) -> str:
        """History may lag here, too; an order nothing is known of counts as filled when something came of it."""
        for _ in range(_HISTORY_TRIES):
            async with self._asking:
                past = await self._terminal.get_history_orders(ticket=order.ticket, priority=Priority.NORMAL)
            if past:
                return _ENDS.get(past[-1].state, "filled")
            if order.ticket in self._book.positions:
                return "filled"
            await asyncio.sleep(_HISTORY_PAUSE_S)
        async with self._asking:
            deals = await self._terminal.get_history_deals(ticket=order.ticket, priority=Priority.NORMAL)
        return "filled" if deals else "cancelled"

    def _pending_event(self, order: Order, state: str, signals: dict[int, str]) -> changes.Announced:
        message = PendingChanged(
            ticket=order.ticket, state=state, signal_id=signals.get(order.magic), symbol=order.symbol
        )
        return self._outbox.event("pending_changed", message)


def _why_closed(deals: list[Deal], intents: Mapping[int, StoredIntent]) -> str:
    if not deals:
        return "manual"
    last = deals[-1]
    if last.reason in _REASONS:
        return _REASONS[last.reason]
    intent = intents.get(last.magic)
    if intent is None:
        return "manual"
    return "command" if intent.action == EMERGENCY or is_command(intent.key) else "signal"

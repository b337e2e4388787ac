"""The emergency stop: latch, then cancel and close until the account is flat, and say what is left.

State and flattening are separate: rules latch only; a person's stop also cancels and closes, as its fields and the
settings say. Everything here is exempt from "durable first" and goes to the terminal as CRITICAL.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from loguru import logger

from mt5_bridge.core import exits as plan
from mt5_bridge.core import halt as machine
from mt5_bridge.core.errors import JournalError, MT5Error
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.core.intent import IntentState, comment_for, magic_base
from mt5_bridge.core.model import Order, OrderRequest, Position, Quote
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.latch import HaltLatch, changed
from mt5_bridge.flows.orders import Intent, OrderDesk, Sent
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.flows.settle import Case
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Priority, Snapshot, Terminal

FLATTEN_MEMO = "flatten"
"""What a flattening was asked for, until the account is flat: taken up again after a crash."""
CLEAN_READS = 3
DONE_AFTER_S = 30.0
WATCH_S = 60.0
_PAUSE_FIRST_S = 0.1
_PAUSE_MOST_S = 2.0
_PAUSE_LATER_S = 30.0
_CLEAN_PAUSE_S = 0.05
_UNKNOWN_SETTLE_S = 0.5
_WATCH_PAUSE_S = 0.5
_GRACE_POLL_S = 0.05
_ACTION_TIMEOUT_S = 10.0
_DEVIATION_POINTS = 1000
"""An emergency takes the price there is."""


class StopOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a stop does beyond latching."""

    cancel_orders: bool = True
    close_positions: bool = True
    scope: str = "all"
    """`all`, or `mine`: only what carries our magics."""


@dataclass
class _Ticket:
    """What happened to one ticket during a stop."""

    tries: int = 0
    wait_until: float = 0.0
    unknown: Case | None = None
    unknown_at: float = 0.0
    volume: float = 0.0
    why: str = ""


@dataclass
class _Progress:
    cancelled: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    tickets: dict[int, _Ticket] = field(default_factory=dict)
    sends: int = 0
    key: str = ""


class Emergency:
    """Stops trading and flattens the account.

    Args:
        defaults: EMERGENCY_CANCEL_ORDERS, EMERGENCY_CLOSE_POSITIONS, EMERGENCY_SCOPE.
        grace_s: STOP_GRACE: how long a call in flight at the latch may still take before its host is killed.
        magic_base: MT5_MAGIC, for scope `mine`.
    """

    def __init__(
        self,
        terminal: Terminal,
        desk: OrderDesk,
        book: Book,
        latch: HaltLatch,
        outbox: Outbox,
        journal: Journal,
        clock: Clock,
        *,
        defaults: StopOptions,
        grace_s: float,
        magic_base: int,
    ) -> None:
        self.defaults = defaults
        self.survivors: tuple[int, ...] = ()
        self.stops = 0
        self._terminal = terminal
        self._desk = desk
        self._book = book
        self._latch = latch
        self._outbox = outbox
        self._journal = journal
        self._clock = clock
        self._grace_s = grace_s
        self._magic_base = magic_base
        self._task: asyncio.Task[None] | None = None
        self._helpers: set[asyncio.Task[None]] = set()
        self._watched: set[int] = set()

    @property
    def busy(self) -> bool:
        """Flattening, or watching for late fills."""
        return self._task is not None and not self._task.done()

    def stop(
        self, *, reason: str, by: str, origin: Origin, options: StopOptions | None
    ) -> tuple[Halt, "asyncio.Task[None] | None"]:
        """Latch HALTED now and begin to flatten; never waits.

        Args:
            reason: for people and events.
            by: who asked.
            origin: where it came from; decides who may resume.
            options: what to do beyond latching; None latches only.

        Returns:
            The state now latched, and the task that ends when it is durable (None: it was latched before).
        """
        self.stops += 1
        new = machine.stop(self._latch.halt, reason=reason, by=by, at_msc=self._clock.now_ms(), origin=origin)
        durable = self._latch.tighten(new)
        if options is not None:
            self.flatten(options)
        return self._latch.halt, durable

    def flatten(self, options: StopOptions) -> None:
        """Cancel and close by the options; goes on in the background until flat. A running one is replaced."""
        self._watched |= set(self._desk.flying) | self._desk.unresolved
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._task = asyncio.create_task(self._run(options, self._latch.halt), name="emergency")
        self._helper(self._kill_what_hangs())

    def resumed(self) -> None:
        """Trading goes on: nothing is closed any more."""
        if self._task is not None:
            self._task.cancel()
        self.survivors = ()
        self._watched.clear()
        self._helper(self._journal_later(changes.Memo(name=FLATTEN_MEMO, value=b"")))

    async def take_up(self) -> None:
        """Go on with a flattening that an earlier life did not finish, when trading is still halted.

        Raises:
            JournalError: the journal cannot be read.
        """
        left = await self._journal.memo(FLATTEN_MEMO)
        if left and self._latch.halt.state is HaltState.HALTED:
            logger.bind(event="emergency_taken_up").warning("Going on with the emergency stop that was interrupted")
            self.flatten(msgspec.json.decode(left, type=StopOptions))

    async def close(self) -> None:
        """End the background work (the latch stays)."""
        tasks = [task for task in (self._task, *self._helpers) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _helper(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="emergency-helper")
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    async def _kill_what_hangs(self) -> None:
        """A call in flight gets the grace; then its host is killed, and an order in it is unknown."""
        began = self._clock.monotonic()
        busy = self._terminal.in_flight
        while busy is not None and self._terminal.in_flight is busy:
            if self._clock.monotonic() - began >= self._grace_s:
                self._terminal.kill_host(f"emergency stop: {busy.op} still hangs after {self._grace_s:g} s")
                return
            await asyncio.sleep(_GRACE_POLL_S)

    # --- flattening

    async def _run(self, options: StopOptions, halt: Halt) -> None:
        began = self._clock.monotonic()
        progress = _Progress(key=f"stop-{halt.at_msc}-{self.stops}")
        self._helper(self._journal_later(*_story(halt, options)))
        clean, reported, pause = 0, False, _PAUSE_FIRST_S
        while True:
            left = await self._round(options, progress)
            if left is None:
                clean = 0
            elif left:
                clean = 0
                self.survivors = tuple(left)
                await self._tell(halt, "progress", progress, left)
            else:
                clean += 1
            if clean >= CLEAN_READS:
                self.survivors = ()
                break
            if not reported and self._clock.monotonic() - began >= DONE_AFTER_S:
                reported = True
                await self._tell(halt, "done", progress, list(self.survivors))
            if clean:
                await asyncio.sleep(_CLEAN_PAUSE_S)
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _PAUSE_LATER_S if reported else _PAUSE_MOST_S)
            if self._latch.halt.state is HaltState.ACTIVE:
                return
        await self._tell(halt, "done", progress, [])
        self._helper(self._journal_later(changes.Memo(name=FLATTEN_MEMO, value=b"")))
        if options.close_positions:
            await self._watch(options, halt, progress, began)

    async def _watch(self, options: StopOptions, halt: Halt, progress: _Progress, began: float) -> None:
        """P4: what was in flight at the latch may fill late; it is closed when it does."""
        while self._desk.unresolved & self._watched or self._clock.monotonic() - began < WATCH_S:
            await asyncio.sleep(_WATCH_PAUSE_S)
            if self._latch.halt.state is HaltState.ACTIVE:
                return
            if not self._watched:
                continue
            before = len(progress.closed) + len(progress.cancelled)
            late = StopOptions(cancel_orders=True, close_positions=True, scope="watched")
            left = await self._round(late, progress)
            if left or len(progress.closed) + len(progress.cancelled) > before:
                await self._tell(halt, "progress", progress, left or [])

    async def _round(self, options: StopOptions, progress: _Progress) -> list[int] | None:
        """One complete read and one try at everything it shows. The tickets left before it; None: no read."""
        try:
            snapshot = await self._terminal.snapshot(priority=Priority.CRITICAL)
        except MT5Error as error:
            logger.bind(event="emergency_read_failed").warning("The account cannot be read: {error}", error=error)
            return None
        orders = [o for o in snapshot.orders if options.cancel_orders and self._in_scope(o.magic, options.scope)]
        positions = [
            p for p in snapshot.positions if options.close_positions and self._in_scope(p.magic, options.scope)
        ]
        await self._look_after_unknown(progress, snapshot)
        for order in orders:
            await self._try(progress, order.ticket, order.volume_current, partial(self._cancel, order))
        for position in sorted(positions, key=self._risk, reverse=True):
            await self._try(progress, position.ticket, position.volume, partial(self._close, position))
        return [order.ticket for order in orders] + [position.ticket for position in positions]

    def _in_scope(self, magic: int, scope: str) -> bool:
        if scope == "watched":
            return magic in self._watched
        return scope != "mine" or magic_base(magic) == self._magic_base

    def _risk(self, position: Position) -> float:
        """Rank of a position: what it moves in account currency when its price moves by one percent."""
        info = self._book.symbols.get(position.symbol)
        if info is None or info.tick_size <= 0:
            return position.volume * position.price_current
        return position.volume * position.price_current * info.tick_value / info.tick_size

    async def _cancel(self, order: Order, magic: int) -> OrderRequest:
        return plan.cancel_request(order, magic=magic)

    async def _close(self, position: Position, magic: int) -> OrderRequest:
        quote = Quote(position.symbol, 0.0, 0.0, 0.0, 0.0, 0)
        try:
            quote = await self._terminal.get_price(position.symbol, priority=Priority.CRITICAL)
        except MT5Error:
            # The position's own current price is that of its closing side.
            price = position.price_current
            quote = msgspec.structs.replace(quote, bid=price, ask=price)
        return plan.close_request(
            plan.Close(position, position.volume),
            quote,
            magic=magic,
            comment=comment_for("emergency stop"),
            deviation_points=_DEVIATION_POINTS,
        )

    async def _try(
        self, progress: _Progress, number: int, volume: float, request: Callable[[int], Awaitable[OrderRequest]]
    ) -> None:
        ticket = progress.tickets.setdefault(number, _Ticket())
        now = self._clock.monotonic()
        if ticket.unknown is not None or now < ticket.wait_until:
            return
        ticket.tries += 1
        ticket.volume = volume
        progress.sends += 1
        magic = self._desk.natural_magic(progress.key, progress.sends)
        made = await request(magic)
        intent = Intent(key=progress.key, leg=progress.sends, request=made, action="EMERGENCY", volume_before=volume)
        self._helper(self._journal_later(self._desk.opened(intent, self._clock.now_ms())))
        sent = await self._desk.send(
            None, intent, check=lambda: None, priority=Priority.CRITICAL, timeout=_ACTION_TIMEOUT_S
        )
        self._helper(self._journal_later(self._desk.moved(magic, sent, self._clock.now_ms())))
        self._took(progress, number, ticket, sent, intent)

    def _took(self, progress: _Progress, number: int, ticket: _Ticket, sent: Sent, intent: Intent) -> None:
        if sent.state in (IntentState.CLOSED, IntentState.PARTIAL):
            _add(progress.closed, number)
        elif sent.state is IntentState.CANCELLED:
            _add(progress.cancelled, number)
        elif sent.state is IntentState.UNKNOWN:
            ticket.unknown = self._desk.case(intent, sent.sent_msc)
            ticket.unknown_at = self._clock.monotonic()
        else:
            ticket.why = sent.retcode_text or sent.detail or "refused"
            ticket.wait_until = self._clock.monotonic() + min(0.1 * 2**ticket.tries, _PAUSE_LATER_S)
            logger.bind(event="emergency_refused", ticket=number).error(
                "ERROR emergency stop: ticket {ticket} stays: {why}", ticket=number, why=ticket.why
            )

    async def _look_after_unknown(self, progress: _Progress, snapshot: Snapshot) -> None:
        """An unknown close is sent again only when this read shows it did nothing, 500 ms later, and nothing lives."""
        present = {p.ticket: p.volume for p in snapshot.positions}
        present |= {o.ticket: o.volume_current for o in snapshot.orders}
        alive = {o.magic for o in snapshot.orders}
        now = self._clock.monotonic()
        for number, ticket in progress.tickets.items():
            if ticket.unknown is None:
                continue
            if number not in present:
                target = progress.cancelled if ticket.unknown.request.order else progress.closed
                _add(target, number)
                ticket.unknown = None
            elif (
                now - ticket.unknown_at >= _UNKNOWN_SETTLE_S
                and present[number] == ticket.volume
                and ticket.unknown.magic not in alive
            ):
                ticket.unknown = None

    # --- telling

    async def _tell(self, halt: Halt, phase: str, progress: _Progress, left: list[int]) -> None:
        reasons = {number: progress.tickets[number].why for number in left if number in progress.tickets}
        why = "; ".join(f"{number}: {words}" for number, words in reasons.items() if words)
        message = changed(
            halt,
            phase,
            cancelled=list(progress.cancelled),
            closed=list(progress.closed),
            survivors=left if phase == "done" else [],
            detail=why or None,
        )
        level = "ERROR" if phase == "done" and left else "WARNING"
        logger.bind(event="emergency", phase=phase).log(
            level,
            "Emergency stop {phase}: {cancelled} orders cancelled, {closed} positions closed, left: {left} {why}",
            phase=phase,
            cancelled=len(progress.cancelled),
            closed=len(progress.closed),
            left=left or "nothing",
            why=why,
        )
        self._helper(self._journal_later(self._outbox.event("halt_changed", message)))

    async def _journal_later(self, *batch: changes.Change) -> None:
        """Written when it can be: acting does not wait for it."""
        while True:
            try:
                await self._outbox.commit(*batch)
            except JournalError as error:
                if not error.retriable:
                    logger.bind(event="emergency_not_journalled").error("ERROR not journalled: {e}", e=error)
                    return
                await asyncio.sleep(0.5)
            else:
                return


def _add(tickets: list[int], number: int) -> None:
    if number not in tickets:
        tickets.append(number)


def _story(halt: Halt, options: StopOptions) -> tuple[changes.Change, ...]:
    return (
        changes.Audited(at_msc=halt.at_msc, who=halt.by, what="emergency_stop", detail=halt.reason),
        changes.Memo(name=FLATTEN_MEMO, value=msgspec.json.encode(options)),
    )

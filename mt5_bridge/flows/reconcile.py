"""No trading before journal and terminal agree: at the start, and after each return of the terminal.

Intents whose outcome the journal does not know are looked up; signals received and never decided are decided now. The
bridge is ready after the first complete read: what is still unknown then blocks openings on its symbol only.
"""

import asyncio
from collections.abc import Callable

from loguru import logger

from mt5_bridge.core.decision import Exposure
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.intent import IntentState
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action, Deed
from mt5_bridge.flows.book import Book, read_retrying
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.deadman import DeadManReports
from mt5_bridge.flows.exits import Exits
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.memos import recalled
from mt5_bridge.flows.orders import OrderDesk, Sent
from mt5_bridge.flows.plans import follow_ups
from mt5_bridge.flows.protect import GUARDED_MEMO, StopGuard, closed_volume
from mt5_bridge.flows.settle import Settler
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.stored import intent_of, part_of, sent_of
from mt5_bridge.flows.trader import Trader
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import StoredIntent
from mt5_bridge.terminal.port import Priority, Terminal, TerminalState

_RETRY_S = 0.5
_LOOKED_UP_S = 15.0
_ROUNDING = 1e-9


class Reconciler:
    """Brings the journal to the truth and lets trading begin.

    Args:
        on_ready: called each time the bridge became ready.
    """

    def __init__(
        self,
        terminal: Terminal,
        journal: Journal,
        book: Book,
        desk: OrderDesk,
        settler: Settler,
        trader: Trader,
        exits: Exits,
        guard: StopGuard,
        intake: Intake,
        dead_man: DeadManReports,
        clock: Clock,
        *,
        on_ready: Callable[[], None],
    ) -> None:
        self.rounds = 0
        self._terminal = terminal
        self._journal = journal
        self._book = book
        self._desk = desk
        self._settler = settler
        self._trader = trader
        self._exits = exits
        self._guard = guard
        self._intake = intake
        self._dead_man = dead_man
        self._clock = clock
        self._on_ready = on_ready
        self._connected = asyncio.Event()
        self._due = asyncio.Event()

    def state_changed(self, state: TerminalState) -> None:
        """The terminal came or went."""
        if state is TerminalState.CONNECTED:
            # Before any look-up can see the terminal that came back: its history may lag.
            self._settler.reconnected()
            self._connected.set()
        else:
            self._connected.clear()
            self._book.lost_connection()
        self._due.set()

    async def run(self) -> None:
        """Reconcile after every connection."""
        while True:
            await self._due.wait()
            await self._connected.wait()
            self._due.clear()
            if not self._book.reconciled.is_set():
                await self._reconcile()

    async def _reconcile(self) -> None:
        for stored in await self._dead_man.take_up():
            self._desk.spawn(self._close_case(stored))
        read = await read_retrying(self._book, priority=Priority.HIGH, pause_s=_RETRY_S)
        while not (read.terminal.connected or self._due.is_set()):
            # Until its server has told it, a terminal that has just started shows an account with nothing in it.
            await asyncio.sleep(_RETRY_S)
            read = await read_retrying(self._book, priority=Priority.HIGH, pause_s=_RETRY_S)
        if self._due.is_set():
            return  # the connection came or went meanwhile: what was read may be from before
        self.rounds += 1
        self._book.reconciled.set()
        logger.bind(event="reconciled", positions=len(self._book.positions), orders=len(self._book.orders)).info(
            "Journal and terminal agree: {p} positions, {o} pending orders",
            p=len(self._book.positions),
            o=len(self._book.orders),
        )
        self._on_ready()

    async def take_up(self) -> None:
        """Take up what an earlier life left open: before anything new is let in, or it would be taken up twice.

        Raises:
            JournalError: the journal cannot be read or written.
        """
        by_key: dict[str, list[StoredIntent]] = {}
        for intent in await self._journal.open_intents():
            by_key.setdefault(intent.key, []).append(intent)
        rows = await self._journal.seen(list(by_key))
        waiting = [row for row in await self._journal.waiting() if row.key not in by_key]
        for key, open_intents in by_key.items():
            row = rows.get(key)
            if row is None or row.status is not None:
                for stored in open_intents:
                    self._desk.spawn(self._close_case(stored))
                continue
            await self._take_up(self._intake.resume(row), key, open_intents)
        for row in waiting:
            legs = await self._journal.intents(row.key)
            if legs:
                self._finish(self._intake.resume(row), legs)
            else:
                self._trader.submit(self._intake.resume(row))
        await self._take_up_stops()
        if by_key or waiting:
            logger.bind(event="recovered", intents=len(by_key), signals=len(waiting)).warning(
                "Taking up {i} orders of unknown outcome and {s} undecided signals", i=len(by_key), s=len(waiting)
            )

    def _finish(self, job: Job, legs: list[StoredIntent]) -> None:
        """All its orders have an outcome, and only the result was not written any more."""
        job.symbol = legs[0].symbol
        if job.signal.action.opens:
            work = self._trader.finish(job, intent_of(legs[0]), sent_of(legs[0]))
        else:
            work = self._exits.finish_unknown(job, [part_of(leg) for leg in legs])
        self._desk.spawn(work)

    async def _take_up_stops(self) -> None:
        """Fills whose stop had not been looked at when the last life ended."""
        magics = await recalled(self._journal, GUARDED_MEMO, list[int]) or []
        for stored in (await self._journal.intents_by_magic(magics)).values():
            story = await self._journal.signal(stored.key)
            if story is None or story.signal.status is None:
                continue
            self._guard.take_up(stored.magic)
            job = self._intake.resume(story.signal)
            job.symbol = stored.symbol
            job.follow_ups = follow_ups(story.intents)
            job.event_id = story.corrections[-1].event_id if story.corrections else story.signal.event_id
            self._desk.spawn(self._watch_again(job, stored))

    async def _watch_again(self, job: Job, opening: StoredIntent) -> None:
        await self._book.reconciled.wait()
        left = (opening.filled_volume or opening.volume) - await self._closed_by_guard(job.key)
        if left > _ROUNDING:
            await self._guard.watch(job, intent_of(opening), left, anew=True)
        else:
            await self._guard.end(opening.magic)

    async def _closed_by_guard(self, key: str) -> float:
        """Lots of a fill that the stop's guard has closed; what is still being looked up is waited for, a while."""
        until = self._clock.monotonic() + _LOOKED_UP_S
        while True:
            try:
                closes = [i for i in await self._journal.intents(key) if i.leg and i.action == Action.CLOSE.value]
            except JournalError as error:
                logger.bind(event="guard_waits", key=key).warning("A stop is looked at later: {error}", error=error)
            else:
                if self._clock.monotonic() > until or not any(IntentState(i.state).open for i in closes):
                    return sum(closed_volume(sent_of(i)) for i in closes)
            await asyncio.sleep(_RETRY_S)

    async def _take_up(self, job: Job, key: str, open_intents: list[StoredIntent]) -> None:
        for stored in open_intents:
            await self._note_unknown(stored)
        job.symbol = open_intents[0].symbol
        if not job.signal.action.opens:
            parts = [part_of(stored) for stored in await self._journal.intents(key)]
            for request in (part.intent.request for part in parts if part.state.open):
                if request.deed in (Deed.SLTP, Deed.MODIFY):
                    self._book.change(request)
            self._desk.spawn(self._exits.finish_unknown(job, parts))
            return
        for stored in open_intents:
            if stored.action != job.signal.action.value:
                self._desk.spawn(self._close_case(stored))
                continue
            self._book.reserve(_exposure_of(stored, job.signal))
            self._desk.spawn(self._trader.finish_unknown(job, intent_of(stored), stored.opened_msc))

    def _unknown(self, stored: StoredIntent) -> changes.IntentMoved:
        return changes.IntentMoved(magic=stored.magic, state=IntentState.UNKNOWN.value, at_msc=self._clock.now_ms())

    async def _note_unknown(self, stored: StoredIntent) -> None:
        if stored.state != IntentState.SENDING.value:
            return
        try:
            await self._journal.commit(self._unknown(stored))
        except JournalError as error:
            # `sending` says as much to who starts next. A disk that is full must not keep the bridge from starting: a
            # stop may have to be gone on with.
            logger.bind(event="intent_not_journalled", magic=stored.magic).error(
                "ERROR the journal cannot be written at the start: {error}", error=error
            )

    async def _close_case(self, stored: StoredIntent) -> None:
        """An intent nobody waits for any more (an emergency close, a stop set after a fill): look, and note it."""
        intent = intent_of(stored)
        if stored.state == IntentState.SENDING.value:
            await self._desk.record(stored.key, self._unknown(stored))
        found = await self._desk.resolve(self._desk.case(intent, stored.opened_msc))
        sent = Sent(state=found.state, request=intent.request, found=found, detail=found.detail)
        await self._desk.record(stored.key, self._desk.moved(intent.magic, sent, self._clock.now_ms()))


def _exposure_of(stored: StoredIntent, signal: TradingSignal) -> Exposure:
    side = Action(stored.action).side
    assert side is not None
    return Exposure(
        magic=stored.magic,
        symbol=stored.symbol,
        side=side,
        volume=stored.volume,
        risk=stored.risk or 0.0,
        unknown=True,
    )

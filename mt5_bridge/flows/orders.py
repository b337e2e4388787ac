"""The only door to `order_send`: journal the intent, check the halt, send, read the answer, journal it, announce it.

A signal's path: wait until the bridge is ready → judge (guards, sizing) → intent durable → last check → send →
verdict → result durable → announced. P1: one magic per intent, unique in the journal. P2: an unknown outcome goes to
the settler. P3: the last check has no setting that skips it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

import msgspec
from loguru import logger

from mt5_bridge.core.decision import Denial
from mt5_bridge.core.errors import BridgeError, JournalError, MT5Error
from mt5_bridge.core.halt import Origin
from mt5_bridge.core.halt import stop as halt_stop
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.core.intent import IntentState, Verdict, magic_for
from mt5_bridge.core.messages import OrderResult, Reason
from mt5_bridge.core.model import Deed, OrderRequest, TradeResult
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import MANAGED, Job
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.flows.plans import Plans
from mt5_bridge.flows.results import OrderStats, count, log
from mt5_bridge.flows.settle import Case, Earlier, Found, Picture, Settler
from mt5_bridge.journal import NotEntered, changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal import retcodes
from mt5_bridge.terminal.port import Priority

MAX_ATTEMPTS = 3
"""One send and at most two more after answers that say for certain "not executed"."""

_BACK_OFF_S = 0.25
SHIELD_S = 4.0
_LAST_WRITES_S = 1.0
SERVER_OFF = 10026


class OrderPort(Protocol):
    """The part of the terminal that can act: named nowhere else, so that nothing else can send."""

    async def place_order(
        self,
        request: OrderRequest,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 30.0,
        on_sent: Callable[[], None] | None = None,
        may_go: Callable[[], bool] | None = None,
        taken_back: Callable[[], bool] | None = None,
    ) -> TradeResult: ...

    def recall_orders(self) -> None: ...

    def kill_host(self, reason: str) -> None: ...


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """An order about to be sent."""

    key: str
    leg: int
    request: OrderRequest
    action: str
    risk: float | None = None
    volume_before: float | None = None

    @property
    def magic(self) -> int:
        return self.request.magic


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What came of sending: the intent's state and, as far as there is one, the terminal's answer."""

    state: IntentState
    request: OrderRequest
    answer: TradeResult | None = None
    found: Found | None = None
    denial: Denial | None = None
    reason: Reason | None = None
    detail: str | None = None
    sent_msc: int = 0

    @property
    def volume(self) -> float | None:
        """Lots that were dealt, as far as deals or the answer tell."""
        return (self.found.volume if self.found else None) or (self.answer.volume if self.answer else None) or None

    @property
    def retcode_text(self) -> str | None:
        if self.answer is None or self.answer.retcode is None:
            return None
        return retcodes.text(self.answer.retcode)


Check = Callable[[], Denial | None]
Again = Callable[[], Awaitable[OrderRequest | Denial]]
Look = Callable[[], Awaitable[OrderRequest | Denial | None]]


_DONE = {
    Deed.DEAL: IntentState.FILLED,
    Deed.PENDING: IntentState.PLACED,
    Deed.SLTP: IntentState.MODIFIED,
    Deed.MODIFY: IntentState.MODIFIED,
    Deed.REMOVE: IntentState.CANCELLED,
    Deed.CLOSE_BY: IntentState.CLOSED,
}


_TAKEN = frozenset({Verdict.DONE, Verdict.PLACED, Verdict.PARTIAL})
_TRY_AGAIN = frozenset({Verdict.RETRY, Verdict.BACK_OFF})


def state_of(verdict: Verdict, request: OrderRequest, order: int) -> IntentState | None:
    """The state an answer that names an order's ticket (0: none) brings an intent to; None: refused for certain."""
    if verdict is Verdict.UNKNOWN:
        return IntentState.UNKNOWN
    if verdict is Verdict.PLACED and request.deed is Deed.DEAL:
        # Accepted, not executed yet: only a look at the deals tells.
        return IntentState.UNKNOWN
    if request.deed is Deed.PENDING and verdict in _TAKEN and not order:
        # Accepted, not there yet: it may come up later than a known order would be missed (P9).
        return IntentState.UNKNOWN
    if verdict is Verdict.PARTIAL and request.deed is Deed.DEAL:
        return IntentState.PARTIAL
    if verdict in _TAKEN or verdict is Verdict.NO_CHANGES:
        return IntentState.CLOSED if request.deed is Deed.DEAL and request.position else _DONE[request.deed]
    return None


class OrderDesk:
    """Sends intents and keeps their life.

    Args:
        terminal: who executes.
        journal: for magics.
        outbox: where outcomes are journalled and announced.
        book: what counts while in flight.
        latch: the halt state, asked right before every send.
        settler: looks unknown outcomes up.
        clock: time.
        magic_base: MT5_MAGIC.
        simulate: SIMULATION_MODE: all but the send.
        on_defect: told of what must never happen in work that nobody awaits.
        send_timeout_s: deadline of one `order_send`.
    """

    def __init__(
        self,
        terminal: OrderPort,
        journal: Journal,
        outbox: Outbox,
        book: Book,
        latch: HaltLatch,
        settler: Settler,
        clock: Clock,
        *,
        magic_base: int,
        simulate: bool,
        on_defect: Callable[[BaseException], None],
        send_timeout_s: float = 30.0,
    ) -> None:
        self.stats = OrderStats()
        self.to_send = Histogram()
        """Seconds from a signal's arrival to its first `order_send`."""
        self.round_trip = Histogram()
        """Seconds that the terminal took over an `order_send`, the wait in its queue not counted."""
        self.flying: dict[int, int] = {}
        """Magic → UTC ms of the orders being sent right now."""
        self.unresolved: set[int] = set()
        """Magics whose outcome is unknown: after a stop their late fills are closed."""
        self.abandoned: set[int] = set()
        """Magics given up as not found; the truth may still turn up (`flows.corrections`)."""
        self.plans = Plans(lambda: book.account_name)
        """Stops to be moved along by what was sent; begun with the intents, followed by `flows.trailing`."""
        self._terminal = terminal
        self._journal = journal
        self._outbox = outbox
        self._book = book
        self._latch = latch
        self._settler = settler
        self._clock = clock
        self._magic_base = magic_base
        self._simulate = simulate
        self._on_defect = on_defect
        self._send_timeout_s = send_timeout_s
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reserved: set[int] = set()
        self._closing = asyncio.Event()
        self._killed = False
        self._landed = asyncio.Event()
        self._landed.set()
        self._on_alarm: Callable[[str], None] = lambda detail: None
        latch.on_change(lambda halt: terminal.recall_orders())

    def on_alarm(self, callback: Callable[[str], None]) -> None:
        """Call `callback(detail)` when the broker refuses trading as such."""
        self._on_alarm = callback

    async def magic(self, key: str, leg: int, free: int = 0) -> int:
        """A magic nobody has: not in the journal, not reserved by an intent being prepared.

        Args:
            key: the signal's.
            leg: of it.
            free: a magic of this leg that the journal did not have a moment ago; 0: it is asked now. Where two signals
                of that moment share one, the journal takes only the first.

        Raises:
            JournalError: the journal cannot be asked.
        """
        if free and free not in self._reserved:
            self._reserved.add(free)
            return free
        taken: set[int] = set(self._reserved)
        while True:
            magic = magic_for(self._magic_base, key, leg, taken)
            if not await self._journal.our_magics_among([magic]) and magic not in self._reserved:
                self._reserved.add(magic)
                return magic
            taken.add(magic)

    def reserved(self, magic: int) -> bool:
        """Whether it is an intent's that is being prepared or written."""
        return magic in self._reserved

    def give_back(self, *magics: int) -> None:
        """Magics that no intent will have."""
        self._reserved.difference_update(magics)

    def natural_magic(self, key: str, leg: int = 0) -> int:
        """The magic the intent would have had in a journal without collisions."""
        return magic_for(self._magic_base, key, leg)

    async def protect(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run work that must not be abandoned when its caller is cancelled (an order in flight)."""
        task = self.spawn(work)
        # As `asyncio.shield`, for half of its turns of the loop: what cancels the caller ends this future only.
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda _: _wake(ended))
        await ended
        return task.result()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run work that `close` waits for."""
        task = asyncio.create_task(work, name="order")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.bind(event="order_task_failed").opt(exception=error).error("ERROR in an order's task: {e}", e=error)
        if not isinstance(error, BridgeError):
            self._on_defect(error)

    @staticmethod
    def opened(intent: Intent, now_msc: int) -> changes.IntentOpened:
        """The journal's record of an intent about to be sent."""
        return changes.IntentOpened(
            magic=intent.magic,
            key=intent.key,
            leg=intent.leg,
            symbol=intent.request.symbol,
            action=intent.action,
            request=msgspec.json.encode(intent.request),
            opened_msc=now_msc,
            volume=intent.request.volume,
            risk=intent.risk,
        )

    async def send(
        self,
        job: Job | None,
        intent: Intent,
        *,
        check: Check,
        again: Again | None = None,
        look: Look | None = None,
        back: Check | None = None,
        priority: Priority = Priority.HIGH,
        timeout: float | None = None,
    ) -> Sent:
        """Send a durable intent and say what came of it; retries only answers that mean "certainly not executed".

        Args:
            job: whose attempts and send time to note.
            intent: already journalled as `sending` (or exempt, in an emergency).
            check: the last word before each send.
            again: a request on fresh prices for a retry, after the guards ran once more; None: no retries.
            look: what to do after an answer that says "the state is another" (10036, 10038 …), on a fresh read; None
                from it leaves the answer as it is.
            back: what takes it back on its way to the terminal, asked when the halt state changes; None: nothing does.
            priority: among the terminal's calls.
            timeout: of each attempt, seconds; None: the desk's own.
        """
        request = intent.request
        attempt = 0
        while True:
            attempt += 1
            denial = check()
            if denial is not None:
                return Sent(state=IntentState.REJECTED, request=request, denial=denial)
            if self._killed:
                reason = Reason.TERMINAL_UNAVAILABLE
                return Sent(state=IntentState.REJECTED, request=request, reason=reason, detail="the bridge is ending")
            if self._simulate:
                return Sent(state=IntentState.SIMULATED, request=request, sent_msc=self._clock.now_ms())
            if job is not None:
                job.attempts += 1
            sent = await self._once(job, intent, request, check, back, priority, timeout or self._send_timeout_s)
            verdict = retcodes.classify(sent.answer) if sent.answer is not None else None
            anew = look if verdict is Verdict.REQUERY else again if verdict in _TRY_AGAIN else None
            if anew is None or attempt >= MAX_ATTEMPTS:
                return sent
            if verdict is Verdict.BACK_OFF:
                await self._pause(_BACK_OFF_S * 2**attempt)
            fresh = None if self._closing.is_set() else await anew()
            if fresh is None or self._closing.is_set():
                return sent
            if isinstance(fresh, Denial):
                return Sent(state=IntentState.REJECTED, request=request, answer=sent.answer, denial=fresh)
            request = fresh

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not beyond the moment at which the bridge begins to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _once(
        self,
        job: Job | None,
        intent: Intent,
        request: OrderRequest,
        check: Check,
        back: Check | None,
        priority: Priority,
        timeout: float,
    ) -> Sent:
        now = self._clock.now_ms()
        self.flying[intent.magic] = now
        self._landed.clear()
        withdrawn: list[Denial] = []

        left_at: list[float] = []
        before = None if job is None else job.sent_msc

        def left() -> None:
            left_at.append(self._clock.monotonic())
            if job is not None and job.sent_msc is None:
                self._first_left(job)

        def denied(why: Check | None) -> bool:
            denial = None if why is None else why()
            withdrawn.extend(() if denial is None else (denial,))
            return denial is not None

        self.stats.sends += 1
        try:
            answer = await self._terminal.place_order(
                request,
                priority=priority,
                timeout=timeout,
                on_sent=left,
                # It may have waited behind other calls: what was true when it was queued need not be any more.
                may_go=lambda: not denied(check),
                taken_back=lambda: denied(back),
            )
        except MT5Error as error:
            if error.sent:
                self._lost_sight(job, intent)
                return Sent(state=IntentState.UNKNOWN, request=request, detail=str(error), sent_msc=now)
            if job is not None:
                job.sent_msc = before  # it may have been handed over, and taken back
            return _unsent(Sent(state=IntentState.REJECTED, request=request, sent_msc=now), withdrawn, error)
        finally:
            for began in left_at:
                self.round_trip.observe(self._clock.monotonic() - began)
            self.flying.pop(intent.magic, None)
            if not self.flying:
                self._landed.set()
        sent = self._read(request, answer, now)
        if sent.state is IntentState.UNKNOWN:
            self._lost_sight(job, intent)
        return sent

    def _first_left(self, job: Job) -> None:
        job.sent_msc = self._clock.now_ms()
        if job.source != MANAGED:
            self.to_send.observe((job.sent_msc - job.received_msc) / 1000)

    def _lost_sight(self, job: Job | None, intent: Intent) -> None:
        # At once, not when the look-up begins: a stop that comes in between must watch for the late fill.
        if job is not None:
            self.unresolved.add(intent.magic)

    def _read(self, request: OrderRequest, answer: TradeResult, sent_msc: int) -> Sent:
        verdict = retcodes.classify(answer)
        detail = answer.comment or None
        state = state_of(verdict, request, answer.order)
        if state is not None:
            return Sent(state=state, request=request, answer=answer, detail=detail, sent_msc=sent_msc)
        if verdict is Verdict.SYMBOL_BLOCKED:
            self._book.block(request.symbol, "trading in this symbol is disabled (10017)")
        elif verdict is Verdict.NOT_READY:
            self._book.refused(by_server=answer.retcode == SERVER_OFF)
            self._on_alarm(retcodes.text(answer.retcode or 0))
        elif verdict is Verdict.HALT:
            self._latch.tighten(
                halt_stop(
                    self._latch.halt,
                    reason=f"the terminal answered {answer.retcode}: {retcodes.text(answer.retcode or 0)}",
                    by=f"retcode_{answer.retcode}",
                    at_msc=self._clock.now_ms(),
                    origin=Origin.RULE,
                )
            )
        if verdict is Verdict.NOT_SENT:
            detail = answer.last_error_text or detail
        return Sent(
            state=IntentState.REJECTED,
            request=request,
            answer=answer,
            reason=retcodes.reason(answer.retcode),
            detail=detail,
            sent_msc=sent_msc,
        )

    @staticmethod
    def moved(magic: int, sent: Sent, now_msc: int) -> changes.IntentMoved:
        """The journal's record of what came of an intent."""
        answer, found = sent.answer, sent.found
        return changes.IntentMoved(
            magic=magic,
            state=sent.state.value,
            at_msc=now_msc,
            retcode=None if answer is None else answer.retcode,
            order=(found.order if found else None) or (answer.order if answer else None),
            deal=(found.deal if found else None) or (answer.deal if answer else None),
            position=(found.position if found else None) or sent.request.position or None,
            volume=found.volume if found and found.volume is not None else (answer.volume if answer else None),
            price=found.price if found else (answer.price if answer else None),
            detail=sent.detail or (found.detail if found else None),
        )

    def case(self, intent: Intent, sent_msc: int) -> Case:
        """What the settler needs to look an intent up."""
        return Case(magic=intent.magic, request=intent.request, sent_msc=sent_msc, volume_before=intent.volume_before)

    def unclear(self, position: int) -> bool:
        """Whether it is looked up what came of a change of that position's stop (ticket): it may still arrive."""
        return any(request.deed is Deed.SLTP for _, request in self._looked_up(position))

    def lost_close(self, position: int) -> int | None:
        """The magic of an order of unknown outcome that may still close the position; None: there is none."""
        return next((magic for magic, request in self._looked_up(position) if request.deed is not Deed.SLTP), None)

    def _looked_up(self, position: int) -> Iterator[tuple[int, OrderRequest]]:
        for magic, case in self._settler.open.items():
            if case.request.position == position:
                yield magic, case.request

    async def picture(self, since_msc: int) -> Picture:
        """What the terminal holds and held since then; see `Settler.picture`."""
        return await self._settler.picture(since_msc)

    async def earlier(self, since_msc: int) -> Earlier:
        """What the terminal holds and held since then; see `Settler.earlier`."""
        return await self._settler.earlier(since_msc)

    async def resolve(self, case: Case) -> Found:
        """Look an unknown outcome up until it is known or given up; meanwhile its late fill is watched for."""
        self.stats.unknown += 1
        self.unresolved.add(case.magic)
        try:
            found = await self._settler.resolve(case)
        finally:
            self.unresolved.discard(case.magic)
        if found.state is IntentState.ABANDONED:
            self.abandoned.add(case.magic)
        return found

    async def admitted(self, job: Job) -> None:
        """Return when a job's inbox row is durable.

        Raises:
            JournalError: it is not.
        """
        if job.admitted is not None:
            await asyncio.shield(job.admitted)

    async def begin(
        self,
        job: Job,
        opened: Sequence[changes.IntentOpened],
        beside: Callable[[], Sequence[changes.Change]],
    ) -> None:
        """Journal the intents of a signal, together with its inbox row where that is on its way; never without it.

        Args:
            job: the signal's.
            opened: the intents.
            beside: what is to be written with them, as it is by then.

        Raises:
            JournalError: nothing of it is durable.
        """
        intents = [msgspec.structs.replace(intent, received_msc=job.received_msc) for intent in opened]
        if job.on_its_way and job.admitted is not None and not job.admitted.done():
            try:
                await self.commit(*intents, *beside())
            except NotEntered:
                logger.bind(event="inbox_row_late", key=job.key).debug("The inbox row of {key} is late", key=job.key)
            else:
                return
        await self.admitted(job)
        await self.commit(*intents, *beside())

    async def commit(self, *batch: changes.Change) -> None:
        """Journal changes of intents.

        Raises:
            JournalError: nothing of it is durable.
        """
        await self._outbox.commit(*batch)
        self.give_back(*(change.magic for change in batch if isinstance(change, changes.IntentOpened)))

    async def conclude(self, job: Job, final: OrderResult, *more: changes.Change, interim: bool = False) -> None:
        """Make a result durable and announced together with what it follows from.

        `interim`: it settles no signal, because a final one follows or the inbox has no row of it.

        When the journal cannot be written the result is kept in memory and tried again: the deed is done, and its
        record must not be lost while the process lives.
        """
        announced = self._outbox.event("order_result", final, request_id=job.request_id)
        batch: list[changes.Change] = [*more]
        if not interim:
            job.event_id = announced.event_id
            batch.append(
                changes.SignalSettled(
                    key=job.key,
                    status=final.status.value,
                    reason=final.reason or "",
                    event_id=announced.event_id,
                    result=announced.payload,
                    at_msc=announced.at_msc,
                )
            )
        batch.append(announced)
        count(self.stats, final)
        job.came_to(final)
        log(final, job.correlation)
        await self._write(job.key, batch)

    async def correct(self, job: Job, better: OrderResult, *more: changes.Change) -> None:
        """Announce a result that replaces the one announced as `better.supersedes`."""
        announced = self._outbox.event("order_result", better, request_id=job.request_id)
        correction = changes.ResultCorrected(
            key=job.key,
            status=better.status.value,
            reason=better.reason or "",
            event_id=announced.event_id,
            supersedes=better.supersedes or "",
            result=announced.payload,
            at_msc=announced.at_msc,
        )
        job.event_id = announced.event_id
        count(self.stats, better)
        log(better, job.correlation)
        await self._write(job.key, [*more, correction, announced])

    async def record(self, key: str, *batch: changes.Change) -> None:
        """Journal what is known of the orders of `key`, however long the journal cannot be written."""
        await self._write(key, batch)

    async def _write(self, key: str, batch: Sequence[changes.Change]) -> None:
        while True:
            try:
                await self.commit(*batch)
            except JournalError as error:
                if not error.retriable:
                    logger.bind(event="result_not_journalled", key=key).error(
                        "ERROR the result of {key} contradicts the journal: {error}", key=key, error=error
                    )
                    return
                await asyncio.sleep(_BACK_OFF_S)
            else:
                return

    async def close(self) -> None:
        """Orders in flight get their time; then the host is killed and they are journalled unknown."""
        self._closing.set()
        try:
            async with asyncio.timeout(SHIELD_S):
                await self._at_rest()
        except TimeoutError:
            self._killed = True
            self._terminal.kill_host("shutdown with an order in flight")
            await self._idle(_LAST_WRITES_S)
        # What still runs now is a look-up, which goes on at the next start, or cannot be journalled.
        while self._tasks:
            late = tuple(self._tasks)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _at_rest(self) -> None:
        """Until nothing is in flight, nor comes to be: what is decided already is sent, and its outcome written."""
        await self._landed.wait()
        while not await self._idle(_LAST_WRITES_S):
            if self._landed.is_set():
                return
            await self._landed.wait()

    async def _idle(self, seconds: float) -> bool:
        """Whether all work ends within a time, also what comes of it."""
        try:
            async with asyncio.timeout(seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            return False
        return True


def _unsent(sent: Sent, withdrawn: Sequence[Denial], error: MT5Error) -> Sent:
    """With why an order was certainly not sent."""
    if withdrawn:
        return msgspec.structs.replace(sent, denial=withdrawn[0])
    return msgspec.structs.replace(sent, reason=Reason.TERMINAL_UNAVAILABLE, detail=str(error))


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)

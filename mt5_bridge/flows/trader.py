"""Works off one signal after another: opens, exits, and what follows from them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from loguru import logger

from mt5_bridge.core import exits
from mt5_bridge.core.decision import Approval, Denial, Exposure
from mt5_bridge.core.errors import BridgeError, JournalError, MT5Error
from mt5_bridge.core.intent import IntentState, comment_for
from mt5_bridge.core.messages import OrderResult, Reason, Status
from mt5_bridge.core.model import Deed, OrderRequest, Side, SymbolInfo
from mt5_bridge.flows.ahead import Ahead
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.exits import Exits, on_the_grid
from mt5_bridge.flows.job import Job, result
from mt5_bridge.flows.judge import Judge
from mt5_bridge.flows.lanes import Lanes
from mt5_bridge.flows.orders import Intent, OrderDesk, Sent
from mt5_bridge.flows.protect import StopGuard
from mt5_bridge.flows.settle import Found, Settler
from mt5_bridge.flows.settle import judge as judge_case
from mt5_bridge.journal import changes
from mt5_bridge.terminal.port import OrderFacts

_READY_POLL_S = 0.05
_CONFIRM_TRIES = 3
_CONFIRM_PAUSE_S = 0.1
_PERSON_LANE = "!person "
_SAME_VOLUME = 1e-9
_FILLED = (IntentState.FILLED, IntentState.PARTIAL)


class Trader:
    """Takes jobs, brings each to its final result.

    Args:
        guard: looks after the stops of fills.
        ahead: reads for decisions to come.
        deviation_points: the deviation of orders whose signal names none.
        on_defect: told of what must never happen.
    """

    def __init__(
        self,
        desk: OrderDesk,
        judge: Judge,
        book: Book,
        settler: Settler,
        clock: Clock,
        exits_flow: Exits,
        guard: StopGuard,
        ahead: Ahead,
        *,
        deviation_points: int,
        on_defect: Callable[[BaseException], None],
    ) -> None:
        self.lanes = Lanes(self._work, on_defect)
        self._desk = desk
        self._judge = judge
        self._book = book
        self._settler = settler
        self._clock = clock
        self._exits = exits_flow
        self._guard = guard
        self._ahead = ahead
        self._deviation = deviation_points

    def submit(self, job: Job) -> None:
        """Queue a job: by symbol, a person's commands apart so that they never wait behind signals."""
        self.lanes.submit(_lane_of(job), job)

    def expect(self, job: Job) -> None:
        """A job may be submitted in a moment: read what its decision needs, where it would be worked on at once."""
        if not self.lanes.at_work(_lane_of(job)):
            self._ahead.begin(job)

    def aside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work beside the lanes, until it ends or the bridge does."""
        self._desk.spawn(work)

    async def deny(self, job: Job, denial: Denial) -> None:
        """Bring a job to its end with a denial."""
        denial = self._judge.foremost(job, denial)
        await self._desk.admitted(job)
        await self._desk.conclude(job, self._denied(job, denial))

    # --- the path of a job

    async def _work(self, job: Job) -> None:
        try:
            denial = (None if job.person else self._judge.early(job)) or await self._until_ready(job)
            if denial is not None:
                await self._desk.protect(self.deny(job, denial))
            elif job.signal.action.opens:
                await self._open(job)
            else:
                await self._exits.work(job)
        except JournalError as error:
            self._unjournalled(job, error)

    async def _until_ready(self, job: Job) -> Denial | None:
        """No trading before reconciliation: wait for it within the signal's time."""
        deadline = job.deadline_msc(self._judge.limits.signal_max_age_ms)
        while not self._book.reconciled.is_set() and self._clock.now_ms() < deadline:
            try:
                async with asyncio.timeout(_READY_POLL_S):
                    await self._book.reconciled.wait()
            except TimeoutError:
                continue
        if self._book.reconciled.is_set():
            return None
        if job.received_msc > deadline:
            return self._judge.last_word(job)  # too old when it came: that is why, not our waiting
        why = self._book.readiness.why_not or "not ready"
        return Denial(code=Reason.NOT_READY, detail=f"{why}, and the signal's time is over")

    async def _open(self, job: Job) -> None:
        if job.suspect and await self._found_of_before(job):
            return
        magic = await self._desk.magic(job.key, 0, job.free_magic)
        reserved = await self._reserve(job, magic)
        if isinstance(reserved, Denial):
            self._desk.give_back(magic)
            await self._desk.protect(self.deny(job, reserved))
            return
        intent, symbol = reserved
        await self._desk.protect(self._execute(job, intent, symbol))

    async def _reserve(self, job: Job, magic: int) -> tuple[Intent, SymbolInfo] | Denial:
        """Judge until it is the job's turn in the rate, and take the room in the limits in the same turn of the loop.

        Over-rate signals wait within their time and are judged anew; those that cannot make it are told at once.
        """
        rate = self._judge.rate
        try:
            while True:
                decided = await self._decide(job)
                if isinstance(decided, Denial):
                    return decided
                # Nothing is awaited between the decision and the reservation: two symbols must not count the same room.
                if rate.may_go(job):
                    rate.take(job)
                    return self._reserved(job, magic, *decided)
                self._shed(job)
                if not await rate.turn(job):
                    return self._judge.throttled(job)
        finally:
            rate.leave(job)

    def _reserved(
        self, job: Job, magic: int, symbol: SymbolInfo, facts: OrderFacts, approval: Approval
    ) -> tuple[Intent, SymbolInfo]:
        request = exits.opening_request(
            job.signal,
            symbol,
            facts.quote,
            volume=approval.volume,
            magic=magic,
            comment=comment_for(job.key, job.signal.comment),
            deviation=self._deviation,
        )
        exposure = Exposure(
            magic=magic,
            symbol=symbol.name,
            side=_side(job),
            volume=approval.volume,
            risk=approval.risk,
            margin=approval.margin,
        )
        self._book.reserve(exposure)
        action = job.signal.action.value
        return Intent(
            key=job.key, leg=0, request=on_the_grid(request, symbol), action=action, risk=approval.risk
        ), symbol

    async def _decide(self, job: Job) -> tuple[SymbolInfo, OrderFacts, Approval] | Denial:
        symbol = await self._judge.symbol(job.signal.symbol)
        if isinstance(symbol, Denial):
            return symbol
        job.symbol = symbol.name
        facts = await self._ahead.facts(job) or await self._judge.facts(job, symbol)
        if isinstance(facts, Denial):
            return facts
        decision = await self._judge.opening(job, symbol, facts)
        if isinstance(decision, Denial):
            return decision
        return facts.symbol_info, facts, decision

    def _shed(self, head: Job) -> None:
        """Deny now those behind that cannot be sent within their time at this rate."""
        now, max_age = self._clock.now_ms(), self._judge.limits.signal_max_age_ms
        place = 0

        def hopeless(_: int, job: Job) -> bool:
            nonlocal place
            if not job.signal.action.opens:
                return False
            place += 1
            if now + self._judge.rate.wait_ms(head, behind=place) <= job.deadline_msc(max_age):
                return False
            place -= 1
            return True

        for job in self.lanes.drop(head.signal.symbol.upper(), hopeless):
            self._desk.spawn(self.deny(job, self._judge.throttled(job)))

    async def _execute(self, job: Job, intent: Intent, symbol: SymbolInfo) -> None:
        try:
            opened = self._desk.opened(intent, self._clock.now_ms())
            await self._desk.begin(job, [opened], lambda: self._desk.plans.begin(job, intent.magic))
        except BridgeError as error:
            self._book.release(intent.magic)
            self._desk.plans.drop(intent.magic)
            self._desk.give_back(intent.magic)
            self._unjournalled(job, error)
            return

        async def again() -> OrderRequest | Denial:
            facts = await self._judge.facts(job, symbol)
            if isinstance(facts, Denial):
                return facts
            decision = await self._judge.opening(job, symbol, facts, but=intent.magic)
            if isinstance(decision, Denial):
                return decision
            fresh = intent.request
            if not job.signal.action.is_pending:
                fresh = msgspec.structs.replace(fresh, price=facts.quote.price_to_open(_side(job)))
            return msgspec.structs.replace(fresh, volume=min(fresh.volume, decision.volume))

        sent = await self._desk.send(
            job,
            intent,
            check=lambda: self._judge.last_word(job),
            again=again,
            back=lambda: self._judge.taken_back(job),
        )
        await self._opened(job, intent, sent, symbol)

    async def _opened(self, job: Job, intent: Intent, sent: Sent, symbol: SymbolInfo) -> None:
        if sent.state is IntentState.UNKNOWN:
            self._book.mark_unknown(intent.magic)
            now = self._clock.now_ms()
            interim = result(
                job,
                Status.UNKNOWN,
                now_msc=now,
                request=intent.request,
                answer=sent.answer,
                retcode_text=sent.retcode_text,
                detail=sent.detail,
                reason=Reason.UNKNOWN_OUTCOME,
            )
            await self._desk.conclude(job, interim, self._desk.moved(intent.magic, sent, now), interim=True)
            self._desk.spawn(self.finish_unknown(job, intent, sent.sent_msc))
            return
        if sent.state in _FILLED:
            sent = await self._confirm(intent, sent)
        # The lane goes on: what comes next on the symbol need not wait until this result is durable.
        self._desk.spawn(self.finish(job, intent, sent))

    async def finish_unknown(self, job: Job, intent: Intent, sent_msc: int) -> None:
        """Look an unknown opening up and give its one final result."""
        found = await self._desk.resolve(self._desk.case(intent, sent_msc))
        sent = Sent(state=found.state, request=intent.request, found=found, detail=found.detail, sent_msc=sent_msc)
        await self.finish(job, intent, sent)

    async def finish(self, job: Job, intent: Intent, sent: Sent) -> None:
        """Give an opening with a known outcome its one final result."""
        now = self._clock.now_ms()
        if sent.state in (IntentState.REJECTED, IntentState.SIMULATED, IntentState.ABANDONED):
            self._book.release(intent.magic)
        else:
            self._book.settle(intent.magic)
        more: tuple[changes.Change, ...] = (self._desk.moved(intent.magic, sent, now),)
        if sent.state in _FILLED:
            # Before the result is durable, which a full disk can hold up: a stop that is missing is set at once.
            more += self._guard.begin(intent)
            self._desk.spawn(self._guard.watch(job, intent, sent.volume))
        await self._desk.conclude(job, self.result(job, sent, now), *more)

    def result(self, job: Job, sent: Sent, now: int, supersedes: str | None = None) -> OrderResult:
        """The `order_result` of an opening."""
        if sent.denial is not None:
            return self._denied(job, sent.denial, sent)
        found, answer = sent.found, sent.answer
        filled = sent.state in _FILLED
        volume = sent.volume or 0.0
        if filled and not volume:
            volume = sent.request.volume
        return result(
            job,
            Status(sent.state.value),
            now_msc=now,
            request=sent.request,
            answer=answer,
            retcode_text=sent.retcode_text,
            reason=sent.reason or (Reason.NOT_FOUND if sent.state is IntentState.ABANDONED else None),
            detail=sent.detail,
            order=found.order if found else None,
            deal=found.deal if found else None,
            position=found.position if found else None,
            price=found.price if found else None,
            volume_filled=volume if filled else (0.0 if sent.state is not IntentState.PLACED else None),
            supersedes=supersedes,
        )

    def _denied(self, job: Job, denial: Denial, sent: Sent | None = None) -> OrderResult:
        return result(
            job,
            Status.DENIED,
            now_msc=self._clock.now_ms(),
            reason=denial.code,
            detail=denial.detail,
            answer=sent.answer if sent else None,
            retcode_text=sent.retcode_text if sent else None,
        )

    # --- after a fill

    async def _confirm(self, intent: Intent, sent: Sent) -> Sent:
        """The position, price and deal of a fill: from its deals where the answer leaves one of them open."""
        answer = sent.answer
        assert answer is not None
        case = self._desk.case(intent, sent.sent_msc)
        expected = answer.volume or (sent.request.volume if sent.state is IntentState.FILLED else 0.0)
        if answer.order and answer.deal and answer.price and not self._book.netting:
            # Where every fill has a position of its own, that is named after the order that opened it.
            return msgspec.structs.replace(
                sent,
                found=Found(
                    state=sent.state,
                    order=answer.order,
                    deal=answer.deal,
                    position=answer.order,
                    volume=expected,
                    price=answer.price,
                ),
            )
        for _ in range(_CONFIRM_TRIES):
            try:
                look = self._settler.fill(case, answer.order) if answer.order else self._settler.look(case)
                found = await look
            except MT5Error as error:
                logger.bind(event="confirm_failed", magic=intent.magic).warning("Fill not confirmed: {e}", e=error)
                return sent
            if found is not None and found.deal:
                whole = (found.volume or 0.0) >= expected - _SAME_VOLUME
                # History may still lack a deal of several: the answer knows the volume better.
                sent = msgspec.structs.replace(
                    sent, found=found if whole else msgspec.structs.replace(found, volume=expected)
                )
                if whole:
                    break
            await asyncio.sleep(_CONFIRM_PAUSE_S)
        return sent

    # --- signals of an earlier life

    async def _found_of_before(self, job: Job) -> bool:
        """A signal that a former journal may have executed: look its magic up before the first send."""
        deed = Deed.PENDING if job.signal.action.is_pending else Deed.DEAL
        try:
            earlier = await self._desk.earlier(job.created_msc)
        except MT5Error as error:
            await self._desk.protect(self.deny(job, Denial(code=Reason.NOT_READY, detail=str(error))))
            return True
        magic = earlier.magic_like(self._desk.natural_magic(job.key, 0))
        if magic is None:
            return False
        probe = OrderRequest(deed=deed, symbol=job.symbol, magic=magic)
        intent = Intent(key=job.key, leg=0, request=probe, action=job.signal.action.value)
        found = judge_case(self._desk.case(intent, job.created_msc), earlier.picture)
        if found is None:
            return False
        sent = Sent(state=found.state, request=probe, found=found, detail="executed before this journal began")
        await self._desk.protect(self._adopt(job, intent, sent))
        return True

    async def _adopt(self, job: Job, intent: Intent, sent: Sent) -> None:
        await self._desk.admitted(job)
        now = self._clock.now_ms()
        opened = (self._desk.opened(intent, now), *self._desk.plans.begin(job, intent.magic))
        if sent.state.open:
            await self._desk.commit(*opened)
            await self.finish_unknown(job, intent, job.created_msc)
            return
        moved = self._desk.moved(intent.magic, sent, now)
        await self._desk.conclude(job, self.result(job, sent, now), *opened, moved)
        self._desk.plans.unwritten()  # on a full disk that took its time, and the plans noted with it were of then

    def _unjournalled(self, job: Job, error: BridgeError) -> None:
        """Nothing was sent: without a journal there is no trade.

        A signal that is in the inbox gets its result as soon as that can be written; one that is not is read again.
        """
        logger.bind(event="signal_not_journalled", key=job.key).error(
            "ERROR signal {key} is refused, the journal cannot be written: {error}", key=job.key, error=error
        )
        self._desk.spawn(self._refused(job, error))

    async def _refused(self, job: Job, error: BridgeError) -> None:
        denied = self._denied(job, Denial(code=Reason.JOURNAL_UNAVAILABLE, detail=str(error)))
        try:
            await self._desk.admitted(job)
        except JournalError:
            entered = False
        else:
            entered = error.retriable  # otherwise the journal knows better what became of it
        if entered:
            await self._desk.conclude(job, denied)
            return
        self._desk.stats.denied += 1
        job.came_to(denied)


def _lane_of(job: Job) -> str:
    return (_PERSON_LANE if job.person else "") + job.signal.symbol.upper()


def _side(job: Job) -> Side:
    side = job.signal.action.side
    assert side is not None
    return side

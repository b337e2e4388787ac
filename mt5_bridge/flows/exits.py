"""CLOSE, CLOSE_BY, MODIFY and CANCEL: planned on a fresh read, sent leg by leg, concluded once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from loguru import logger

from mt5_bridge.core import exits as plan
from mt5_bridge.core import sizing
from mt5_bridge.core.decision import Denial
from mt5_bridge.core.errors import JournalError, MT5Error
from mt5_bridge.core.guards import reduces_risk
from mt5_bridge.core.intent import IntentState, comment_for
from mt5_bridge.core.messages import Leg, OrderResult, Reason, Status
from mt5_bridge.core.model import Action, Deed, Order, OrderRequest, Position, SymbolInfo
from mt5_bridge.core.times import DAY
from mt5_bridge.core.trailing import plan_of
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import Job, result
from mt5_bridge.flows.judge import Judge, unavailable
from mt5_bridge.flows.orders import Intent, OrderDesk, Sent
from mt5_bridge.flows.ownership import Ownership
from mt5_bridge.flows.plans import is_move
from mt5_bridge.flows.results import statuses
from mt5_bridge.flows.settle import Found
from mt5_bridge.flows.settle import judge as judge_case
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Priority, Terminal

_TARGET_POLL_S = 0.02
_LEGS_MOST = 64
"""Legs of a signal looked for after the journal was lost."""
_BEFORE = "executed before this journal began"


@dataclass
class Part:
    """One leg: its intent, what it is about, and what came of it."""

    intent: Intent
    target: Position | Order | None
    sent: Sent | None = None

    @property
    def state(self) -> IntentState:
        return IntentState.SENDING if self.sent is None else self.sent.state


@dataclass
class Targets:
    """What `target_signal_id` opened, by the journal: magics, and tickets where they are known."""

    magics: frozenset[int] = frozenset()
    tickets: frozenset[int] = frozenset()
    open: bool = False


class Exits:
    """Brings exit jobs to their final result.

    Args:
        deviation_points: allowed slippage of closing orders.
    """

    def __init__(
        self,
        desk: OrderDesk,
        judge: Judge,
        book: Book,
        terminal: Terminal,
        journal: Journal,
        clock: Clock,
        *,
        magic_base: int,
        deviation_points: int,
    ) -> None:
        self._desk = desk
        self._judge = judge
        self._book = book
        self._journal = journal
        self._clock = clock
        self._ownership = Ownership(terminal, journal, magic_base=magic_base)
        self._deviation = deviation_points

    async def work(self, job: Job) -> None:
        """Plan, judge, send, conclude."""
        planned = await self._plan(job)
        if isinstance(planned, Denial):
            await self._desk.protect(self._deny(job, planned))
        elif all(part.sent is not None for part in planned):
            await self._desk.protect(self._adopt(job, planned))
        else:
            await self._desk.protect(self._execute(job, planned))

    # --- planning

    async def _executed_before(self, job: Job) -> list[Part] | None:
        """Legs that a former journal may have sent: looked up before the first send. None: it sent none.

        Raises:
            MT5Error: the terminal cannot be asked.
        """
        if job.signal.action not in (Action.CLOSE, Action.CLOSE_BY):
            return None  # leaves no trace, and does nothing when done twice
        # A command says nothing of when it was asked first, and may be repeated for a day.
        since = job.created_msc - DAY if job.person else job.created_msc
        earlier = await self._desk.earlier(since)
        picture, parts = earlier.picture, list[Part]()
        for leg in range(_LEGS_MOST):
            magic = earlier.magic_like(self._desk.natural_magic(job.key, leg))
            if magic is None:
                continue
            deals = [deal for deal in picture.deals if deal.is_trade and deal.magic == magic]
            if not deals:
                continue
            volume = sum(d.volume for d in deals if d.position_id == deals[0].position_id)
            request = OrderRequest(
                deed=Deed.DEAL, symbol=job.symbol, position=deals[0].position_id, volume=volume, magic=magic
            )
            intent = Intent(key=job.key, leg=leg, request=request, action=job.signal.action.value)
            found = judge_case(self._desk.case(intent, since), picture)
            assert found is not None
            parts.append(Part(intent, None, Sent(state=found.state, request=request, found=found, detail=_BEFORE)))
        return parts or None

    async def _plan(self, job: Job) -> list[Part] | Denial:
        symbol = await self._judge.symbol(job.signal.symbol)
        if isinstance(symbol, Denial):
            return symbol
        job.symbol = symbol.name
        targets = await self._targets(job, symbol.name)
        try:
            before = await self._executed_before(job) if job.suspect else None
            if before is not None:
                return before
            await self._book.refresh(priority=Priority.CRITICAL if job.person else Priority.HIGH)
            return await self._parts(job, symbol, targets)
        except MT5Error as error:
            return unavailable(error)

    async def _targets(self, job: Job, symbol: str) -> Targets:
        """What the exit is about, once nothing of it is in flight or unknown any more, or its time is over."""
        deadline = job.deadline_msc(self._judge.limits.signal_max_age_ms)
        while True:
            targets = await self._target_intents(job)
            wait = targets.open if job.signal.target_signal_id else self._symbol_unknown(job, symbol)
            if not wait or self._clock.now_ms() >= deadline:
                return targets
            await asyncio.sleep(_TARGET_POLL_S)

    async def _target_intents(self, job: Job) -> Targets:
        if not job.signal.target_signal_id:
            return Targets()
        intents = await self._journal.intents(job.signal.target_signal_id)
        return Targets(
            magics=frozenset(i.magic for i in intents),
            tickets=frozenset(t for i in intents for t in (i.position, i.order) if t),
            # A managed stop on its way holds up no exit: what it moves is there already.
            open=any(IntentState(i.state).open for i in intents if not is_move(i)),
        )

    def _symbol_unknown(self, job: Job, symbol: str) -> bool:
        if job.signal.action is not Action.CLOSE or job.signal.position:
            return False
        return any(exposure.symbol == symbol and exposure.unknown for exposure in self._book.in_flight())

    async def _parts(self, job: Job, symbol: SymbolInfo, targets: Targets) -> list[Part] | Denial:
        match job.signal.action:
            case Action.CLOSE:
                return await self._close_parts(job, symbol, targets)
            case Action.CLOSE_BY:
                return await self._close_by_part(job, symbol)
            case _:
                return await self._change_part(job, symbol, targets)

    async def _close_parts(self, job: Job, symbol: SymbolInfo, targets: Targets) -> list[Part] | Denial:
        positions = tuple(self._book.positions.values())
        owned: dict[int, float] | None = None
        if self._book.netting and not job.signal.position:
            opened_with = targets.magics if job.signal.target_signal_id else None
            owned = await self._ownership.volumes(self._held(symbol.name), netting=True, opened_with=opened_with)
        ours = await self._ours(symbol.name, owned)
        chosen = plan.choose(job.signal, symbol.name, positions, ours, targets.magics, targets.tickets)
        if isinstance(chosen, Denial):
            return chosen
        if owned is not None:
            chosen = [position for position in chosen if owned.get(position.ticket, 0.0) > 0]
            if not chosen:
                return Denial(code=Reason.NOT_FOUND, detail=f"nothing of it is open in {symbol.name} any more")
        legs = plan.share_out(chosen, job.signal.volume, symbol, owned)
        if isinstance(legs, Denial):
            return legs
        parts: list[Part] = []
        for leg in legs:
            decision = self._judge.exit(job, symbol, leg.position, volume=leg.volume)
            if isinstance(decision, Denial):
                return decision
        magics = await self._magics(job, len(legs))
        for number, leg in enumerate(legs):
            request = plan.close_request(
                leg,
                None,  # the terminal host puts in the price of the moment it is sent
                magic=magics[number],
                comment=comment_for(job.key, job.signal.comment),
                deviation_points=self._points(job),
            )
            parts.append(self._part(job, number, on_the_grid(request, symbol), leg.position))
        return parts

    async def _magics(self, job: Job, count: int) -> list[int]:
        magics: list[int] = []
        try:
            for leg in range(count):
                magic = await self._desk.magic(job.key, leg, 0 if leg else job.free_magic)
                magics.append(magic)
        except JournalError:
            self._desk.give_back(*magics)
            raise
        return magics

    async def _close_by_part(self, job: Job, symbol: SymbolInfo) -> list[Part] | Denial:
        request = plan.close_by_request(job.signal, self._book.positions, magic=0, comment=comment_for(job.key))
        if isinstance(request, Denial):
            return request
        first, second = self._book.positions[request.position], self._book.positions[request.position_by]
        decision = self._judge.exit(job, symbol, first, target_by=second)
        if isinstance(decision, Denial):
            return decision
        request = msgspec.structs.replace(request, magic=await self._desk.magic(job.key, 0, job.free_magic))
        part = self._part(job, 0, request, first)
        part.intent = msgspec.structs.replace(part.intent, volume_before=min(first.volume, second.volume))
        return [part]

    async def _change_part(self, job: Job, symbol: SymbolInfo, targets: Targets) -> list[Part] | Denial:
        magic = await self._desk.magic(job.key, 0, job.free_magic)
        part: Part | Denial | None = None
        try:
            part = await self._approved(job, symbol, targets, magic)
        finally:
            self._judge.rate.leave(job)
            if not isinstance(part, Part):
                self._desk.give_back(magic)
        return [part] if isinstance(part, Part) else part

    async def _approved(self, job: Job, symbol: SymbolInfo, targets: Targets, magic: int) -> Part | Denial:
        """A MODIFY or CANCEL that may be sent. A MODIFY that raises risk waits for its turn and counts from then on."""
        while True:
            target = plan.find_target(
                job.signal,
                self._book.listed_positions,
                self._book.listed_orders,
                targets.magics,
                targets.tickets,
            )
            if isinstance(target, Denial):
                return target
            if job.signal.action is Action.CANCEL:
                assert isinstance(target, Order)
                denial = self._judge.exit(job, symbol, target)
                if isinstance(denial, Denial):
                    return denial
                return self._part(job, 0, plan.cancel_request(target, magic=magic), target)
            decision = await self._judge.change(job, symbol, target)
            if not isinstance(decision, Denial):
                decision = await self._may_manage(job, target) or decision
            if not isinstance(decision, Denial):
                request = on_the_grid(plan.modify_request(job.signal, target, magic=magic), symbol)
                if not reduces_risk(job.signal, target):
                    self._judge.rate.take(job)
                    self._book.change(request)
                return self._part(job, 0, request, target)
            if decision.code is not Reason.THROTTLED:
                return decision
            if not await self._judge.rate.turn(job):
                return self._judge.throttled(job)
            await self._book.refresh()

    async def _may_manage(self, job: Job, target: Position | Order) -> Denial | None:
        """Only what the bridge opened gets a managed stop: a person's positions are left alone."""
        if plan_of(job.signal) is None or not isinstance(target, Position):
            return None
        owned = await self._ownership.volumes([target], netting=self._book.netting)
        if owned[target.ticket] > 0:
            return None
        return Denial(
            code=Reason.UNSUPPORTED,
            detail=f"position {target.ticket} was not opened by this bridge: its stop is not managed",
        )

    def _part(self, job: Job, leg: int, request: OrderRequest, target: Position | Order) -> Part:
        volume = target.volume if isinstance(target, Position) else None
        intent = Intent(key=job.key, leg=leg, request=request, action=job.signal.action.value, volume_before=volume)
        return Part(intent, target)

    def _points(self, job: Job) -> int:
        return self._deviation if job.signal.deviation_points is None else job.signal.deviation_points

    async def _ours(self, symbol: str, owned: dict[int, float] | None) -> Callable[[Position], bool]:
        """Whether a position of the symbol is the bridge's."""
        if owned is None:
            owned = await self._ownership.volumes(self._held(symbol), netting=False)
        volumes = owned
        return lambda position: volumes.get(position.ticket, 0.0) > 0

    def _held(self, symbol: str) -> list[Position]:
        return [position for position in self._book.positions.values() if position.symbol == symbol]

    # --- sending

    async def _execute(self, job: Job, parts: list[Part]) -> None:
        opened = [self._desk.opened(part.intent, self._clock.now_ms()) for part in parts]
        try:
            written = await self._written(job, opened, parts[0])
        except JournalError:
            for part in parts:
                self._known(part)
            raise
        more: list[changes.Change] = [] if written else [*opened]
        for part in parts:
            part.sent = await self._send(job, part)
            self._known(part)
            if not written or (part is parts[-1] and part.state is not IntentState.UNKNOWN):
                more.append(self._moved(part))
            elif part.state is not IntentState.UNKNOWN:
                more += await self._record(part)
        unknown = any(part.state is IntentState.UNKNOWN for part in parts)
        # The lane goes on: what comes next on the symbol need not wait until this result is durable.
        self._desk.spawn(self._tell(job, parts, self.result(job, parts), more, unknown=unknown))
        if not self._book.about_to_read:
            self._desk.spawn(self._refresh())

    async def _tell(
        self, job: Job, parts: list[Part], told: OrderResult, more: list[changes.Change], *, unknown: bool
    ) -> None:
        """Announce what is known, then, of what is unknown, what it turns out to be: never the other way round."""
        telling = self._desk.conclude(job, told, *more, interim=unknown or not job.entered)
        if unknown:
            await self.finish_unknown(job, parts, after=self._desk.spawn(telling))
        else:
            await telling

    def _begun(self, job: Job, part: Part) -> tuple[changes.Change, ...]:
        if job.signal.action is not Action.MODIFY or not isinstance(part.target, Position):
            return ()
        return self._desk.plans.begin(job, part.intent.magic, part.target)

    async def _written(self, job: Job, opened: list[changes.IntentOpened], first: Part) -> bool:
        """Whether the intents are durable. A person who closes does not wait for a disk that is full; a signal does.

        Raises:
            JournalError: they are not, and this is no person's command, or one that raises risk.
        """
        try:
            # As it is by then: what is noted of all plans must not be older than what others have written meanwhile.
            await self._desk.begin(job, opened, lambda: self._begun(job, first))
        except JournalError as error:
            self._desk.plans.drop(opened[0].magic)
            if not job.person or not error.retriable or not reduces_risk(job.signal, first.target):
                self._desk.give_back(*(intent.magic for intent in opened))
                raise
            logger.bind(event="exit_not_journalled", key=job.key).error(
                "ERROR the journal cannot be written; acting all the same, this lowers risk: {error}", error=error
            )
            return False
        return True

    async def _adopt(self, job: Job, parts: list[Part]) -> None:
        """Legs of an earlier life enter the journal with their outcome."""
        await self._desk.admitted(job)
        opened = [self._desk.opened(part.intent, self._clock.now_ms()) for part in parts]
        await self._desk.conclude(job, self.result(job, parts), *opened, *(self._moved(part) for part in parts))

    async def finish_unknown(self, job: Job, parts: list[Part], after: "asyncio.Task[object] | None" = None) -> None:
        """Look the unknown legs up and give the one final result, once what is told before it is told."""
        resolved = [part for part in parts if part.state.open]
        for part in resolved:
            sent_msc = part.sent.sent_msc if part.sent else self._clock.now_ms()
            found = await self._desk.resolve(self._desk.case(part.intent, sent_msc))
            part.sent = Sent(
                state=found.state, request=part.intent.request, found=found, detail=found.detail, sent_msc=sent_msc
            )
            self._known(part)
        if after is not None:
            await asyncio.wait([after])
        for part in resolved:
            await self._desk.record(job.key, self._moved(part))
        await self._desk.conclude(job, self.result(job, parts), interim=not job.entered)
        self._desk.spawn(self._refresh())

    def _known(self, part: Part) -> None:
        """A change that raises risk counts until its outcome is known, and read."""
        if part.state is not IntentState.UNKNOWN:
            self._book.changed(part.intent.magic)

    async def _send(self, job: Job, part: Part) -> Sent:
        closing = job.signal.action is Action.CLOSE
        return await self._desk.send(
            job,
            part.intent,
            check=lambda: self._judge.last_word(job, part.target),
            again=lambda: self._again(job, part),
            look=lambda: self._looked(job, part),
            back=lambda: self._judge.taken_back(job, part.target),
            priority=Priority.CRITICAL if job.person or closing else Priority.HIGH,
        )

    async def _again(self, job: Job, part: Part) -> OrderRequest | Denial:
        """The same on a fresh read and a fresh judgement; the price is that of the moment anyway."""
        try:
            return await self._look(job, part) or part.intent.request
        except MT5Error as error:
            return unavailable(error)

    async def _looked(self, job: Job, part: Part) -> OrderRequest | Denial | None:
        try:
            return await self._look(job, part)
        except MT5Error as error:
            logger.bind(event="refresh_failed").warning("The account cannot be read: {error}", error=error)
            return None

    async def _look(self, job: Job, part: Part) -> OrderRequest | Denial | None:
        """What is left to do after a fresh read: None, all of it; a smaller volume; or nothing, and why.

        Raises:
            MT5Error: there was no complete read.
        """
        request = part.intent.request
        await self._book.refresh(priority=Priority.CRITICAL)
        held = self._book.positions.get(request.position) if request.position else None
        target = held if request.position else self._book.orders.get(request.order)
        if target is None:
            gone = f"position {request.position}" if request.position else f"order {request.order}"
            return Denial(code=Reason.NOT_FOUND, detail=f"{gone} is gone meanwhile")
        symbol = self._book.symbols.get(request.symbol)
        other = self._book.positions.get(request.position_by)
        decision = self._judge.exit(job, symbol, target, target_by=other, volume=request.volume or None)
        if isinstance(decision, Denial):
            return decision
        if held is not None and held.volume < request.volume:
            return msgspec.structs.replace(request, volume=held.volume)
        return None

    async def _record(self, part: Part) -> list[changes.Change]:
        """Journal the outcome of a leg; returns what is still to be written with the result, when it cannot be now."""
        moved = self._moved(part)
        try:
            await self._desk.commit(moved)
        except JournalError as error:
            # Until then still `sending` in the journal: after a crash it is looked up again, never sent again.
            logger.bind(event="intent_not_journalled", magic=part.intent.magic).error(
                "ERROR the outcome of an exit cannot be journalled: {error}", error=error
            )
            return [moved]
        return []

    def _moved(self, part: Part) -> changes.IntentMoved:
        assert part.sent is not None
        return self._desk.moved(part.intent.magic, part.sent, self._clock.now_ms())

    def result(self, job: Job, parts: list[Part], supersedes: str | None = None) -> OrderResult:
        """The `order_result` of an exit."""
        now = self._clock.now_ms()
        denials = [part.sent.denial for part in parts if part.sent and part.sent.denial]
        if len(denials) == len(parts):
            return self._denied(job, denials[0])
        closing = job.signal.action in (Action.CLOSE, Action.CLOSE_BY)
        states = [part.state for part in parts]
        first = parts[0]
        sent = first.sent
        status = statuses(states) if closing else Status(first.state.value)
        refused = next((p.sent for p in parts if p.sent and p.sent.state is IntentState.REJECTED), None)
        told = refused or sent
        found: Found | None = sent.found if sent else None
        reason = _reason(status, refused)
        return result(
            job,
            status,
            now_msc=now,
            request=first.intent.request,
            answer=(told.answer if told else None),
            retcode_text=told.retcode_text if told else None,
            reason=reason,
            detail=told.detail if told else None,
            order=(found.order if found else None) or (None if closing else first.intent.request.order or None),
            deal=found.deal if found else None,
            price=found.price if found else None,
            volume_filled=_closed_volume(parts) if closing else None,
            legs=[_leg(part) for part in parts] if job.signal.action is Action.CLOSE else None,
            supersedes=supersedes,
        )

    async def _deny(self, job: Job, denial: Denial) -> None:
        denial = self._judge.foremost(job, denial)
        await self._desk.admitted(job)
        await self._desk.conclude(job, self._denied(job, denial))

    def _denied(self, job: Job, denial: Denial) -> OrderResult:
        return result(job, Status.DENIED, now_msc=self._clock.now_ms(), reason=denial.code, detail=denial.detail)

    async def _refresh(self) -> None:
        try:
            await self._book.refresh(spaced=True)
        except MT5Error as error:
            logger.bind(event="refresh_failed").warning("The account cannot be read: {error}", error=error)


def _reason(status: Status, refused: Sent | None) -> Reason | None:
    if status is Status.UNKNOWN:
        return Reason.UNKNOWN_OUTCOME
    if status is Status.ABANDONED:
        return Reason.NOT_FOUND
    if refused is None or status in (Status.CLOSED, Status.MODIFIED, Status.CANCELLED):
        return None
    return refused.denial.code if refused.denial else refused.reason or Reason.TERMINAL_REFUSED


def _volume(part: Part) -> float:
    sent = part.sent
    if sent is None or sent.state not in (IntentState.CLOSED, IntentState.PARTIAL):
        return 0.0
    if sent.found and sent.found.volume:
        return sent.found.volume
    if sent.answer and sent.answer.volume:
        return sent.answer.volume
    if part.intent.request.volume:
        return part.intent.request.volume
    return part.intent.volume_before or 0.0


def _closed_volume(parts: list[Part]) -> float:
    return round(sum(_volume(part) for part in parts), 8)


def _leg(part: Part) -> Leg:
    sent = part.sent
    found, answer = (sent.found, sent.answer) if sent else (None, None)
    return Leg(
        position=part.intent.request.position,
        order=(found.order if found else None) or (answer.order if answer else 0) or 0,
        deal=(found.deal if found else None) or (answer.deal if answer else 0) or 0,
        status=part.state.value,
    )


def on_the_grid(request: OrderRequest, symbol: SymbolInfo) -> OrderRequest:
    """The request with its prices rounded to the symbol's tick size."""

    def rounded(price: float) -> float:
        return sizing.round_price(price, symbol.tick_size, symbol.digits) if price else 0.0

    return msgspec.structs.replace(
        request,
        price=rounded(request.price),
        stop_limit_price=rounded(request.stop_limit_price),
        stop_loss=rounded(request.stop_loss),
        take_profit=rounded(request.take_profit),
    )

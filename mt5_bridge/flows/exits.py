"""CLOSE, CLOSE_BY, MODIFY and CANCEL: planned on a fresh read, sent leg by leg, concluded once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from loguru import logger

from mt5_bridge.core import exits as plan
from mt5_bridge.core.decision import Denial
from mt5_bridge.core.errors import JournalError, MT5Error
from mt5_bridge.core.intent import IntentState, comment_for, magic_base
from mt5_bridge.core.messages import Leg, OrderResult, Reason, Status, TradingSignal
from mt5_bridge.core.model import Action, DealEntry, Order, OrderRequest, Position, Side, SymbolInfo
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import Job, result
from mt5_bridge.flows.judge import Judge, unavailable
from mt5_bridge.flows.orders import Intent, OrderDesk, Sent, statuses
from mt5_bridge.flows.settle import Found
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Priority, Terminal

_TARGET_POLL_S = 0.1


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
        self._terminal = terminal
        self._journal = journal
        self._clock = clock
        self._magic_base = magic_base
        self._deviation = deviation_points

    async def work(self, job: Job) -> None:
        """Plan, judge, send, conclude."""
        planned = await self._plan(job)
        if isinstance(planned, Denial):
            await self._desk.protect(self._deny(job, planned))
        else:
            await self._desk.protect(self._execute(job, planned))

    async def set_stops(self, job: Job, position: Position, stop_loss: float, take_profit: float) -> None:
        """Give a position the stop and target its opening asked for."""
        signal = TradingSignal(
            symbol=position.symbol,
            action=Action.MODIFY,
            position=position.ticket,
            stop_loss=stop_loss or None,
            take_profit=take_profit or None,
        )
        job.follow_ups += 1
        magic = await self._desk.magic(job.key, job.follow_ups)
        request = plan.modify_request(signal, position, magic=magic)
        intent = Intent(key=job.key, leg=job.follow_ups, request=request, action=Action.MODIFY.value)
        await self._follow_up(job, intent)

    async def close_unprotected(self, job: Job, position: Position) -> None:
        """Close a position whose stop cannot be set, and report it."""
        quote = await self._terminal.get_price(position.symbol)
        job.follow_ups += 1
        magic = await self._desk.magic(job.key, job.follow_ups)
        request = plan.close_request(
            plan.Close(position, position.volume),
            quote,
            magic=magic,
            comment=comment_for("stop not set"),
            deviation_points=self._deviation,
        )
        intent = Intent(
            key=job.key,
            leg=job.follow_ups,
            request=request,
            action=Action.CLOSE.value,
            volume_before=position.volume,
        )
        sent = await self._follow_up(job, intent)
        report = result(
            job,
            Status.CLOSED if sent.state is IntentState.CLOSED else Status.REJECTED,
            now_msc=self._clock.now_ms(),
            reason=Reason.STOP_NOT_SET,
            detail="the stop could not be set after the fill; the position was closed",
            request=request,
            answer=sent.answer,
        )
        await self._desk.conclude(job, report, interim=True)

    # --- planning

    async def _plan(self, job: Job) -> list[Part] | Denial:
        symbol = await self._judge.symbol(job.signal.symbol)
        if isinstance(symbol, Denial):
            return symbol
        job.symbol = symbol.name
        targets = await self._targets(job, symbol.name)
        try:
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
            open=any(IntentState(i.state).open for i in intents),
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
        owned = await self._owned(symbol.name) if self._book.netting and not job.signal.position else None
        ours = await self._ours(positions, owned)
        chosen = plan.choose(job.signal, symbol.name, positions, ours, targets.magics, targets.tickets)
        if isinstance(chosen, Denial):
            return chosen
        legs = plan.share_out(chosen, job.signal.volume, symbol, owned)
        if isinstance(legs, Denial):
            return legs
        parts = []
        quote = await self._terminal.get_price(symbol.name)
        self._book.quotes[symbol.name] = quote
        for number, leg in enumerate(legs):
            decision = self._judge.exit(job, symbol, leg.position, volume=leg.volume)
            if isinstance(decision, Denial):
                return decision
            request = plan.close_request(
                leg,
                quote,
                magic=await self._desk.magic(job.key, number),
                comment=comment_for(job.key, job.signal.comment),
                deviation_points=self._points(job),
            )
            parts.append(self._part(job, number, request, leg.position))
        return parts

    async def _close_by_part(self, job: Job, symbol: SymbolInfo) -> list[Part] | Denial:
        magic = await self._desk.magic(job.key, 0)
        request = plan.close_by_request(job.signal, self._book.positions, magic=magic, comment=comment_for(job.key))
        if isinstance(request, Denial):
            return request
        first, second = self._book.positions[request.position], self._book.positions[request.position_by]
        decision = self._judge.exit(job, symbol, first, target_by=second)
        return decision if isinstance(decision, Denial) else [self._part(job, 0, request, first)]

    async def _change_part(self, job: Job, symbol: SymbolInfo, targets: Targets) -> list[Part] | Denial:
        target = plan.find_target(
            job.signal,
            tuple(self._book.positions.values()),
            tuple(self._book.orders.values()),
            targets.magics,
            targets.tickets,
        )
        if isinstance(target, Denial):
            return target
        modify = job.signal.action is Action.MODIFY
        decision = await self._judge.change(job, symbol, target) if modify else self._judge.exit(job, symbol, target)
        if isinstance(decision, Denial):
            return decision
        magic = await self._desk.magic(job.key, 0)
        if job.signal.action is Action.CANCEL:
            assert isinstance(target, Order)
            return [self._part(job, 0, plan.cancel_request(target, magic=magic), target)]
        return [self._part(job, 0, plan.modify_request(job.signal, target, magic=magic), target)]

    def _part(self, job: Job, leg: int, request: OrderRequest, target: Position | Order) -> Part:
        volume = target.volume if isinstance(target, Position) else None
        intent = Intent(key=job.key, leg=leg, request=request, action=job.signal.action.value, volume_before=volume)
        return Part(intent, target)

    def _points(self, job: Job) -> int:
        return self._deviation if job.signal.deviation_points is None else job.signal.deviation_points

    async def _ours(self, positions: Sequence[Position], owned: dict[int, float] | None):  # type: ignore[no-untyped-def]
        """Whether a position is the bridge's: its magic carries MT5_MAGIC, or the journal knows it."""
        known = await self._journal.our_magics_among([p.magic for p in positions if p.magic])

        def ours(position: Position) -> bool:
            if owned is not None:
                return owned.get(position.ticket, 0.0) > 0
            return position.magic in known or magic_base(position.magic) == self._magic_base

        return ours

    async def _owned(self, symbol: str) -> dict[int, float]:
        """On netting: how much of each position is ours, by the sum of the deals with our magics."""
        owned: dict[int, float] = {}
        for position in self._book.positions.values():
            if position.symbol != symbol:
                continue
            deals = await self._terminal.get_history_deals(position=position.identifier or position.ticket)
            known = await self._journal.our_magics_among([d.magic for d in deals if d.magic])
            signed = sum(
                d.volume * (1 if d.side is Side.BUY else -1)
                for d in deals
                if d.is_trade
                and (d.magic in known or magic_base(d.magic) == self._magic_base)
                and d.entry is not DealEntry.OUT_BY
            )
            mine = signed if position.side is Side.BUY else -signed
            owned[position.ticket] = max(0.0, min(mine, position.volume))
        return owned

    # --- sending

    async def _execute(self, job: Job, parts: list[Part]) -> None:
        if job.admitted is not None:
            await asyncio.shield(job.admitted)
        now = self._clock.now_ms()
        await self._desk.commit(*(self._desk.opened(part.intent, now) for part in parts))
        for part in parts:
            part.sent = await self._send(job, part)
            if part.sent.state is not IntentState.UNKNOWN:
                await self._record(part)
        if any(part.state is IntentState.UNKNOWN for part in parts):
            await self._desk.conclude(job, self._result(job, parts), interim=True)
            self._desk.spawn(self.finish_unknown(job, parts))
        else:
            await self._desk.conclude(job, self._result(job, parts))
        await self._refresh()

    async def finish_unknown(self, job: Job, parts: list[Part]) -> None:
        """Look the unknown legs up and give the one final result."""
        for part in parts:
            if part.state.open:
                sent_msc = part.sent.sent_msc if part.sent else self._clock.now_ms()
                found = await self._desk.resolve(self._desk.case(part.intent, sent_msc))
                part.sent = Sent(
                    state=found.state, request=part.intent.request, found=found, detail=found.detail, sent_msc=sent_msc
                )
                await self._record(part)
        await self._desk.conclude(job, self._result(job, parts))
        await self._refresh()

    async def _send(self, job: Job, part: Part) -> Sent:
        request = part.intent.request

        async def again() -> OrderRequest | Denial:
            if not request.price or job.signal.action is not Action.CLOSE:
                return request
            try:
                quote = await self._terminal.get_price(request.symbol)
            except MT5Error as error:
                return unavailable(error)
            return msgspec.structs.replace(request, price=quote.price_to_open(request.type.side))

        return await self._desk.send(
            job,
            part.intent,
            check=lambda: self._judge.last_word(job, part.target),
            again=again,
            priority=Priority.CRITICAL if job.person else Priority.HIGH,
        )

    async def _follow_up(self, job: Job, intent: Intent) -> Sent:
        """An order the bridge adds of its own accord to protect a fill; its halt check passes by origin."""
        part = Part(intent, None)
        await self._desk.commit(self._desk.opened(intent, self._clock.now_ms()))
        part.sent = await self._desk.send(None, intent, check=lambda: None, priority=Priority.HIGH)
        if part.sent.state is IntentState.UNKNOWN:
            found = await self._desk.resolve(self._desk.case(intent, part.sent.sent_msc))
            part.sent = Sent(state=found.state, request=intent.request, found=found, sent_msc=part.sent.sent_msc)
        await self._record(part)
        return part.sent

    async def _record(self, part: Part) -> None:
        assert part.sent is not None
        moved = self._desk.moved(part.intent.magic, part.sent, self._clock.now_ms())
        try:
            await self._desk.commit(moved)
        except JournalError as error:
            # Still `sending` in the journal: looked up again at the next start, never sent again.
            logger.bind(event="intent_not_journalled", magic=part.intent.magic).error(
                "ERROR the outcome of an exit cannot be journalled: {error}", error=error
            )

    def _result(self, job: Job, parts: list[Part]) -> OrderResult:
        now = self._clock.now_ms()
        if len(parts) == 1 and parts[0].sent is not None and parts[0].sent.denial is not None:
            return self._denied(job, parts[0].sent.denial)
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
        )

    async def _deny(self, job: Job, denial: Denial) -> None:
        if job.admitted is not None:
            await asyncio.shield(job.admitted)
        await self._desk.conclude(job, self._denied(job, denial))

    def _denied(self, job: Job, denial: Denial) -> OrderResult:
        return result(job, Status.DENIED, now_msc=self._clock.now_ms(), reason=denial.code, detail=denial.detail)

    async def _refresh(self) -> None:
        try:
            await self._book.refresh()
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

"""Managed stops: moved along behind the price, or to the open price, while the bridge runs.

A move is a MODIFY of the bridge's own, on the word of the signal that brought the plan: judged like a signal, an intent
of its own in the journal, sent through the one door, its unknown outcome looked up. It passes while REDUCING, for it
only ever tightens, and waits while HALTED, for then no signal's wish is acted on. The host holds it against the stop
that stands at that moment: not even a person's hand in between makes it move one back.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from loguru import logger

from mt5_bridge.core.decision import Denial
from mt5_bridge.core.errors import BridgeError, JournalError, MT5Error
from mt5_bridge.core.intent import IntentState
from mt5_bridge.core.messages import OrderResult, Reason, Status, TradingSignal
from mt5_bridge.core.model import Action, Deed, OrderRequest, OrderType, Position, SymbolInfo
from mt5_bridge.core.times import SECOND
from mt5_bridge.core.trailing import Move, left_of, next_stop
from mt5_bridge.flows.binder import Binder
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import MANAGED, Job, result
from mt5_bridge.flows.judge import Judge
from mt5_bridge.flows.orders import Intent, OrderDesk, Sent
from mt5_bridge.flows.ownership import Ownership
from mt5_bridge.flows.plans import FIRST_MOVE, Managed, identifier, is_move
from mt5_bridge.flows.protect import StopGuard
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Terminal

LOOK_S = 0.1
THROTTLE_S = 1.0
"""At most one move a second of a position; brokers count requests."""
BACK_OFF_MOST_S = 60.0
_FRESH_MS = 2 * SECOND
_SEND_TIMEOUT_S = 10.0
_RETRY_S = 1.0
_PAUSE_S = 2.0
_RULES_S = 60.0
"""How long a symbol's stops and freeze level are believed; brokers widen them at news."""
_NO_CHANGES = 10025


@dataclass
class _Watch:
    """What this life knows of one plan.

    Attributes:
        leg: of the last move; 0: the journal has not been asked yet.
        not_before: no move before then, monotonic seconds.
        pause_s: the last back-off.
        busy: the outcome of a move is looked up.
        volume: of the position when it was last found to be ours.
        doubtful: it was not, the last time; history lags.
    """

    leg: int = 0
    not_before: float = 0.0
    pause_s: float = 0.0
    busy: bool = False
    volume: float | None = None
    doubtful: bool = False


class Trailing:
    """Follows the price with the stops of managed positions.

    Args:
        guard: looks after the stops of fills; while it does, they are not moved.
        magic_base: MT5_MAGIC.
    """

    def __init__(
        self,
        desk: OrderDesk,
        judge: Judge,
        book: Book,
        guard: StopGuard,
        terminal: Terminal,
        journal: Journal,
        clock: Clock,
        *,
        magic_base: int,
    ) -> None:
        self.moves = 0
        self._desk = desk
        self._plans = desk.plans
        self._judge = judge
        self._book = book
        self._guard = guard
        self._terminal = terminal
        self._journal = journal
        self._clock = clock
        self._ownership = Ownership(terminal, journal, magic_base=magic_base)
        self._watches: dict[int, _Watch] = {}
        self._rules_due: dict[str, float] = {}
        """Symbol → when its rules are to be read anew, monotonic seconds."""
        self._binder = Binder(desk.plans, book, journal, clock, desk.reserved)

    async def run(self) -> None:
        """Look at the managed positions ten times a second; the terminal is asked only when a stop is to be moved."""
        while True:
            await self._plans.wait()
            await self._book.reconciled.wait()
            pause = LOOK_S
            try:
                await self._round()
            except BridgeError as error:
                pause = _RETRY_S
                logger.bind(event="trailing_waits").warning("Managed stops are looked at later: {e}", e=error)
            await asyncio.sleep(pause)

    async def _round(self) -> None:
        await self._binder.bind()
        positions = {identifier(position): position for position in self._book.positions.values()}
        changing = self._plans.changing()
        for managed in [m for m in self._plans.here() if m.position]:
            try:
                await self._follow(managed, positions.get(managed.position), changing=managed.position in changing)
            except BridgeError as error:
                # What ails one does not hold up the others; nothing was sent, so nobody is flooded by the next try.
                self._watches[managed.magic].not_before = self._clock.monotonic() + _PAUSE_S
                logger.bind(event="stop_waits").warning("The stop of {p} waits: {e}", p=managed.position, e=error)
        self._watches = {magic: watch for magic, watch in self._watches.items() if magic in self._plans.open}
        noted = self._plans.noted()
        if noted:
            try:
                await self._desk.commit(*noted)
            except JournalError:
                self._plans.unwritten()
                raise

    # --- following the price

    async def _follow(self, managed: Managed, position: Position | None, *, changing: bool) -> None:
        if position is None:
            self._binder.not_seen(managed)
            return
        watch = self._watches.setdefault(managed.magic, _Watch())
        if not watch.doubtful:
            self._binder.seen(managed)
        left = left_of(managed.plan, position)
        if position.side is not managed.side or not left.active:
            self._plans.end(managed)
            return
        if left != managed.plan:
            self._plans.change(managed, plan=left)
        if changing or watch.busy or self._guard.watching(position.magic) or self._desk.unclear(position.ticket):
            return
        if self._clock.monotonic() < watch.not_before or not await self._is_ours(managed, watch, position):
            return
        symbol = await self._rules(position.symbol)
        if symbol is None or not any(next_stop(position, at, symbol, left) for at in self._prices(position)):
            return
        watch.not_before = self._clock.monotonic() + THROTTLE_S
        await self._move(managed, watch, position, symbol)

    async def _is_ours(self, managed: Managed, watch: _Watch, position: Position) -> bool:
        """On netting, what is left after a part was closed may be all a person's: the plan ends when that stays so."""
        if not self._book.netting or watch.volume == position.volume:
            return True
        volumes = await self._ownership.volumes([position], netting=True)
        watch.doubtful = volumes[position.ticket] <= 0
        if watch.doubtful:
            watch.not_before = self._clock.monotonic() + _RETRY_S
            self._binder.not_seen(managed)
            return False
        watch.volume = position.volume
        return True

    async def _rules(self, name: str) -> SymbolInfo | None:
        """A symbol's rules: after a refusal as they are now, and where it has levels no older than a minute."""
        now, due = self._clock.monotonic(), self._rules_due.get(name)
        symbol = await self._book.symbol(name, anew=due is not None and now >= due)
        if due is None or now >= due:
            levels = symbol is not None and (symbol.stops_level or symbol.freeze_level)
            self._rules_due[name] = now + _RULES_S if levels else float("inf")
        return symbol

    def _prices(self, position: Position) -> Iterator[float]:
        """At which it would close, as last read with it and as its symbol's ticks tell since."""
        yield position.price_current
        quote = self._book.quotes.get(position.symbol)
        if quote is not None and self._clock.now_ms() - quote.time_msc < _FRESH_MS:
            yield quote.price_to_close(position.side)

    # --- moving a stop

    async def _move(self, managed: Managed, watch: _Watch, position: Position, symbol: SymbolInfo) -> None:
        waits = self._judge.last_word(self._job(managed, position, position.stop_loss), position)
        if waits is not None:
            return  # halted: the terminal is not asked either
        quote = await self._terminal.get_price(position.symbol)
        move = next_stop(position, quote.price_to_close(position.side), symbol, self._plans.open[managed.magic].plan)
        if move is None:
            return
        job = self._job(managed, position, move.stop)
        denial = self._judge.last_word(job, position)
        decision = denial or self._judge.exit(job, symbol, position)
        if isinstance(decision, Denial):
            logger.bind(event="stop_waits", ticket=position.ticket, code=decision.code.value).debug(
                "The stop of position {t} is not moved: {why}", t=position.ticket, why=decision.detail
            )
            return
        await self._desk.protect(self._send(managed, watch, job, position, move))

    def _job(self, managed: Managed, position: Position, stop: float) -> Job:
        now = self._clock.now_ms()
        signal = TradingSignal(
            symbol=position.symbol,
            action=Action.MODIFY,
            position=position.ticket,
            stop_loss=stop,
            account=self._judge.limits.account,
        )
        return Job(managed.key, signal, now, now, MANAGED, symbol=position.symbol)

    async def _send(self, managed: Managed, watch: _Watch, job: Job, position: Position, move: Move) -> None:
        leg = await self._next_leg(managed, watch)
        if leg is None:
            return
        magic = await self._desk.magic(managed.key, leg)
        request = OrderRequest(
            deed=Deed.SLTP,
            symbol=position.symbol,
            type=OrderType.of(position.side),
            position=position.ticket,
            stop_loss=move.stop,
            take_profit=position.take_profit,
            magic=magic,
            nearer_only=True,
            keeps_target=True,
        )
        intent = Intent(key=managed.key, leg=leg, request=request, action=move.why.value)
        watch.leg = leg
        try:
            await self._desk.commit(self._desk.opened(intent, self._clock.now_ms()))
        except JournalError:
            self._desk.give_back(magic)
            watch.leg = 0
            raise

        def check() -> Denial | None:
            return self._judge.last_word(job, position) or self._overtaken(managed, position)

        sent = await self._desk.send(job, intent, check=check, timeout=_SEND_TIMEOUT_S)
        if sent.state is IntentState.UNKNOWN:
            watch.busy = True
            self._desk.spawn(self._look_up(watch, job, intent, sent))
        else:
            await self._conclude(watch, job, intent, sent)

    def _overtaken(self, managed: Managed, position: Position) -> Denial | None:
        if managed.position in self._plans.changing():
            return Denial(code=Reason.EXPIRED, detail="a later signal is changing how this stop is managed")
        if self._desk.unclear(position.ticket):
            return Denial(code=Reason.UNKNOWN_OUTCOME, detail="what came of another change of this stop is not known")
        return None

    async def _next_leg(self, managed: Managed, watch: _Watch) -> int | None:
        """The number of the next move; None: one of an earlier life is still looked up."""
        if not watch.leg:
            moves = [intent for intent in await self._journal.intents(managed.key) if is_move(intent)]
            if any(IntentState(intent.state).open for intent in moves):
                return None
            watch.leg = max((intent.leg for intent in moves), default=FIRST_MOVE - 1)
        return watch.leg + 1

    async def _look_up(self, watch: _Watch, job: Job, intent: Intent, sent: Sent) -> None:
        try:
            found = await self._desk.resolve(self._desk.case(intent, sent.sent_msc))
            known = msgspec.structs.replace(sent, state=found.state, found=found, detail=found.detail)
            await self._conclude(watch, job, intent, known)
        finally:
            watch.busy = False

    async def _conclude(self, watch: _Watch, job: Job, intent: Intent, sent: Sent) -> None:
        """Journal what came of a move, announce it, and say when the next may be."""
        moved = self._desk.moved(intent.magic, sent, self._clock.now_ms())
        done = sent.state is IntentState.MODIFIED
        if done:
            watch.pause_s = 0.0
        else:
            self._hold_off(watch)
            self._rules_due[intent.request.symbol] = self._clock.monotonic()
        if done and sent.answer is not None and sent.answer.retcode == _NO_CHANGES:
            await self._desk.commit(moved)  # somebody had moved it there: nothing to tell
        else:
            self.moves += done
            await self._desk.conclude(job, self._result(job, intent, sent), moved, interim=True)
        self._desk.spawn(self._refresh())

    def _hold_off(self, watch: _Watch) -> None:
        watch.pause_s = min(max(THROTTLE_S, watch.pause_s * 2), BACK_OFF_MOST_S)
        watch.not_before = self._clock.monotonic() + watch.pause_s

    def _result(self, job: Job, intent: Intent, sent: Sent) -> OrderResult:
        denial, done = sent.denial, sent.state is IntentState.MODIFIED
        detail = denial.detail if denial else f"as signal {job.key} asked" if done else sent.detail
        reason = denial.code if denial else sent.reason or Reason.TERMINAL_REFUSED
        if done or sent.state is IntentState.SIMULATED:
            reason = Reason(intent.action)
        return result(
            job,
            Status.DENIED if denial else Status(sent.state.value),
            now_msc=self._clock.now_ms(),
            request=intent.request,
            answer=sent.answer,
            retcode_text=sent.retcode_text,
            reason=reason,
            detail=detail,
        )

    async def _refresh(self) -> None:
        try:
            await self._book.refresh(spaced=True)
        except MT5Error as error:
            logger.bind(event="refresh_failed").warning("The account cannot be read: {error}", error=error)

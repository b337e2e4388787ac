"""What each command does. Whoever asks (backend, gateway, local) gets the same answers from here."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mt5_bridge.control import commands as table
from mt5_bridge.control import params as p
from mt5_bridge.control.commands import Command
from mt5_bridge.core import halt as machine
from mt5_bridge.core import risk, wire
from mt5_bridge.core.decision import Day, Limits
from mt5_bridge.core.errors import JournalError, MT5Error, MT5ValidationError
from mt5_bridge.core.halt import Halt, Origin, ResumeRefusal
from mt5_bridge.core.messages import (
    OrderResult,
    Reason,
    Status,
    TradingSignal,
    account_message,
    position_message,
)
from mt5_bridge.core.model import Action, Position
from mt5_bridge.core.times import iso
from mt5_bridge.flows import past
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.control import Refusal
from mt5_bridge.flows.emergency import Emergency
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.orders import OrderDesk
from mt5_bridge.flows.ownership import Ownership
from mt5_bridge.flows.shapes import bar_data, deal_data, halt_data, order_data, symbol_data, tick_data
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.ticks import TickFlow
from mt5_bridge.flows.watch import DAY_MEMO
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Priority, Terminal

_DONE = frozenset(Status) - {Status.DENIED, Status.REJECTED, Status.UNKNOWN, Status.ABANDONED}
_FIRST_ANSWER_LOOKS = 60
_FIRST_ANSWER_PAUSE_S = 0.5


Making = Callable[[], Awaitable[TradingSignal]]
"""Makes a command's signal; asked only when the command was not done before."""


class Commands:
    """The table's rows as functions. Each returns the answer's `data` or raises `Refusal`.

    Args:
        limits: the settings now.
        status: the health report, for `get_status` and `heartbeat`.
        remote_resume: RESUME_REMOTE.
    """

    def __init__(
        self,
        terminal: Terminal,
        book: Book,
        journal: Journal,
        latch: HaltLatch,
        emergency: Emergency,
        desk: OrderDesk,
        intake: Intake,
        ticks: TickFlow,
        clock: Clock,
        *,
        limits: Callable[[], Limits],
        status: Callable[[], dict[str, Any]],
        remote_resume: bool,
        magic_base: int,
    ) -> None:
        self._terminal = terminal
        self._book = book
        self._journal = journal
        self._latch = latch
        self._emergency = emergency
        self._desk = desk
        self._intake = intake
        self._ticks = ticks
        self._clock = clock
        self._limits = limits
        self._status = status
        self._remote_resume = remote_resume
        self._ownership = Ownership(terminal, journal, magic_base=magic_base)

    def table(self) -> dict[str, Callable[[Command], Awaitable[Any]]]:
        """Name → function."""
        return {
            "close_position": self._close_position,
            "modify_position": self._modify_position,
            "cancel_order": self._cancel_order,
            "modify_order": self._modify_order,
            "close_all": self._close_all,
            "reduce_only": self._reduce_only,
            "resume_trading": self._resume,
            "get_status": self._get_status,
            "get_account": self._get_account,
            "get_positions": self._get_positions,
            "get_orders": self._get_orders,
            "get_symbols": self._get_symbols,
            "get_rates": self._get_rates,
            "get_ticks": self._get_ticks,
            "get_history": self._get_history,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "heartbeat": self._heartbeat,
        }

    # --- what trades

    async def _close_position(self, command: Command) -> Any:
        wanted = command.of(p.ClosePosition)

        async def signal() -> TradingSignal:
            symbol = await self._symbol_of_position(wanted.ticket)
            return TradingSignal(symbol=symbol, action=Action.CLOSE, position=wanted.ticket, volume=wanted.volume)

        return await self._trade(signal, command)

    async def _modify_position(self, command: Command) -> Any:
        wanted = command.of(p.ModifyPosition)

        async def signal() -> TradingSignal:
            return TradingSignal(
                symbol=await self._symbol_of_position(wanted.ticket),
                action=Action.MODIFY,
                position=wanted.ticket,
                stop_loss=wanted.stop_loss,
                take_profit=wanted.take_profit,
            )

        return await self._trade(signal, command)

    async def _cancel_order(self, command: Command) -> Any:
        ticket = command.of(p.CancelOrder).ticket

        async def signal() -> TradingSignal:
            return TradingSignal(symbol=await self._symbol_of_order(ticket), action=Action.CANCEL, order=ticket)

        return await self._trade(signal, command)

    async def _modify_order(self, command: Command) -> Any:
        wanted = command.of(p.ModifyOrder)

        async def signal() -> TradingSignal:
            return TradingSignal(
                symbol=await self._symbol_of_order(wanted.ticket),
                action=Action.MODIFY,
                order=wanted.ticket,
                price=wanted.price,
                stop_limit_price=wanted.stop_limit_price,
                stop_loss=wanted.stop_loss,
                take_profit=wanted.take_profit,
                expiration=wanted.expiration,
            )

        return await self._trade(signal, command)

    async def _close_all(self, command: Command) -> Any:
        wanted = command.of(p.CloseAll)
        chosen = await self._chosen(wanted.symbol, wanted.scope or self._emergency.defaults.scope)

        async def close(position: Position, volume: float | None) -> OrderResult:
            ticket = position.ticket
            signal = TradingSignal(symbol=position.symbol, action=Action.CLOSE, position=ticket, volume=volume)
            return await self._outcome(_this(signal), command, part=str(ticket))

        work = [close(position, volume) for position, volume in chosen]
        results = await asyncio.gather(*work)
        tickets = [position.ticket for position, _ in chosen]
        closed = [t for t, r in zip(tickets, results, strict=True) if r.status is Status.CLOSED]
        left = [
            f"{t} {r.reason or r.status.value}"
            for t, r in zip(tickets, results, strict=True)
            # Not found: it was closed by something else in the meantime.
            if r.status is not Status.CLOSED and r.reason != Reason.NOT_FOUND
        ]
        if left:
            raise Refusal("not_all_closed", f"closed {closed}, left: {'; '.join(left)}")
        return {"closed": closed}

    async def _chosen(self, name: str | None, scope: str) -> list[tuple[Position, float | None]]:
        """The positions a close_all is about, and how much of each; None: all of it."""
        try:
            await self._book.refresh(priority=Priority.CRITICAL)
            symbol = await self._known(name)
            held = [x for x in self._book.positions.values() if symbol is None or x.symbol == symbol]
            if scope == "all":
                return [(position, None) for position in held]
            mine = await self._ownership.volumes(held, netting=self._book.netting)
        except MT5Error as error:
            raise _unavailable(error) from error
        return [(x, None if mine[x.ticket] >= x.volume else mine[x.ticket]) for x in held if mine[x.ticket] > 0]

    async def _trade(self, signal: Making, command: Command) -> Any:
        outcome = await self._outcome(signal, command)
        if outcome.status not in _DONE:
            raise Refusal(outcome.reason or outcome.status.value, outcome.detail or outcome.status.value)
        return msgspec.to_builtins(outcome)

    async def _outcome(self, signal: Making, command: Command, part: str = "") -> OrderResult:
        """What came of it: now, or in the life that was asked the same and ended before it could answer."""
        try:
            name = _inbox_name(command.request_id, part)
            first = None if name is None else await self._first_outcome(name)
            if first is not None:
                return first
            job = await self._intake.command(await signal(), command.request_id, name=name)
        except JournalError as error:
            raise Refusal("journal_unavailable", str(error)) from error
        return await asyncio.shield(job.outcome)

    async def _first_outcome(self, name: str) -> OrderResult | None:
        for _ in range(_FIRST_ANSWER_LOOKS):
            row = await self._intake.earlier_command(name)
            if row is None:
                return None
            if row.result is not None:
                return msgspec.json.decode(wire.decode(row.result).data, type=OrderResult)
            await asyncio.sleep(_FIRST_ANSWER_PAUSE_S)
        raise Refusal("in_progress", "the same request is being worked on: its order_result will tell")

    async def _symbol_of_position(self, ticket: int) -> str:
        position = self._book.positions.get(ticket)
        if position is None:
            await self._refresh(Priority.CRITICAL)
            position = self._book.positions.get(ticket)
        if position is None:
            raise Refusal(Reason.NOT_FOUND.value, f"there is no position {ticket}")
        return position.symbol

    async def _symbol_of_order(self, ticket: int) -> str:
        order = self._book.orders.get(ticket)
        if order is None:
            await self._refresh(Priority.CRITICAL)
            order = self._book.orders.get(ticket)
        if order is None:
            raise Refusal(Reason.NOT_FOUND.value, f"there is no pending order {ticket}")
        return order.symbol

    async def _refresh(self, priority: Priority = Priority.HIGH) -> None:
        try:
            await self._book.refresh(priority=priority)
        except MT5Error as error:
            raise _unavailable(error) from error

    async def _listed(self, name: str | None) -> str | None:
        """Read the account, and the terminal's name of the symbol asked for."""
        await self._refresh()
        try:
            return await self._known(name)
        except MT5Error as error:
            raise _unavailable(error) from error

    async def _known(self, name: str | None) -> str | None:
        """The terminal's name of a symbol; a misspelt one must not read as "nothing held".

        Raises:
            Refusal: the terminal has no such symbol.
            MT5Error: ambiguous, or the terminal cannot be asked.
        """
        if name is None:
            return None
        symbol = await self._book.resolve(name)
        listed = {x.symbol for x in self._book.positions.values()} | {x.symbol for x in self._book.orders.values()}
        if symbol not in listed and await self._book.symbol(symbol) is None:
            raise Refusal(Reason.UNKNOWN_SYMBOL.value, f"the terminal has no symbol {name}")
        return symbol

    # --- the halt

    async def _reduce_only(self, command: Command) -> Any:
        wanted = command.of(p.ReduceOnly)
        self._latch.tighten(
            machine.reduce(
                self._latch.halt,
                reason=wanted.reason or "reduce only",
                by=wanted.by or "backend",
                at_msc=self._clock.now_ms(),
                origin=Origin.REMOTE,
            )
        )
        return halt_data(self._latch.halt)

    async def _resume(self, command: Command) -> Any:
        wanted = command.of(p.ResumeTrading)
        return await self.resume(
            wanted.reason, wanted.by, force=wanted.force, origin=Origin.REMOTE, request_id=command.request_id
        )

    async def resume(
        self, reason: str, by: str, *, force: bool, origin: Origin, request_id: wire.RequestId = None
    ) -> dict[str, Any]:
        """Lift the halt on a person's word.

        Args:
            reason: why, obligatory.
            by: who.
            force: in spite of survivors and unknown outcomes.
            origin: where the word came from.
            request_id: of the command; its answer becomes durable together with the resume, so that the same word
                repeated after a crash cannot lift a later stop.

        Raises:
            Refusal: survivors, unknown intents, losses that are not settled, stopped locally, or the journal cannot be
                written.
        """
        new = machine.resume(
            self._latch.halt,
            reason=reason,
            by=by,
            at_msc=self._clock.now_ms(),
            origin=origin,
            survivors=self._emergency.unfinished,
            unknown_intents=bool(self._desk.unresolved or self._desk.flying),
            force=force,
            remote_allowed=self._remote_resume,
        )
        if isinstance(new, ResumeRefusal):
            raise Refusal(new.value, _REFUSALS[new])
        seen = self._book.day
        accepted = self._day_accepted()
        if not force and accepted is not seen and not self._settled():
            raise Refusal(
                "unsettled",
                "a limit on losses is reached, and deals that explain the balance are still to be read: "
                "resume in a moment, or with force",
            )
        try:
            resumed = await self._latch.loosen(new, *_resume_story(new, request_id), *self._noted(accepted))
        except JournalError as error:
            raise Refusal("journal_unavailable", f"trading stays halted: {error}") from error
        if not resumed:
            raise Refusal("halted", "a stop came in between: trading stays halted")
        self._emergency.resumed()
        if accepted is not seen and seen and accepted and self._book.day:
            # What was lost while the resume was written is another loss.
            self._book.restore_day(risk.carry_over(self._book.day, seen, accepted))
        return halt_data(new)

    def _day_accepted(self) -> Day | None:
        """The day with the losses beyond a limit accepted: the guards would go on denying otherwise."""
        day, account = self._book.day, self._book.account
        return day if day is None or account is None else risk.accept(day, account.equity, self._limits())

    def _settled(self) -> bool:
        day, account = self._book.day, self._book.account
        return day is not None and account is not None and risk.settled(day, account.balance, account.credit)

    def _noted(self, day: Day | None) -> list[changes.Change]:
        return [] if day is self._book.day else [changes.Memo(name=DAY_MEMO, value=msgspec.json.encode(day))]

    # --- what reads

    async def _get_status(self, command: Command) -> Any:
        return self._status()

    async def _heartbeat(self, command: Command) -> Any:
        return {"time": iso(self._clock.now_ms())}

    async def _get_account(self, command: Command) -> Any:
        try:
            account = await self._terminal.get_account_info()
        except MT5Error as error:
            raise _unavailable(error) from error
        return msgspec.to_builtins(account_message(account))

    async def _get_positions(self, command: Command) -> Any:
        symbol = await self._listed(command.of(p.OfSymbol).symbol)
        return [
            msgspec.to_builtins(position_message(position))
            for position in self._book.positions.values()
            if symbol is None or position.symbol == symbol
        ]

    async def _get_orders(self, command: Command) -> Any:
        symbol = await self._listed(command.of(p.OfSymbol).symbol)
        return [order_data(o) for o in self._book.orders.values() if symbol is None or o.symbol == symbol]

    async def _get_symbols(self, command: Command) -> Any:
        try:
            return [symbol_data(symbol) for symbol in await self._terminal.get_symbols()]
        except MT5Error as error:
            raise _unavailable(error) from error

    async def _get_rates(self, command: Command) -> Any:
        wanted = command.of(p.GetRates)
        try:
            symbol = await self._book.resolve(wanted.symbol)
            if wanted.from_msc is None:
                bars = await self._terminal.get_rates(symbol, wanted.timeframe, wanted.count)
            else:
                bars = await past.bars_from(
                    self._terminal, symbol, wanted.timeframe, wanted.from_msc, wanted.count, self._clock.now_ms()
                )
        except MT5Error as error:
            raise _unavailable(error) from error
        return [bar_data(bar) for bar in bars]

    async def _get_ticks(self, command: Command) -> Any:
        wanted = command.of(p.GetTicks)
        until = self._clock.now_ms() if wanted.to_msc is None else wanted.to_msc
        try:
            symbol = await self._book.resolve(wanted.symbol)
            info = await self._book.symbol(symbol)
            if info is None:
                raise Refusal(Reason.UNKNOWN_SYMBOL.value, f"the terminal has no symbol {wanted.symbol}")
            if wanted.from_msc is None:
                rows = await past.ticks_before(self._terminal, symbol, until, wanted.count)
            else:
                rows = await past.ticks_from(self._terminal, symbol, wanted.from_msc, until, wanted.count)
        except MT5Error as error:
            raise _unavailable(error) from error
        return [tick_data(symbol, info.point, row) for row in rows]

    async def _get_history(self, command: Command) -> Any:
        wanted = command.of(p.GetHistory)
        since, until = wanted.range_msc(self._clock.now_ms())
        try:
            symbol = None if wanted.symbol is None else await self._book.resolve(wanted.symbol)
            if wanted.kind == "orders":
                orders = await self._terminal.get_history_orders(since, until)
                return [order_data(order) for order in orders if symbol is None or order.symbol == symbol]
            deals = await self._terminal.get_history_deals(since, until)
            return [deal_data(deal) for deal in deals if symbol is None or deal.symbol == symbol]
        except MT5Error as error:
            raise _unavailable(error) from error

    async def _subscribe(self, command: Command) -> Any:
        added, failed, last = [], {}, None
        for name in command.of(p.Symbols).symbols:
            try:
                added.append(await self._ticks.subscribe(name))
            except MT5Error as error:
                failed[name], last = str(error), error
        if last is not None and not added:
            raise Refusal(_unavailable(last).code, "; ".join(f"{n}: {why}" for n, why in failed.items()))
        return {"symbols": list(self._ticks.symbols), "added": added, "failed": failed}

    async def _unsubscribe(self, command: Command) -> Any:
        removed = [name for name in command.of(p.Symbols).symbols if await self._ticks.unsubscribe(name)]
        return {"symbols": list(self._ticks.symbols), "removed": removed}


_REFUSALS = {
    ResumeRefusal.SURVIVORS: "the stop has not closed everything yet: wait for it, or resume with force",
    ResumeRefusal.UNKNOWN_INTENTS: "the outcome of an order is still unknown: wait for it, or resume with force",
    ResumeRefusal.LOCAL_ONLY: "the stop was made on the trading PC and is lifted there (mt5-bridge resume)",
}


def _unavailable(error: MT5Error) -> Refusal:
    if isinstance(error, MT5ValidationError):
        code = Reason.AMBIGUOUS_SYMBOL if str(error).startswith("ambiguous") else Reason.INVALID
    else:
        code = Reason.UNKNOWN_SYMBOL if error.code == -4 else Reason.TERMINAL_UNAVAILABLE
    return Refusal(code.value, str(error))


def _this(signal: TradingSignal) -> Making:
    async def made() -> TradingSignal:
        return signal

    return made


def _inbox_name(request_id: wire.RequestId, part: str) -> str | None:
    """Under which a command's signal enters the inbox: the same for the same request, so that it acts once."""
    if request_id is None:
        return None
    return hashlib.sha256(f"{request_id}\0{part}".encode()).hexdigest()[:24]


def _resume_story(new: Halt, request_id: wire.RequestId) -> list[changes.Change]:
    story: list[changes.Change] = [
        changes.Audited(at_msc=new.at_msc, who=new.by, what="resume_trading", detail=new.reason)
    ]
    if request_id is not None:
        answer = table.succeeded("resume_trading", halt_data(new))
        story.append(
            changes.CommandAnswered(
                request_id=str(request_id),
                command="resume_trading",
                answer=table.encode_answer(answer),
                at_msc=new.at_msc,
            )
        )
    return story

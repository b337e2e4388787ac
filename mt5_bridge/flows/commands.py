"""What each command does. Whoever asks (backend, gateway, local) gets the same answers from here."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mt5_bridge.control import params as p
from mt5_bridge.control.commands import Command
from mt5_bridge.core import wire
from mt5_bridge.core.decision import Limits
from mt5_bridge.core.errors import JournalError, MT5Error
from mt5_bridge.core.messages import (
    OrderResult,
    Reason,
    Status,
    TradingSignal,
)
from mt5_bridge.core.model import Action
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.emergency import Emergency
from mt5_bridge.flows.halting import Halting
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.lookup import Lookup, unavailable
from mt5_bridge.flows.orders import OrderDesk
from mt5_bridge.flows.ownership import Ownership
from mt5_bridge.flows.reads import Reads
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.ticks import TickFlow
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Priority, Terminal

_DONE = frozenset(Status) - {Status.DENIED, Status.REJECTED, Status.UNKNOWN, Status.ABANDONED}
_FIRST_ANSWER_LOOKS = 60
_FIRST_ANSWER_PAUSE_S = 0.5


Making = Callable[[], Awaitable[TradingSignal]]
"""Makes a command's signal; asked only when the command was not done before."""


class _Share(msgspec.Struct, frozen=True, array_like=True):
    """A position and how much of it is to be closed, in lots; None: all of it."""

    ticket: int
    symbol: str
    volume: float | None = None


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
        self._book = book
        self._journal = journal
        self._clock = clock
        self._emergency = emergency
        self._intake = intake
        self._ticks = ticks
        self._lookup = Lookup(book)
        self._reads = Reads(terminal, self._lookup, journal, clock, status=status)
        self._halting = Halting(book, latch, emergency, desk, clock, limits=limits, remote_resume=remote_resume)
        self.resume = self._halting.resume
        self._ownership = Ownership(terminal, journal, magic_base=magic_base)

    def table(self) -> dict[str, Callable[[Command], Awaitable[Any]]]:
        """Name → function."""
        return {
            **self._reads.table(),
            "close_position": self._close_position,
            "modify_position": self._modify_position,
            "cancel_order": self._cancel_order,
            "modify_order": self._modify_order,
            "close_all": self._close_all,
            "reduce_only": self._halting.reduce_only,
            "resume_trading": self._halting.resume_trading,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
        }

    # --- what trades

    async def _close_position(self, command: Command) -> Any:
        wanted = command.of(p.ClosePosition)

        async def signal() -> TradingSignal:
            symbol = await self._lookup.symbol_of_position(wanted.ticket)
            return TradingSignal(symbol=symbol, action=Action.CLOSE, position=wanted.ticket, volume=wanted.volume)

        return await self._trade(signal, command)

    async def _modify_position(self, command: Command) -> Any:
        wanted = command.of(p.ModifyPosition)

        async def signal() -> TradingSignal:
            return TradingSignal(
                symbol=await self._lookup.symbol_of_position(wanted.ticket),
                action=Action.MODIFY,
                position=wanted.ticket,
                stop_loss=wanted.stop_loss,
                take_profit=wanted.take_profit,
            )

        return await self._trade(signal, command)

    async def _cancel_order(self, command: Command) -> Any:
        ticket = command.of(p.CancelOrder).ticket

        async def signal() -> TradingSignal:
            return TradingSignal(symbol=await self._lookup.symbol_of_order(ticket), action=Action.CANCEL, order=ticket)

        return await self._trade(signal, command)

    async def _modify_order(self, command: Command) -> Any:
        wanted = command.of(p.ModifyOrder)

        async def signal() -> TradingSignal:
            return TradingSignal(
                symbol=await self._lookup.symbol_of_order(wanted.ticket),
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
        try:
            chosen = await self._chosen(command)
        except MT5Error as error:
            raise unavailable(error) from error
        except JournalError as error:
            raise Refusal("journal_unavailable", str(error)) from error

        async def close(share: _Share) -> OrderResult:
            signal = TradingSignal(symbol=share.symbol, action=Action.CLOSE, position=share.ticket, volume=share.volume)
            return await self._outcome(_this(signal), command, part=str(share.ticket))

        results = await asyncio.gather(*map(close, chosen))
        outcomes = list(zip((share.ticket for share in chosen), results, strict=True))
        closed = [ticket for ticket, result in outcomes if result.status is Status.CLOSED]
        left = [
            f"{ticket} {result.reason or result.status.value}"
            for ticket, result in outcomes
            # Not found: it was closed by something else in the meantime.
            if result.status is not Status.CLOSED and result.reason != Reason.NOT_FOUND
        ]
        if left:
            raise Refusal("not_all_closed", f"closed {closed}, left: {'; '.join(left)}")
        return {"closed": closed}

    async def _chosen(self, command: Command) -> list[_Share]:
        """What a close_all is about: chosen once for its `request_id`, so that a crash adds nothing newer to it."""
        name = _inbox_name(command.request_id, "chosen")
        if name is None:
            return await self._choose(command.of(p.CloseAll))
        stored, now = await self._journal.answer(name), self._clock.now_ms()
        if stored is not None and now - stored.at_msc < DAY:
            return msgspec.json.decode(stored.answer, type=list[_Share])
        chosen = await self._choose(command.of(p.CloseAll))
        noted = changes.CommandAnswered(
            request_id=name, command=command.name, answer=msgspec.json.encode(chosen), at_msc=now
        )
        await self._journal.commit(noted)
        return chosen

    async def _choose(self, wanted: p.CloseAll) -> list[_Share]:
        await self._book.refresh(priority=Priority.CRITICAL)
        symbol = await self._lookup.known(wanted.symbol)
        held = [x for x in self._book.positions.values() if symbol is None or x.symbol == symbol]
        if (wanted.scope or self._emergency.defaults.scope) == "all":
            return [_Share(x.ticket, x.symbol) for x in held]
        mine = await self._ownership.volumes(held, netting=self._book.netting)
        return [
            _Share(x.ticket, x.symbol, None if mine[x.ticket] >= x.volume else mine[x.ticket])
            for x in held
            if mine[x.ticket] > 0
        ]

    async def _trade(self, signal: Making, command: Command) -> Any:
        outcome = await self._outcome(signal, command)
        if outcome.status not in _DONE:
            code, words = outcome.reason or outcome.status.value, outcome.detail or outcome.status.value
            raise Refusal(code, words, result=msgspec.to_builtins(outcome))
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
        return await job.outcome()

    async def _first_outcome(self, name: str) -> OrderResult | None:
        for _ in range(_FIRST_ANSWER_LOOKS):
            row = await self._intake.earlier_command(name)
            if row is None:
                return None
            if row.result is not None:
                return msgspec.json.decode(wire.decode(row.result).data, type=OrderResult)
            await asyncio.sleep(_FIRST_ANSWER_PAUSE_S)
        raise Refusal("in_progress", "the same request is being worked on: its order_result will tell")

    # --- what is streamed

    async def _subscribe(self, command: Command) -> Any:
        added, failed, last = [], {}, None
        for name in command.of(p.Symbols).symbols:
            try:
                added.append(await self._ticks.subscribe(name))
            except MT5Error as error:
                failed[name], last = str(error), error
        if last is not None and not added:
            raise Refusal(unavailable(last).code, "; ".join(f"{n}: {why}" for n, why in failed.items()))
        return {"symbols": list(self._ticks.symbols), "added": added, "failed": failed}

    async def _unsubscribe(self, command: Command) -> Any:
        removed = [name for name in command.of(p.Symbols).symbols if await self._ticks.unsubscribe(name)]
        return {"symbols": list(self._ticks.symbols), "removed": removed}


def _this(signal: TradingSignal) -> Making:
    async def made() -> TradingSignal:
        return signal

    return made


def _inbox_name(request_id: wire.RequestId, part: str) -> str | None:
    """Under which a command's signal enters the inbox: the same for the same request, so that it acts once."""
    if request_id is None:
        return None
    return hashlib.sha256(f"{request_id}\0{part}".encode()).hexdigest()[:24]

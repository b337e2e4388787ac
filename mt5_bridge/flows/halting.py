"""The commands that change the halt, the stop apart: reducing, and back to trading on a person's word."""

from collections.abc import Callable
from typing import Any

import msgspec

from mt5_bridge.control import commands as table
from mt5_bridge.control import params as p
from mt5_bridge.control.commands import Command
from mt5_bridge.core import halt as machine
from mt5_bridge.core import risk, wire
from mt5_bridge.core.decision import Day, Limits
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.halt import Halt, Origin, ResumeRefusal
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.emergency import Emergency
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.orders import OrderDesk
from mt5_bridge.flows.shapes import halt_data
from mt5_bridge.flows.watch import DAY_MEMO
from mt5_bridge.journal import changes


class Halting:
    """`reduce_only` and `resume_trading`.

    Args:
        limits: the settings now.
        remote_resume: RESUME_REMOTE.
    """

    def __init__(
        self,
        book: Book,
        latch: HaltLatch,
        emergency: Emergency,
        desk: OrderDesk,
        clock: Clock,
        *,
        limits: Callable[[], Limits],
        remote_resume: bool,
    ) -> None:
        self._book = book
        self._latch = latch
        self._emergency = emergency
        self._desk = desk
        self._clock = clock
        self._limits = limits
        self._remote_resume = remote_resume

    async def reduce_only(self, command: Command) -> dict[str, Any]:
        """Let only pass what reduces risk."""
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

    async def resume_trading(self, command: Command) -> dict[str, Any]:
        """Lift the halt on the word of a person at the backend; see `resume`."""
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
            resumed = await self._latch.loosen(
                new,
                *_resume_story(new, request_id),
                *self._noted(accepted),
                *self._emergency.nothing_to_go_on_with(),
                otherwise=self._emergency.to_go_on_with,
            )
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


_REFUSALS = {
    ResumeRefusal.SURVIVORS: "the stop has not closed everything yet: wait for it, or resume with force",
    ResumeRefusal.UNKNOWN_INTENTS: "the outcome of an order is still unknown: wait for it, or resume with force",
    ResumeRefusal.LOCAL_ONLY: "the stop was made on the trading PC and is lifted there (mt5-bridge resume)",
}


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

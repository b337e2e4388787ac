"""Which positions have a managed stop, and by which plan: written with the intent that brings it, until it ends."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Position, Side
from mt5_bridge.core.trailing import Plan, joined, plan_of
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.memos import recalled
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import StoredIntent

PLANS_MEMO = "plans"
FIRST_MOVE = 1000
"""Legs from here on are moves of a managed stop; below are the signal's own and what protected its fill."""
_MOVES = (Reason.TRAILING_STOP.value, Reason.BREAK_EVEN.value)


def is_move(stored: StoredIntent) -> bool:
    """Whether it moved a managed stop."""
    return stored.action in _MOVES


def follow_ups(intents: Iterable[StoredIntent]) -> int:
    """How many orders the bridge has added of its own accord to protect a signal's fill."""
    return max((intent.leg for intent in intents if not is_move(intent)), default=0)


class Managed(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and what it is for.

    Attributes:
        magic: of the intent that brought it: an opening, or a MODIFY.
        key: the inbox key of the signal, under which its moves are journalled.
        symbol: as the terminal names it.
        side: of the position; a netting position that turns round is another one.
        plan: what is to be done.
        asked_for: identifier of the position a MODIFY names; 0 for an opening.
        position: identifier of the position that is managed; 0 until the intent has had its effect.
        account: on which it is, login and server.
    """

    magic: int
    key: str
    symbol: str
    side: Side
    plan: Plan
    asked_for: int = 0
    position: int = 0
    account: str = ""


def identifier(position: Position) -> int:
    """What a position is known by while it lives; its ticket may change with a roll-over."""
    return position.identifier or position.ticket


class Plans:
    """The plans that have not ended, oldest first.

    Args:
        account: the login and server that the terminal shows now.

    Attributes:
        open: by the magic of the intent that brought them.
    """

    def __init__(self, account: Callable[[], str]) -> None:
        self.open: dict[int, Managed] = {}
        self._account = account
        self._any = asyncio.Event()
        self._dirty = False

    async def restore(self, journal: Journal) -> None:
        """Take up the plans of an earlier life.

        Raises:
            JournalError: the journal cannot be read.
        """
        found = await recalled(journal, PLANS_MEMO, list[Managed])
        if found is not None:
            self.open = {managed.magic: managed for managed in found}
            self._notice()

    def begin(self, job: Job, magic: int, target: Position | None = None) -> tuple[changes.Change, ...]:
        """What to journal with the intent of a signal; nothing where it brings no plan.

        Args:
            job: the signal.
            magic: of the intent.
            target: the position a MODIFY is about.
        """
        plan = plan_of(job.signal)
        side = job.signal.action.side if target is None else target.side
        if plan is None or side is None or (target is None and not plan.active):
            return ()
        self.open[magic] = Managed(
            magic=magic,
            key=job.key,
            symbol=job.symbol,
            side=side,
            plan=plan,
            asked_for=0 if target is None else identifier(target),
            account=self._account(),
        )
        self._notice()
        return (self._memo(),)

    def here(self) -> list[Managed]:
        """Those of the account that the terminal shows: on another one their positions are neither there nor gone."""
        account = self._account()
        return [managed for managed in self.open.values() if managed.account == account]

    def changing(self) -> set[int]:
        """Identifiers of the positions whose plan a MODIFY that has not had its effect is about to change."""
        return {managed.asked_for for managed in self.here() if managed.asked_for and not managed.position}

    def bind(self, managed: Managed, position: Position) -> None:
        """From now on it manages this position, in place of the plan that did so before."""
        place, earlier = identifier(position), None
        for other in [o for o in self.open.values() if o.position == place and o is not managed]:
            earlier = other.plan
            self.end(other)
        plan = joined(managed.plan, earlier if managed.asked_for else None)
        if plan.active:
            self.change(managed, plan=plan, position=place)
        else:
            self.end(managed)

    def change(self, managed: Managed, **fields: object) -> None:
        """Note what is different now."""
        self.open[managed.magic] = msgspec.structs.replace(managed, **fields)
        self._dirty = True

    def end(self, managed: Managed) -> None:
        """It has nothing to do any more."""
        self._dirty = True
        self.drop(managed.magic)

    def drop(self, magic: int) -> None:
        """Its intent was never written, or it has ended."""
        self.open.pop(magic, None)
        self._notice()

    def noted(self) -> tuple[changes.Change, ...]:
        """What to journal since this was asked last; to be asked again when it could not be written (`unwritten`)."""
        if not self._dirty:
            return ()
        self._dirty = False
        self._notice()
        return (self._memo(),)

    def unwritten(self) -> None:
        """What `noted` gave is not in the journal."""
        self._dirty = True
        self._notice()

    async def wait(self) -> None:
        """Until there is any, or something to note."""
        await self._any.wait()

    def _notice(self) -> None:
        if self.open or self._dirty:
            self._any.set()
        else:
            self._any.clear()

    def _memo(self) -> changes.Memo:
        return changes.Memo(name=PLANS_MEMO, value=msgspec.json.encode(list(self.open.values())))

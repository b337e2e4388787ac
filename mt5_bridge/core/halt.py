"""The halt machine: ACTIVE, REDUCING, HALTED. Pure; whoever holds a state applies a change and keeps the result.

Promise P3: after the latch nothing leaves that raises risk, and no restart or setting clears it. Only `resume` leads
back, and only when asked for by a person.
"""

from enum import StrEnum

import msgspec


class HaltState(StrEnum):
    """How much trading is allowed."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class Origin(StrEnum):
    """Where a change came from: a stop latched locally is resumed only locally, unless allowed otherwise."""

    LOCAL = "local"
    REMOTE = "remote"
    RULE = "rule"


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """The latched state.

    Attributes:
        state: what is allowed now.
        reason: why, for people and events.
        by: who asked: a person's name, a rule's code.
        at_msc: when it was latched, UTC ms.
        origin: where the change came from.
        until_day: a REDUCING latch by a daily rule ends with that trading day (ISO date); None: only a person ends it.
    """

    state: HaltState = HaltState.ACTIVE
    reason: str = ""
    by: str = ""
    at_msc: int = 0
    origin: Origin = Origin.LOCAL
    until_day: str | None = None


class ResumeRefusal(StrEnum):
    """Why trading was not resumed."""

    SURVIVORS = "survivors"
    UNKNOWN_INTENTS = "unknown_intents"
    LOCAL_ONLY = "local_only"


_STRICTNESS = {HaltState.ACTIVE: 0, HaltState.REDUCING: 1, HaltState.HALTED: 2}


def stop(now: Halt, *, reason: str, by: str, at_msc: int, origin: Origin) -> Halt:
    """An emergency stop: HALTED in one step; already HALTED stays as first latched.

    Except for where it may be resumed: a stop repeated by hand on the spot makes a remote or a rule's halt a local one.
    """
    if now.state is HaltState.HALTED:
        if origin is Origin.LOCAL and now.origin is not Origin.LOCAL:
            return msgspec.structs.replace(now, origin=origin)
        return now
    return Halt(state=HaltState.HALTED, reason=reason, by=by, at_msc=at_msc, origin=origin)


def reduce(now: Halt, *, reason: str, by: str, at_msc: int, origin: Origin, until_day: str | None = None) -> Halt:
    """Restrict to risk-reducing requests. Never loosens; no latch is shortened, a daily one is prolonged."""
    if now.state is HaltState.HALTED or (now.state is HaltState.REDUCING and not _longer(until_day, now.until_day)):
        return now
    return Halt(state=HaltState.REDUCING, reason=reason, by=by, at_msc=at_msc, origin=origin, until_day=until_day)


def _longer(until: str | None, than: str | None) -> bool:
    """Whether a REDUCING latch lasts longer than another; None lasts until a person ends it."""
    return than is not None and (until is None or until > than)


def resume(
    now: Halt,
    *,
    reason: str,
    by: str,
    at_msc: int,
    origin: Origin,
    survivors: bool,
    unknown_intents: bool,
    force: bool = False,
    remote_allowed: bool = False,
) -> Halt | ResumeRefusal:
    """Back to ACTIVE on a person's word.

    Args:
        now: the latched state.
        reason: the person's reason.
        by: the person.
        at_msc: UTC ms.
        origin: where the request came from.
        survivors: something the stop should have closed is still there.
        unknown_intents: an order's outcome is still unknown.
        force: resume in spite of survivors and unknowns.
        remote_allowed: the setting RESUME_REMOTE.
    """
    if (
        now.state is HaltState.HALTED
        and now.origin is Origin.LOCAL
        and origin is not Origin.LOCAL
        and not remote_allowed
    ):
        return ResumeRefusal.LOCAL_ONLY
    if survivors and not force:
        return ResumeRefusal.SURVIVORS
    if unknown_intents and not force:
        return ResumeRefusal.UNKNOWN_INTENTS
    return Halt(state=HaltState.ACTIVE, reason=reason, by=by, at_msc=at_msc, origin=origin)


def new_day(now: Halt, *, day: str, at_msc: int) -> Halt:
    """A daily REDUCING latch ends when its trading day is over; everything else stays."""
    if now.state is HaltState.REDUCING and now.until_day is not None and day > now.until_day:
        return Halt(
            state=HaltState.ACTIVE, reason="new trading day", by="daily_loss", at_msc=at_msc, origin=Origin.RULE
        )
    return now


def stricter(one: Halt, other: Halt) -> Halt:
    """Of two records of the latch (journal, latch file) the stricter one holds; of equals, the first."""
    return other if _STRICTNESS[other.state] > _STRICTNESS[one.state] else one

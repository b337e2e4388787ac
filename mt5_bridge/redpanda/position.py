"""Where to begin to read a partition. Pure."""

import msgspec

LOOK_BACK = 1_000
"""Records re-read where a broker cannot look up offsets by time; those too old are dropped again."""


class Bounds(msgspec.Struct, frozen=True):
    """What the broker knows of a partition.

    Attributes:
        begin: its first offset.
        end: the offset the next record will get.
        by_time: the first offset at or after the time asked for; None: no such record, or the broker cannot tell.
    """

    begin: int
    end: int
    by_time: int | None


class Start(msgspec.Struct, frozen=True):
    """The offset to begin at.

    Attributes:
        why: why it is not the stored one: `first_time`, `expired`, `topic_made_anew`; None: it is.
        too_old_before: offsets below it may hold records older than asked for, to be dropped.
    """

    offset: int
    why: str | None = None
    too_old_before: int = 0


def choose(stored: int | None, bounds: Bounds) -> Start:
    """The stored offset where the partition still has it, else the first record young enough."""
    if stored is not None and bounds.begin <= stored <= bounds.end:
        return Start(stored)
    late = "topic_made_anew" if stored is not None and stored > bounds.end else "expired"
    why = "first_time" if stored is None else late
    if bounds.by_time is not None:
        return Start(bounds.by_time, why)
    # "Nothing that young" and "cannot look up by time" are the same answer.
    return Start(max(bounds.begin, bounds.end - LOOK_BACK), why, bounds.end)

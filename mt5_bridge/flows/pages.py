"""Long answers in pages: as much of a list as fits into a frame, and the cursor from which to ask on. Pure.

A cursor names the last thing that was told, not a place in a list: what comes or goes meanwhile shifts nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

ANSWER_BYTES = 900_000
"""Below the mebibyte that WebSocket libraries accept by default."""
PAGE_ROWS = 10_000

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Mark(NamedTuple):
    """A time and what orders those of the same time: a tick's `seq`, a ticket. Comparable."""

    time_msc: int
    rank: int


def read_mark(cursor: str) -> Mark:
    """A cursor as it was written by `write_mark`; its form was checked when it came in."""
    time_msc, rank = cursor.split(":")
    return Mark(int(time_msc), int(rank))


def write_mark(mark: Mark) -> str:
    """A mark for the wire."""
    return f"{mark.time_msc}:{mark.rank}"


def fitting(rows: Sequence[Any], most: int = ANSWER_BYTES) -> int:
    """How many of the rows, from the first on, make a frame of at most so many bytes; one at least."""
    size = 0
    for count, row in enumerate(rows):
        size += len(_encode(row)) + 1
        if size > most and count:
            return count
    return len(rows)


def page_of(
    things: Sequence[T], after: Any, key: Callable[[T], Any], shape: Callable[[T], Any], write: Callable[[Any], str]
) -> tuple[list[Any], str | None]:
    """The next page of a list that is read whole each time.

    Args:
        things: all of them, in any order.
        after: the key of the last one told; None: from the first on.
        key: what orders them.
        shape: a thing as it is sent.
        write: a key as the cursor that names it.

    Returns:
        The page, and the cursor of the next; None when this is the last.
    """
    left = sorted((thing for thing in things if after is None or key(thing) > after), key=key)
    rows = [shape(thing) for thing in left[:PAGE_ROWS]]
    count = fitting(rows)
    return rows[:count], write(key(left[count - 1])) if count < len(left) else None

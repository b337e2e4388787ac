"""Long answers in pages: as much of a list as fits into a frame, and the cursor from which to ask on.

A cursor names the last thing that was told, not a place in a list: what comes or goes meanwhile shifts nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

ANSWER_BYTES = 900_000
"""Below the mebibyte that WebSocket libraries accept by default."""
AT_ONCE = 100
"""Rows made ready before others get the loop: ten thousand in one go would hold up a stop for a tenth of a second."""

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


async def fitting(things: Sequence[T], shape: Callable[[T], Any], most: int = ANSWER_BYTES) -> list[Any]:
    """As many of the things, from the first on, as make a frame of at most so many bytes; one at least.

    Args:
        things: what is told.
        shape: a thing as it is sent.
        most: bytes.
    """
    rows: list[Any] = []
    size = 0
    for thing in things:
        row = shape(thing)
        size += len(_encode(row)) + 1
        if size > most and rows:
            break
        rows.append(row)
        if not len(rows) % AT_ONCE:
            await asyncio.sleep(0)
    return rows


async def page_of(
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
    rows = await fitting(left, shape)
    return rows, write(key(left[len(rows) - 1])) if len(rows) < len(left) else None

"""What an earlier life noted in the journal."""

from typing import TypeVar

import msgspec
from loguru import logger

from mt5_bridge.journal.journal import Journal

T = TypeVar("T")


async def recalled(journal: Journal, name: str, kind: type[T]) -> T | None:
    """A note, decoded; None without one, with an empty one, or with one that cannot be read any more.

    Raises:
        JournalError: the journal cannot be read.
    """
    stored = await journal.memo(name)
    if not stored:
        return None
    try:
        return msgspec.json.decode(stored, type=kind)
    except msgspec.DecodeError as error:
        logger.bind(event="memo_unreadable", memo=name).error("ERROR the note {n} is lost: {e}", n=name, e=error)
        return None

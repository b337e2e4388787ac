"""What the bridge says in its log while a test runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record


def text(record: "Record") -> str:
    return record["message"]


def event(record: "Record") -> str:
    return str(record["extra"].get("event", ""))


def with_level(record: "Record") -> str:
    return f"{record['level'].name} {record['message']}"


@contextmanager
def logged(told: Callable[["Record"], str] = text, level: str | int = 0) -> Iterator[list[str]]:
    """The lines logged meanwhile, each as `told` puts it.

    Args:
        told: makes a line of a record.
        level: lower ones are not heard.
    """
    found: list[str] = []
    handler = logger.add(lambda message: found.append(told(message.record)), level=level)
    try:
        yield found
    finally:
        logger.remove(handler)

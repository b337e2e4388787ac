"""Waiting for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")

_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1


async def eventually(condition: Callable[[], T | Awaitable[T]], timeout: float = 5.0, *, why: str = "") -> T:
    """Wait in the loop until `condition()` (which may be asynchronous) is truthy, and return what it gave.

    An `AssertionError` out of the condition counts as "not yet", so a condition may be a block of asserts that ends
    in `return True`.

    Args:
        condition: called again and again, first at once.
        timeout: seconds.
        why: what was waited for, for the failure's message.

    Raises:
        AssertionError: the condition did not hold in time; caused by its own last one.
    """
    deadline = time.monotonic() + timeout
    pause, last, fault = _PAUSE_S, cast(T, None), None
    while True:
        try:
            answer = condition()
            last, fault = cast(T, await answer if inspect.isawaitable(answer) else answer), None
        except AssertionError as error:
            fault = error
        if fault is None and last:
            return last
        if time.monotonic() >= deadline:
            raise AssertionError(_message(why, timeout, last)) from fault
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


def poll_until(condition: Callable[[], T], timeout: float = 5.0) -> T:
    """The same without a loop, for processes and threads; returns the last answer, truthy or not."""
    deadline = time.monotonic() + timeout
    pause = _PAUSE_S
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)
    return answer


def wait_for(condition: Callable[[], T], timeout: float = 5.0, *, why: str = "") -> T:
    """`poll_until` that fails the test when the condition does not come to hold."""
    answer = poll_until(condition, timeout)
    assert answer, _message(why, timeout, answer)
    return answer


def _message(why: str, timeout: float, last: object) -> str:
    return f"{why or 'condition'}: not within {timeout:g} s; last seen {last!r}"


def poll_until(predicate: Callable[[], object], timeout: float = 5.0, every: float = 0.02) -> bool:
    """The same for code without a loop: whether the predicate came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True

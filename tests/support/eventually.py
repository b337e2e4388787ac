"""Waiting for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")

_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1


@overload
async def eventually(
    condition: Callable[[], Coroutine[Any, Any, T | None]], timeout: float = ..., why: str = ...
) -> T: ...
@overload
async def eventually(condition: Callable[[], T | None], timeout: float = ..., why: str = ...) -> T: ...
async def eventually(condition: Callable[[], Any], timeout: float = 5.0, why: str = "") -> Any:
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
    pause, last, fault = _PAUSE_S, None, None
    while True:
        try:
            answer = condition()
            last, fault = await answer if inspect.isawaitable(answer) else answer, None
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


def wait_for(condition: Callable[[], T], timeout: float = 5.0, why: str = "") -> T:
    """`poll_until` that fails the test when the condition does not come to hold."""
    answer = poll_until(condition, timeout)
    assert answer, _message(why, timeout, answer)
    return answer


def _message(why: str, timeout: float, last: object) -> str:
    return f"{why or 'condition'}: not within {timeout:g} s; last seen {last!r}"

import asyncio
import time
from typing import Any

import pytest
from support.simulated import simulated

from mt5_bridge.flows.clock import Clock, wall_ms


def test_the_wall_clock_is_utc_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= wall_ms() <= time.time_ns() // 1_000_000


def test_monotonic_never_steps_back() -> None:
    clock = Clock()
    first = clock.monotonic()
    assert clock.monotonic() >= first
    assert clock.now_ms is wall_ms


def test_loops_of_one_period_wake_together() -> None:
    clock = Clock(monotonic=lambda: 10.25)
    assert clock.until_beat(0.5) == 0.25
    assert clock.until_beat(0.25) == 0.25, "a whole period on the beat"


def test_a_timer_that_was_early_by_a_trifle_does_not_wake_twice() -> None:
    assert Clock(monotonic=lambda: 9.75).until_beat(10.0) == 10.25


def timed() -> Clock:
    """A clock that goes with the loop's time."""
    return Clock(monotonic=asyncio.get_running_loop().time)


@simulated
async def test_those_who_wait_for_the_same_moment_share_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, clock = asyncio.get_running_loop(), timed()
    began, woken, timers = loop.time(), list[str](), list[float]()
    call_at = loop.call_at

    def counted(when: float, *what: Any, **how: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *what, **how)

    async def sleep(name: str, seconds: float, *, first: bool = False) -> None:
        await clock.until(began + seconds, first=first)
        woken.append(name)

    monkeypatch.setattr(loop, "call_at", counted)
    async with asyncio.TaskGroup() as group:
        group.create_task(sleep("later", 0.3))
        for name in ("a", "b"):
            group.create_task(sleep(name, 0.2))
        gone = group.create_task(sleep("gone", 0.2))
        group.create_task(sleep("first", 0.2, first=True))
        await asyncio.sleep(0)
        assert len(timers) == 2
        gone.cancel()
    assert woken == ["first", "a", "b", "later"]
    assert loop.time() - began == pytest.approx(0.3)
    assert not clock._waiting


@simulated
async def test_a_beat_is_a_multiple_of_its_period_and_never_comes_twice() -> None:
    loop, clock = asyncio.get_running_loop(), timed()
    await asyncio.sleep(0.17)
    beats = []
    for _ in range(3):
        await clock.beat(0.5)
        beats.append(round(loop.time() % 0.5, 6) % 0.5)
    assert beats == [0.0, 0.0, 0.0]


@simulated
async def test_what_is_past_returns_once_the_loop_has_turned() -> None:
    clock, turned = timed(), list[bool]()
    asyncio.get_running_loop().call_soon(turned.append, True)
    await clock.until(clock.monotonic() - 5.0)
    assert turned == [True]


def test_a_clock_that_outlives_a_loop_keeps_nobody_waiting() -> None:
    clock = Clock(monotonic=lambda: 1.0)

    async def left() -> None:
        waiting = asyncio.ensure_future(clock.until(1.05))
        await asyncio.sleep(0)
        waiting.cancel()

    async def again() -> bool:
        await asyncio.wait_for(clock.until(1.05), 5.0)
        return True

    asyncio.run(left())
    assert len(clock._waiting) == 1, "of the loop that is closed"
    assert asyncio.run(again())

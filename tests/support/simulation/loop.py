"""An event loop that is the whole world: its own clock, no threads, no sockets. A run can be repeated exactly."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Elsewhere = Callable[[Executor | None, "partial[Any]"], "asyncio.Future[Any]"]


class _Leap(selectors.SelectSelector):
    """Waits for nothing: where the loop would wait for a timer, its clock is set to that timer."""

    loop: "WorldLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the simulated world waits for something that nothing will bring about")
        self.loop.turn(max(0.0, timeout))
        return []


class WorldLoop(asyncio.SelectorEventLoop):
    """A loop whose time leaps, and in which nothing is done outside of it.

    Attributes:
        now: its clock, seconds.
        turns: how often it went round.
        most_turns: beyond so many something runs in circles, which ends the run.
        elsewhere: does what is handed to an executor.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.turns = 0
        self.most_turns = 5_000_000
        self.elsewhere: Elsewhere | None = None
        leap = _Leap()
        super().__init__(leap)
        leap.loop = self

    def turn(self, wait: float) -> None:
        """One more turn, after a wait."""
        self.turns += 1
        self.now += wait
        if self.turns > self.most_turns:
            raise RuntimeError(f"the loop has turned {self.turns} times: something runs in circles")

    def time(self) -> float:
        return self.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> "asyncio.Future[T]":
        assert self.elsewhere is not None, "nothing runs outside of the loop"
        return self.elsewhere(executor, partial(func, *args))

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken: there are no other threads."""

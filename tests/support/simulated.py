"""A loop whose time leaps: a test of what waits for seconds takes milliseconds, and always the same.

    @simulated
    async def test_settles(tmp_path): ...

When nothing is left to do but wait for a timer, the loop's clock is set to that timer. Work in other threads (the
journal's) is waited for in real time; the clock stands still meanwhile, so a slow disk makes no signal stale.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, Unpack

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_DEADLOCK_S = 20.0


class _LeapingSelector(selectors.BaseSelector):
    """Asks the real selector; where that would wait for a timer, moves the loop's clock instead."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.loop: SimulatedLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if events or self.loop is None or (timeout is not None and timeout <= 0):
            return events
        if self.loop.outside:
            return self._real.select(_DEADLOCK_S)
        if timeout is None:
            events = self._real.select(_DEADLOCK_S)
            if not events:
                raise RuntimeError("the simulated loop waits for something that nothing will bring about")
            return events
        self.loop.now += timeout
        return self._real.select(0)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own.

    Attributes:
        now: its clock, seconds.
        outside: pieces of work under way that no timer and no callback of this loop stands for; see `outside_work`.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.outside = 0
        selector = _LeapingSelector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> "asyncio.Future[T]":
        self.outside += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: object) -> None:
        self.outside -= 1


@contextmanager
def outside_work() -> Iterator[None]:
    """While another thread works for this loop, its clock stands. Does nothing in an ordinary loop."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SimulatedLoop):
        yield
        return
    loop.outside += 1
    try:
        yield
    finally:
        loop.outside -= 1


def leap(seconds: float) -> None:
    """Set the simulated clock forward at once: what would have happened every few seconds meanwhile happens once."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    loop.now += seconds


def run_simulated(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own with leaping time; it must leave no task behind."""

    async def checked() -> T:
        try:
            return await work
        finally:
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks left running: {sorted(task.get_name() for task in left)}"

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(checked())


def simulated(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make an asynchronous test one that runs in simulated time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_simulated(test(*args, **kwargs))

    return run

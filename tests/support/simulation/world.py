"""What a run has in common: its seed, its clock, its protocol of everything that happened, and what broke a promise."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from support.simulation.loop import WorldLoop

T = TypeVar("T")

START_MS = 1_704_283_200_000
"""Wednesday 2024-01-03 12:00 UTC: a run of hours does not reach midnight."""
REMEMBERED = 400


class World:
    """The frame of one run.

    Everything random is drawn from streams of their own, named after what they decide: what one part of the world
    draws does not shift what another one gets.

    Args:
        seed: the run's.
        loop: in which it runs.
    """

    def __init__(self, seed: int, loop: WorldLoop) -> None:
        self.seed = seed
        self.loop = loop
        self.began = loop.time()
        self.steps = 0
        self.broken: asyncio.Future[str] = loop.create_future()
        self.recent: deque[str] = deque(maxlen=REMEMBERED)
        self._digest = hashlib.blake2b(digest_size=16)
        self._streams: dict[str, Random] = {}
        loop.set_exception_handler(self._caught)

    def random(self, stream: str) -> Random:
        """The random numbers of a part of the world."""
        if stream not in self._streams:
            self._streams[stream] = Random(f"{self.seed}/{stream}")
        return self._streams[stream]

    def now_ms(self) -> int:
        """UTC in ms."""
        return START_MS + round((self.loop.time() - self.began) * 1000)

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return self.loop.time()

    def note(self, what: str, *facts: object) -> None:
        """Something happened that can be seen from outside of the bridge."""
        self.steps += 1
        line = f"{self.now_ms() - START_MS:>9} {what} {' '.join(map(str, facts))}"
        self._digest.update(line.encode("utf-8", "backslashreplace"))
        self.recent.append(line)

    @property
    def trace(self) -> str:
        """A hash of all that was noted, in order."""
        return f"{self.steps}-{self._digest.hexdigest()}"

    def breach(self, promise: str, what: str) -> None:
        """A promise does not hold: the first one ends the run."""
        self.note("BROKEN", promise, what)
        if not self.broken.done():
            self.broken.set_result(f"{promise}: {what}")

    def after(self, seconds: float, do: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Do something later, in the world's name."""
        return self.loop.call_later(seconds, do, *args)

    async def sleep(self, seconds: float) -> bool:
        """Let time pass, unless a promise breaks; whether all of them hold."""
        await asyncio.wait({self.broken}, timeout=seconds)
        return not self.broken.done()

    def _caught(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "handle" in context or "protocol" in context:
            self.breach("defect", f"{context['message']}: {error!r}")


def answer(future: "asyncio.Future[T]", result: T) -> None:
    """Give a future its result, unless it has one or nobody wants it any more."""
    if not future.done():
        future.set_result(result)


def spread(random: Random, least: float, most: float) -> float:
    """A duration between two, the short ones more often."""
    return float(least * (most / least) ** random.random())

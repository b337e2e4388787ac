"""The clocks a flow reads, as arguments, so that a test or a simulation can be their master."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_TRIFLE = 0.1


def wall_ms() -> int:
    """UTC ms since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Clock:
    """`now_ms` is UTC wall time, `monotonic` seconds that never step back."""

    now_ms: Callable[[], int] = wall_ms
    monotonic: Callable[[], float] = time.perf_counter
    _waiting: "dict[tuple[asyncio.AbstractEventLoop, int], list[asyncio.Future[None]]]" = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Who waits for which millisecond."""

    async def beat(self, period_s: float) -> None:
        """Return at the next multiple of a period: loops that wait so wake up together, which an idle PC notices."""
        await self.until(self.monotonic() + self.until_beat(period_s))

    async def until(self, due: float, *, first: bool = False) -> None:
        """Return at a monotonic time, or a millisecond off: those who wait for the same one share one timer.

        Args:
            due: seconds; what is past returns once the loop has turned.
            first: before the others of that millisecond.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        key = loop, round(due * 1000)
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = [future]
            loop.call_later(max(0.0, due - self.monotonic()), self._wake, key)
        elif first:
            waiting.insert(0, future)
        else:
            waiting.append(future)
        await future

    def _wake(self, key: "tuple[asyncio.AbstractEventLoop, int]") -> None:
        for future in self._waiting.pop(key):
            if not future.done():
                future.set_result(None)

    def until_beat(self, period_s: float) -> float:
        """Seconds to the next multiple of a period."""
        rest = period_s - self.monotonic() % period_s
        # A timer may be a trifle early: it must not wake the same loop twice for one beat.
        return rest if rest > period_s * _TRIFLE else rest + period_s

"""The clocks a flow reads, as arguments, so that a test or a simulation can be their master."""

import time
from collections.abc import Callable
from dataclasses import dataclass

_TRIFLE = 0.1


def wall_ms() -> int:
    """UTC ms since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Clock:
    """`now_ms` is UTC wall time, `monotonic` seconds that never step back."""

    now_ms: Callable[[], int] = wall_ms
    monotonic: Callable[[], float] = time.perf_counter

    def until_beat(self, period_s: float) -> float:
        """Seconds to the next multiple of a period: loops that sleep so wake up together, which an idle PC notices."""
        rest = period_s - self.monotonic() % period_s
        # A timer may be a trifle early: it must not wake the same loop twice for one beat.
        return rest if rest > period_s * _TRIFLE else rest + period_s

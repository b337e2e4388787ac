"""The clocks a flow reads, as arguments, so that a test or a simulation can be their master."""

import time
from collections.abc import Callable
from dataclasses import dataclass


def wall_ms() -> int:
    """UTC ms since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Clock:
    """`now_ms` is UTC wall time, `monotonic` seconds that never step back."""

    now_ms: Callable[[], int] = wall_ms
    monotonic: Callable[[], float] = time.perf_counter

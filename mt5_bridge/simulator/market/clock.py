"""Two clocks: the PC's, and one moved by hand. Both count milliseconds of UTC since the epoch."""

import time
from typing import Protocol

MANUAL_START_MSC = 1_704_240_000_000
"""Where a manual clock starts unless told otherwise: Wednesday 2024-01-03 00:00 UTC, so that runs repeat exactly."""


class Clock(Protocol):
    """What the market asks for the time."""

    def now(self) -> int:
        """UTC in milliseconds since the epoch."""
        ...


class SystemClock:
    """The PC's clock, never stepping back within one process: an order may not precede the one before it."""

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        self._last = max(self._last, time.time_ns() // 1_000_000)
        return self._last


class ManualClock:
    """A clock for tests: time passes when told to."""

    def __init__(self, start_msc: int = MANUAL_START_MSC) -> None:
        self._now = start_msc

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves on by `seconds`, to the whole millisecond."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now += round(seconds * 1000)

"""Places in MAX_ORDERS_PER_SECOND: by urgency between symbols, first in, first out among equals."""

import asyncio
import bisect
from collections.abc import Callable
from itertools import count

from mt5_bridge.core import throttle
from mt5_bridge.core.decision import Limits
from mt5_bridge.core.times import SECOND
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import Job

_Place = tuple[int, int, str]


class Rate:
    """Who may send an order that raises risk, and when. Whoever waited must `take` its place or `leave`.

    Args:
        clock: time.
        limits: the settings, read again each time.
    """

    def __init__(self, clock: Clock, limits: Callable[[], Limits]) -> None:
        self._clock = clock
        self._limits = limits
        self._sent = throttle.Throttle()
        self._arrivals = count()
        self._waiting: list[_Place] = []
        self._places: dict[str, _Place] = {}
        self._changed = asyncio.Event()

    def wait_ms(self, job: Job, behind: int = 0) -> int:
        """How long until there is room for the job, for all who come before it and for as many behind it."""
        rate, ahead = self._limits().max_orders_per_second, self._before(job) + behind
        return throttle.wait_ms(self._sent, self._clock.now_ms(), rate, ahead)

    def may_go(self, job: Job) -> bool:
        """There is room for the job and for all who come before it."""
        return self.wait_ms(job) <= 0

    def take(self, job: Job) -> None:
        """The job's order goes out now."""
        self._sent = throttle.record(self._sent, self._clock.now_ms(), self._limits().max_orders_per_second)
        self.leave(job)

    def leave(self, job: Job) -> None:
        """The job waits no more. Safe to call for one that never did."""
        place = self._places.pop(job.key, None)
        if place is not None:
            self._waiting.remove(place)
            self._changed.set()

    async def turn(self, job: Job) -> bool:
        """Wait for the job's turn; False, at once, when that will not come within its time.

        What may be sent is to be judged anew afterwards, and `may_go` to be asked again.
        """
        if job.key not in self._places:
            place = self._places[job.key] = (job.signal.urgency.rank, next(self._arrivals), job.key)
            bisect.insort(self._waiting, place)
            self._changed.set()
        while (wait := self.wait_ms(job)) > 0:
            if self._clock.now_ms() + wait > job.deadline_msc(self._limits().signal_max_age_ms):
                return False
            self._changed.clear()
            try:
                async with asyncio.timeout(wait / SECOND):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return True

    def _before(self, job: Job) -> int:
        place = self._places.get(job.key, (job.signal.urgency.rank, next(self._arrivals), job.key))
        return bisect.bisect_left(self._waiting, place)

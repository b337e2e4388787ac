"""Reads what an opening is decided by while the inbox is still asked about its signal."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mt5_bridge.core.decision import Denial
from mt5_bridge.core.halt import HaltState
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.judge import Judge
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.terminal.port import OrderFacts

_FRESH_S = 0.02
_IN_VAIN_S = 0.1
"""The pause after a read that nobody wanted: of signals that are repeated without end the inbox knows each."""


class Ahead:
    """The facts of one opening, for its decision alone.

    One at a time: whoever sends many at once has them read one by one anyway.

    Args:
        spawn: runs work that the bridge ends with.
    """

    def __init__(
        self, judge: Judge, book: Book, latch: HaltLatch, clock: Clock, spawn: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._judge = judge
        self._book = book
        self._latch = latch
        self._clock = clock
        self._spawn = spawn
        self._job: Job | None = None
        self._task: asyncio.Task[OrderFacts | Denial] | None = None
        self._asked_at = self._got_at = float("-inf")
        self._reads = 0
        """Of the account, when it was asked."""

    def begin(self, job: Job) -> None:
        """Read for a job that is about to be entered, if nothing tells already that it will not be sent."""
        if self._task is not None and not self._task.done():
            return
        if self._job is not None and self._clock.monotonic() - self._asked_at < _IN_VAIN_S:
            return
        if job.suspect or not job.signal.action.opens or not self._book.reconciled.is_set():
            return
        limits = self._judge.limits
        late = self._clock.now_ms() > job.deadline_msc(limits.signal_max_age_ms)
        if late or not limits.trading_enabled or self._latch.halt.state is not HaltState.ACTIVE:
            return
        self._asked_at, self._reads = self._clock.monotonic(), self._book.complete_reads
        self._job, self._task = job, self._spawn(self._read(job))

    async def facts(self, job: Job) -> OrderFacts | None:
        """What was read for a job, once; None: nothing that its decision can stand on."""
        if self._job is not job or self._task is None:
            return None
        self._job = None
        found = await self._task
        if isinstance(found, Denial) or self._clock.monotonic() - self._got_at > _FRESH_S:
            return None
        # What a read of the account took out of flight since would count neither there nor in these facts.
        return found if self._book.complete_reads == self._reads else None

    async def _read(self, job: Job) -> OrderFacts | Denial:
        symbol = await self._judge.symbol(job.signal.symbol)
        found = symbol if isinstance(symbol, Denial) else await self._judge.facts(job, symbol)
        self._got_at = self._clock.monotonic()
        return found

"""Order of work: first in, first out within a symbol; by urgency between symbols; bounded everywhere."""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field

from loguru import logger

from mt5_bridge.flows.job import Job

MAX_ACTIVE = 64
"""Symbols worked on at once: enough to share a commit, few enough that urgency decides who is next."""

MAX_WAITING = 50_000
"""Jobs that may wait in all; intake stops reading beyond (`has_room`), the topic is the buffer."""


class UrgencyGate:
    """Lets `width` holders in at once; of those who wait, the most urgent first, then the one that came first."""

    def __init__(self, width: int) -> None:
        self._free = width
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    @asynccontextmanager
    async def hold(self, rank: int) -> AsyncIterator[None]:
        """Hold a place; rank 0 is the most urgent."""
        await self._enter(rank)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, rank: int) -> None:
        if self._free > 0:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (rank, self._count, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            _, _, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


@dataclass
class _Lane:
    jobs: deque[Job] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class Lanes:
    """One queue per symbol, worked off by a task that lives while there is work.

    Args:
        work: does one job; it must not raise for anything but a defect.
        on_defect: called with what `work` raised all the same: the bridge must stop loudly.
    """

    def __init__(self, work: Callable[[Job], Awaitable[None]], on_defect: Callable[[BaseException], None]) -> None:
        self._work = work
        self._on_defect = on_defect
        self._lanes: dict[str, _Lane] = {}
        self._gate = UrgencyGate(MAX_ACTIVE)
        self._waiting = 0
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Jobs queued and not yet begun."""
        return self._waiting

    @property
    def busy(self) -> bool:
        """Whether a job is being worked on or waits."""
        return bool(self._lanes)

    def at_work(self, name: str) -> bool:
        """Whether a job of that lane is being worked on or waits."""
        return name in self._lanes

    async def has_room(self) -> None:
        """Wait until intake may go on."""
        await self._room.wait()

    def submit(self, name: str, job: Job) -> None:
        """Queue a job behind the others of its symbol."""
        lane = self._lanes.setdefault(name, _Lane())
        lane.jobs.append(job)
        self._count(1)
        if lane.task is None and not self._closed:
            lane.task = self._began(name, lane)

    def drop(self, name: str, unwanted: Callable[[int, Job], bool]) -> list[Job]:
        """Take waiting jobs out of a lane: those for which `unwanted(place in the queue, job)` says so."""
        lane = self._lanes.get(name)
        if lane is None:
            return []
        dropped = [job for place, job in enumerate(lane.jobs) if unwanted(place, job)]
        gone = set(map(id, dropped))
        lane.jobs = deque(job for job in lane.jobs if id(job) not in gone)
        self._count(-len(dropped))
        return dropped

    async def close(self) -> None:
        """Stop working; jobs that wait stay in the inbox for the next start."""
        self._closed = True
        tasks = [lane.task for lane in self._lanes.values() if lane.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _began(self, name: str, lane: _Lane) -> "asyncio.Task[None]":
        # In a context of its own: the request that brought the first job is not what the others are done for.
        return asyncio.create_task(self._run(name, lane), name=f"lane-{name}", context=Context())

    async def _do(self, job: Job) -> None:
        if job.correlation is None:
            await self._work(job)
            return
        with logger.contextualize(correlation_id=job.correlation):
            await self._work(job)

    async def _run(self, name: str, lane: _Lane) -> None:
        try:
            while lane.jobs:
                async with self._gate.hold(lane.jobs[0].signal.urgency.rank):
                    if not lane.jobs:
                        break
                    job = lane.jobs.popleft()
                    self._count(-1)
                    await self._do(job)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  a defect: whatever it is, the owner must hear of it
            self._on_defect(error)
        finally:
            lane.task = None
            if lane.jobs and not self._closed:
                lane.task = self._began(name, lane)
            elif not lane.jobs:
                self._lanes.pop(name, None)

    def _count(self, change: int) -> None:
        self._waiting += change
        if self._waiting >= MAX_WAITING:
            self._room.clear()
        else:
            self._room.set()

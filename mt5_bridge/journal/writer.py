"""The one writing thread: it gathers the calls that wait, writes them in one transaction, and answers after the fsync.

A group is written as one piece; where a call of it is refused, anew with a savepoint for each, so that this one takes
nobody with it. When the disk fails, each call of the group is tried alone and hears its own outcome; from then on a
probe write tells when writing works again.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.journal.checkpoint import Checkpointer

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

MAX_GROUP = 256
_BUSY_GROUP = 3
_GATHER_S = 0.001
"""Pause after a group of so many: in a flood the next ones share an fsync; a lone call never waits."""
_REFUSED = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


@dataclass
class WriterStats:
    """Counters since the start; `slowest_ms` is the longest group, fsync included."""

    calls: int = 0
    groups: int = 0
    refused: int = 0
    failed: int = 0
    probes: int = 0
    largest_group: int = 0
    slowest_ms: float = 0.0


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    future: asyncio.Future[Any]


@dataclass(slots=True)
class _Outcome:
    future: asyncio.Future[Any]
    value: Any = None
    error: Exception | None = None


class Writer:
    """Runs pieces of work on the database, durably, in the order they were asked for.

    Args:
        db: an open connection; the writer owns and closes it.
        on_health: called in the loop with (healthy, detail) whenever writing stops or starts to work.
        max_waiting: calls that may wait; one more is refused, so a dead disk cannot fill the memory.
        probe_seconds: how often a failed disk is tried again.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        checkpointer: Checkpointer,
        on_health: Callable[[bool, str], None],
        *,
        max_waiting: int = 20_000,
        probe_seconds: float = 0.5,
    ) -> None:
        self.healthy = True
        self.stats = WriterStats()
        self.seconds = Histogram()
        self._db = db
        self._checkpointer = checkpointer
        self._on_health = on_health
        self._max_waiting = max_waiting
        self._probe_seconds = probe_seconds
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._closing = False
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # daemon: what was promised is on the disk already, and a hung disk must not keep the process.
        self._thread = threading.Thread(target=self._main, name="journal-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    async def run(self, work: Work[T]) -> T:
        """Runs `work` within the next transaction; returns when that is durable.

        A caller that is cancelled does not withdraw the work.

        Raises:
            JournalError: nothing of this work counts as written.
        """
        if self._closing:
            raise JournalError("the journal is closed")
        if self._queue.qsize() >= self._max_waiting:
            raise JournalError(f"the journal is {self._max_waiting} calls behind")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(work, future))
        return await future

    async def close(self, timeout: float) -> bool:
        """Writes what waits, then closes the database. False when the disk did not answer in time."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        done, _ = await asyncio.wait([self._closed], timeout=timeout)
        return bool(done)

    def _main(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._checkpointer.stop()
            self._db.close()
            self._call_loop(self._finish)

    def _turn(self) -> bool:
        try:
            job = self._queue.get(timeout=None if self.healthy else self._probe_seconds)
        except queue.Empty:
            self._probe()
            return True
        jobs: list[_Job] = []
        while job is not None:
            jobs.append(job)
            if len(jobs) == MAX_GROUP:
                break
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
        if jobs:
            started = time.perf_counter()
            outcomes = self._write(jobs)
            self._count(outcomes, time.perf_counter() - started)
            self._call_loop(lambda: _answer(outcomes))
            self._checkpointer.wrote(self._db.total_changes)
            if len(jobs) >= _BUSY_GROUP and job is not None:
                time.sleep(_GATHER_S)
        return job is not None

    def _write(self, jobs: list[_Job]) -> list[_Outcome]:
        try:
            outcomes = self._group(jobs)
        except sqlite3.Error as error:
            self._roll_back()
            if len(jobs) > 1:
                return [self._write([job])[0] for job in jobs]
            self._set_health(False, str(error))
            failure = JournalError(f"the journal cannot be written: {error}")
            failure.__cause__ = error
            self.stats.failed += 1
            return [_Outcome(jobs[0].future, error=failure)]
        if any(outcome.error is None for outcome in outcomes):
            self._set_health(True, "")  # what was refused has written nothing, and tells nothing of the disk
        return outcomes

    def _group(self, jobs: list[_Job]) -> list[_Outcome]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            outcomes = [_Outcome(job.future, job.work(self._db)) for job in jobs]
        except Exception as error:
            if _is_disk(error):
                raise
            self._roll_back()
            self._db.execute("BEGIN IMMEDIATE")
            outcomes = [self._call(job) for job in jobs]
        self._db.execute("COMMIT")
        return outcomes

    def _call(self, job: _Job) -> _Outcome:
        self._db.execute("SAVEPOINT call")
        try:
            value = job.work(self._db)
        except Exception as error:
            if _is_disk(error):
                raise
            self._db.execute("ROLLBACK TO call")
            self._db.execute("RELEASE call")
            self.stats.refused += 1
            return _Outcome(job.future, error=_refusal(error))
        self._db.execute("RELEASE call")
        return _Outcome(job.future, value)

    def _probe(self) -> None:
        self.stats.probes += 1
        try:
            # Some pages of content, so that a disk with a few bytes left does not look healthy.
            self._db.execute("INSERT OR REPLACE INTO memos (name, value) VALUES ('probe', zeroblob(16384))")
            self._db.execute("DELETE FROM memos WHERE name = 'probe'")
        except sqlite3.Error as error:
            self._roll_back()
            self._set_health(False, str(error))
        else:
            self._set_health(True, "")

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _count(self, outcomes: list[_Outcome], seconds: float) -> None:
        self.stats.calls += len(outcomes)
        self.stats.groups += 1
        self.stats.largest_group = max(self.stats.largest_group, len(outcomes))
        self.seconds.observe(seconds)
        self.stats.slowest_ms = max(self.stats.slowest_ms, seconds * 1000)

    def _set_health(self, healthy: bool, detail: str) -> None:
        if healthy == self.healthy:
            return
        self.healthy = healthy
        self._call_loop(lambda: self._on_health(healthy, detail))

    def _finish(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    def _call_loop(self, callback: Callable[[], None]) -> None:
        # The loop may be gone when a process ends without close(); nobody is left to be told.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)


def _answer(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        if outcome.future.done():
            continue  # its caller was cancelled
        if outcome.error is None:
            outcome.future.set_result(outcome.value)
        else:
            outcome.future.set_exception(outcome.error)


def _is_disk(error: Exception) -> bool:
    """Whether the database failed, not the call."""
    return isinstance(error, sqlite3.Error) and not isinstance(error, _REFUSED)


def _refusal(error: Exception) -> JournalError:
    if isinstance(error, JournalError):
        return error
    refusal = JournalError(f"the journal cannot hold this: {error}")
    refusal.__cause__ = error
    return refusal

"""The PC's disk: the journal's writing thread and the executors as steps of the loop, and what a death leaves of them.

The files are real. What `COMMIT` returned from is durable, because the journal asks SQLite for that
(`synchronous = FULL`); what was being written when the process died is torn at a random place.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.simulation.world import World

from mt5_bridge.core.errors import JournalError
from mt5_bridge.journal import schema
from mt5_bridge.journal.writer import Writer, WriterStats, _answer, _Job, _Outcome

if TYPE_CHECKING:
    from support.simulation.weather import Weather

JOURNAL = "journal.db"
LATCH = "halt.latch"
_FULL = 2
_connect, _connect_reader = schema.connect, schema.connect_reader


class Disk:
    """One life's access to the folder.

    Args:
        folder: DATA_DIR.
        on_commit: called after each group that the journal wrote, with the connection.
    """

    def __init__(self, world: World, weather: "Weather", folder: Path, on_commit: Callable[[sqlite3.Connection], None]):
        self.world, self.weather, self.folder, self.on_commit = world, weather, folder, on_commit
        self.alive = True
        self.random = world.random("disk")
        self.writers: list[LoopWriter] = []
        self._connections: list[sqlite3.Connection] = []
        self._waiting: dict[object, list[tuple[partial[Any], asyncio.Future[Any]]]] = {}

    def connect(self, path: Path, *, busy_seconds: float = 2.0) -> sqlite3.Connection:
        """In place of `schema.connect`: flushing is simulated, so it need not be done."""
        db = _connect(path, busy_seconds=busy_seconds)
        self._connections.append(db)
        if db.execute("PRAGMA synchronous").fetchone()[0] < _FULL:
            self.world.breach("durable", "the journal does not wait for the disk")
        db.execute("PRAGMA synchronous = OFF")
        return db

    def connect_reader(self, path: Path) -> sqlite3.Connection:
        """In place of `schema.connect_reader`."""
        db = _connect_reader(path)
        self._connections.append(db)
        return db

    def look(self) -> sqlite3.Connection:
        """The journal as it is on the disk now."""
        return self._connections[0]

    def elsewhere(self, executor: Executor | None, work: "partial[Any]") -> "asyncio.Future[Any]":
        """What a thread would do: after a while, in the order asked for of each executor."""
        future: asyncio.Future[Any] = self.world.loop.create_future()
        queue = self._waiting.setdefault(executor, [])
        queue.append((work, future))
        if len(queue) == 1:
            self.world.after(self.weather.disk_pause(), self._next, queue)
        return future

    def _next(self, queue: list[tuple[partial[Any], "asyncio.Future[Any]"]]) -> None:
        if not self.alive:
            return
        work, future = queue.pop(0)
        _do(work, future)
        if queue:
            self.world.after(self.weather.disk_pause(), self._next, queue)

    def die(self) -> None:
        """The process is gone: what it was writing is done, torn or not done, and its files are let go."""
        self.alive = False
        self._tear_latch()
        for writer in self.writers:
            writer.die()
        kept = {name: self._content(name) for name in (JOURNAL, f"{JOURNAL}-wal")}
        self._let_go()
        for name, content in kept.items():
            if content is not None:
                (self.folder / name).write_bytes(content)
        (self.folder / f"{JOURNAL}-shm").unlink(missing_ok=True)

    def close(self) -> None:
        """The process ended in order."""
        self.alive = False
        self._let_go()

    def _let_go(self) -> None:
        for db in self._connections:
            db.close()

    def _tear_latch(self) -> None:
        """Writes of the latch file that were under way: some are done, the last of them perhaps by half."""
        for queue in self._waiting.values():
            for work, future in queue:
                if getattr(work.func, "__qualname__", "") != "LatchFile.write":
                    break
                chance = self.random.random()
                if chance < 0.4:
                    break
                before = self._content(LATCH)
                _do(work, future)
                if chance < 0.7 and before is not None:
                    (self.folder / LATCH).write_bytes(torn(before, self._content(LATCH) or b"", self.random.random()))
                    break
            queue.clear()

    def _content(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None


def torn(before: bytes, after: bytes, share: float) -> bytes:
    """A write that got so far: the rest of what it changed is as it was."""
    before = before.ljust(len(after), b"\0")
    changed = [place for place in range(len(after)) if after[place] != before[place]]
    if not changed:
        return after
    cut = changed[0] + round((changed[-1] + 1 - changed[0]) * share)
    return after[:cut] + before[cut:]


def _do(work: "partial[Any]", future: "asyncio.Future[Any]") -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001  whatever it is belongs to who asked
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)


class _NoCheckpoints:
    """SQLite's own checkpoints are enough here."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrote(self, total_changes: int) -> None:
        pass

    def stop(self) -> None:
        pass


class LoopWriter(Writer):
    """The journal's writer without its thread: each group is written in a step of the loop, after the disk's pause."""

    def __init__(self, disk: Disk, db: sqlite3.Connection, on_health: Callable[[bool, str], None]) -> None:
        self.disk = disk
        self.healthy = True
        self.stats = WriterStats()
        self._db = db
        self._on_health = on_health
        self._max_waiting = 20_000
        self._loop = disk.world.loop
        self._closed = self._loop.create_future()
        self._closing = False
        self._jobs: list[_Job] = []
        self._busy = self._shut = False
        self._told = 0.0
        disk.writers.append(self)

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    async def run(self, work: Any) -> Any:
        """See `Writer.run`."""
        if self._closing or not self.disk.alive:
            raise JournalError("the journal is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.append(_Job(work, future))
        self._stir(self.disk.weather.disk_pause())
        return await future

    async def close(self, timeout: float) -> bool:
        """See `Writer.close`."""
        if not self._closing:
            self._closing = True
            self._stir(0.001)
        done, _ = await asyncio.wait([self._closed], timeout=timeout)
        return bool(done)

    def _stir(self, pause: float) -> None:
        if not self._busy:
            self._busy = True
            self.disk.world.after(pause, self._step)

    def _step(self) -> None:
        self._busy = False
        if not self.disk.alive or self._shut:
            return
        if self._jobs:
            jobs, self._jobs = self._jobs, []
            outcomes = self._write(jobs)
            self._call_loop(lambda: _answer(outcomes))
        elif not self.healthy:
            self._probe()
        if self._jobs or not self.healthy:
            self._stir(self.disk.weather.disk_pause() if self._jobs else 0.5)
        elif self._closing:
            self._shut = True
            self._db.close()
            self._call_loop(self._finish)

    def _group(self, jobs: list[_Job]) -> list[_Outcome]:
        if self.disk.weather.disk_full():
            raise sqlite3.OperationalError("database or disk is full")
        outcomes = super()._group(jobs)
        if self.disk.alive:
            self.disk.on_commit(self._db)
        return outcomes

    def _probe(self) -> None:
        if self.disk.weather.disk_full():
            return
        super()._probe()

    def _call_loop(self, callback: Callable[[], None]) -> None:
        """What a thread tells the loop comes a little later, in order."""
        self._told = max(self._told, self._loop.time() + self.disk.weather.disk_answer())
        self._loop.call_at(self._told, self._tell, callback)

    def _tell(self, callback: Callable[[], None]) -> None:
        if self.disk.alive:
            callback()

    def die(self) -> None:
        """The group that was next may be on the disk: whole, in part, or not at all."""
        random = self.disk.random
        if not self._jobs or random.random() < 0.3 or self.disk.weather.disk_full():
            return
        # What is moved into the database is flushed before: a commit that did not get through cannot be there.
        self._db.execute("PRAGMA wal_autocheckpoint = 0")
        log = self.disk.folder / f"{JOURNAL}-wal"
        before = log.read_bytes() if log.exists() else b""
        self._write(self._jobs)
        if random.random() < 0.6:
            log.write_bytes(torn(before, log.read_bytes(), random.random()))


def lazy_os() -> Any:
    """The `os` module for the latch file, without waiting for a disk: what is durable is simulated."""

    class Lazy:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        @staticmethod
        def fsync(fd: int) -> None:
            """Nothing: see above."""

    return Lazy()


NoCheckpoints = _NoCheckpoints

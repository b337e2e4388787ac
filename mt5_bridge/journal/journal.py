"""The journal's face: durable changes, look-ups, health."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

from loguru import logger

from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.core.model import Cursor
from mt5_bridge.journal import reads, rows, schema
from mt5_bridge.journal.apply import apply
from mt5_bridge.journal.changes import Change
from mt5_bridge.journal.checkpoint import Checkpointer
from mt5_bridge.journal.lock import InstanceLock, account_lock_path
from mt5_bridge.journal.prune import Place, age_out_batch, prune_batch, prune_intents
from mt5_bridge.journal.writer import Writer, WriterStats

T = TypeVar("T")
HealthCallback = Callable[[bool, str], None]


class Journal:
    """The bridge's memory in one SQLite file. Opened with `Journal.open`, ended with `close`.

    Every method may be awaited from several tasks at once; none of them blocks the loop. Times are UTC in milliseconds.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, reader: sqlite3.Connection, locks: ExitStack) -> None:
        self.path = path
        self._locks = locks
        self._reader = reader
        self._callbacks: list[HealthCallback] = []
        self._closed = False
        self._intents_seen: Place = (0, 0)
        """Those up to here were looked at by `prune` and stay."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-reader")
        self._writer = Writer(db, Checkpointer(path), self._health_changed)

    @classmethod
    async def open(
        cls, path: Path, *, account: str | None = None, lock: bool = True, lock_folder: Path | None = None
    ) -> "Journal":
        """Opens the journal, creating it when absent.

        Args:
            account: the real account (`login@server`) this bridge trades, which it then has for itself on this PC;
                None on paper.
            lock: False only for tools that look at the journal of a bridge that does not run.
            lock_folder: where the accounts' locks live; by default a folder of the user.

        Raises:
            InstanceError: another bridge has this journal or this account.
            JournalUnusable: the file is damaged, foreign, or of a later version.
            JournalError: the file cannot be opened or written.
        """
        locks = ExitStack()
        try:
            if lock:
                locks.enter_context(InstanceLock(path.with_name(path.name + ".lock")))
            if lock and account is not None:
                locks.enter_context(InstanceLock(account_lock_path(account, lock_folder)))
            db = await asyncio.to_thread(schema.open_database, path)
            locks_and_db = locks.pop_all()
            return cls(path, db, schema.connect_reader(path), locks_and_db)
        except BaseException:
            locks.close()
            raise

    async def close(self, timeout: float = 5.0) -> None:
        """Writes what waits, closes the file, gives the locks back. Returns in time even when the disk hangs."""
        if self._closed:
            return
        self._closed = True
        # Before the writer: SQLite's last connection to close moves the log into the database.
        reader = asyncio.get_running_loop().run_in_executor(self._executor, self._reader.close)
        await asyncio.wait([reader], timeout=timeout)
        self._executor.shutdown(wait=False)
        if not await self._writer.close(timeout):
            logger.bind(event="journal_close_timeout").error("The journal did not close within {} s", timeout)
        self._locks.close()

    @property
    def healthy(self) -> bool:
        """False while the last write failed. A probe finds out when writing works again."""
        return self._writer.healthy

    @property
    def stats(self) -> WriterStats:
        """Counters of the writing thread."""
        return self._writer.stats

    @property
    def seconds(self) -> Histogram:
        """How long groups of calls took, fsync included. The writing thread counts, others only look."""
        return self._writer.seconds

    @property
    def pending(self) -> int:
        """Calls that wait for the disk."""
        return self._writer.waiting

    def on_health(self, callback: HealthCallback) -> None:
        """Calls `callback(healthy, detail)` in the loop whenever writing stops or starts to work."""
        self._callbacks.append(callback)

    async def commit(self, *changes: Change) -> None:
        """Makes the changes durable, all or none. Cancelling the caller does not withdraw them.

        Raises:
            JournalConflict: a signal is already in the inbox; nothing was written.
            JournalRejected: a change contradicts what is journalled; nothing was written.
            JournalError: the disk failed; after a failed fsync the changes may turn up again at the next start.
        """
        await self._writer.run(partial(apply, items=changes))

    async def seen(self, keys: Iterable[str]) -> dict[str, rows.StoredSignal]:
        """The inbox rows of those keys that are in it."""
        return await self._read(partial(reads.seen, keys=list(keys)))

    async def known(self, keys: Iterable[str], magics: Iterable[int]) -> tuple[dict[str, rows.StoredSignal], set[int]]:
        """`seen` and `our_magics_among` in one look-up."""
        wanted, taken = list(keys), list(magics)
        return await self._read(lambda db: (reads.seen(db, wanted), reads.our_magics_among(db, taken)))

    async def signal(self, signal_id: str) -> rows.SignalStory | None:
        """Everything known of the signal with that id (or key, or `request_id`), None when it never came."""
        return await self._read(partial(reads.signal, signal_id=signal_id))

    async def newest(
        self, limit: int, *, before: int | None = None, symbol: str | None = None
    ) -> list[tuple[int, rows.StoredSignal]]:
        """The newest signals with their places in the inbox, newest first; see `reads.newest`."""
        return await self._read(partial(reads.newest, before=before, symbol=symbol, limit=limit))

    async def waiting(self) -> list[rows.StoredSignal]:
        """Signals received and not settled, oldest first."""
        return await self._read(reads.waiting)

    async def open_intents(self) -> list[rows.StoredIntent]:
        """Intents in state sending or unknown, oldest first."""
        return await self._read(reads.open_intents)

    async def intents(self, key: str) -> list[rows.StoredIntent]:
        """The intents of the signal with that key, by leg."""
        return await self._read(partial(reads.intents, key=key))

    async def intents_by_magic(self, magics: Iterable[int]) -> dict[int, rows.StoredIntent]:
        """The intents of those magics that are ours."""
        return await self._read(partial(reads.intents_by_magic, magics=list(magics)))

    async def our_magics_among(self, magics: Iterable[int]) -> set[int]:
        """Those of the magics that this journal opened."""
        return await self._read(partial(reads.our_magics_among, magics=list(magics)))

    async def magics_opened_since(self, since_msc: int) -> list[int]:
        """Magics of intents opened at or after that time, oldest first."""
        return await self._read(partial(reads.magics_opened_since, since_msc=since_msc))

    async def offsets(self, topic: str) -> dict[int, int]:
        """The next offset to read of each partition."""
        return await self._read(partial(reads.offsets, topic=topic))

    async def cursors(self) -> dict[str, Cursor]:
        """How far each symbol's ticks were acknowledged by the broker."""
        return await self._read(reads.cursors)

    async def halt(self) -> rows.StoredHalt | None:
        """The halt state, None when it never changed."""
        last = await self._read(partial(reads.halts, limit=1))
        return last[0] if last else None

    async def halts(self, limit: int = 100) -> list[rows.StoredHalt]:
        """The last changes of the halt state, newest first."""
        return await self._read(partial(reads.halts, limit=limit))

    async def memo(self, name: str) -> bytes | None:
        """The value last written under that name."""
        return await self._read(partial(reads.memo, name=name))

    async def answer(self, request_id: str) -> rows.StoredAnswer | None:
        """The first answer to that command."""
        return await self._read(partial(reads.answer, request_id=request_id))

    async def answers(self, command: str, since_msc: int) -> list[rows.StoredAnswer]:
        """The remembered answers to one command since a time, oldest first."""
        return await self._read(partial(reads.answers, command=command, since_msc=since_msc))

    async def outbox(self, channel: str, after_id: int = 0, limit: int = 500) -> list[rows.OutboxRow]:
        """What the channel has not acknowledged, beyond `after_id`, oldest first."""
        return await self._read(partial(reads.outbox, channel=channel, after_id=after_id, limit=limit))

    async def outbox_depth(self) -> dict[str, int]:
        """How many events wait for each channel; channels without any are absent."""
        return await self._read(reads.outbox_depth)

    async def audit(self, limit: int = 100) -> list[rows.AuditRow]:
        """The last entries of the audit trail, newest first."""
        return await self._read(partial(reads.audit, limit=limit))

    async def prune(self, before_msc: int) -> int:
        """Forgets what is settled and older than that, a few rows at a time; returns how many rows."""
        total = 0
        while gone := await self._writer.run(partial(prune_batch, before_msc=before_msc)):
            total += gone
        place: Place | None = self._intents_seen
        while place is not None:
            self._intents_seen = place
            gone, place = await self._writer.run(partial(prune_intents, before_msc=before_msc, after=place))
            total += gone
        return total

    async def age_out(self, channel: str, before_msc: int) -> int:
        """Gives up events of a channel older than that; returns how many."""
        total = 0
        while gone := await self._writer.run(partial(age_out_batch, channel=channel, before_msc=before_msc)):
            total += gone
        return total

    async def size_bytes(self) -> int:
        """The size of the database and its log on the disk, in bytes."""
        return await self._read(lambda _: _size(self.path))

    async def _read(self, look_up: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise JournalError("the journal is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, look_up, self._reader)
        except sqlite3.Error as error:
            raise JournalError(f"the journal cannot be read: {error}") from error

    def _health_changed(self, healthy: bool, detail: str) -> None:
        if healthy:
            logger.bind(event="journal_healthy").info("The journal can be written again")
        else:
            logger.bind(event="journal_unhealthy", detail=detail).error("The journal cannot be written: {}", detail)
        for callback in self._callbacks:
            callback(healthy, detail)


def _size(path: Path) -> int:
    total = 0
    for name in (path, path.with_name(path.name + "-wal")):
        try:
            total += name.stat().st_size
        except FileNotFoundError:
            continue
    return total

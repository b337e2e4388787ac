"""Who holds the halt state: in memory at once, in a pre-allocated file and the journal as soon as they can.

A stop is exempt from "durable first": it latches, acts, and the write is tried until it succeeds. A resume is the
opposite: journal first, then the file, so that a crash in between leaves the stricter of the two. Both are written in
the order in which they were latched, and never by the loop itself: a disk that hangs must not delay a stop.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from loguru import logger

from mt5_bridge.core import halt as machine
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.core.messages import HaltChanged
from mt5_bridge.core.times import iso
from mt5_bridge.flows.disk import DaemonExecutor
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile, LatchRecord
from mt5_bridge.journal.rows import StoredHalt

_RETRY_S = 0.2
DURABLE_WITHIN_S = 0.010
"""How long the answer to a stop waits for the disk: it must be out within 20 ms."""
_LOOSEN_WAIT_S = 2.0
ONLY_IN_FILE = (
    "the latch file halts, the journal does not: the bridge was killed during a stop that the disk did not take, or "
    "during a resume; trading stays halted: stop again to be sure that all is closed, or resume"
)
_CLOSE_S = 1.0
Beside = Callable[[], Sequence[changes.Change]]


def changed(halt: Halt, phase: str, **lists: list[int] | str | None) -> HaltChanged:
    """A `halt_changed` message of the given phase."""
    return HaltChanged(
        state=halt.state.value,
        phase=phase,
        reason=halt.reason,
        by=halt.by,
        at=iso(halt.at_msc),
        **lists,  # type: ignore[arg-type]  # the three lists and the detail, named by the caller
    )


class LastHalt(NamedTuple):
    """The halt state that an earlier life left in the journal, and whether nobody has been told of it."""

    halt: Halt
    untold: bool


async def last_halt(journal: Journal) -> LastHalt:
    """What the journal says at the start.

    Raises:
        JournalError: it cannot be read.
    """
    return LastHalt(as_stored(await journal.halt()), untold=bool(await journal.memo(changes.HALT_UNTOLD)))


class HaltLatch:
    """The bridge's halt state: at first as journal and file know it, the stricter of both.

    Args:
        outbox: where changes are journalled and announced.
        file: the latch file beside the journal; closed by `close`.
        last: what the journal said at the start.
    """

    def __init__(self, outbox: Outbox, file: LatchFile, last: LastHalt) -> None:
        self._outbox = outbox
        self._file = file
        record = file.read()
        self._halt = last.halt if record is None else machine.stricter(last.halt, in_file(record))
        self._only_in_file = self._halt is not last.halt
        self._untold = last.untold
        self._tasks: set[asyncio.Task[None]] = set()
        self._order = asyncio.Lock()
        self._loosening = 0
        self._listeners: list[Callable[[Halt], None]] = []
        self._disk = DaemonExecutor("latch-file")
        self._to_file: set[asyncio.Future[None]] = set()
        self.file_failures = 0

    async def take_up(self) -> None:
        """Write what only the file knows, and tell what was latched while no bridge ran.

        Raises:
            JournalError: nobody will hear of it.
        """
        if self._only_in_file:
            self.write_down(detail=ONLY_IN_FILE if self._halt.state is HaltState.HALTED else None)
        elif self._untold:
            await self.announce(changes.Memo(name=changes.HALT_UNTOLD, value=b""))

    @property
    def halt(self) -> Halt:
        """The state now."""
        return self._halt

    def on_change(self, listener: Callable[[Halt], None]) -> None:
        """Call `listener` with each new state, right when it is latched."""
        self._listeners.append(listener)

    def tighten(self, new: Halt, beside: Beside = tuple) -> asyncio.Task[None] | None:
        """Latch a stricter state now; the task ends when it is durable. None: nothing changed.

        What `beside` tells becomes durable in the same moment; it is asked with each try.
        """
        if new is self._halt:
            if not self._loosening:
                return None
            # Said again while its end is being written: it holds, and is written behind that.
            new = msgspec.structs.replace(new)
        self._set(new)
        return self.write_down(beside)

    def write_down(
        self, beside: Beside = tuple, *, announce: bool = True, detail: str | None = None
    ) -> asyncio.Task[None]:
        """Write the state as it is to the file and the journal; the task ends when the journal has it."""
        self._write_file(self._halt)
        told = changed(self._halt, "latched", detail=detail) if announce else None
        task = asyncio.create_task(self._persist(self._halt, told, beside), name="halt-persist")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def announce(self, *beside: changes.Change) -> None:
        """Tell the state as it is to all; it was journalled by somebody else.

        Raises:
            JournalError: nobody will hear of it.
        """
        await self._outbox.commit(self._outbox.event("halt_changed", changed(self._halt, "latched")), *beside)

    @property
    def durable(self) -> bool:
        """Whether the journal has the state as it is, as far as is known now."""
        return not self._tasks

    async def durable_within(self, task: asyncio.Task[None] | None) -> bool:
        """Whether the latch is in the journal by the time an answer must be out; the write goes on either way.

        Args:
            task: ends when what belongs to it is durable, too; None: nothing does.
        """
        waiting = {*self._tasks, *(() if task is None else (task,))}
        if waiting:
            await asyncio.wait(waiting, timeout=DURABLE_WITHIN_S)
        return all(task.done() and not task.cancelled() for task in waiting)

    async def loosen(self, new: Halt, *beside: changes.Change, otherwise: Beside = tuple) -> bool:
        """Go back to ACTIVE: durable first, together with what tells who wanted it.

        Args:
            new: the state to go to.
            beside: becomes durable with it.
            otherwise: tells what becomes durable with the latch where that holds after all.

        Returns:
            False when a stop came while it was being written: the stop holds.

        Raises:
            JournalError: the latch holds, because its end could not be written.
        """
        self._loosening += 1
        try:
            return await self._loosen(new, beside, otherwise)
        finally:
            self._loosening -= 1

    async def _loosen(self, new: Halt, beside: Sequence[changes.Change], otherwise: Beside) -> bool:
        was = self._halt
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_LOOSEN_WAIT_S)
        if self._tasks:
            raise JournalError("the halt itself is not in the journal yet")
        announced = self._outbox.event("halt_changed", changed(new, "latched"))
        async with self._order:
            if self._halt is not was:
                return False
            try:
                await self._outbox.commit(journalled(new), announced, *beside)
            except JournalError:
                # After a failed fsync it may be there all the same at the next start: the latch is written behind it.
                self.write_down(otherwise, announce=False)
                raise
        if self._halt is not was:
            # A stop arrived while the resume was being written: the stop wins, and is written after it.
            return False
        self._set(new)
        self._write_file(new)
        return True

    def day_changed(self, day: str, now_msc: int) -> Halt | None:
        """The state after a new trading day began, None when it stays as it is."""
        new = machine.new_day(self._halt, day=day, at_msc=now_msc)
        return None if new is self._halt else new

    async def close(self) -> None:
        """Give pending writes a last moment."""
        pending: set[asyncio.Future[None]] = {*self._tasks, *self._to_file}
        if pending:
            _, late = await asyncio.wait(pending, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._disk.finally_do(self._file.close)

    def _set(self, new: Halt) -> None:
        self._halt = new
        level = "INFO" if new.state is HaltState.ACTIVE else "WARNING"
        logger.bind(event="halt_changed", state=new.state.value, by=new.by).log(
            level, "Trading is {state}: {reason} (by {by})", state=new.state.value, reason=new.reason, by=new.by
        )
        for listener in self._listeners:
            try:
                listener(new)
            except Exception:  # noqa: BLE001 - a defect elsewhere must not keep a stop from being written and acted on
                logger.opt(exception=True).bind(event="defect").error("ERROR not everybody heard of the halt: a defect")

    def _write_file(self, new: Halt) -> None:
        """In a thread of one: in order, and without the loop waiting for the disk."""
        loop = asyncio.get_running_loop()
        record = (new.state.value, new.reason, new.by, new.at_msc)
        written = loop.run_in_executor(self._disk, self._file.write, *record)
        self._to_file.add(written)
        written.add_done_callback(self._file_written)

    def _file_written(self, written: "asyncio.Future[None]") -> None:
        self._to_file.discard(written)
        if not written.cancelled() and (error := written.exception()) is not None:
            self.file_failures += 1
            logger.bind(event="latch_file_failed").error("ERROR the latch file cannot be written: {e}", e=error)

    async def _persist(self, new: Halt, told: HaltChanged | None, beside: Beside) -> None:
        batch: list[changes.Change] = [journalled(new)]
        if told is not None:
            batch.append(self._outbox.event("halt_changed", told))
        # The lock is given in the order asked for: the journal's last word is the last that was latched.
        async with self._order:
            while True:
                try:
                    await self._outbox.commit(*batch, *beside())
                except JournalError as error:
                    logger.bind(event="halt_not_durable").error(
                        "ERROR the halt is not in the journal yet: {e}", e=error
                    )
                    await asyncio.sleep(_RETRY_S)
                else:
                    return


def as_stored(stored: StoredHalt | None) -> Halt:
    """The halt as the journal has it; without a row it never changed."""
    if stored is None:
        return Halt()
    return Halt(
        state=HaltState(stored.state),
        reason=stored.reason,
        by=stored.by,
        at_msc=stored.at_msc,
        origin=Origin(stored.origin),
        until_day=stored.until_day,
    )


def in_file(record: LatchRecord) -> Halt:
    """The halt as the latch file has it; who stopped remotely is not in it: taken as local."""
    return Halt(state=HaltState(record.state), reason=record.reason, by=record.by, at_msc=record.at_msc)


def journalled(halt: Halt) -> changes.HaltChanged:
    """The halt as it goes to the journal."""
    return changes.HaltChanged(
        state=halt.state.value,
        reason=halt.reason,
        by=halt.by,
        at_msc=halt.at_msc,
        origin=halt.origin.value,
        until_day=halt.until_day,
    )

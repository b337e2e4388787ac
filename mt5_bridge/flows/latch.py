"""Who holds the halt state: in memory at once, in a pre-allocated file next, in the journal as soon as it can.

A stop is exempt from "durable first": it latches, acts, and the write is tried until it succeeds. A resume is the
opposite: journal first, then the file, so that a crash in between leaves the stricter of the two.
"""

import asyncio
from collections.abc import Callable

from loguru import logger

from mt5_bridge.core import halt as machine
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.halt import Halt, HaltState
from mt5_bridge.core.messages import HaltChanged
from mt5_bridge.core.times import iso
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.journal import changes
from mt5_bridge.journal.latchfile import LatchFile

_RETRY_S = 0.2
ANSWER_WITHIN_S = 0.020


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


class HaltLatch:
    """The bridge's halt state.

    Args:
        outbox: where changes are journalled and announced.
        file: the latch file beside the journal.
        halt: what journal and file said at the start, the stricter of both.
    """

    def __init__(self, outbox: Outbox, file: LatchFile, halt: Halt) -> None:
        self._outbox = outbox
        self._file = file
        self._halt = halt
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[Halt], None]] = []
        self.file_failures = 0

    @property
    def halt(self) -> Halt:
        """The state now."""
        return self._halt

    def on_change(self, listener: Callable[[Halt], None]) -> None:
        """Call `listener` with each new state, right when it is latched."""
        self._listeners.append(listener)

    def tighten(self, new: Halt) -> asyncio.Task[None] | None:
        """Latch a stricter state now; the task ends when it is durable. None: nothing changed."""
        if new is self._halt:
            return None
        self._set(new)
        self._write_file(new)
        task = asyncio.create_task(self._persist(new), name="halt-persist")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def durable_within(self, task: asyncio.Task[None] | None) -> bool:
        """Whether the latch is on disk within the 20 ms an answer may take; the write goes on either way."""
        if task is None:
            return not self._tasks
        done, _ = await asyncio.wait({task}, timeout=ANSWER_WITHIN_S)
        return bool(done)

    async def loosen(self, new: Halt, *beside: changes.Change) -> None:
        """Go back to ACTIVE: durable first, together with what tells who wanted it.

        Raises:
            JournalError: the latch holds, because its end could not be written.
        """
        was = self._halt
        announced = self._outbox.event("halt_changed", changed(new, "latched"))
        await self._outbox.commit(_journalled(new), announced, *beside)
        if self._halt is not was:
            # A stop arrived while the resume was being written: the stop wins, and is written after it.
            return
        self._set(new)
        self._write_file(new)

    def day_changed(self, day: str, now_msc: int) -> Halt | None:
        """The state after a new trading day began, None when it stays as it is."""
        new = machine.new_day(self._halt, day=day, at_msc=now_msc)
        return None if new is self._halt else new

    async def close(self) -> None:
        """Give pending writes a last moment."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=1.0)
            for task in late:
                task.cancel()
        self._file.close()

    def _set(self, new: Halt) -> None:
        self._halt = new
        level = "INFO" if new.state is HaltState.ACTIVE else "WARNING"
        logger.bind(event="halt_changed", state=new.state.value, by=new.by).log(
            level, "Trading is {state}: {reason} (by {by})", state=new.state.value, reason=new.reason, by=new.by
        )
        for listener in self._listeners:
            listener(new)

    def _write_file(self, new: Halt) -> None:
        try:
            self._file.write(new.state.value, new.reason, new.by, new.at_msc)
        except JournalError as error:
            self.file_failures += 1
            logger.bind(event="latch_file_failed").error("ERROR the latch file cannot be written: {e}", e=error)

    async def _persist(self, new: Halt) -> None:
        announced = self._outbox.event("halt_changed", changed(new, "latched"))
        while True:
            try:
                await self._outbox.commit(_journalled(new), announced)
            except JournalError as error:
                logger.bind(event="halt_not_durable").error("ERROR the halt is not in the journal yet: {e}", e=error)
                await asyncio.sleep(_RETRY_S)
            else:
                return


def _journalled(halt: Halt) -> changes.HaltChanged:
    return changes.HaltChanged(
        state=halt.state.value,
        reason=halt.reason,
        by=halt.by,
        at_msc=halt.at_msc,
        origin=halt.origin.value,
        until_day=halt.until_day,
    )

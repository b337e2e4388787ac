"""The emergency stop: latch, then cancel and close until the account is flat, and say what is left.

State and flattening are separate: rules latch only; a person's stop also cancels and closes, as its fields and the
settings say. Everything here is exempt from "durable first" and goes to the terminal as CRITICAL.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from loguru import logger

from mt5_bridge.core import halt as machine
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.flatten import Flattener, StopOptions, asked
from mt5_bridge.flows.latch import HaltLatch, changed
from mt5_bridge.flows.memos import recalled
from mt5_bridge.flows.orders import OrderDesk
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.flows.ownership import Ownership
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Terminal

__all__ = ["FLATTEN_MEMO", "WATCH_MEMO", "Emergency", "StopOptions"]

FLATTEN_MEMO = "flatten"
"""What a flattening was asked for, until the account is flat: taken up again after a crash."""
WATCH_MEMO = "late_fills"
"""Magics whose late fills a stop still watches for: so does the next life after a crash."""
CLEAN_READS = 3
DONE_AFTER_S = 30.0
WATCH_S = 60.0
_PAUSE_FIRST_S = 0.1
_PAUSE_MOST_S = 2.0
_PAUSE_LATER_S = 30.0
_CLEAN_PAUSE_S = 0.05
_WATCH_PAUSE_S = 0.5
_GRACE_POLL_S = 0.05
_RETRY_S = 0.5
_CLOSE_S = 0.5
_LATE_FILLS = StopOptions(cancel_orders=True, close_positions=True)


class Emergency:
    """Stops trading and flattens the account.

    Args:
        defaults: EMERGENCY_CANCEL_ORDERS, EMERGENCY_CLOSE_POSITIONS, EMERGENCY_SCOPE.
        grace_s: STOP_GRACE: how long a call in flight at the latch may still take before its host is killed.
        magic_base: MT5_MAGIC, for scope `mine`.

    Attributes:
        survivors: tickets that should be gone and were there at the last complete read.
    """

    def __init__(
        self,
        terminal: Terminal,
        desk: OrderDesk,
        book: Book,
        latch: HaltLatch,
        outbox: Outbox,
        journal: Journal,
        clock: Clock,
        *,
        defaults: StopOptions,
        grace_s: float,
        magic_base: int,
    ) -> None:
        self.defaults = defaults
        self.survivors: tuple[int, ...] = ()
        self.stops = 0
        self._terminal = terminal
        self._desk = desk
        self._book = book
        self._latch = latch
        self._outbox = outbox
        self._journal = journal
        self._clock = clock
        self._grace_s = grace_s
        self._ownership = Ownership(terminal, journal, magic_base=magic_base)
        self._goal: StopOptions | None = None
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._killer: asyncio.Task[None] | None = None
        self._helpers: set[asyncio.Task[None]] = set()
        self._watched: set[int] = set()
        self._to_write: deque[tuple[changes.Change, ...]] = deque()
        self._writer: asyncio.Task[Any] | None = None
        self._told: tuple[Any, ...] = ()
        self._work: Flattener | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def busy(self) -> bool:
        """Flattening, or watching for late fills."""
        return self._task is not None and not self._task.done()

    def on_flatten(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something is to be cancelled or closed."""
        self._listeners.append(listener)

    @property
    def unfinished(self) -> bool:
        """A flattening was asked for and no three complete reads have shown yet that nothing is left."""
        return self._goal is not None or bool(self.survivors)

    def stop(
        self, *, reason: str, by: str, origin: Origin, options: StopOptions | None
    ) -> tuple[Halt, "asyncio.Task[None] | None"]:
        """Latch HALTED now and begin to flatten; never waits.

        Args:
            reason: for people and events.
            by: who asked.
            origin: where it came from; decides who may resume.
            options: what to do beyond latching; None latches only.

        Returns:
            The state now latched, and the task that ends when it is durable (None: it was latched before, and nothing
            more is wanted).
        """
        self.stops += 1
        new = machine.stop(self._latch.halt, reason=reason, by=by, at_msc=self._clock.now_ms(), origin=origin)
        durable = self._latch.tighten(new, self.to_go_on_with)
        if options is not None:
            self.flatten(options)
        if durable is None and self._to_write:
            durable = self._writer  # what this one wants beyond the one before is written by itself
        return self._latch.halt, durable

    def to_go_on_with(self) -> tuple[changes.Change, ...]:
        """In one commit with the latch: a crash must not leave a halt that nobody goes on to flatten, nor one of which
        a life goes on to flatten what an earlier stop wanted, nor one without the late fills that are watched for."""
        return (self._to_remember(), self._to_watch())

    @staticmethod
    def nothing_to_go_on_with() -> tuple[changes.Change, ...]:
        """In one commit with a resume: no later life closes what a stop wanted that was lifted."""
        return (changes.Memo(name=FLATTEN_MEMO, value=b""), changes.Memo(name=WATCH_MEMO, value=b""))

    @property
    def journalled(self) -> bool:
        """What was asked for, and what came of it so far, is in the journal."""
        return not self._to_write

    def flatten(self, options: StopOptions) -> None:
        """Cancel and close by the options; goes on in the background until flat.

        One that is under way already is not begun anew: what it has sent is on its way. It gets what this one wants
        beyond it, and tries at once what it was waiting with.
        """
        # Also what is known to be open or placed and no list shows yet: three reads of nothing may come before it.
        unseen = {exposure.magic for exposure in self._book.in_flight()}
        self._watched |= set(self._desk.flying) | self._desk.unresolved | unseen
        goal, halt = options.joined(self._goal), self._latch.halt
        if goal != self._goal:
            self._goal = goal
            self._write(asked(halt.at_msc, halt.by, halt.reason), self._to_remember(), self._to_watch())
        self._again.set()
        if not self.busy:
            self._task = asyncio.create_task(self._run(), name="emergency")
        if self._killer is None or self._killer.done():
            self._killer = self._helper(self._kill_what_hangs())
        for listener in self._listeners:
            listener()

    def resumed(self) -> None:
        """Trading goes on: nothing is closed any more."""
        for task in (self._task, *self._helpers):
            if task is not None:
                task.cancel()
        self.survivors, self._goal = (), None
        self._watched.clear()
        self._write(*self.nothing_to_go_on_with())

    async def take_up(self) -> None:
        """Go on with what an earlier life did not finish, when trading is still halted: flattening, or watching.

        Raises:
            JournalError: the journal cannot be read.
        """
        left, watched = await self._journal.memo(FLATTEN_MEMO), await recalled(self._journal, WATCH_MEMO, set[int])
        if self._latch.halt.state is not HaltState.HALTED:
            if left or watched:
                self._write(*self.nothing_to_go_on_with())
            return
        self._watched |= watched or set()
        if not left:
            if self._watched:
                self._task = asyncio.create_task(self._run(flat=True), name="emergency")
            return
        try:
            options = msgspec.json.decode(left, type=StopOptions)
        except msgspec.DecodeError:
            options = self.defaults
        logger.bind(event="emergency_taken_up").warning("Going on with the emergency stop that was interrupted")
        self.flatten(options)

    async def close(self) -> None:
        """End the background work (the latch stays) and give what is to be journalled a last moment."""
        tasks = [task for task in (self._task, *self._helpers) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=_CLOSE_S)

    def _helper(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name="emergency-helper")
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)
        return task

    async def _kill_what_hangs(self) -> None:
        """A call in flight gets the grace; then its host is killed, and an order in it is unknown."""
        began = self._clock.monotonic()
        busy = self._terminal.in_flight
        while busy is not None and self._terminal.in_flight == busy:
            if self._clock.monotonic() - began >= self._grace_s:
                self._terminal.kill_host(f"emergency stop: {busy.op} still hangs after {self._grace_s:g} s")
                return
            await asyncio.sleep(_GRACE_POLL_S)

    # --- flattening

    async def _run(self, *, flat: bool = False) -> None:
        while True:
            began = self._clock.monotonic()
            work = self._work = self._begin()
            if not flat:
                await self._until_flat(work)
            flat = False
            if not await self._watch(work, began):
                return

    def _begin(self) -> Flattener:
        # A later life must not take the magics of an earlier one, whatever the clock does in between.
        return Flattener(
            self._terminal,
            self._desk,
            self._book,
            self._ownership,
            self._clock,
            self._write,
            key=f"stop-{uuid.uuid4().hex}",
        )

    async def _until_flat(self, work: Flattener) -> None:
        clean, pause, reporter = 0, _PAUSE_FIRST_S, self._helper(self._report(work))
        try:
            # Who asks for more while the last read is under way has not been served by it.
            while clean < CLEAN_READS or self._again.is_set():
                if self._again.is_set():
                    self._again.clear()
                    work.hurry()
                    clean, pause = 0, _PAUSE_FIRST_S
                    reporter.cancel()
                    reporter = self._helper(self._report(work))
                assert self._goal is not None
                left = await self._round(work, self._goal)
                # What is in flight may still become something: an account is not flat before that has come back.
                clean = clean + 1 if left == [] and not self._desk.flying else 0
                if left:
                    self.survivors = tuple(left)
                    self._tell("progress", work, left)
                if clean:
                    await self._paused(_CLEAN_PAUSE_S)
                else:
                    await self._paused(pause)
                    pause = min(pause * 1.5, _PAUSE_LATER_S if reporter.done() else _PAUSE_MOST_S)
        finally:
            reporter.cancel()
        self.survivors, self._goal = (), None
        self._tell("done", work, [])
        self._write(self._to_remember(), self._to_watch())

    async def _round(
        self, work: Flattener, options: StopOptions, only: frozenset[int] | None = None
    ) -> list[int] | None:
        # Also what only turns out to be unknown meanwhile, such as an earlier life's orders: none was sent since.
        self._watched |= self._desk.unresolved
        try:
            return await work.round(options, only)
        except Exception as error:  # noqa: BLE001  whatever is wrong here, closing goes on: nobody else does it
            work.fault = repr(error)
            logger.bind(event="emergency_defect").opt(exception=error).critical(
                "ERROR a defect in the emergency stop, which goes on: {e!r}", e=error
            )
            return None

    async def _report(self, work: Flattener) -> None:
        """After 30 s what is still there is told, and why; trying goes on.

        Never `done` without survivors: that is what a flat account is told by, and of this one nothing is known.
        """
        await asyncio.sleep(DONE_AFTER_S)
        left = self.survivors
        if not left and work.fault and self._goal is not None:
            left = (*self._book.orders, *self._book.positions)
        self._tell("done" if left else "progress", work, list(left))

    async def _watch(self, work: Flattener, began: float) -> bool:
        """P4: what was in flight at the latch may fill late; it is closed when it does. True: asked to flatten."""
        left: list[int] | None = []
        while self._watched and (
            left or self._desk.unresolved & self._watched or self._clock.monotonic() - began < WATCH_S
        ):
            await self._paused(_WATCH_PAUSE_S)
            if self._again.is_set():
                return True
            left = await self._round(work, _LATE_FILLS, frozenset(self._watched))
            if left is not None:
                self.survivors = tuple(left)
            self._tell("progress", work, left or [])
        if self._watched:
            self._watched.clear()
            self._write(self._to_watch())
        return self._again.is_set()

    def _to_remember(self) -> changes.Memo:
        """What is to be cancelled and closed, for a later life; nothing: no more."""
        return changes.Memo(name=FLATTEN_MEMO, value=b"" if self._goal is None else msgspec.json.encode(self._goal))

    def _to_watch(self) -> changes.Memo:
        watched = msgspec.json.encode(sorted(self._watched)) if self._watched else b""
        return changes.Memo(name=WATCH_MEMO, value=watched)

    async def _paused(self, seconds: float) -> None:
        """Wait, unless somebody asks for a stop again."""
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            return

    # --- telling

    def _tell(self, phase: str, work: Flattener, left: list[int]) -> None:
        """Announce it: progress only when it is news, the end always."""
        halt, why = self._latch.halt, work.why(left)
        picture = (halt.at_msc, tuple(work.cancelled), tuple(work.closed), tuple(left), why)
        if phase == "progress" and picture == self._told:
            return
        self._told = picture
        message = changed(
            halt,
            phase,
            cancelled=list(work.cancelled),
            closed=list(work.closed),
            survivors=left if phase == "done" else [],
            detail=why or None,
        )
        logger.bind(event="emergency", phase=phase).log(
            "ERROR" if phase == "done" and left else "WARNING",
            "Emergency stop {phase}: {cancelled} orders cancelled, {closed} positions closed, left: {left} {why}",
            phase=phase,
            cancelled=len(work.cancelled),
            closed=len(work.closed),
            left=left or ("not known:" if why else "nothing"),
            why=why,
        )
        self._write(self._outbox.event("halt_changed", message))

    def _write(self, *batch: changes.Change) -> None:
        """Journal it when that is possible, in order: acting does not wait for it."""
        self._to_write.append(batch)
        if self._writer is None or self._writer.done():
            self._writer = self._desk.spawn(self._write_all())

    async def _write_all(self) -> None:
        while self._to_write:
            try:
                await self._outbox.commit(*map(self._as_it_is, self._to_write[0]))
            except JournalError as error:
                if error.retriable:
                    await asyncio.sleep(_RETRY_S)
                    continue
                logger.bind(event="emergency_not_journalled").error("ERROR not journalled: {e}", e=error)
            self._to_write.popleft()

    def _as_it_is(self, change: changes.Change) -> changes.Change:
        """What waited for the disk must not bring back what an earlier stop wanted: the later one may be written."""
        if not isinstance(change, changes.Memo):
            return change
        return {FLATTEN_MEMO: self._to_remember, WATCH_MEMO: self._to_watch}[change.name]()

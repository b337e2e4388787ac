"""Commands over the WebSocket: the stop in the receive loop, everything else queued, each answered once."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from mt5_bridge.control import commands as table
from mt5_bridge.control.commands import Command, StopFrame
from mt5_bridge.core import wire
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.permission import Permission
from mt5_bridge.core.times import DAY, iso
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.emergency import Emergency, StopOptions
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.once import Once
from mt5_bridge.flows.signals import CHUNK, SIGNAL, Frame, Intake, Unreadable
from mt5_bridge.flows.turns import Turn, Turns
from mt5_bridge.journal.journal import Journal

MAX_WAITING = 512
MAX_SIGNALS = 2048
MAX_AT_ONCE = 16
MAX_STOPS = 256
QUICK = frozenset({"get_status", "heartbeat", "reduce_only", "resume_trading", "unsubscribe"})
"""What asks nothing of the terminal does not wait behind what does."""
RESUME = "resume_trading"
ERRORS_PER_S = 1.0
_MESSAGE_MOST = 500


class Answering(Protocol):
    """What this flow needs of the WebSocket client."""

    def send(self, frame: bytes, *, urgent: bool = False, brief: bool = False) -> bool: ...


class Refusal(Exception):
    """A command that cannot be done: its code and words for the answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


Handler = Callable[[Command], Awaitable[Any]]
Latched = tuple[Halt, int]
"""The halt, and how often somebody has said to stop."""


@dataclass
class ControlFlowStats:
    """Counters of the commands."""

    commands: int = 0
    stops: int = 0
    overloaded: int = 0
    errors: int = 0
    silenced: int = 0


class _Lane:
    """Commands that wait, and places for those being done."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[tuple[wire.Envelope, Latched, Turn]] = asyncio.Queue(MAX_WAITING)
        self.places = asyncio.Semaphore(MAX_AT_ONCE)


class ControlFlow:
    """Reads frames, answers commands.

    Args:
        handlers: what does each command, by name; a `Refusal` becomes the failed answer.
        permitted: what the backend may do here.
    """

    def __init__(
        self,
        journal: Journal,
        latch: HaltLatch,
        emergency: Emergency,
        intake: Intake,
        clock: Clock,
        handlers: dict[str, Handler],
        *,
        on_defect: Callable[[BaseException], None],
        permitted: Container[Permission] = tuple(Permission),
    ) -> None:
        self.stats = ControlFlowStats()
        self._journal = journal
        self._latch = latch
        self._emergency = emergency
        self._intake = intake
        self._clock = clock
        self._handlers = handlers
        self._on_defect = on_defect
        self._permitted = permitted
        self._channel: Answering | None = None
        self._reads = _Lane()
        self._acts = _Lane()
        self._signals: asyncio.Queue[Frame] = asyncio.Queue(MAX_SIGNALS)
        self._turns = Turns(self._answer, most=2 * MAX_WAITING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._once = Once(journal, clock)
        self._stop_answers: dict[str, dict[str, Any]] = {}
        self._last_error = float("-inf")

    def attach(self, channel: Answering) -> None:
        """Where answers go."""
        self._channel = channel

    def on_frame(self, frame: bytes) -> None:
        """A frame from the receive loop; never waits. A stop is latched before this returns (P6)."""
        stop = table.stop_of(frame)
        if stop is not None:
            self._stop(stop)
            return
        try:
            envelope = wire.decode(frame)
        except WireError as error:
            self._unreadable(wire.peek(frame), error)
            return
        if envelope.type == SIGNAL:
            self._queue_signal(envelope)
        elif table.is_command(envelope.type):
            self._take_command(envelope)
        elif table.is_answer(envelope.type):
            return
        elif envelope.request_id is not None:
            failed = table.failed(envelope.type, "unknown_command", f"unknown command {envelope.type[:64]!r}")
            self._turns.take().answer(failed, envelope.request_id)
        else:
            self._error("unknown_type", f"unknown type {envelope.type[:64]!r}")

    async def run_commands(self) -> None:
        """Do what is queued: begun in order, a few at once; slow reads hold up neither a close nor one another."""
        async with asyncio.TaskGroup() as group:
            for lane in (self._reads, self._acts):
                group.create_task(self._run_lane(lane), name="commands-lane")

    async def _run_lane(self, lane: _Lane) -> None:
        while True:
            envelope, latched, turn = await lane.waiting.get()
            await lane.places.acquire()
            self._spawn(self._command(envelope, latched, turn), lane.places)

    async def run_signals(self) -> None:
        """Enter signals in the order they came."""
        while True:
            frames = [await self._signals.get()]
            while len(frames) < CHUNK and not self._signals.empty():
                frames.append(self._signals.get_nowait())
            await self._intake.take_frames(frames)

    async def close(self) -> None:
        """End what still runs."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._turns.close()

    # --- the stop

    async def restore(self) -> None:
        """Know the stops that an earlier life answered: repeated while halted they do nothing twice.

        Raises:
            JournalError: the journal cannot be read.
        """
        since = self._clock.now_ms() - DAY
        for stored in await self._journal.answers(table.EMERGENCY_STOP, since):
            self._stop_answers[stored.request_id] = table.decode_answer(stored.answer)

    def _stop(self, frame: StopFrame) -> None:
        self.stats.stops += 1
        params, defaults = frame.params, self._emergency.defaults
        key = None if frame.request_id is None else str(frame.request_id)
        if key is not None and self._told_of_this_halt(key):
            self._once.repeated += 1
            # It says halted: a resume that is on its way must not make that untrue.
            self._latch.tighten(self._latch.halt)
            self._answer(self._stop_answers[key], frame.request_id, urgent=True)
            return
        options = StopOptions(
            cancel_orders=defaults.cancel_orders if params.cancel_orders is None else params.cancel_orders,
            close_positions=defaults.close_positions if params.close_positions is None else params.close_positions,
            scope=params.scope or defaults.scope,
        )
        halt, durable = self._emergency.stop(
            reason=params.reason or "emergency stop",
            by=params.by or "backend",
            origin=Origin.REMOTE,
            options=options,
        )
        if len(self._tasks) < MAX_WAITING + MAX_STOPS:
            self._spawn(self._answer_stop(frame, key, halt, durable))
        else:
            # A flood of stops: each latches, but no more of them are waited with for the journal, nor remembered.
            self._answer(self._stopped(frame, halt, durable=self._latch.durable), frame.request_id, urgent=True)

    def _told_of_this_halt(self, key: str) -> bool:
        """Whether this stop was answered since trading halted; one of an earlier halt says nothing about this one.

        What halted since may be a rule that closes nothing, and request_ids may begin anew with a backend's restart.
        """
        halt, answer = self._latch.halt, self._stop_answers.get(key)
        return answer is not None and halt.state is HaltState.HALTED and answer["data"]["at"] == iso(halt.at_msc)

    async def _answer_stop(
        self, frame: StopFrame, key: str | None, halt: Halt, durable: "asyncio.Task[None] | None"
    ) -> None:
        answer = self._stopped(frame, halt, durable=await self._latch.durable_within(durable))
        self._answer(answer, frame.request_id, urgent=True)
        if key is not None:
            self._stop_answers.pop(key, None)  # to the end of the queue, when it is of an earlier halt
            while len(self._stop_answers) >= MAX_WAITING:
                del self._stop_answers[next(iter(self._stop_answers))]
            self._stop_answers[key] = answer
            await self._once.remember(key, table.EMERGENCY_STOP, answer)

    def _stopped(self, frame: StopFrame, halt: Halt, *, durable: bool) -> dict[str, Any]:
        data: dict[str, Any] = {
            "state": halt.state.value,
            "reason": halt.reason,
            "by": halt.by,
            "at": iso(halt.at_msc),
            "durable": durable,
        }
        if frame.faults:
            data["faults"] = list(frame.faults)
        return table.succeeded(table.EMERGENCY_STOP, data)

    # --- all other commands

    def _take_command(self, envelope: wire.Envelope) -> None:
        name = table.meant(envelope)
        if name in QUICK and len(self._tasks) < MAX_WAITING:
            self._spawn(self._command(envelope, self._latched(), self._turns.take()))
            return
        lane = self._acts if name is not None and table.COMMANDS[name].acts else self._reads
        if not lane.waiting.full():
            lane.waiting.put_nowait((envelope, self._latched(), self._turns.take()))
            return
        # At once, whatever else is still to be answered: there is no place left to wait in.
        self.stats.overloaded += 1
        failed = table.failed(envelope.type, "overloaded", f"{MAX_WAITING} frames wait already: send less")
        self._answer(failed, envelope.request_id)

    def _unreadable(self, seen: wire.Glimpse, error: WireError) -> None:
        """A frame that does not decode is answered as what it is all the same; an answer is never answered."""
        if seen.type == SIGNAL or (seen.type is None and seen.signal_id is not None):
            self._queue_signal(Unreadable(seen.signal_id, seen.request_id, str(error)))
        elif seen.type is None or not (table.is_command(seen.type) or table.is_answer(seen.type)):
            self._error("invalid", str(error))
        elif table.is_command(seen.type):
            failed = table.failed(seen.type, "invalid_params", str(error)[:_MESSAGE_MOST])
            self._turns.take().answer(failed, seen.request_id)

    def _queue_signal(self, signal: wire.Envelope | Unreadable) -> None:
        if Permission.SIGNAL not in self._permitted:
            self._send(self._intake.turned_away(signal, Reason.FORBIDDEN, _forbidden(Permission.SIGNAL)), brief=True)
            return
        try:
            self._signals.put_nowait((signal, self._clock.now_ms()))
        except asyncio.QueueFull:
            self.stats.overloaded += 1
            why = f"{MAX_SIGNALS} signals wait already: send less"
            self._send(self._intake.turned_away(signal, Reason.THROTTLED, why), brief=True)

    def _latched(self) -> Latched:
        """What is latched when a frame comes: a resume lifts that, and nothing that comes after it."""
        return self._latch.halt, self._said_stop

    async def _command(self, envelope: wire.Envelope, latched: Latched, turn: Turn) -> None:
        self.stats.commands += 1
        try:
            turn.answer(await self._answer_to(envelope, latched), envelope.request_id)
        finally:
            turn.give_up()

    async def _answer_to(self, envelope: wire.Envelope, latched: Latched) -> dict[str, Any]:
        try:
            command = table.decode_command(envelope)
        except WireError as error:
            return table.failed(envelope.type, error.reason, str(error))
        needs = table.COMMANDS[command.name].needs
        if needs is not None and needs not in self._permitted:
            return table.failed(command.name, Reason.FORBIDDEN.value, _forbidden(needs))
        if command.acts and command.request_id is not None:
            return await self._once.answer(command, str(command.request_id), lambda: self._do(command, latched))
        return await self._do(command, latched)

    async def _do(self, command: Command, latched: Latched) -> dict[str, Any]:
        if command.name == RESUME and self._stopped_since(latched):
            return table.failed(RESUME, "halted", "a stop came after this word: trading stays halted")
        try:
            return table.succeeded(command.name, await self._handlers[command.name](command))
        except Refusal as refusal:
            return table.failed(command.name, refusal.code, str(refusal))

    @property
    def _said_stop(self) -> int:
        """Grows with every word to stop, also with one that repeats an earlier one."""
        return self._emergency.stops + self.stats.stops

    def _stopped_since(self, latched: Latched) -> bool:
        """Whether somebody has stopped, or something was latched, since a frame came."""
        halt, stops = latched
        now = self._latch.halt
        return self._said_stop != stops or (now is not halt and now.state is not HaltState.ACTIVE)

    def _answer(self, data: dict[str, Any], request_id: wire.RequestId, *, urgent: bool = False) -> None:
        frame = wire.encode("command_result", data, now_msc=self._clock.now_ms(), request_id=request_id)
        spec = table.COMMANDS.get(data["command"])
        # What was done must not be answered as what was not.
        if self._send(frame, urgent=urgent, brief=spec is not None and spec.acts) or urgent:
            return
        # There is always room for a few words: whoever asked must not wait for an answer that will not come.
        why = f"the answer of {len(frame)} bytes finds no room beside what waits already: ask for less, or later"
        short = table.failed(data["command"], "overloaded", why)
        self._send(
            wire.encode("command_result", short, now_msc=self._clock.now_ms(), request_id=request_id), brief=True
        )

    def _send(self, frame: bytes, *, urgent: bool = False, brief: bool = False) -> bool:
        return self._channel is not None and self._channel.send(frame, urgent=urgent, brief=brief)

    def _error(self, code: str, message: str) -> None:
        """At most one a second: an endless stream of nonsense must not become two."""
        self.stats.errors += 1
        now = self._clock.monotonic()
        if now - self._last_error < 1 / ERRORS_PER_S:
            self.stats.silenced += 1
            return
        self._last_error = now
        data = {"code": code, "message": message[:_MESSAGE_MOST]}
        self._send(wire.encode("error", data, now_msc=self._clock.now_ms()))

    def _spawn(self, work: Coroutine[Any, Any, None], place: asyncio.Semaphore | None = None) -> None:
        task = asyncio.create_task(work, name="command")
        self._tasks.add(task)

        def done(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if place is not None:
                place.release()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._on_defect(error)

        task.add_done_callback(done)


def _forbidden(needs: Permission) -> str:
    return f"BACKEND_PERMISSIONS of this bridge leaves out {needs.value!r}"

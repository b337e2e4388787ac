"""Commands over the WebSocket: the stop in the receive loop, everything else queued, each answered once."""

import asyncio
from collections.abc import Callable, Container, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from mt5_bridge.control import commands as table
from mt5_bridge.control.commands import StopFrame
from mt5_bridge.core import wire
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.permission import Permission
from mt5_bridge.flows.answers import Answers, Latched, Stopped, forbidden
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.signals import Frame, Intake
from mt5_bridge.flows.sorting import CHUNK, SIGNAL, Unreadable
from mt5_bridge.flows.turns import Turn, Turns

MAX_WAITING = 512
MAX_SIGNALS = 2048
MAX_AT_ONCE = 16
MAX_STOPS = 256
QUICK = frozenset({"get_status", "heartbeat", "reduce_only", "resume_trading", "unsubscribe"})
"""What asks nothing of the terminal does not wait behind what does."""
ERRORS_PER_S = 1.0
_MESSAGE_MOST = 500


class Answering(Protocol):
    """What this flow needs of the WebSocket client."""

    def send(self, frame: bytes, *, urgent: bool = False, brief: bool = False) -> bool: ...


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
        answers: does them.
        permitted: what the backend may do here.
    """

    def __init__(
        self,
        answers: Answers,
        intake: Intake,
        clock: Clock,
        *,
        on_defect: Callable[[BaseException], None],
        permitted: Container[Permission] = tuple(Permission),
    ) -> None:
        self.stats = ControlFlowStats()
        self._answers = answers
        self._intake = intake
        self._clock = clock
        self._on_defect = on_defect
        self._permitted = permitted
        self._channel: Answering | None = None
        self._reads = _Lane()
        self._acts = _Lane()
        self._signals: asyncio.Queue[Frame] = asyncio.Queue(MAX_SIGNALS)
        self._turns = Turns(self._answer, most=2 * MAX_WAITING)
        self._tasks: set[asyncio.Task[None]] = set()
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

    def _stop(self, frame: StopFrame) -> None:
        self.stats.stops += 1
        stopped = self._answers.stop(frame, by="backend")
        if stopped.known is None and len(self._tasks) < MAX_WAITING + MAX_STOPS:
            self._spawn(self._answer_stop(stopped))
        else:
            # A flood of stops: each latches, but no more of them are waited with for the journal, nor remembered.
            self._answer(stopped.at_once(), stopped.request_id, urgent=True)

    async def _answer_stop(self, stopped: Stopped) -> None:
        answer = await stopped.answer()
        self._answer(answer, stopped.request_id, urgent=True)
        await stopped.remember(answer)

    # --- all other commands

    def _take_command(self, envelope: wire.Envelope) -> None:
        name = table.meant(envelope)
        if name in QUICK and len(self._tasks) < MAX_WAITING:
            self._spawn(self._command(envelope, self._answers.latched(), self._turns.take()))
            return
        lane = self._acts if name is not None and table.COMMANDS[name].acts else self._reads
        if not lane.waiting.full():
            lane.waiting.put_nowait((envelope, self._answers.latched(), self._turns.take()))
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
            self._send(self._intake.turned_away(signal, Reason.FORBIDDEN, forbidden(Permission.SIGNAL)), brief=True)
            return
        try:
            self._signals.put_nowait((signal, self._clock.now_ms()))
        except asyncio.QueueFull:
            self.stats.overloaded += 1
            why = f"{MAX_SIGNALS} signals wait already: send less"
            self._send(self._intake.turned_away(signal, Reason.THROTTLED, why), brief=True)

    async def _command(self, envelope: wire.Envelope, latched: Latched, turn: Turn) -> None:
        self.stats.commands += 1
        try:
            turn.answer(await self._answers.answer_to(envelope, latched, self._permitted), envelope.request_id)
        finally:
            turn.give_up()

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

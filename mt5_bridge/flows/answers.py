"""What a command is answered, whoever brought it: the backend's WebSocket or the gateway.

A stop is latched before `Answers.stop` returns (P6); everything else is decoded, done once per `request_id`, and
answered with the `data` of a `command_result`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

from mt5_bridge.control import commands as table
from mt5_bridge.control.commands import Command, StopFrame
from mt5_bridge.core import wire
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.permission import Permission
from mt5_bridge.core.times import DAY, iso
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.emergency import Emergency, StopOptions
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.once import Once
from mt5_bridge.journal.journal import Journal

MOST_STOPS_KEPT = 512
RESUME = "resume_trading"

Answer = dict[str, Any]
Latched = tuple[Halt, int]
"""The halt, and how often somebody has said to stop."""


class Refusal(Exception):
    """A command that cannot be done: its code and words for the answer.

    Args:
        result: the `order_result`, where there was an order.
    """

    def __init__(self, code: str, message: str, *, result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.result = result


Handler = Callable[[Command], Awaitable[Any]]
_Written = tuple[Halt, "asyncio.Task[None] | None"]


class Stopped:
    """A stop that has latched, and what it is answered.

    Attributes:
        request_id: of the stop.
        known: the answer given before to the same `request_id` in this halt; None: this stop acted.
    """

    def __init__(self, answers: "Answers", frame: StopFrame, known: Answer | None, written: _Written) -> None:
        self.request_id = frame.request_id
        self.known = known
        self._answers = answers
        self._frame = frame
        self._halt, self._durable = written

    def at_once(self, *, durable: bool | None = None) -> Answer:
        """The answer as it can be given now; `durable` None: as far as is known."""
        if self.known is not None:
            return self.known
        halt = self._halt
        if durable is None:
            written = self._durable is None or (self._durable.done() and not self._durable.cancelled())
            durable = self._answers.latch.durable and written
        data: dict[str, Any] = {
            "state": halt.state.value,
            "reason": halt.reason,
            "by": halt.by,
            "at": iso(halt.at_msc),
            "durable": durable,
        }
        if self._frame.faults:
            data["faults"] = list(self._frame.faults)
        return table.succeeded(table.EMERGENCY_STOP, data)

    async def answer(self) -> Answer:
        """The answer, for which the disk has a moment."""
        if self.known is not None:
            return self.known
        with self._answers.timed(table.EMERGENCY_STOP):
            return self.at_once(durable=await self._answers.latch.durable_within(self._durable))

    async def remember(self, answer: Answer) -> None:
        """Keep what was answered, so that the same request does nothing twice, over restarts too."""
        self.keep(answer)
        if self.known is None and self.request_id is not None:
            await self._answers.once.remember(str(self.request_id), table.EMERGENCY_STOP, answer)

    def keep(self, answer: Answer) -> None:
        """The same in memory: at once."""
        if self.known is None and self.request_id is not None:
            self._answers.keep_stop(str(self.request_id), answer)


class Answers:
    """Does commands and answers them.

    Args:
        handlers: what does each command, by name; a `Refusal` becomes the failed answer.
    """

    def __init__(
        self,
        journal: Journal,
        latch: HaltLatch,
        emergency: Emergency,
        clock: Clock,
        handlers: dict[str, Handler],
    ) -> None:
        self.latch = latch
        self.once = Once(journal, clock)
        self.handlers = handlers
        self.seconds: dict[str, Histogram] = {}
        """By command: how long it took from its turn to its answer."""
        self._journal = journal
        self._emergency = emergency
        self._clock = clock
        self._words = 0
        """How often a stop was asked for, also where it had been before."""
        self._stop_answers: dict[str, Answer] = {}

    async def restore(self) -> None:
        """Know the stops that an earlier life answered: repeated while halted they do nothing twice.

        Raises:
            JournalError: the journal cannot be read.
        """
        since = self._clock.now_ms() - DAY
        for stored in await self._journal.answers(table.EMERGENCY_STOP, since):
            self._stop_answers[stored.request_id] = table.decode_answer(stored.answer)

    # --- the stop

    def stop(self, frame: StopFrame, *, by: str) -> Stopped:
        """Latch now and begin to flatten; never waits.

        Args:
            frame: what was asked.
            by: who it was, where the frame does not say.
        """
        self._words += 1
        params, defaults = frame.params, self._emergency.defaults
        key = None if frame.request_id is None else str(frame.request_id)
        if key is not None and self._told_of_this_halt(key):
            self.once.repeated += 1
            # It says halted: a resume that is on its way must not make that untrue.
            self.latch.tighten(self.latch.halt)
            return Stopped(self, frame, self._stop_answers[key], (self.latch.halt, None))
        options = StopOptions(
            cancel_orders=defaults.cancel_orders if params.cancel_orders is None else params.cancel_orders,
            close_positions=defaults.close_positions if params.close_positions is None else params.close_positions,
            scope=params.scope or defaults.scope,
        )
        written = self._emergency.stop(
            reason=params.reason or "emergency stop",
            by=params.by or by,
            origin=Origin.REMOTE,
            options=options,
        )
        return Stopped(self, frame, None, written)

    def _told_of_this_halt(self, key: str) -> bool:
        """Whether this stop was answered since trading halted; one of an earlier halt says nothing about this one.

        What halted since may be a rule that closes nothing, and request_ids may begin anew with a backend's restart.
        """
        halt, answer = self.latch.halt, self._stop_answers.get(key)
        return answer is not None and halt.state is HaltState.HALTED and answer["data"]["at"] == iso(halt.at_msc)

    def keep_stop(self, key: str, answer: Answer) -> None:
        """Keep the answer to a stop in memory."""
        self._stop_answers.pop(key, None)  # to the end of the queue, when it is of an earlier halt
        while len(self._stop_answers) >= MOST_STOPS_KEPT:
            del self._stop_answers[next(iter(self._stop_answers))]
        self._stop_answers[key] = answer

    # --- all other commands

    def latched(self) -> Latched:
        """What is latched when a frame comes: a resume lifts that, and nothing that comes after it."""
        return self.latch.halt, self._said_stop

    async def answer_to(
        self, envelope: wire.Envelope, latched: Latched, permitted: Container[Permission] = tuple(Permission)
    ) -> Answer:
        """Do what is asked, once per `request_id`; the `data` of its `command_result`.

        Args:
            envelope: a command, or `mt5_command`; no emergency stop.
            latched: see `latched`.
            permitted: what the asker may do by BACKEND_PERMISSIONS.
        """
        try:
            command = table.decode_command(envelope)
        except WireError as error:
            return table.failed(envelope.type, error.reason, str(error))
        needs = table.COMMANDS[command.name].needs
        if needs is not None and needs not in permitted:
            return table.failed(command.name, Reason.FORBIDDEN.value, forbidden(needs))
        with self.timed(command.name):
            if command.acts and command.request_id is not None:
                return await self.once.answer(command, str(command.request_id), lambda: self._do(command, latched))
            return await self._do(command, latched)

    @contextmanager
    def timed(self, command: str) -> Iterator[None]:
        """Count how long what is done within took."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            histogram = self.seconds.get(command)
            if histogram is None:
                histogram = self.seconds[command] = Histogram()
            histogram.observe(self._clock.monotonic() - began)

    async def _do(self, command: Command, latched: Latched) -> Answer:
        if command.name == RESUME and self._stopped_since(latched):
            return table.failed(RESUME, "halted", "a stop came after this word: trading stays halted")
        try:
            return table.succeeded(command.name, await self.handlers[command.name](command))
        except Refusal as refusal:
            return table.failed(command.name, refusal.code, str(refusal), refusal.result)

    @property
    def _said_stop(self) -> int:
        """Grows with every word to stop, also with one that repeats an earlier one."""
        return self._emergency.stops + self._words

    def _stopped_since(self, latched: Latched) -> bool:
        """Whether somebody has stopped, or something was latched, since a frame came."""
        halt, stops = latched
        now = self.latch.halt
        return self._said_stop != stops or (now is not halt and now.state is not HaltState.ACTIVE)


def forbidden(needs: Permission) -> str:
    """Why a command of the backend is not done."""
    return f"BACKEND_PERMISSIONS of this bridge leaves out {needs.value!r}"

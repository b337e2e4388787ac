"""The queue before a terminal host: one request in flight, four priorities, deadlines, and the right to kill.

Whatever ends a call without an answer says whether the host had the request (`MT5Error.sent`): that decides between
"not executed" and "unknown".
"""

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mt5_bridge.core.errors import MT5ConnectionError, MT5DataError, MT5Error, MT5StateError, MT5TimeoutError
from mt5_bridge.terminal.failures import error_of
from mt5_bridge.terminal.frames import BEAT, BYE, Reply, Request, pack, recall
from mt5_bridge.terminal.port import CallInfo, Priority, TerminalStats
from mt5_bridge.terminal.process import HostProcess

WRITES = frozenset({"send"})
"""Operations whose effect is unknown when no answer comes."""
UNTOUCHABLE = WRITES | {"open", "connect"}
"""Not preempted: an order in flight has its own grace, and a session being opened has nothing to preempt for."""

MAX_WAITING = 1000
"""Beyond it a call is refused: whoever asks faster than a terminal answers must hear of it."""


class _Call(msgspec.Struct, gc=False, eq=False):
    priority: Priority
    number: int
    op: str
    args: Sequence[Any]
    timeout: float
    future: asyncio.Future[msgspec.Raw]
    on_sent: Callable[[], None] | None
    may_go: Callable[[], bool] | None = None
    taken_back: Callable[[], bool] | None = None
    due: float = 0.0
    since: float = 0.0

    def __lt__(self, other: "_Call") -> bool:
        return (self.priority, self.number) < (other.priority, other.number)


class HostClient:
    """Talks to one host at a time; a dead one is replaced by `start`.

    Args:
        stats: counters to add to.
        on_death: called with why when the host is gone, killed or not, but not after `stop`.
        preempt_after: a CRITICAL request that waits so many seconds behind a read kills the host; None: never.
        python_path: more places for the host to import from.
        backend: what hosts will be told to open.
        beat_s: a host that has heard nothing for so many seconds hears a beat; None: never.

    Attributes:
        opened: the host that runs has been given its terminal.
    """

    def __init__(
        self,
        stats: TerminalStats,
        on_death: Callable[[str], None],
        *,
        preempt_after: float | None = None,
        python_path: tuple[str, ...] = (),
        backend: str | None = None,
        beat_s: float | None = None,
    ) -> None:
        self.opened = False
        self._beat_s = beat_s
        self._written_at = 0.0
        self._beat_timer: asyncio.TimerHandle | None = None
        self._backend = backend
        self._stats = stats
        self._on_death = on_death
        self._preempt_after = preempt_after
        self._python_path = python_path
        self._process: HostProcess | None = None
        self._dead: list[HostProcess] = []
        self._queue: list[_Call] = []
        self._number = 0
        self._flight: _Call | None = None
        self._timer: asyncio.TimerHandle | None = None
        """One for the deadlines of all calls, which nearly all end long before theirs."""
        self._decode = msgspec.msgpack.Decoder(Reply).decode

    @property
    def alive(self) -> bool:
        """A host runs."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The host's process id."""
        return self._process.pid if self._process is not None else None

    @property
    def in_flight(self) -> CallInfo | None:
        """What the host is busy with."""
        call = self._flight
        return None if call is None else CallInfo(call.op, call.priority, call.since)

    @property
    def idle(self) -> bool:
        """Nothing in flight and nothing waiting."""
        return self._flight is None and not self._queue

    async def start(self) -> None:
        """Start a host; any old one is killed first.

        Raises:
            MT5ConnectionError: the system cannot start a process now.
        """
        self.kill("a new host starts")
        self.opened = False
        process: HostProcess | None = None

        def exited(reason: str) -> None:
            if process is not None and self._process is process:
                self._lost(reason)

        try:
            process = await HostProcess.start(self._received, exited, self._python_path, self._backend)
        except OSError as error:
            raise MT5ConnectionError(f"the terminal host cannot be started: {error}") from error
        self._process = process
        self._stats.host_starts += 1
        self._beat()
        if process.ended is not None:
            self._lost(process.ended)

    def kill(self, reason: str) -> None:
        """Kill the host. The call in flight fails as sent, those waiting as not sent."""
        if self._process is not None:
            self._process.kill(reason)

    async def stop(self, timeout: float = 2.0, *, bye: bool = True) -> None:
        """Let the host end, kill it after `timeout` seconds; pending calls fail first.

        Args:
            timeout: seconds.
            bye: whether this end is in order; without it the host does what it is to do when the daemon dies.
        """
        process, self._process = self._process, None
        _cancel(self._beat_timer)
        _cancel(self._timer)
        self._timer = None
        self._fail_all("the session is closing", MT5StateError)
        dead, self._dead = self._dead, []
        for old in dead:
            await old.close(0.0)
        if process is not None:
            if bye:
                process.write(BYE)
            await process.close(timeout)

    def _beat(self) -> None:
        """A sign of life, where requests have been none for a while."""
        if self._beat_s is None or self._process is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._written_at >= self._beat_s:
            self._process.write(BEAT)
            self._written_at = loop.time()
        _cancel(self._beat_timer)
        self._beat_timer = loop.call_at(self._written_at + self._beat_s, self._beat)

    async def call(
        self,
        op: str,
        *args: Any,
        priority: Priority,
        timeout: float,
        on_sent: Callable[[], None] | None = None,
        may_go: Callable[[], bool] | None = None,
        taken_back: Callable[[], bool] | None = None,
    ) -> msgspec.Raw:
        """Ask the host.

        Args:
            op: the operation's name.
            args: its arguments.
            priority: its place in the queue.
            timeout: seconds the terminal may take before the host is killed; the wait in the queue is bounded by the
                same figure, without a kill.
            on_sent: called when the frame is handed to the host.
            may_go: asked right before that; False withdraws the call.
            taken_back: asked with each `recall` from then on; True withdraws the order, if it has not been sent.

        Returns:
            The undecoded result.

        Raises:
            MT5Error: the terminal's failure; MT5TimeoutError, MT5ConnectionError with `sent` as it was.
        """
        if self._process is None:
            raise MT5ConnectionError("the terminal host does not run")
        if len(self._queue) >= MAX_WAITING:
            raise MT5StateError(f"{MAX_WAITING} calls already wait for the terminal")
        loop = asyncio.get_running_loop()
        self._number += 1
        due = loop.time() + timeout
        call = _Call(priority, self._number, op, args, timeout, loop.create_future(), on_sent, may_go, taken_back, due)
        heapq.heappush(self._queue, call)
        self._next()
        if self._flight is not call:
            self._look_at(due)
            if priority is Priority.CRITICAL and self._preempt_after is not None:
                loop.call_later(self._preempt_after, self._preempt, call)
        return await call.future

    def recall(self) -> None:
        """Ask whether the order in flight is taken back: it is withdrawn then, up to `order_send` itself."""
        call = self._flight
        if call is not None and self._process is not None and call.taken_back is not None and call.taken_back():
            self._process.write(recall(call.number))

    def _look_at(self, due: float) -> None:
        """Look for what is overdue at that time of the loop, or before."""
        if self._timer is None or self._timer.when() > due:
            _cancel(self._timer)
            self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for call in self._queue:
            if call.due <= now:
                self._waited_out(call)
        if self._flight is not None and self._flight.due <= now:
            self._overdue(self._flight)
        pending = [call.due for call in self._queue if not call.future.done()]
        if self._flight is not None:
            pending.append(self._flight.due)  # its host is killed then, whether anybody still waits or not
        if pending:
            self._look_at(min(pending))

    def _next(self) -> None:
        while self._flight is None and self._queue and self._process is not None:
            call = heapq.heappop(self._queue)
            if call.future.done():
                continue
            if call.may_go is not None and not call.may_go():
                call.future.set_exception(MT5StateError(f"{call.op} was withdrawn before it was sent"))
                continue
            call.since = time.monotonic()
            self._flight = call
            self._stats.calls += 1
            self._written_at = asyncio.get_running_loop().time()
            call.due = self._written_at + call.timeout
            self._look_at(call.due)
            self._process.write(pack(Request(call.number, call.op, list(call.args))))
            if call.on_sent is not None:
                call.on_sent()

    def _received(self, payload: bytes) -> None:
        call = self._flight
        try:
            reply = self._decode(payload)
        except msgspec.DecodeError as error:
            self.kill(f"its reply cannot be read: {error}")
            return
        if call is None or reply.id != call.number:
            self.kill("it answered what was not asked")
            return
        self._flight = None
        if not call.future.done():
            if reply.failure is None:
                call.future.set_result(reply.result)
            else:
                call.future.set_exception(error_of(reply.failure))
        self._next()

    def _waited_out(self, call: _Call) -> None:
        if not call.future.done():
            self._stats.queue_timeouts += 1
            busy = self._flight.op if self._flight is not None else "nothing"
            call.future.set_exception(
                MT5TimeoutError(f"{call.op} waited {call.timeout:g} s behind {busy} and was withdrawn")
            )

    def _overdue(self, call: _Call) -> None:
        self._stats.timeouts += 1
        self._flight = None
        if not call.future.done():
            call.future.set_exception(
                MT5TimeoutError(f"{call.op} took longer than {call.timeout:g} s; its host was killed", sent=True)
            )
        self.kill(f"{call.op} took longer than {call.timeout:g} s")

    def _preempt(self, call: _Call) -> None:
        flight = self._flight
        if call.future.done() or flight is None or flight is call or flight.op in UNTOUCHABLE:
            return
        self._stats.preempted += 1
        self.kill(f"a critical {call.op} waited behind {flight.op}")

    def _lost(self, reason: str) -> None:
        self._dead = [process for process in (*self._dead, self._process) if process is not None and not process.closed]
        self._process = None
        self._stats.host_deaths += 1
        self._fail_all(f"the terminal host is gone: {reason}", MT5ConnectionError)
        self._on_death(reason)

    def _fail_all(self, why: str, kind: type[MT5Error]) -> None:
        flight, self._flight = self._flight, None
        waiting, self._queue = self._queue, []
        if flight is not None and not flight.future.done():
            flight.future.set_exception(kind(f"{flight.op}: {why}", sent=True))
        for call in waiting:
            if not call.future.done():
                call.future.set_exception(kind(f"{call.op}: {why}"))

    def fail_waiting(self, why: str) -> None:
        """Calls not yet handed over fail as not sent: the terminal behind the host is gone."""
        waiting, self._queue = self._queue, []
        for call in waiting:
            if not call.future.done():
                call.future.set_exception(MT5ConnectionError(f"{call.op}: {why}"))


def decode(raw: msgspec.Raw, kind: Any) -> Any:
    """A result as the type it must have.

    Raises:
        MT5DataError: the terminal answered something that cannot be right.
    """
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise MT5DataError(f"the terminal's answer cannot be right: {error}") from error


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()

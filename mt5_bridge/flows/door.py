"""The bridge as the gateway sees it: its status, its commands and signals, the account as last read.

Whoever asks here was judged by the gateway already: scopes take the place of BACKEND_PERMISSIONS. The guards, the
inbox and the emergency stop are the same as for everybody.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from mt5_bridge.control import commands as table
from mt5_bridge.control.commands import Command, StopFrame
from mt5_bridge.control.params import Params
from mt5_bridge.core import correlation, wire
from mt5_bridge.core.channels import Listener
from mt5_bridge.core.claim import Claim
from mt5_bridge.core.figures import Figures
from mt5_bridge.core.halt import Origin
from mt5_bridge.core.messages import Reason, account_message, position_message
from mt5_bridge.core.snapshot import AccountSnapshot
from mt5_bridge.flows.answers import Answer, Answers, Latched, Refusal
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.emergency import Emergency
from mt5_bridge.flows.session import Credentials, Session
from mt5_bridge.flows.shapes import order_data
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.sorting import SIGNAL

MOST_AT_ONCE = 512
"""Commands and signals being done; more are refused, but for a stop."""
MOST_READS = 256
"""Of these, those that only read: readers must not keep anybody from closing."""
_PERSON_MOST = 100
_SAYS_WHO = frozenset({"reduce_only", "resume_trading"})

T = TypeVar("T")


class Door:
    """Answers the gateway.

    Args:
        session: the session with the terminal, for who connects and disconnects.
        status: the health report.
        listen: has a listener told what the bridge tells.
        figures: what the bridge measures.
    """

    def __init__(
        self,
        answers: Answers,
        emergency: Emergency,
        intake: Intake,
        book: Book,
        clock: Clock,
        session: Session,
        *,
        status: Callable[[], dict[str, Any]],
        health: Callable[[], dict[str, Any]],
        listen: Callable[[Listener], Callable[[], None]],
        figures: Callable[[], Awaitable[Figures]],
    ) -> None:
        self._answers = answers
        self._emergency = emergency
        self._intake = intake
        self._book = book
        self._clock = clock
        self._status = status
        self.health = health
        self._session = session
        self.listen = listen
        self._figures = figures
        self._remembering: set[asyncio.Future[None]] = set()
        self._busy = 0
        self._reading = 0
        self._closed = False
        self._snapshot: AccountSnapshot | None = None

    def status(self) -> dict[str, Any]:
        """The health report, as `get_status` answers it."""
        return self._status()

    async def figures(self) -> Figures:
        """What the bridge measures, by the names of `gateway.catalogue`."""
        return await self._figures()

    def latch(self, *, by: str) -> None:
        """Halt trading now; what is to be cancelled and closed follows with the `emergency_stop` command.

        Args:
            by: who asked.
        """
        self._emergency.stop(reason="emergency stop", by=by, origin=Origin.REMOTE, options=None)

    def heard(self) -> Latched:
        """What is latched now: a resume that is asked now and done later lifts that, and nothing that comes after."""
        return self._answers.latched()

    def command(
        self,
        name: str,
        data: Mapping[str, Any],
        *,
        by: str,
        request_id: str | None = None,
        heard: Latched | None = None,
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """Do a command of the table, or `mt5_command`; the `data` of its `command_result`.

        An emergency stop is latched before this waits for anything (P6). A resume lifts what is latched now, when it
        is asked, and not what is latched until its turn comes.

        Args:
            name: as in `control.commands.COMMANDS`.
            data: its parameters.
            by: who asks; beside the name that the parameters give.
            request_id: the same one of the same asker does nothing twice, for a day.
            heard: see `heard`; None: what is latched now.
        """
        return self._command(name, data, by, request_id, heard or self._answers.latched())

    async def _command(
        self, name: str, data: Mapping[str, Any], by: str, request_id: str | None, latched: Latched
    ) -> dict[str, Any]:
        correlation.sender.set(by)
        asked = _theirs(by, request_id)
        stop = table.stop_of(json.dumps({"type": name, "data": data, "request_id": asked}).encode())
        if stop is not None:
            stopped = self._answers.stop(_signed(stop, by), by=by)
            answer = await stopped.answer()
            stopped.keep(answer)
            # A disk that hangs must not hold up the answer.
            remembering = asyncio.ensure_future(stopped.remember(answer))
            self._remembering.add(remembering)
            remembering.add_done_callback(self._remembering.discard)
            return answer
        try:
            raw = _strict(_naming(name, data, by))
        except ValueError as error:
            return table.failed(name[:64], "invalid_params", str(error))
        envelope = wire.Envelope(type=name, data=raw, request_id=asked)
        if refused := self._refused(name):
            return refused
        if table.acts(envelope):
            return await self._counted(self._answers.answer_to(envelope, latched))
        if self._reading >= MOST_READS:
            return table.failed(name[:64], "overloaded", f"{MOST_READS} requests are being read for: send less")
        self._reading += 1
        return await self._counted(self._read(envelope, latched))

    async def _read(self, envelope: wire.Envelope, latched: Latched) -> Answer:
        try:
            return await self._answers.answer_to(envelope, latched)
        finally:
            self._reading -= 1

    async def signal(
        self,
        data: Mapping[str, Any],
        *,
        by: str,
        request_id: str | None = None,
        raw: bytes | None = None,
        signature: str | None = None,
    ) -> dict[str, Any]:
        """Enter a trading signal; the `data` of its first `order_result`, interim or final.

        A signal sent again is answered with its first result. With SIGNAL_HMAC_KEY set it needs its signature here as
        everywhere.

        Args:
            data: the signal.
            by: who sends it.
            request_id: names a signal without `signal_id`.
            raw: the signal's exact bytes, where it is signed.
            signature: hex HMAC-SHA256 of `raw`.
        """
        correlation.sender.set(by)
        try:
            content = _strict(data) if raw is None else msgspec.Raw(raw)
        except ValueError as error:
            denied = self._intake.denied(Reason.INVALID, str(error))
        else:
            asked = _theirs(by, request_id)
            envelope = wire.Envelope(type=SIGNAL, data=content, request_id=asked, signature=signature)
            if self._closed or self._busy >= MOST_AT_ONCE:
                why = "the bridge stops" if self._closed else f"{MOST_AT_ONCE} requests are under way: send less"
                reason = Reason.NOT_READY if self._closed else Reason.THROTTLED
                denied = self._intake.denied(reason, why)
            else:
                denied = await self._counted(self._intake.ask(envelope, self._clock.now_ms(), source=source_of(by)))
        result: dict[str, Any] = msgspec.to_builtins(denied)
        result["request_id"] = request_id
        return result

    def snapshot(self) -> AccountSnapshot:
        """The account as last read; asks the terminal nothing."""
        book, known = self._book, self._snapshot
        reconciled = book.reconciled.is_set()
        if known is None or known.read != book.complete_reads or known.reconciled != reconciled:
            held = [book.positions[ticket] for ticket in sorted(book.positions)]
            known = self._snapshot = AccountSnapshot(
                read=book.complete_reads,
                at_msc=book.read_msc,
                reconciled=reconciled,
                account=None if book.account is None else msgspec.to_builtins(account_message(book.account)),
                positions=tuple(msgspec.to_builtins(position_message(position)) for position in held),
                orders=tuple(order_data(book.orders[ticket]) for ticket in sorted(book.orders)),
            )
        return known

    async def refresh(self) -> None:
        """Read the account anew, for all who ask at once.

        Raises:
            MT5Error: it cannot be read now.
        """
        await self._book.refresh(spaced=True)

    async def claim(self, request_id: str, fingerprint: str, *, by: str) -> Claim:
        """Whether a `request_id` of somebody stands for this request; durable, for a day.

        Raises:
            JournalError: what it stands for cannot be looked up.
        """
        return await self._answers.once.claim(f"{quote(by, safe='')}/{request_id}", fingerprint)

    async def connect(
        self, login: int | None, server: str | None, password: str | None, *, by: str, request_id: str | None = None
    ) -> dict[str, Any]:
        """Begin the session with the terminal, or go over to another account; as the `data` of a `command_result`.

        Args:
            login: the account; None: the one we have.
            server: the broker's server; None: the one we have.
            password: the account's.
            by: who asks.
            request_id: the same one of the same asker does nothing twice, for a day.
        """
        wanted = Credentials(login, server, password)
        return await self._session_command("connect", lambda: self._session.connect(wanted), by, request_id)

    async def disconnect(self, *, by: str, request_id: str | None = None) -> dict[str, Any]:
        """End the session with the terminal; as the `data` of a `command_result`.

        Args:
            by: who asks.
            request_id: the same one of the same asker does nothing twice, for a day.
        """
        return await self._session_command("disconnect", self._session.disconnect, by, request_id)

    async def _session_command(
        self, name: str, work: Callable[[], Awaitable[dict[str, Any]]], by: str, request_id: str | None
    ) -> Answer:
        if refused := self._refused(name):
            return refused

        async def do() -> Answer:
            try:
                return table.succeeded(name, await work())
            except Refusal as refusal:
                return table.failed(name, refusal.code, str(refusal))

        asked = _theirs(by, request_id)
        if asked is None:
            return await self._counted(do())
        command = Command(name=name, params=Params(), acts=True, request_id=asked)
        return await self._counted(self._answers.once.answer(command, asked, do))

    def close(self) -> None:
        """Nothing that acts is begun any more, but for a stop."""
        self._closed = True

    def _refused(self, name: str) -> Answer | None:
        if self._closed:
            return table.failed(name[:64], "shutting_down", "the bridge stops")
        if self._busy >= MOST_AT_ONCE:
            return table.failed(name[:64], "overloaded", f"{MOST_AT_ONCE} requests are under way: send less")
        return None

    async def _counted(self, work: Coroutine[Any, Any, T]) -> T:
        """Done to its end, whether or not somebody still waits for it."""
        self._busy += 1
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: "asyncio.Future[Any]") -> None:
        self._busy -= 1
        if not task.cancelled():
            task.exception()  # nobody may wait any more; who does is told


def source_of(by: str) -> str:
    """What the journal says of where a signal came from."""
    return f"gateway ({by})"


def _theirs(by: str, request_id: str | None) -> str | None:
    """Two askers may number their requests alike."""
    # A name may hold anything: what stands behind its first slash must not be read as another's.
    return None if request_id is None else f"{quote(by, safe='')}/{request_id}"


def _strict(data: Mapping[str, Any]) -> msgspec.Raw:
    """JSON without NaN and infinity: msgspec would write null, and no volume is another volume.

    Raises:
        ValueError: there is one.
    """
    return msgspec.Raw(json.dumps(data, allow_nan=False).encode())


def _signed(stop: StopFrame, by: str) -> StopFrame:
    named = None if stop.params.by is None else _who(stop.params.by, by)
    return StopFrame(msgspec.structs.replace(stop.params, by=named), stop.request_id, stop.faults)


def _naming(name: str, data: Mapping[str, Any], by: str) -> Mapping[str, Any]:
    """Who is said to ask is who asked."""
    if name == table.MT5_COMMAND and isinstance(data.get("params"), dict):
        inner = table.ALIASES.get(str(data.get("command")).strip().lower(), "")
        return {**data, "params": _naming(inner, data["params"], by)}
    if name not in _SAYS_WHO:
        return data
    named = data.get("by")
    if named is None or (isinstance(named, str) and named):
        return {**data, "by": _who(named or by, by)}
    return data


def _who(named: str, by: str) -> str:
    return by[:_PERSON_MOST] if named == by else f"{named[: _PERSON_MOST // 2]} ({by})"[:_PERSON_MOST]

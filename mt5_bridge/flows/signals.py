"""Takes signals in: from the topic and from frames, each once, each in order, none lost.

A record is sorted (ours, foreign, undecodable, forged), looked up in the inbox, and entered there together with the
offset behind it. Its job starts at once; its intent is written behind that entry, or not at all, and nothing is sent
before. The inbox index is never poisoned: what is forged, foreign or undecodable does not enter it.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence

import msgspec
from loguru import logger

from mt5_bridge.core import wire
from mt5_bridge.core.decision import Denial, Limits
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.messages import OrderResult, Reason, Status, TradingSignal
from mt5_bridge.core.times import DAY, parse_time
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import COMMAND, Job, payload_of, result, signal_from
from mt5_bridge.flows.outbox import REDPANDA, Outbox
from mt5_bridge.flows.parts import OnEntered, Parts
from mt5_bridge.flows.results import tally
from mt5_bridge.flows.sorting import CHUNK, Entry, IntakeStats, Record, Sorted, Sorter, Unreadable, pieces
from mt5_bridge.flows.trader import Trader
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import StoredSignal

MOST_NOT_ENTERED = 1000
_CROWD = 200
_GATHER_S = 0.02
"""Pause before signals are taken in while a crowd waits to be executed: more of them share a look-up and a commit."""
_REPEAT_LOOKS = 120
_REPEAT_PAUSE_S = 0.25

Frame = tuple[wire.Envelope | Unreadable, int]
"""A frame with a signal, and when it was received (UTC ms): its age counts from there, wherever it waits."""


class Intake:
    """Sorts signals and hands them to the trader.

    Args:
        limits: the settings now.
        early: a denial that needs no terminal (halted, stale, trading disabled), None where one is needed.
        login: our account's login, None while unknown.
        hmac_keys: SIGNAL_HMAC_KEY and the one before it; none: signatures are not asked for.
        reply: sends a frame over the WebSocket, for results repeated to a repeated signal.
        magic_of: the magic that the first leg of the signal with a key has, unless somebody has it already.
    """

    def __init__(
        self,
        trader: Trader,
        journal: Journal,
        outbox: Outbox,
        clock: Clock,
        *,
        limits: Callable[[], Limits],
        early: Callable[[Job], Denial | None],
        login: Callable[[], str | None],
        hmac_keys: Sequence[str],
        reply: Callable[[bytes], object],
        magic_of: Callable[[str], int],
    ) -> None:
        self.stats = IntakeStats()
        self.login_known = asyncio.Event()
        self._trader = trader
        self._journal = journal
        self._outbox = outbox
        self._clock = clock
        self._began_msc = clock.now_ms()
        self._limits = limits
        self._early = early
        self._reply = reply
        self._magic_of = magic_of
        self._entering: dict[str, asyncio.Future[None]] = {}
        """Key → the commit that enters it."""
        self._not_entered: dict[str, Job] = {}
        """Commands of this life that the disk kept out of the inbox, and that may have been done all the same."""
        self._owed: dict[str, int] = {}
        """Key → how many times its result is still to be sent to who repeated the signal."""
        self._door = asyncio.Lock()
        """One batch at a time looks up and enters: two channels may bring the same signal at once."""
        self._own_door = asyncio.Lock()
        """Of commands, whose keys no other channel brings: at the other one a record may wait for a disk that hangs."""
        self._suspect_until: dict[int, int] = {}
        self._sorter = Sorter(
            outbox, clock, self.stats, self._suspect_until, limits=limits, login=login, hmac_keys=hmac_keys
        )
        self._parts = Parts(self._sorter, self._enter, clock)

    async def position_lost(self, topic: str, partition: int, offset: int, why: str) -> None:
        """The consumer began at a time, not at an offset: what it brings may have been executed before.

        Returns when nothing is on its way in that it brought earlier: the same offset may mean another record now.
        """
        await self._parts.begin_anew((topic, partition), offset)
        # The clock of who made a signal may be ahead of ours, as far as we accept.
        self._suspect_until[partition] = self._clock.now_ms() + self._limits().clock_skew_ms
        # That a new bridge has no offset of a topic is no news to worry about; that it lost one is.
        level = "INFO" if why == "first_time" else "WARNING"
        logger.bind(event="signals_position_lost", topic=topic, partition=partition, offset=offset, why=why).log(
            level, f"Signals of {topic}/{partition} are read from offset {offset}: {why}"
        )

    async def take(self, batch: Sequence[Record], group: asyncio.TaskGroup, entered: OnEntered) -> None:
        """Enter a batch of records; returns when it is time for the next.

        What comes by ones is durable by then. Of a flood the last two parts may still be on their way.

        Args:
            group: where it goes on.
            entered: told the offsets behind records that are durable or for others.
        """
        received = self._clock.now_ms()
        await self.login_known.wait()
        await self._trader.lanes.has_room()
        if self._trader.lanes.waiting > _CROWD:
            await asyncio.sleep(_GATHER_S)
        self.stats.records += len(batch)
        await self._parts.take(batch, received, group, entered)

    async def take_frames(self, frames: Sequence[Frame]) -> None:
        """Enter signals that came over the WebSocket, in one commit."""
        self.stats.frames += len(frames)
        await self.login_known.wait()
        work = Sorted()
        for signal, received in frames:
            if isinstance(signal, Unreadable):
                self._sorter.unreadable(signal, work)
            else:
                self._sorter.frame(signal, received, work)
        try:
            await self._enter(work, repeat=True)
        except JournalError as error:
            logger.bind(event="signals_not_journalled", count=len(frames)).error(
                "ERROR {count} signals are refused, the journal cannot be written: {error}",
                count=len(frames),
                error=error,
            )
            self._tell_refused(work, str(error))

    async def ask(self, envelope: wire.Envelope, received: int, *, source: str) -> OrderResult:
        """Enter one signal that somebody waits for; its first result, interim or final.

        Sent again, it gets the result that it got first. Nothing of it is spent while the account is not known.

        Args:
            envelope: the signal in its envelope.
            received: when it came (UTC ms).
            source: where it came from, for the journal.
        """
        self.stats.asked += 1
        try:
            async with asyncio.timeout(self._limits().signal_max_age_ms / 1000):
                await self.login_known.wait()
        except TimeoutError:
            return self.denied(Reason.NOT_READY, "the terminal has not told its account yet")
        work = Sorted()
        self._sorter.frame(envelope, received, work, source)
        try:
            fresh = await self._enter(work)
        except JournalError as error:
            return self.denied(Reason.JOURNAL_UNAVAILABLE, str(error), _id_in(work))
        if not work.entries:
            (refused,) = (change.payload for change in work.beside if isinstance(change, changes.Announced))
            return _result_in(refused)
        job = work.entries[0].job
        if fresh:
            return await job.outcome()
        first = await self._first_result(job.key)
        if first is None:
            why = "the same signal is being worked on: its order_result will tell"
            unknown = self.denied(Reason.UNKNOWN_OUTCOME, why, job.signal_id)
            return msgspec.structs.replace(unknown, status=Status.UNKNOWN)
        return _result_in(first)

    def denied(self, reason: Reason, why: str, signal_id: str | None = None) -> OrderResult:
        """The result of a signal that is not entered: its id is not spent."""
        return self._sorter.denied(signal_id, None, Denial(code=reason, detail=why))

    def turned_away(self, signal: wire.Envelope | Unreadable, reason: Reason, why: str) -> bytes:
        """The answer to a frame with a signal that is not even looked at; its id is not spent."""
        if isinstance(signal, Unreadable):
            signal_id = signal.signal_id
        else:
            signal_id = wire.peek(b'{"data":' + bytes(signal.data) + b"}").signal_id
        denied = self._sorter.denied(signal_id, signal.request_id, Denial(code=reason, detail=why))
        return self._outbox.event("order_result", denied, request_id=signal.request_id).payload

    async def command(self, signal: TradingSignal, request_id: wire.RequestId, *, name: str | None = None) -> Job:
        """Enter a person's command as a job; its outcome is the job's.

        Args:
            signal: what it asks for.
            request_id: echoed in its result.
            name: what makes the command one and the same when it is asked again; None: it never is.

        Raises:
            JournalError: the journal cannot be read, or the same command is being entered or was done already.
        """
        now = self._clock.now_ms()
        key = _command_key(name or uuid.uuid4().hex)
        if name is not None and key in await self._journal.seen([key]):
            key = f"{key}-{now}"  # a `request_id` used anew after its day is over
        elif name is not None and key in self._not_entered:
            return self._not_entered[key]
        elif name is not None and await self._journal.intents(key):
            raise JournalError("it was done already, while the journal could not be written: look at the account")
        # An earlier life may have done it on a full disk, and ended before it could be written.
        suspect = name is not None and now - self._began_msc < DAY
        job = Job(key, signal, now, now, COMMAND, request_id, person=True, suspect=suspect)
        if not await self._enter(Sorted(entries=[Entry(job)]), wait=False):
            raise JournalError("the same command is being entered already")
        return job

    async def earlier_command(self, name: str) -> StoredSignal | None:
        """The inbox row of a command of that name in the last 24 hours.

        Raises:
            JournalError: the journal cannot be read.
        """
        key = _command_key(name)
        row = (await self._journal.seen([key])).get(key)
        return None if row is None or self._clock.now_ms() - row.received_msc >= DAY else row

    def resume(self, row: StoredSignal) -> Job:
        """A job as the inbox kept it: received in an earlier life, not settled."""
        signal = signal_from(row.payload)
        created = row.received_msc if signal.created_at is None else parse_time(signal.created_at)
        # Whether a former journal may have executed it was known only to the life that read it: looked up in any case.
        read = row.source == REDPANDA
        return Job(
            row.key,
            signal,
            row.received_msc,
            created,
            row.source,
            row.request_id,
            row.sender,
            row.correlation,
            person=row.source == COMMAND,
            suspect=read,
        )

    def _tell_refused(self, work: Sorted, why: str) -> None:
        """Nothing of it is in the inbox, so no id is spent: the answer says so at once, past the outbox."""
        denial = Denial(code=Reason.JOURNAL_UNAVAILABLE, detail=why)
        for entry in work.entries:
            job = entry.job
            denied = self._sorter.denied(job.signal_id, job.request_id, denial)
            self._reply(self._outbox.event("order_result", denied, request_id=job.request_id).payload)
        for change in work.beside:
            if isinstance(change, changes.Announced):
                self._reply(change.payload)

    # --- entering

    async def _enter(
        self,
        work: Sorted,
        *,
        repeat: bool = False,
        wait: bool = True,
        unseen: bool = False,
    ) -> int:
        """Returns how many of the entries are new.

        Args:
            repeat: what came before is answered with its first result.
            wait: return only when it is durable; False for commands alone.
            unseen: the inbox need not be asked about a backlog; a `JournalConflict` tells that it should have been.
        """
        batch = list(work.beside)
        if work.entries:
            self._trader.expect(work.entries[0].job)
        async with self._door if wait else self._own_door:
            # Before the look-up: what is being entered now may be durable, and out of this, when it has been made.
            entering = dict(self._entering)
            fresh = await self._fresh(work.entries, set(entering), repeat=repeat, unseen=unseen)
            # The offset behind a record must not become durable before the signal, whoever brought that first.
            for key in (entry.job.key for entry in work.entries if entry.record is not None):
                if key in entering:
                    await asyncio.shield(entering[key])
            batch += await self._rows(fresh)
            if not batch:
                return 0
            jobs = {entry.job.key: entry.job for entry in fresh}
            admitted = asyncio.ensure_future(self._committed(batch, jobs))
            self._entering |= dict.fromkeys(jobs, admitted)
            admitted.add_done_callback(lambda done: self._entered_now(done, jobs))
        for entry in fresh:
            entry.job.admitted = admitted
            if entry.denial is None:
                self._trader.submit(entry.job)
        self.stats.accepted += len(fresh)
        if wait:
            await asyncio.shield(admitted)
        return len(fresh)

    async def _committed(self, batch: Sequence[changes.Change], jobs: Mapping[str, Job]) -> None:
        for job in jobs.values():
            job.on_its_way = True
        await self._outbox.commit(*batch)

    async def _rows(self, fresh: Sequence[Entry]) -> list[changes.Change]:
        """What enters the journal with them: neighbours of a kind, which are written together."""
        received: list[changes.Change] = []
        announced: list[changes.Change] = []
        for some in pieces(fresh, CHUNK):
            if received:
                await asyncio.sleep(0)
            for entry in some:
                row, event = self._entered(entry)
                received.append(row)
                if event is not None:
                    announced.append(event)
        return received + announced

    def _entered_now(self, done: "asyncio.Future[None]", jobs: dict[str, Job]) -> None:
        for key in jobs:
            del self._entering[key]
        # Seen by everyone who awaits it; nobody may do so after a shutdown.
        if not done.cancelled() and done.exception() is not None:
            self._not_entered |= {key: job for key, job in jobs.items() if job.person}
            for key in tuple(self._not_entered)[:-MOST_NOT_ENTERED]:
                del self._not_entered[key]

    async def _fresh(self, entries: list[Entry], taken: set[str], *, repeat: bool, unseen: bool) -> list[Entry]:
        if not entries:
            return []
        now, max_age = self._clock.now_ms(), self._limits().signal_max_age_ms
        # What is too old will need none; of a backlog that is nearly all.
        magics = [0 if now > e.job.deadline_msc(max_age) else self._magic_of(e.job.key) for e in entries]
        seen: dict[str, StoredSignal] = {}
        used: set[int] = set()
        if not unseen or any(magics) or any(entry.job.suspect for entry in entries):
            seen, used = await self._journal.known([entry.job.key for entry in entries], filter(None, magics))
        fresh: list[Entry] = []
        for entry, magic in zip(entries, magics, strict=True):
            key = entry_key = entry.job.key
            if key in seen and _used_anew(entry.job, seen[key]):
                key = entry.job.key = f"{key}-{entry.job.received_msc}"
            if key not in seen and key not in taken:
                taken.add(key)
                fresh.append(entry)
                entry.job.free_magic = 0 if magic in used or key != entry_key else magic
                continue
            self.stats.duplicates += 1
            first = seen[key].result if key in seen else None
            if repeat and first is not None:
                self._reply(first)
            elif repeat:
                self._owed[key] = self._owed.get(key, 0) + 1
                if self._owed[key] == 1:
                    self._trader.aside(self._repeat(key))
        return fresh

    async def _repeat(self, key: str) -> None:
        """Answer a signal that was sent again with its first result, once there is one: as often as it was sent."""
        try:
            first = await self._first_result(key)
            if first is None:
                logger.bind(event="repeat_unanswered", key=key).info(
                    "Signal {key} was sent again and has no result yet: it comes as the first one's", key=key
                )
                return
            for _ in range(self._owed[key]):
                self._reply(first)
        finally:
            del self._owed[key]

    async def _first_result(self, key: str) -> bytes | None:
        """The result of a signal that entered before, as soon as there is one; None: not for long."""
        for _ in range(_REPEAT_LOOKS):
            try:
                row = (await self._journal.seen([key])).get(key)
            except JournalError:
                row = None  # whoever writes says so
            if row is not None and row.result is not None:
                return row.result
            await asyncio.sleep(_REPEAT_PAUSE_S)
        return None

    def _entered(self, entry: Entry) -> tuple[changes.SignalReceived, changes.Announced | None]:
        """Its inbox row, and what there is to announce when it is settled with that.

        Hopeless ones are: a backlog of a day, or a flood after a stop, costs one commit a batch and never asks the
        terminal.
        """
        job, record = entry.job, entry.record
        entry.denial = None if job.person else self._early(job)
        settled = announced = None
        if entry.denial is not None:
            self.stats.early += 1
            tally(self.stats.denials, entry.denial.code.value)
            denied = result(
                job, Status.DENIED, now_msc=self._clock.now_ms(), reason=entry.denial.code, detail=entry.denial.detail
            )
            announced = self._outbox.event("order_result", denied, request_id=job.request_id)
            job.came_to(denied)
            settled = changes.SignalSettled(
                key=job.key,
                status=denied.status.value,
                reason=denied.reason or "",
                event_id=announced.event_id,
                result=announced.payload,
                at_msc=announced.at_msc,
            )
        received = changes.SignalReceived(
            key=job.key,
            signal_id=job.signal.signal_id or "",
            source=job.source,
            account=str(job.signal.account or ""),
            symbol=job.signal.symbol,
            action=job.signal.action.value,
            payload=payload_of(job.signal),
            received_msc=job.received_msc,
            topic=record.topic if record else "",
            partition=record.partition if record else -1,
            offset=record.offset if record else -1,
            settled=settled,
            request_id=job.request_id,
            sender=job.sender,
            correlation=job.correlation,
        )
        return received, announced


def _used_anew(job: Job, first: StoredSignal) -> bool:
    """A frame without `signal_id` is known by its `request_id`, and those are remembered for 24 hours only."""
    nameless = not (job.source == REDPANDA or job.person or job.signal.signal_id)
    return nameless and job.received_msc - first.received_msc >= DAY


def _id_in(work: Sorted) -> str | None:
    return work.entries[0].job.signal_id if work.entries else None


def _result_in(payload: bytes) -> OrderResult:
    return msgspec.json.decode(wire.decode(payload).data, type=OrderResult)


def is_command(key: str) -> bool:
    """Whether an inbox key is a person's command's."""
    return key.startswith(_command_key(""))


def _command_key(name: str) -> str:
    return f"cmd-{name}"

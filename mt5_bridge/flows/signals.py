"""Takes signals in: from the topic and from frames, each once, each in order, none lost.

A record is sorted (ours, foreign, undecodable, forged), looked up in the inbox, and entered there together with the
offset behind it. Its job starts at once and waits for that entry to be durable before it sends anything. The inbox
index is never poisoned: what is forged, foreign or undecodable does not enter it.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from loguru import logger

from mt5_bridge.core import wire
from mt5_bridge.core.decision import Denial, Limits
from mt5_bridge.core.errors import JournalError, WireError
from mt5_bridge.core.messages import OrderResult, Reason, Status, TradingSignal
from mt5_bridge.core.times import iso, parse_time
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import COMMAND, Job, payload_of, result, signal_from
from mt5_bridge.flows.outbox import REDPANDA, Outbox
from mt5_bridge.flows.trader import Trader
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import StoredSignal

SIGNAL = "trading_signal"
SIGNATURE = "signature"
_RETRY_S = 0.5


class Record(Protocol):
    """A record of the signal topic; `timestamp_ms` is UTC, negative where there is none."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp_ms(self) -> int: ...


@dataclass
class IntakeStats:
    """What came in and what became of it at the door."""

    records: int = 0
    frames: int = 0
    accepted: int = 0
    tombstones: int = 0
    foreign: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    bad_signatures: int = 0
    early: int = 0


@dataclass(slots=True)
class _Entry:
    job: Job
    record: Record | None = None
    denial: Denial | None = None


@dataclass(slots=True)
class _Sorted:
    """A batch sorted: what enters the inbox, and what is written beside it."""

    entries: list[_Entry] = field(default_factory=list)
    beside: list[changes.Change] = field(default_factory=list)


class Intake:
    """Sorts signals and hands them to the trader.

    Args:
        limits: the settings now.
        early: a denial that needs no terminal (halted, stale, trading disabled), None where one is needed.
        login: our account's login, None while unknown.
        hmac_key: SIGNAL_HMAC_KEY; None: signatures are not asked for.
        reply: sends a frame over the WebSocket, for results repeated to a repeated signal.
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
        hmac_key: str | None,
        reply: Callable[[bytes], object],
    ) -> None:
        self.stats = IntakeStats()
        self.login_known = asyncio.Event()
        self._trader = trader
        self._journal = journal
        self._outbox = outbox
        self._clock = clock
        self._limits = limits
        self._early = early
        self._login = login
        self._hmac_key = hmac_key
        self._reply = reply
        self._entering: set[str] = set()
        self._door = asyncio.Lock()
        """One batch at a time looks up and enters: two channels may bring the same signal at once."""
        self._suspect_until: dict[int, int] = {}

    def position_lost(self, topic: str, partition: int, offset: int, why: str) -> None:
        """The consumer began at a time, not at an offset: what it brings may have been executed before."""
        self._suspect_until[partition] = self._clock.now_ms()
        logger.bind(event="signals_position_lost", topic=topic, partition=partition, offset=offset).warning(
            "Signals of {topic}/{partition} are read from offset {offset}: {why}",
            topic=topic,
            partition=partition,
            offset=offset,
            why=why,
        )

    async def take(self, batch: Sequence[Record]) -> None:
        """Enter a batch of records; returns when they and the offsets behind them are durable."""
        await self.login_known.wait()
        await self._trader.lanes.has_room()
        self.stats.records += len(batch)
        while True:
            work = _Sorted()
            for record in batch:
                self._sort_record(record, work)
            offsets = {(record.topic, record.partition): record.offset + 1 for record in batch}
            work.beside += [
                changes.OffsetMoved(topic=topic, partition=partition, next_offset=offset)
                for (topic, partition), offset in offsets.items()
            ]
            try:
                await self._enter(work)
            except JournalError as error:
                logger.bind(event="signals_not_journalled", count=len(batch)).error(
                    "ERROR {count} signals wait, the journal cannot be written: {error}", count=len(batch), error=error
                )
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def take_frame(self, envelope: wire.Envelope) -> None:
        """Enter a signal that came over the WebSocket."""
        self.stats.frames += 1
        await self.login_known.wait()
        now, work = self._clock.now_ms(), _Sorted()
        request_id = envelope.request_id
        try:
            signal = wire.decode_signal(envelope.data)
        except WireError as error:
            self._refuse(work, error.signal_id, Denial(code=Reason.INVALID, detail=str(error)), request_id)
        else:
            denial = self._forged(signal, bytes(envelope.data), envelope.signature)
            if denial is not None:
                self._refuse(work, signal.signal_id, denial, request_id)
            elif not self._foreign(signal.account):
                key = signal.signal_id or (f"req-{request_id}" if request_id is not None else f"ws-{uuid.uuid4().hex}")
                created = now if signal.created_at is None else parse_time(signal.created_at)
                work.entries.append(_Entry(Job(key, signal, now, created, "websocket", request_id)))
            else:
                self._refuse(
                    work,
                    signal.signal_id,
                    Denial(code=Reason.ACCOUNT_MISMATCH, detail=f"this bridge trades account {self._login()}"),
                    request_id,
                )
        try:
            await self._enter(work, repeat=True)
        except JournalError as error:
            logger.bind(event="signals_not_journalled", count=1).error(
                "ERROR a signal is refused, the journal cannot be written: {error}", error=error
            )

    async def command(self, signal: TradingSignal, request_id: str | int | None) -> Job:
        """Enter a person's command as a job; its outcome is the job's.

        Raises:
            JournalError: the journal cannot be read.
        """
        now = self._clock.now_ms()
        job = Job(f"cmd-{uuid.uuid4().hex}", signal, now, now, COMMAND, request_id, person=True)
        await self._enter(_Sorted(entries=[_Entry(job)]), wait=False)
        return job

    def resume(self, row: StoredSignal) -> Job:
        """A job as the inbox kept it: received in an earlier life, not settled."""
        signal = signal_from(row.payload)
        created = row.received_msc if signal.created_at is None else parse_time(signal.created_at)
        # Whether a former journal may have executed it was known only to the life that read it: looked up in any case.
        read = row.source == REDPANDA
        return Job(row.key, signal, row.received_msc, created, row.source, person=row.source == COMMAND, suspect=read)

    # --- sorting

    def _sort_record(self, record: Record, work: _Sorted) -> None:
        if record.value is None:
            self.stats.tombstones += 1
            return
        login = self._login() or ""
        keyed = None if record.key is None else record.key.decode("utf-8", "replace")
        if self._limits().require_account and keyed != login:
            self.stats.foreign += 1
            return
        try:
            signal = _signal_in(record.value)
        except WireError as error:
            self._bury(record, error, work)
            return
        header = next((v.decode("latin-1") for name, v in record.headers if name.lower() == SIGNATURE), None)
        denial = self._forged(signal, record.value, header)
        if denial is not None:
            self._refuse(work, signal.signal_id, denial, None)
        elif self._foreign(signal.account):
            self.stats.foreign += 1
        else:
            work.entries.append(_Entry(self._job_of(record, record.value, signal), record))

    def _job_of(self, record: Record, value: bytes, signal: TradingSignal) -> Job:
        now = self._clock.now_ms()
        stamp = record.timestamp_ms if record.timestamp_ms and record.timestamp_ms > 0 else now
        created = stamp if signal.created_at is None else parse_time(signal.created_at)
        key = signal.signal_id or wire.derived_signal_id(
            record.topic, record.partition, record.offset, record.timestamp_ms, value
        )
        # The time it was made goes into the inbox with it, so that a later life judges its age alike.
        kept = msgspec.structs.replace(signal, created_at=created)
        # Clocks differ: a signal made before the position was lost may be dated after it, within the tolerance.
        dated = min(created, stamp) - self._limits().clock_skew_ms
        suspect = dated <= self._suspect_until.get(record.partition, -1)
        record_key = None if record.key is None else record.key.decode("utf-8", "replace")
        return Job(key, kept, now, created, REDPANDA, suspect=suspect, record_key=record_key)

    def _bury(self, record: Record, error: WireError, work: _Sorted) -> None:
        self.stats.dead_letters += 1
        assert record.value is not None
        place = f"{record.topic}/{record.partition}/{record.offset}"
        logger.bind(event="dead_letter", place=place, reason=error.reason).warning(
            "Signal at {place} cannot be read and goes to the DLQ: {error}", place=place, error=error
        )
        work.beside.append(
            self._outbox.dead_letter(
                key=record.key,
                value=record.value,
                headers=record.headers,
                why={"reason": error.reason, "detail": str(error)[:500], "source": place},
            )
        )
        if error.signal_id:
            self._refuse(work, error.signal_id, Denial(code=Reason.INVALID, detail=str(error)), None)

    def _forged(self, signal: TradingSignal, value: bytes, signature: str | None) -> Denial | None:
        if self._hmac_key is None:
            return None
        if not wire.signature_matches(value, self._hmac_key, signature):
            self.stats.bad_signatures += 1
            why = "no signature" if signature is None else "the signature does not match"
            return Denial(code=Reason.BAD_SIGNATURE, detail=why)
        missing = [n for n in ("signal_id", "created_at", "account") if getattr(signal, n) in (None, "")]
        if missing:
            return Denial(code=Reason.INVALID, detail=f"a signed signal needs {', '.join(missing)} inside its value")
        return None

    def _foreign(self, account: str | int | None) -> bool:
        return account not in (None, "") and str(account) != (self._login() or "")

    def _refuse(self, work: _Sorted, signal_id: str | None, denial: Denial, request_id: str | int | None) -> None:
        """A denial that leaves no trace in the inbox."""
        if signal_id is None and request_id is None:
            return
        stamp = iso(self._clock.now_ms())
        denied = OrderResult(
            signal_id=signal_id,
            request_id=request_id,
            status=Status.DENIED,
            reason=denial.code.value,
            detail=denial.detail,
            received_at=stamp,
            done_at=stamp,
        )
        work.beside.append(self._outbox.event("order_result", denied, request_id=request_id))

    # --- entering

    async def _enter(self, work: _Sorted, *, repeat: bool = False, wait: bool = True) -> None:
        batch = list(work.beside)
        async with self._door:
            fresh = await self._fresh(work.entries, repeat=repeat)
            for entry in fresh:
                batch += self._entered(entry)
            keys = {entry.job.key for entry in fresh}
            self._entering |= keys
        if not batch:
            return
        admitted = asyncio.ensure_future(self._outbox.commit(*batch))
        admitted.add_done_callback(lambda done: self._entered_now(done, keys))
        for entry in fresh:
            entry.job.admitted = admitted
            if entry.denial is None:
                self._trader.submit(entry.job)
        self.stats.accepted += len(fresh)
        if wait:
            await asyncio.shield(admitted)

    def _entered_now(self, done: "asyncio.Future[None]", keys: set[str]) -> None:
        self._entering -= keys
        if not done.cancelled():
            done.exception()  # seen by everyone who awaits it; nobody may do so after a shutdown

    async def _fresh(self, entries: list[_Entry], *, repeat: bool) -> list[_Entry]:
        if not entries:
            return []
        # Before the look-up: what is being entered now may be durable, and out of this set, when it has been made.
        taken = set(self._entering)
        seen = await self._journal.seen([entry.job.key for entry in entries])
        fresh: list[_Entry] = []
        for entry in entries:
            key = entry.job.key
            if key not in seen and key not in taken:
                taken.add(key)
                fresh.append(entry)
                continue
            self.stats.duplicates += 1
            first = seen[key].result if key in seen else None
            if repeat and first is not None:
                self._reply(first)
        return fresh

    def _entered(self, entry: _Entry) -> list[changes.Change]:
        job, record = entry.job, entry.record
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
        )
        # Hopeless ones are settled with their entry: a backlog of a day, or a flood after a stop, costs one commit a
        # batch and never asks the terminal.
        entry.denial = None if job.person else self._early(job)
        if entry.denial is None:
            return [received]
        self.stats.early += 1
        denied = result(
            job, Status.DENIED, now_msc=self._clock.now_ms(), reason=entry.denial.code, detail=entry.denial.detail
        )
        announced = self._outbox.event("order_result", denied, request_id=job.request_id)
        job.outcome.set_result(denied)
        return [
            received,
            changes.SignalSettled(
                key=job.key,
                status=denied.status.value,
                reason=denied.reason or "",
                event_id=announced.event_id,
                result=announced.payload,
                at_msc=announced.at_msc,
            ),
            announced,
        ]


def _signal_in(value: bytes) -> TradingSignal:
    envelope = wire.decode(value)
    if envelope.type != SIGNAL:
        raise WireError(f"type {envelope.type[:60]!r} does not belong on this topic", reason="unknown_type")
    return wire.decode_signal(envelope.data)

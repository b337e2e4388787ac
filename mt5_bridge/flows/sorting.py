"""Sorts what comes in: ours, foreign, undecodable, forged. The inbox hears of what is ours only."""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec
from loguru import logger

from mt5_bridge.core import wire
from mt5_bridge.core.decision import Denial, Limits
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.messages import OrderResult, Reason, Status, TradingSignal
from mt5_bridge.core.reminder import Reminder
from mt5_bridge.core.times import iso, parse_time
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.outbox import REDPANDA, WEBSOCKET, Outbox
from mt5_bridge.flows.results import tally
from mt5_bridge.journal import changes

SIGNAL = "trading_signal"
CHUNK = 100
"""Signals sorted or entered in one go: a few ms, so that a flood does not hold up a stop."""
SIGNATURE = "signature"
_DETAIL_MOST = 500
_ID_MOST = 200
T = TypeVar("T")
_WAYS = {WEBSOCKET: "the WebSocket"}


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
    asked: int = 0
    """By the gateway."""
    accepted: int = 0
    tombstones: int = 0
    foreign: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    bad_signatures: int = 0
    previous_key: int = 0
    """Signed with SIGNAL_PREVIOUS_HMAC_KEY: while it grows, a sender has not changed over."""
    incomplete: int = 0
    early: int = 0
    denials: dict[str, int] = field(default_factory=dict)
    """By reason, of those denied at the door; the order desk counts its own."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame that is a signal and does not decode: what could be read of it, and what is wrong."""

    signal_id: str | None
    request_id: wire.RequestId
    why: str


@dataclass(slots=True)
class Entry:
    """A signal that is ours, on its way into the inbox; `denial` when it needs no more than that."""

    job: Job
    record: Record | None = None
    denial: Denial | None = None


@dataclass(slots=True)
class Sorted:
    """A batch sorted: what enters the inbox, and what is written beside it."""

    entries: list[Entry] = field(default_factory=list)
    beside: list[changes.Change] = field(default_factory=list)


class Sorter:
    """Sorts records and frames.

    Args:
        stats: counted here and where they enter.
        suspect_until: by partition, up to when (UTC ms) what was made may have been executed by a former journal.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        stats: IntakeStats,
        suspect_until: dict[int, int],
        *,
        limits: Callable[[], Limits],
        login: Callable[[], str | None],
        hmac_keys: Sequence[str],
    ) -> None:
        self.stats = stats
        self._outbox = outbox
        self._clock = clock
        self._suspect_until = suspect_until
        self._limits = limits
        self._login = login
        self._hmac_keys = hmac_keys
        self._reminder = Reminder()

    async def records(self, records: Sequence[Record], received: int) -> Sorted:
        """Sort records received at a time (UTC ms)."""
        work = Sorted()
        for number, some in enumerate(pieces(records, CHUNK)):
            if number:
                await asyncio.sleep(0)
            for record in some:
                self._record(record, work, received)
        return work

    def _record(self, record: Record, work: Sorted, received: int) -> None:
        value = record.value
        if value is None:
            self.stats.tombstones += 1
            return
        try:
            signal = _signal_in(value)
        except WireError as error:
            if self._keyed_elsewhere(record) or self._foreign(wire.peek(value).account):
                self.stats.foreign += 1
            else:
                self._bury(record, error, work)
            return
        # Before the signature: what is for another bridge may be signed with its key.
        if self._foreign(signal.account) or (signal.account in (None, "") and self._keyed_elsewhere(record)):
            self.stats.foreign += 1
            return
        header = next((v.decode("latin-1") for name, v in record.headers if name.lower() == SIGNATURE), None)
        denial = self._forged(signal, value, header)
        if denial is None:
            work.entries.append(Entry(self._job_of(record, value, signal, received), record))
            return
        self._tell(denial, f"at {_place(record)}")
        if signal.signal_id:
            self._refuse(work, signal.signal_id, denial, None)
        elif denial.code is not Reason.BAD_SIGNATURE:
            # Its sender has our key and cannot be told by name. What anybody can write must not fill the DLQ.
            self._letter(record, denial.code.value, denial.detail, work)

    def _keyed_elsewhere(self, record: Record) -> bool:
        """With SIGNAL_REQUIRE_ACCOUNT, a record whose key is a login, and not ours, is another bridge's."""
        if not self._limits().require_account or record.key is None:
            return False
        return record.key.isdigit() and record.key.decode() != (self._login() or "")

    def _job_of(self, record: Record, value: bytes, signal: TradingSignal, received: int) -> Job:
        stamp = record.timestamp_ms if record.timestamp_ms and record.timestamp_ms > 0 else received
        created = stamp if signal.created_at is None else parse_time(signal.created_at)
        key = signal.signal_id or wire.derived_signal_id(
            record.topic, record.partition, record.offset, record.timestamp_ms, value
        )
        suspect = created <= self._suspect_until.get(record.partition, -1)
        record_key = None if record.key is None else record.key.decode("utf-8", "replace")
        # The time it was made and who it was for go into the inbox with it: a later life judges it alike.
        account = signal.account or (record_key if record_key == self._login() else None)
        kept = msgspec.structs.replace(signal, created_at=created, account=account)
        return Job(key, kept, received, created, REDPANDA, suspect=suspect, record_key=record_key)

    def frame(self, envelope: wire.Envelope, received: int, work: Sorted, source: str = WEBSOCKET) -> None:
        """Sort a frame received at a time (UTC ms) into `work`."""
        request_id = envelope.request_id
        try:
            signal = wire.decode_signal(envelope.data)
        except WireError as error:
            self._refuse(work, error.signal_id, Denial(code=Reason.INVALID, detail=str(error)), request_id, always=True)
            return
        denial = self._forged(signal, bytes(envelope.data), envelope.signature)
        if denial is not None:
            self._tell(denial, f"over {_WAYS.get(source, source)}")
        elif self._foreign(signal.account):
            self.stats.foreign += 1
            denial = Denial(code=Reason.ACCOUNT_MISMATCH, detail=f"this bridge trades account {self._login()}")
        if denial is not None:
            self._refuse(work, signal.signal_id, denial, request_id, always=True)
            return
        key = signal.signal_id or (f"req-{request_id}" if request_id is not None else f"ws-{uuid.uuid4().hex}")
        created = received if signal.created_at is None else parse_time(signal.created_at)
        kept = msgspec.structs.replace(signal, created_at=created)
        work.entries.append(Entry(Job(key, kept, received, created, source, request_id)))

    def unreadable(self, frame: Unreadable, work: Sorted) -> None:
        """Sort a frame that does not decode into `work`: it is answered all the same."""
        self._refuse(
            work, frame.signal_id, Denial(code=Reason.INVALID, detail=frame.why), frame.request_id, always=True
        )

    def _bury(self, record: Record, error: WireError, work: Sorted) -> None:
        logger.bind(event="dead_letter", place=_place(record), reason=error.reason).warning(
            "Signal at {place} cannot be read and goes to the DLQ: {error}", place=_place(record), error=error
        )
        self._letter(record, error.reason, str(error), work)
        if error.signal_id:
            self._refuse(work, error.signal_id, Denial(code=Reason.INVALID, detail=str(error)), None)

    def _letter(self, record: Record, reason: str, detail: str, work: Sorted) -> None:
        assert record.value is not None
        self.stats.dead_letters += 1
        why = {"reason": reason, "detail": detail[:_DETAIL_MOST], "source": _place(record)}
        letter = self._outbox.dead_letter(key=record.key, value=record.value, headers=record.headers, why=why)
        work.beside.append(letter)

    def _tell(self, denial: Denial, where: str) -> None:
        """Log a signal refused for its signature; of a flood, one line a minute says how many there were."""
        if self._reminder.due(denial.detail, self._clock.monotonic()):
            refused = self.stats.bad_signatures + self.stats.incomplete
            logger.bind(event="signal_refused", reason=denial.code.value, refused=refused).warning(
                "Signal {where} refused: {why} ({refused} so far)", where=where, why=denial.detail, refused=refused
            )

    def _forged(self, signal: TradingSignal, value: bytes, signature: str | None) -> Denial | None:
        if not self._hmac_keys:
            return None
        key = wire.signed_with(value, self._hmac_keys, signature)
        if key is None:
            self.stats.bad_signatures += 1
            why = "no signature" if signature is None else "the signature does not match"
            return Denial(code=Reason.BAD_SIGNATURE, detail=why)
        if key > 0:
            self.stats.previous_key += 1
        missing = [n for n in ("signal_id", "created_at", "account") if getattr(signal, n) in (None, "")]
        if missing:
            self.stats.incomplete += 1
            return Denial(code=Reason.INVALID, detail=f"a signed signal needs {', '.join(missing)} inside its value")
        return None

    def _foreign(self, account: str | int | None) -> bool:
        return account not in (None, "") and str(account) != (self._login() or "")

    def _refuse(
        self,
        work: Sorted,
        signal_id: str | None,
        denial: Denial,
        request_id: wire.RequestId,
        *,
        always: bool = False,
    ) -> None:
        """A denial that leaves no trace in the inbox. A frame is always answered, a record when it can be named."""
        if signal_id is not None and len(signal_id) > _ID_MOST:
            signal_id = None
        if not always and signal_id is None:
            return
        denied = self.denied(signal_id, request_id, denial)
        work.beside.append(self._outbox.event("order_result", denied, request_id=request_id))

    def denied(self, signal_id: str | None, request_id: wire.RequestId, denial: Denial) -> OrderResult:
        """A denial's `order_result`, for a signal that is not in the inbox."""
        tally(self.stats.denials, denial.code.value)
        stamp = iso(self._clock.now_ms())
        return OrderResult(
            signal_id=signal_id,
            request_id=request_id,
            status=Status.DENIED,
            reason=denial.code.value,
            detail=denial.detail[:_DETAIL_MOST],
            received_at=stamp,
            done_at=stamp,
        )


def _place(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _signal_in(value: bytes) -> TradingSignal:
    envelope = wire.decode(value)
    if envelope.type != SIGNAL:
        raise WireError(f"type {envelope.type[:60]!r} does not belong on this topic", reason="unknown_type")
    return wire.decode_signal(envelope.data)


def pieces(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """What is to be done bit by bit, at most so many at once."""
    for start in range(0, len(whole), size):
        yield whole[start : start + size]

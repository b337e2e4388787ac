"""Events leave here: journalled first, then delivered in order to every channel, deleted when the channel took them.

Kafka rows go when the broker acknowledged them, WebSocket rows when the pong of a ping sent after the frame arrived;
rows older than a day are dropped and counted. A topic that takes nothing for now (a missing right, a missing topic) is
waited for like a dead broker; only what can never be taken is given up, counted and told. At least once: a consumer
drops duplicates by `event_id`.
"""

import asyncio
import base64
import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import msgspec
from loguru import logger

from mt5_bridge.core import wire
from mt5_bridge.core.errors import BridgeError, BrokerError, ChannelClosedError, JournalError
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.clock import Clock
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import OutboxRow

REDPANDA = "redpanda"
WEBSOCKET = "websocket"
PAGE = 200
HANDFUL = 64
HANDFUL_BYTES = 262_144
MAX_AGE_MS = DAY
DEAD_LETTER = "dead_letter"
"""Outbox type of a record bound for the DLQ: its payload is a `DeadLetter`, not an envelope."""

KEPT_BYTES = 65_536
"""How much of a dead letter remains that is too large for the broker."""

_RETRY_S = 1.0
_SPACING_S = 0.02
"""From one delivery to the next: what is announced in between shares a request. What comes after a pause goes at once.
"""
_JANITOR_S = 300.0
_ids = random.Random()  # noqa: S311 - seeded by the system; ids are to differ, not to be secret


def new_event_id() -> str:
    """32 hex digits. Asking the system for each would let go of the interpreter a thousand times in a flood."""
    return _ids.randbytes(16).hex()


class Publisher(Protocol):
    """What the outbox needs of the Redpanda producer."""

    async def publish(
        self,
        topic: str,
        key: bytes | None,
        records: Sequence[tuple[int | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None: ...

    async def publish_one(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None: ...

    async def wait_connected(self) -> None: ...


class Confirming(Protocol):
    """What the outbox needs of the WebSocket client."""

    async def send_run_confirmed(self, frames: Sequence[bytes]) -> int: ...

    async def wait_connected(self) -> None: ...


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that could not be accepted: original bytes, key and headers, and why."""

    key: str | None
    value: str
    headers: list[tuple[str, str]]


@dataclass
class OutboxStats:
    """Counters of the outbox."""

    announced: int = 0
    delivered_redpanda: int = 0
    delivered_websocket: int = 0
    aged_out: int = 0
    undeliverable: int = 0
    held: int = 0
    """Deliveries to the broker that it did not take then and that wait."""


class Outbox:
    """Makes events and delivers what the journal holds of them.

    Args:
        journal: where events are durable.
        clock: time.
        channels: the enabled ones, of `redpanda` and `websocket`.
        login: the account's login for keys and headers.
        headers: header values on everything sent to Redpanda, by schema name.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        channels: tuple[str, ...],
        login: Callable[[], str],
        headers: Callable[[str], Sequence[tuple[str, bytes]]],
        event_topic: str,
        dlq_topic: str,
    ) -> None:
        self.stats = OutboxStats()
        self.channels = channels
        self._journal = journal
        self._clock = clock
        self._channels = channels
        self._login = login
        self._headers = headers
        self._event_topic = event_topic
        self._dlq_topic = dlq_topic
        self._wake: Mapping[str, asyncio.Event] = {channel: asyncio.Event() for channel in channels}
        self._wake_letters = asyncio.Event()
        self._moved = asyncio.Event()
        self._latest: dict[str, tuple[str, int, bytes]] = {}
        self._latest_wake = asyncio.Event()
        self._hear: Callable[[bytes], None] | None = None

    def hear(self, listener: Callable[[bytes], None] | None) -> None:
        """Who is told every event once it is durable, besides the channels; None: nobody. It must not wait or raise."""
        self._hear = listener

    def event(
        self, type: str, data: Any, *, event_id: str | None = None, request_id: wire.RequestId = None
    ) -> changes.Announced:
        """An event ready to be committed with the change it tells of."""
        event_id = event_id or new_event_id()
        now = self._clock.now_ms()
        return changes.Announced(
            event_id=event_id,
            type=type,
            key=self._login(),
            payload=wire.encode(type, data, now_msc=now, event_id=event_id, request_id=request_id),
            channels=self._channels,
            at_msc=now,
        )

    def dead_letter(
        self, *, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], why: Mapping[str, str]
    ) -> changes.Announced:
        """A record for the DLQ, with original bytes and headers and the reason in further headers.

        Ours come last: a client that keeps one header of each name sees the reason, not what the sender called so.
        """
        ours = [*self._headers(DEAD_LETTER), *((name, text.encode()) for name, text in why.items())]
        letter = DeadLetter(
            key=None if key is None else base64.b64encode(key).decode(),
            value=base64.b64encode(value).decode(),
            headers=[(name, base64.b64encode(content).decode()) for name, content in (*headers, *ours)],
        )
        return changes.Announced(
            event_id=new_event_id(),
            type=DEAD_LETTER,
            key="",
            payload=msgspec.msgpack.encode(letter),
            channels=(REDPANDA,) if REDPANDA in self._channels else (),
            at_msc=self._clock.now_ms(),
        )

    def latest(self, type: str, data: Any, slot: str | None = None) -> None:
        """Tell the event topic a state of which only the newest matters: conflated, never queued or journalled."""
        if REDPANDA not in self._channels:
            return
        now = self._clock.now_ms()
        event_id = new_event_id()
        self._latest[slot or type] = (type, now, wire.encode(type, data, now_msc=now, event_id=event_id))
        self._latest_wake.set()

    async def run_latest(self, producer: Publisher) -> None:
        """Publish what `latest` was told, for ever."""
        while True:
            await self._latest_wake.wait()
            await producer.wait_connected()
            self._latest_wake.clear()
            while self._latest:
                slot = next(iter(self._latest))
                told = self._latest.pop(slot)
                type, at_msc, payload = told
                try:
                    await producer.publish_one(
                        self._event_topic,
                        self._login().encode(),
                        payload,
                        timestamp_ms=at_msc,
                        headers=self._headers(type),
                    )
                except BrokerError as error:
                    logger.bind(event="state_not_told", type=type).debug("Not told: {error}", error=error)
                    if error.retriable:
                        self._latest.setdefault(slot, told)
                        self._latest_wake.set()
                        await asyncio.sleep(_RETRY_S)
                        break

    async def commit(self, *batch: changes.Change) -> None:
        """Journal the changes; what they announce leaves afterwards.

        Raises:
            JournalError: nothing of it is durable.
        """
        await self._journal.commit(*batch)
        announced = [change.type for change in batch if isinstance(change, changes.Announced)]
        if announced and self._hear is not None:
            for change in batch:
                if isinstance(change, changes.Announced) and change.type != DEAD_LETTER:
                    self._hear(change.payload)
        if announced:
            self.stats.announced += len(announced)
            for event in self._wake.values():
                event.set()
            if DEAD_LETTER in announced:
                self._wake_letters.set()

    def wake(self) -> None:
        """Something may be there to deliver."""
        for event in (*self._wake.values(), self._wake_letters):
            event.set()

    async def drained(self, channels: Sequence[str]) -> None:
        """Return when nothing waits for these channels.

        Raises:
            JournalError: the journal cannot be asked.
        """
        while True:
            self._moved.clear()
            depth = await self._journal.outbox_depth()
            if not any(depth.get(channel, 0) for channel in channels):
                return
            await self._moved.wait()

    async def run_redpanda(self, producer: Publisher) -> None:
        """Deliver to the event topic and to the DLQ, for ever; one that takes nothing does not hold up the other."""

        async def deliver(rows: Sequence[OutboxRow]) -> list[int]:
            done: list[int] = []
            for run in _runs(rows):
                if not await self._publish_run(producer, run):
                    break
                done += [row.id for row in run]
            self.stats.delivered_redpanda += len(done)
            return done

        async with asyncio.TaskGroup() as group:
            for name, wake, mine in (
                ("events", self._wake[REDPANDA], _is_event),
                ("letters", self._wake_letters, _is_letter),
            ):
                pump = self._pump(REDPANDA, producer.wait_connected, deliver, wake, mine)
                group.create_task(pump, name=f"outbox-redpanda-{name}")

    async def _publish_run(self, producer: Publisher, run: Sequence[OutboxRow]) -> bool:
        """False: the broker is not well, or takes nothing into that topic now, and the run waits.

        What it will never take does not hold back the others.
        """
        try:
            await self._publish(producer, run)
        except BrokerError as error:
            if error.retriable:
                self.stats.held += 1
                return False
            if len(run) > 1:
                for row in run:
                    if not await self._publish_run(producer, [row]):
                        return False
                return True
            self.stats.undeliverable += 1
            logger.bind(event="outbox_undeliverable", event_id=run[0].event_id, type=run[0].type).error(
                "ERROR event {id} ({type}) can never be delivered and is dropped: {error}",
                id=run[0].event_id,
                type=run[0].type,
                error=error,
            )
        return True

    async def run_websocket(self, control: Confirming) -> None:
        """Deliver over the WebSocket, for ever."""

        async def deliver(rows: Sequence[OutboxRow]) -> list[int]:
            done: list[int] = []
            for some in _handfuls(rows):
                try:
                    taken = await control.send_run_confirmed([row.payload for row in some])
                except ChannelClosedError:
                    break
                done += [row.id for row in some[:taken]]
                if taken < len(some):
                    break
            self.stats.delivered_websocket += len(done)
            return done

        await self._pump(WEBSOCKET, control.wait_connected, deliver, self._wake[WEBSOCKET], lambda row: True)

    async def run_janitor(self) -> None:
        """Drop what nobody fetched for a day."""
        while True:
            for channel in self._channels:
                try:
                    aged = await self._journal.age_out(channel, self._clock.now_ms() - MAX_AGE_MS)
                except JournalError as error:
                    logger.bind(event="outbox_age_out_failed").warning("Outbox clean-up failed: {error}", error=error)
                    continue
                if aged:
                    self.stats.aged_out += aged
                    logger.bind(event="outbox_aged_out", channel=channel, count=aged).warning(
                        "{count} events for {channel} were never fetched and are older than a day: dropped",
                        count=aged,
                        channel=channel,
                    )
            await asyncio.sleep(_JANITOR_S)

    async def _pump(
        self,
        channel: str,
        connected: Callable[[], Awaitable[object]],
        deliver: Callable[[Sequence[OutboxRow]], Awaitable[list[int]]],
        wake: asyncio.Event,
        mine: Callable[[OutboxRow], bool],
    ) -> None:
        """Take the channel's rows that are `mine` out of the journal in their order, page by page, for ever."""
        cursor, delivered, ended = 0, list[int](), float("-inf")
        while True:
            if (wait := ended + _SPACING_S - self._clock.monotonic()) > 0:
                await asyncio.sleep(wait)
            await connected()
            wake.clear()
            try:
                page = await self._journal.outbox(channel, cursor, PAGE)
                rows = [row for row in page if mine(row)]
                taken = await deliver(rows) if rows else []
                delivered += taken
                if len(taken) == len(rows):
                    cursor = page[-1].id if page else cursor
                elif taken:
                    cursor = taken[-1]
                if delivered:
                    await self._journal.commit(changes.OutboxDone(channel=channel, ids=tuple(delivered)))
                    delivered.clear()
                    self._moved.set()
            except BridgeError as error:
                logger.bind(event="outbox_delivery_failed", channel=channel).warning(
                    "Delivery to {channel} failed: {error}", channel=channel, error=error
                )
                await asyncio.sleep(_RETRY_S)
                continue
            if len(taken) < len(rows):
                # Asked again from the last one that was taken, after a pause that a dead channel cannot shorten.
                await asyncio.sleep(_RETRY_S)
            elif len(page) < PAGE:
                ended = self._clock.monotonic() if rows else ended
                await wake.wait()

    async def _publish(self, producer: Publisher, run: Sequence[OutboxRow]) -> None:
        first = run[0]
        if first.type == DEAD_LETTER:
            await self._bury(producer, msgspec.msgpack.decode(first.payload, type=DeadLetter))
            return
        records = [(row.at_msc, row.payload) for row in run]
        await producer.publish(self._event_topic, first.key.encode(), records, self._headers(first.type))

    async def _bury(self, producer: Publisher, letter: DeadLetter) -> None:
        """To the DLQ, whole if the broker takes it, else what identifies it and its beginning."""
        key = None if letter.key is None else base64.b64decode(letter.key)
        value = base64.b64decode(letter.value)
        headers = [(name, base64.b64decode(content)) for name, content in letter.headers]
        try:
            await producer.publish_one(self._dlq_topic, key, value, headers=headers)
        except BrokerError as error:
            if error.retriable:
                raise
            whole = [("sha256", hashlib.sha256(value).hexdigest().encode()), ("length", str(len(value)).encode())]
            kept = [*_last_headers(headers), *whole]
            await producer.publish_one(
                self._dlq_topic, None if key is None else key[:KEPT_BYTES], value[:KEPT_BYTES], headers=kept
            )


def _is_letter(row: OutboxRow) -> bool:
    return row.type == DEAD_LETTER


def _is_event(row: OutboxRow) -> bool:
    return row.type != DEAD_LETTER


def _last_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """As many as a record may well have; ours are the last."""
    kept: list[tuple[str, bytes]] = []
    room = KEPT_BYTES
    for name, content in reversed(headers):
        room -= len(name) + len(content)
        if room < 0:
            break
        kept.insert(0, (name, content))
    return kept


def _runs(rows: Sequence[OutboxRow]) -> Iterator[list[OutboxRow]]:
    """Neighbours of one key and type go in one request: their order stays, and none waits for another's answer."""
    for (_, type), some in groupby(rows, key=lambda row: (row.key, row.type)):
        if type == DEAD_LETTER:
            yield from ([row] for row in some)
        else:
            yield list(some)


def _handfuls(rows: Sequence[OutboxRow]) -> Iterator[list[OutboxRow]]:
    """Few enough frames to fit into the socket's queue beside what else is there, and confirmed together."""
    some: list[OutboxRow] = []
    size = 0
    for row in rows:
        if some and (len(some) >= HANDFUL or size + len(row.payload) > HANDFUL_BYTES):
            yield some
            some, size = [], 0
        some.append(row)
        size += len(row.payload)
    if some:
        yield some

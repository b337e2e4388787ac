"""Events leave here: journalled first, then delivered in order to every channel, deleted when the channel took them.

Kafka rows go when the broker acknowledged them, WebSocket rows when the pong of a ping sent after the frame arrived;
rows older than a day are dropped and counted. At least once: a consumer drops duplicates by `event_id`.
"""

import asyncio
import base64
import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
MAX_AGE_MS = DAY
DEAD_LETTER = "dead_letter"
"""Outbox type of a record bound for the DLQ: its payload is a `DeadLetter`, not an envelope."""

KEPT_BYTES = 65_536
"""How much of a dead letter remains that is too large for the broker."""

_RETRY_S = 1.0
_JANITOR_S = 300.0


class Publisher(Protocol):
    """What the outbox needs of the Redpanda producer."""

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

    def send(self, frame: bytes) -> bool: ...

    async def send_confirmed(self, frame: bytes) -> None: ...

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
        self._journal = journal
        self._clock = clock
        self._channels = channels
        self._login = login
        self._headers = headers
        self._event_topic = event_topic
        self._dlq_topic = dlq_topic
        self._wake: Mapping[str, asyncio.Event] = {channel: asyncio.Event() for channel in channels}
        self._cursor = dict.fromkeys(channels, 0)
        self._moved = asyncio.Event()
        self._latest: dict[str, tuple[str, int, bytes]] = {}
        self._latest_wake = asyncio.Event()

    def event(
        self, type: str, data: Any, *, event_id: str | None = None, request_id: wire.RequestId = None
    ) -> changes.Announced:
        """An event ready to be committed with the change it tells of."""
        event_id = event_id or uuid.uuid4().hex
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
            event_id=uuid.uuid4().hex,
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
        event_id = uuid.uuid4().hex
        self._latest[slot or type] = (type, now, wire.encode(type, data, now_msc=now, event_id=event_id))
        self._latest_wake.set()

    async def run_latest(self, producer: Publisher) -> None:
        """Publish what `latest` was told, for ever."""
        while True:
            await self._latest_wake.wait()
            await producer.wait_connected()
            self._latest_wake.clear()
            while self._latest:
                type, at_msc, payload = self._latest.pop(next(iter(self._latest)))
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

    async def commit(self, *batch: changes.Change) -> None:
        """Journal the changes; what they announce leaves afterwards.

        Raises:
            JournalError: nothing of it is durable.
        """
        await self._journal.commit(*batch)
        announced = sum(isinstance(change, changes.Announced) for change in batch)
        if announced:
            self.stats.announced += announced
            self.wake()

    def wake(self) -> None:
        """Something may be there to deliver."""
        for event in self._wake.values():
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
        """Deliver to the event topic, for ever."""

        async def deliver(rows: Sequence[OutboxRow]) -> list[int]:
            # Handed over together, so that one acknowledgement serves many; the producer keeps their order.
            fates = await asyncio.gather(*(self._fate(producer, row) for row in rows))
            taken = fates.index(False) if False in fates else len(rows)
            self.stats.delivered_redpanda += taken
            return [row.id for row in rows[:taken]]

        await self._pump(REDPANDA, producer.wait_connected, deliver)

    async def run_websocket(self, control: Confirming) -> None:
        """Deliver over the WebSocket, for ever."""

        async def deliver(rows: Sequence[OutboxRow]) -> list[int]:
            frames = [row for row in rows if row.type != DEAD_LETTER]
            try:
                for row in frames[:-1]:
                    if not control.send(row.payload):
                        return []
                if frames:
                    await control.send_confirmed(frames[-1].payload)
            except ChannelClosedError:
                return []
            self.stats.delivered_websocket += len(frames)
            return [row.id for row in rows]

        await self._pump(WEBSOCKET, control.wait_connected, deliver)

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

    async def _pump(self, channel: str, connected: Callable[[], Any], deliver: Callable[[Any], Any]) -> None:
        wake = self._wake[channel]
        while True:
            await connected()
            wake.clear()
            rows: list[OutboxRow] = []
            done: list[int] = []
            try:
                rows = await self._journal.outbox(channel, self._cursor[channel], PAGE)
                done = await deliver(rows) if rows else []
                if done:
                    self._cursor[channel] = done[-1]
                    await self._journal.commit(changes.OutboxDone(channel=channel, ids=tuple(done)))
                    self._moved.set()
            except BridgeError as error:
                logger.bind(event="outbox_delivery_failed", channel=channel).warning(
                    "Delivery to {channel} failed: {error}", channel=channel, error=error
                )
                done = []
            if len(done) < len(rows):
                # Not all taken: ask again from the last one that was, after a pause a dead channel cannot shorten.
                logger.bind(event="outbox_waits", channel=channel, rows=len(rows) - len(done)).debug("Outbox waits")
                await asyncio.sleep(_RETRY_S)
            elif len(rows) < PAGE:
                await wake.wait()

    async def _fate(self, producer: Publisher, row: OutboxRow) -> bool:
        """Whether the broker took a row, or never will; False: it must be sent again."""
        try:
            await self._publish(producer, row)
        except BrokerError as error:
            if error.retriable:
                return False
            # A record the broker will never take must not hold back those behind it.
            self.stats.undeliverable += 1
            logger.bind(event="outbox_undeliverable", event_id=row.event_id).error(
                "ERROR event {id} cannot be delivered and is dropped: {error}", id=row.event_id, error=error
            )
        return True

    async def _publish(self, producer: Publisher, row: OutboxRow) -> None:
        if row.type == DEAD_LETTER:
            await self._bury(producer, msgspec.msgpack.decode(row.payload, type=DeadLetter))
            return
        await producer.publish_one(
            self._event_topic, row.key.encode(), row.payload, timestamp_ms=row.at_msc, headers=self._headers(row.type)
        )

    async def _bury(self, producer: Publisher, letter: DeadLetter) -> None:
        """To the DLQ, whole if the broker takes it, else what identifies it and its beginning."""
        key = None if letter.key is None else base64.b64decode(letter.key)
        value = base64.b64decode(letter.value)
        headers = [(name, base64.b64decode(content)) for name, content in letter.headers]
        try:
            await producer.publish_one(self._dlq_topic, key, value, headers=headers)
        except BrokerError as error:
            if error.retriable or len(value) <= KEPT_BYTES:
                raise
            headers += [("sha256", hashlib.sha256(value).hexdigest().encode()), ("length", str(len(value)).encode())]
            await producer.publish_one(self._dlq_topic, key, value[:KEPT_BYTES], headers=headers)

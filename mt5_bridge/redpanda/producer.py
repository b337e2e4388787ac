"""Publishing: batches per partition, acknowledged by all replicas, in order, in bounded time whatever the broker is."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka.errors import KafkaError
from loguru import logger

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.core.reminder import Reminder
from mt5_bridge.core.ticks import Framed
from mt5_bridge.redpanda.batch import FramedBatch, Headers, Keyed, Record, RecordBatch, keyed, weight
from mt5_bridge.redpanda.causes import denied
from mt5_bridge.redpanda.compress import codec
from mt5_bridge.redpanda.config import LinkState, OnState, RedpandaConfig
from mt5_bridge.redpanda.faults import (
    RecordRefused,
    describe,
    given_up,
    refusal,
)
from mt5_bridge.redpanda.finish import finish
from mt5_bridge.redpanda.gates import Gates
from mt5_bridge.redpanda.inquiry import UNREACHABLE, diagnose
from mt5_bridge.redpanda.lanes import Lane, Share, arrive, fail
from mt5_bridge.redpanda.linklog import LinkLog
from mt5_bridge.redpanda.pauses import Pauses
from mt5_bridge.redpanda.security import Access
from mt5_bridge.redpanda.session import ProducerSession, SessionEndedError

_TRIES = 5
_WATCH_SECONDS = 0.5
_UNSURE_SECONDS = 2.0
_IDLE_SECONDS = 5.0
_DRAIN_SECONDS = 2.0


@dataclass
class ProducerStats:
    """Counters since the start. `refused` are records the broker will never take, `held` batches that it did not take
    into a topic which we may not write or which is not there, `failed` calls that raised."""

    records: int = 0
    batches: int = 0
    refused: int = 0
    held: int = 0
    failed: int = 0
    sessions: int = 0
    pending_bytes: int = 0


@dataclass(slots=True)
class _Together:
    """What goes to one partition of what was offered at once; `parts` by index."""

    size: int = 0
    parts: list[int] = field(default_factory=list)
    records: list[Keyed] = field(default_factory=list)


class Producer:
    """An idempotent producer that survives its broker.

    `start` returns at once; a task of its own connects, watches, and builds anew. While there is no broker, publishing
    fails at once with `BrokerError`: what was to be sent is still where it came from.

    Args:
        on_state: called with each change of the connection's state.
        told: what has been told of the broker, where others tell of it, too.
        random: jitter of the backoff, uniform in [0, 1).
    """

    def __init__(
        self,
        config: RedpandaConfig,
        *,
        on_state: OnState | None = None,
        told: Reminder | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.state = LinkState.DISCONNECTED
        self.detail = "not started"
        self.stats = ProducerStats()
        self._config = config
        self.access = Access(config)
        self._codec = codec(config.compression)
        self._on_state = on_state
        self._random = random
        self._connected = asyncio.Event()
        self._session: ProducerSession | None = None
        self._ended: asyncio.Future[str | None] | None = None
        """Done when the session must be made anew: why, None where that is told already."""
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._driven: set[Lane] = set()
        """Got something in this turn of the loop."""
        self._open: set[asyncio.Future[None]] = set()
        self._weighed: tuple[Headers, int] = ((), weight(None, (), None))
        self._gate = asyncio.Lock()
        self._freed = asyncio.Event()
        self._settled_down = asyncio.Event()
        """Clear while a session is replaced although its broker lives."""
        self._settled_down.set()
        self._gates = Gates(random)
        self._limits: dict[str, int] = {}
        """Bytes of a batch, for topics that refused a larger one."""
        self._lasting = False
        """Whether what ended the last connection waits for a person."""
        self._log = LinkLog("Producer", "producer_state", told=told)
        self._rebuilt = Reminder()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to connect, and never gives up until `stop`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="redpanda-producer")

    @property
    def connected(self) -> bool:
        """Whether there is a broker."""
        return self._connected.is_set()

    @property
    def refusing(self) -> tuple[str, ...]:
        """Topics that take nothing from us though there is a broker: no right to write, or no such topic."""
        return self._gates.refusing

    async def wait_connected(self) -> None:
        """Returns when there is a broker."""
        await self._connected.wait()

    async def publish(self, topic: str, key: bytes | None, records: Sequence[Record], headers: Headers = ()) -> None:
        """Sends records under one key; returns when the broker has them all.

        Records of one key keep the order in which `publish` was called, through retries and new connections.

        Args:
            records: (timestamp in UTC ms since the epoch or None for now, value or None for a tombstone).
            headers: carried by every record.

        Raises:
            RecordRefused: too large, or a timestamp the broker refuses; retriable where the topic is not there or we
                may not write it: the next call for it waits a while.
            BrokerError: there is no broker, or it did not acknowledge in time; some records may have arrived.
        """
        if records:
            size = self._measure(key, records, headers)
            lane, future = await self._entered(topic, key, size)
            lane.add(keyed(key, records), headers, future)
            self._drive(lane)
            await future

    async def publish_framed(self, topic: str, key: bytes, batches: Sequence[Framed]) -> None:
        """Sends records that are framed already, all under the key given; see `publish` for errors.

        They keep their own order, and let all others of their partition pass while they wait: a key's records must not
        come both ways at a time.
        """
        if batches:
            size = self._measure(None, [(None, batch.body) for batch in batches], ())
            lane, future = await self._entered(topic, key, size)
            lane.add_framed(batches, future)
            self._drive(lane)
            await future

    def offer(
        self, topic: str, parts: Sequence[tuple[bytes | None, Sequence[Record]]], headers: Headers = ()
    ) -> "list[tuple[asyncio.Future[None], list[int]]]":
        """`publish` of many keys for callers with no task to spare: takes records now, or says that they would wait.

        Args:
            topic: for all of them.
            parts: keys, each once, with its records.
            headers: carried by every record.

        Returns:
            Futures, and which parts each is for, by index: those of one partition. It is done when the broker has them
            all, with the errors of `publish`; where a record is refused, so are all that came with it. In none of them
            is a part that was not taken, because there is no broker, the topic is not known or shut, the buffer is
            full, or its records are none or too large.
        """
        session = self._session
        partitions = None if session is None else session.partitions(topic)
        if partitions is None or self._gate.locked() or self._gates.shut(topic):
            return []
        together: dict[int, _Together] = {}
        pending = self.stats.pending_bytes
        for index, (key, records) in enumerate(parts):
            if not records:
                continue
            size, longest = self._sizes(key, records, headers)
            if longest > self._config.max_record_bytes or self._is_full(pending, size):
                continue
            pending += size
            partition = partitions[key]
            if (same := together.get(partition)) is None:
                same = together[partition] = _Together()
            same.size += size
            same.parts.append(index)
            same.records += keyed(key, records)
        offered: list[tuple[asyncio.Future[None], list[int]]] = []
        for partition, same in together.items():
            lane, future = self._enter(topic, partition, same.size)
            lane.add(same.records, headers, future)
            self._send(lane)
            offered.append((future, same.parts))
        return offered

    async def _entered(self, topic: str, key: bytes | None, size: int) -> "tuple[Lane, asyncio.Future[None]]":
        """As `_enter`, once there is room."""
        await self._current()
        await self._gates.open(topic)
        partition = await self._partition(topic, key)
        async with self._gate:  # a lock wakes its waiters in order, so a full buffer cannot reorder a key
            while self._is_full(self.stats.pending_bytes, size):
                self._freed.clear()
                await self._freed.wait()
            await self._current()
            return self._enter(topic, partition, size)

    async def _partition(self, topic: str, key: bytes | None) -> int:
        while True:
            session = await self._current()
            try:
                return await session.partition(topic, key, self._config.ack_timeout)
            except SessionEndedError:
                continue
            except RecordRefused as error:
                self._shut(topic, error)
                self.stats.failed += 1
                raise

    def _is_full(self, pending: int, size: int) -> bool:
        return pending > 0 and pending + size > self._config.max_pending_bytes

    def _enter(self, topic: str, partition: int, size: int) -> "tuple[Lane, asyncio.Future[None]]":
        """Room for so many bytes: a lane, to which they must be added now, and what is done when they have arrived."""
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = Lane(topic, partition)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.add(future)
        self.stats.pending_bytes += size
        future.add_done_callback(partial(self._left, size))
        return lane, future

    def _left(self, size: int, future: "asyncio.Future[None]") -> None:
        self._open.discard(future)
        self.stats.pending_bytes -= size
        self._freed.set()
        if not future.cancelled() and future.exception() is not None:
            self.stats.failed += 1

    async def publish_one(
        self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int | None = None, headers: Headers = ()
    ) -> None:
        """Sends one record; see `publish`."""
        await self.publish(topic, key, [(timestamp_ms, value)], headers)

    async def flush(self, timeout: float) -> bool:
        """Waits for what was published before; False when that is not all settled within `timeout` seconds."""
        if not self._open:
            return True
        _, late = await asyncio.wait(list(self._open), timeout=timeout)
        return not late

    async def stop(self, timeout: float) -> bool:
        """Flushes, then closes. Never raises, takes at most `timeout` and about 3 s; what is left fails.

        Returns:
            True when everything was acknowledged.
        """
        flushed = await self.flush(timeout)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._fail_all("the producer was stopped")
        self._set_state(LinkState.DISCONNECTED, "stopped")
        return flushed

    async def _current(self) -> ProducerSession:
        """The session, or the next one while a living broker is given a new one."""
        while self._session is None and not self._settled_down.is_set():
            await self._settled_down.wait()
        if self._session is None:
            self.stats.failed += 1
            raise BrokerError(f"no broker: {self.detail}")
        return self._session

    def _measure(self, key: bytes | None, records: Sequence[Record], headers: Headers) -> int:
        size, longest = self._sizes(key, records, headers)
        if longest > self._config.max_record_bytes:
            self.stats.refused += 1
            limit = self._config.max_record_bytes
            raise RecordRefused(f"a record of {longest} bytes is over the limit of {limit}", "too_large")
        return size

    def _sizes(self, key: bytes | None, records: Sequence[Record], headers: Headers) -> tuple[int, int]:
        """At most so many bytes all of them take, and the largest one."""
        if headers is not self._weighed[0]:
            self._weighed = (headers, weight(None, headers, None))
        each = self._weighed[1] + len(key or b"")
        lengths = [each + len(value or b"") for _, value in records]
        return sum(lengths), max(lengths)

    async def _run(self) -> None:
        pauses = Pauses(self._config, self._random)
        while True:
            if self._settled_down.is_set():
                self._set_state(LinkState.CONNECTING, self._config.bootstrap)
            session = ProducerSession(self.access.options(), self._config.max_batch_bytes)
            born = time.monotonic()
            try:
                alive = await self._connect(session) and await self._serve(session)
            finally:
                await finish(self._end(session), "redpanda-producer-end")
            pause = pauses.after(time.monotonic() - born, lasting=self._lasting)
            if not alive:
                self._fail_all(self.detail)
            if not alive or pauses.failures > 1:
                await asyncio.sleep(pause)

    async def _connect(self, session: ProducerSession) -> bool:
        try:
            await session.start(self._config.request_timeout)
        except UNREACHABLE as error:
            cause = await diagnose(error, self._config, self.access.options(), self._config.request_timeout)
            self._lasting = cause.lasting
            self._set_state(LinkState.DISCONNECTED, str(cause), trouble=True)
            return False
        self._lasting = False
        self.stats.sessions += 1
        return True

    async def _serve(self, session: ProducerSession) -> bool:
        """Serves until the session ends. True: its broker lives, and what waits may go through the next session."""
        self._session = session
        self._settled_down.set()
        self._ended = asyncio.get_running_loop().create_future()
        self._set_state(LinkState.CONNECTED, self._config.bootstrap)
        for lane in self._lanes.values():
            self._drive(lane)
        death = await self._watch(session, self._ended)
        self._session = None
        if death is None:
            self._settled_down.clear()
        await self._halt_lanes()
        if death is None and await session.drain(_DRAIN_SECONDS):
            return True
        self._set_state(LinkState.DISCONNECTED, death or "the broker does not answer", trouble=True)
        return False

    async def _watch(self, session: ProducerSession, ended: "asyncio.Future[str | None]") -> str | None:
        """Returns how the broker died, or None when only the session must be made anew."""
        asked = time.monotonic()
        while True:
            done, _ = await asyncio.wait([ended], timeout=_WATCH_SECONDS)
            if done:
                reason = ended.result()
                if reason is not None and self._rebuilt.due(reason, time.monotonic()):
                    logger.bind(event="producer_rebuilt", reason=reason).warning(
                        "The producer is built anew: {reason}", reason=reason
                    )
                return None
            if broken := session.broken():
                return broken
            silent = session.silent_for()
            if silent > self._config.ack_timeout:
                return f"no acknowledgement for {silent:.0f} s"
            if silent > _UNSURE_SECONDS:
                self._set_state(LinkState.CONNECTING, "the broker does not answer", trouble=True)
            elif silent == 0.0 and time.monotonic() - asked > _IDLE_SECONDS:
                if not await session.alive(self._config.request_timeout):
                    return "the broker does not answer"
                asked = time.monotonic()
            else:
                self._set_state(LinkState.CONNECTED, self._config.bootstrap)
                self._log.tell(LinkState.CONNECTED, self._config.bootstrap)

    async def _end(self, session: ProducerSession) -> None:
        self._session = None
        await self._halt_lanes()
        await session.bury()

    async def _halt_lanes(self) -> None:
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for lane in self._lanes.values():
            lane.task = None  # one that was cancelled before it ran at all does not do it itself

    def _drive(self, lane: Lane) -> None:
        """Send what the lane holds once this turn of the loop is over: what comes with it shares its batch."""
        if lane not in self._driven:
            self._driven.add(lane)
            asyncio.get_running_loop().call_soon(self._send_driven, lane)

    def _send_driven(self, lane: Lane) -> None:
        self._driven.discard(lane)
        self._send(lane)

    def _send(self, lane: Lane) -> None:
        """The next batch goes here and now where nothing is to be waited for: a task would be most of its cost."""
        session = self._session
        if session is None or lane.task is not None:
            return  # the next session takes it up, or the lane's own task does
        if session.ready_for(lane.topic, lane.partition) and (taken := self._take(lane, session)) is not None:
            batch, _, settled = taken
            session.send_now(batch, lane.topic, lane.partition, settled)
        if len(lane):
            work = self._send_lane(lane, session)
            lane.task = asyncio.create_task(work, name=f"redpanda-lane-{lane.topic}-{lane.partition}")

    async def _send_lane(self, lane: Lane, session: ProducerSession) -> None:
        try:
            while len(lane):
                await session.first_settled(lane.topic, lane.partition)
                if (taken := self._take(lane, session)) is None:
                    return
                batch, shares, settled = taken
                try:
                    await session.send(batch, lane.topic, lane.partition, settled)
                except asyncio.CancelledError:
                    lane.put_back(shares)
                    raise
                except (KafkaError, AssertionError) as error:  # aiokafka asserts that the partition still exists
                    self._undelivered(session, lane, shares, batch.size(), error)
                    return
        finally:
            lane.task = None

    def _take(
        self, lane: Lane, session: ProducerSession
    ) -> tuple[RecordBatch | FramedBatch, list[Share], Callable[["asyncio.Future[Any]"], None]] | None:
        """A lane's next batch, what is in it, and what is to be called once it is settled; None: nothing may go."""
        if self._ended is None or self._ended.done():
            return None  # a batch is missing: what follows it would be refused, too
        batch, shares = lane.take(self._limits.get(lane.topic, self._config.max_batch_bytes), self._codec)
        if not shares:
            return None
        return batch, shares, partial(self._settled, session, lane, shares, batch.size())

    def _settled(
        self, session: ProducerSession, lane: Lane, shares: list[Share], size: int, future: "asyncio.Future[Any]"
    ) -> None:
        error = BrokerError("given up") if future.cancelled() else future.exception()
        if error is None:
            self.stats.batches += 1
            self.stats.records += sum([share.count for share in shares])
            arrive(shares)
            self._gates.taken(lane.topic)
        else:
            self._undelivered(session, lane, shares, size, error)

    def _undelivered(
        self, session: ProducerSession, lane: Lane, shares: list[Share], size: int, error: BaseException
    ) -> None:
        """A batch failed for good: its sequence numbers are lost, so the session is, too."""
        refused = refusal(error)
        if refused is not None and refused.retriable:
            self._shut(lane.topic, refused)
            fail(shares, refused)
            for other in self._lanes.values():
                if other.topic == lane.topic:
                    other.fail(refused)
        elif refused is not None and refused.reason == "too_large" and sum(share.count for share in shares) > 1:
            self._shrink(lane.topic, size)
            lane.put_back(shares)
        elif refused is not None and len(shares) == 1:
            if not shares[0].parcel.mixed:
                self.stats.refused += shares[0].count
            fail(shares, refused)
        else:
            for share in shares:
                share.parcel.alone = share.parcel.alone or refused is not None
                share.parcel.tries += 1
                if share.parcel.tries >= _TRIES:
                    fail([share], given_up(error, _TRIES))
            lane.put_back(shares)
        if session is self._session and self._ended is not None and not self._ended.done():
            told = refused is not None and refused.retriable  # by the topic's gate
            self._ended.set_result(None if told else describe(error))

    def _shrink(self, topic: str, size: int) -> None:
        """The topic takes no batch of that size, maybe one of half of it: a limit of its own, which nobody tells us."""
        before = self._limits.get(topic, self._config.max_batch_bytes)
        self._limits[topic] = min(before, max(size // 2, 1))
        logger.bind(event="batch_too_large", topic=topic, size=size).info(
            "Topic {topic} takes no batch of {size} bytes: smaller ones from now on", topic=topic, size=size
        )

    def _shut(self, topic: str, why: RecordRefused) -> None:
        self.stats.held += 1
        if why.reason == "not_allowed":
            self._gates.refused(topic, str(denied(self._config, "WRITE", f"topic {topic}")))
        else:
            self._gates.refused(topic, f"{why}; make it, or set REDPANDA_CREATE_TOPICS=true")

    def _fail_all(self, reason: str) -> None:
        self._settled_down.set()
        for future in self._open:
            if not future.done():
                future.set_exception(BrokerError(reason))
        for lane in self._lanes.values():
            lane.clear()

    def _set_state(self, state: LinkState, detail: str, *, trouble: bool = False) -> None:
        if (state, detail) == (self.state, self.detail):
            return
        self.state, self.detail = state, detail
        if state is LinkState.CONNECTED:
            self._connected.set()
        else:
            self._connected.clear()
        (self._log.trouble if trouble else self._log.tell)(state, detail)
        if self._on_state is not None:
            self._on_state(state, detail)

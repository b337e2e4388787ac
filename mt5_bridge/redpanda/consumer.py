"""Signals from the broker: every partition, from the journal's offsets, whatever the broker or the topic does."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from loguru import logger

from mt5_bridge.core.reminder import Reminder
from mt5_bridge.redpanda.causes import Cause, denied
from mt5_bridge.redpanda.config import LinkState, OnState, RedpandaConfig
from mt5_bridge.redpanda.faults import describe
from mt5_bridge.redpanda.finish import finish
from mt5_bridge.redpanda.inquiry import diagnose
from mt5_bridge.redpanda.linklog import LinkLog
from mt5_bridge.redpanda.patience import Patience
from mt5_bridge.redpanda.pauses import Pauses
from mt5_bridge.redpanda.position import Bounds, choose
from mt5_bridge.redpanda.reader import Fetched, Reader, Record
from mt5_bridge.redpanda.security import Access

OnReset = Callable[[str, int, int, str], Awaitable[None]]
"""Awaited with topic, partition, the offset begun at, and why: `first_time`, `expired` or `topic_made_anew`."""

_REFRESH_SECONDS = 5.0
_RETRY_SECONDS = 0.25


@dataclass
class ConsumerStats:
    """Counters since the start."""

    records: int = 0
    too_old: int = 0
    corrupt: int = 0
    resets: int = 0
    sessions: int = 0
    commits: int = 0
    commit_failures: int = 0


_ENOUGH = 2000
"""Records that are handed on at once, if as many are there."""
_TURNS_FIRST = 3
"""Of the loop, for a record that came by itself, before the next fetch."""


class _Reset(msgspec.Struct, frozen=True):
    partition: int
    offset: int
    why: str


class SignalConsumer:
    """Reads one topic without a group: no rebalance to wait for, its positions are the caller's.

    `start` returns at once; a task of its own connects, and connects again when the broker dies.

    Args:
        offsets: the next offset of each partition, from the journal.
        max_age_ms: without a usable offset, reading begins with records at most so old.
        on_reset: told, before the records concerned, that reading begins elsewhere than at the stored offset.
        now_ms: the PC's UTC time in ms since the epoch.
        told: what has been told of the broker, where others tell of it, too.
        access: how to connect, where others do so, too; None: as the config says now.
    """

    def __init__(
        self,
        config: RedpandaConfig,
        topic: str,
        group_id: str,
        offsets: Mapping[int, int],
        max_age_ms: int,
        *,
        on_state: OnState | None = None,
        on_reset: OnReset | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        told: Reminder | None = None,
        access: Access | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.state = LinkState.DISCONNECTED
        self.detail = "not started"
        self.stats = ConsumerStats()
        self.ready = asyncio.Event()
        """Set while every partition is assigned and positioned."""
        self._config = config
        self._access = access or Access(config)
        self._topic = topic
        self._group = group_id
        self._next: dict[int, int] = dict(offsets)
        self._placed: dict[int, int] = {}
        self._given: dict[int, int] = {}
        """The offset behind the last record that whoever reads was given."""
        self._entered: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._gone: set[int] = set()
        """Partitions that were there once and then not: what comes under their numbers has offsets of its own."""
        self._max_age_ms = max_age_ms
        self._on_state = on_state
        self._on_reset = on_reset
        self._now_ms = now_ms
        self._random = random
        self._queue: asyncio.Queue[list[Record] | _Reset | BaseException] = asyncio.Queue(maxsize=16)
        self._to_commit: dict[int, int] = {}
        self._commit_due = asyncio.Event()
        self._last_record = time.monotonic()
        self._patience = Patience()
        self._log = LinkLog("Signals", "consumer_state", told=told)
        self._commit_told = Reminder()
        self._reminder = Reminder()
        self._task: asyncio.Task[None] | None = None
        self._last_words: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to connect, and never gives up until `stop`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="redpanda-consumer")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """It never ends but by `stop` or a defect, which whoever reads must hear of: silence would look like peace."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._last_words = asyncio.create_task(self._queue.put(error), name="redpanda-consumer-last-words")

    async def records(self) -> AsyncIterator[list[Record]]:
        """Records in the order of each partition, all that have come at once, for ever. One reader only.

        A defect of the reading is raised here.
        """
        while True:
            item: list[Record] | _Reset | BaseException | None = await self._queue.get()
            while isinstance(item, list):
                # What came meanwhile, of whatever partition: whoever enters it pays for a sync once.
                batch, item = self._with_more(item)
                yield batch
            if isinstance(item, BaseException):
                raise item
            if item is not None and self._on_reset is not None:
                await self._on_reset(self._topic, item.partition, item.offset, item.why)

    def _with_more(self, batch: list[Record]) -> "tuple[list[Record], list[Record] | _Reset | BaseException | None]":
        """The batch with what waits behind it, until that is enough, and what came after it and is something else."""
        while len(batch) < _ENOUGH and not self._queue.empty():
            item = self._queue.get_nowait()
            if not isinstance(item, list):
                return batch, item
            batch = batch + item
        return batch, None

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Notes next offsets for the group's commit, which only serves those who watch the lag. Never fails."""
        self._entered.update(offsets)
        self._to_commit.update(offsets)
        self._commit_due.set()

    @property
    def lag(self) -> dict[int, int]:
        """By partition, how many offsets lie between what was entered last and the end as the broker told it last."""
        return {
            partition: max(0, self._ends[partition] - self._reached(partition))
            for partition in self._placed
            if partition in self._ends
        }

    def _reached(self, partition: int) -> int:
        """What was passed over (too old, markers of transactions) is never entered, nor does it wait for that."""
        given, entered = self._given[partition], self._entered[partition]
        return self._next[partition] if entered >= given else entered

    async def stop(self, timeout: float) -> None:
        """Stops reading. Never raises, and returns within `timeout` seconds whatever the broker does."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=timeout)
        if self._last_words is not None:
            self._last_words.cancel()
        self.ready.clear()
        self._set_state(LinkState.DISCONNECTED, "stopped")

    async def _run(self) -> None:
        pauses = Pauses(self._config, self._random)
        while True:
            born, lasting = time.monotonic(), False
            self._set_state(LinkState.CONNECTING, self._config.bootstrap)
            reader = Reader(self._access.options(), self._topic)
            try:
                await self._session(reader)
            except (KafkaError, OSError) as error:
                self.ready.clear()
                cause = await self._cause(error)
                lasting = cause.lasting
                self._set_state(LinkState.DISCONNECTED, str(cause), trouble=True)
            finally:
                self.ready.clear()
                await finish(reader.close(), "redpanda-consumer-end")
            await asyncio.sleep(pauses.after(time.monotonic() - born, lasting=lasting))

    async def _cause(self, error: BaseException) -> Cause:
        if isinstance(error, TopicAuthorizationFailedError):
            return denied(self._config, "READ", f"topic {self._topic}")
        return await diagnose(error, self._config, self._access.options(), self._config.request_timeout)

    async def _session(self, reader: Reader) -> None:
        """Reads until the broker fails, which it tells by raising."""
        async with asyncio.timeout(self._config.request_timeout):
            await reader.connect()
        self._placed.clear()
        pending: dict[int, asyncio.Task[list[Fetched]]] = {}
        committer = asyncio.create_task(self._commit_loop(reader), name="redpanda-commit")
        refreshed = -_REFRESH_SECONDS
        try:
            while True:
                if not self._placed or time.monotonic() - refreshed >= _REFRESH_SECONDS:
                    await self._place_new(reader)
                    refreshed = time.monotonic()
                if not self._placed:
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                again = await self._round(reader, pending)
                if self._placed and not self.ready.is_set():  # only now: who may see a topic may not read it yet
                    self.stats.sessions += 1
                    self.ready.set()
                    self._set_state(LinkState.CONNECTED, self._config.bootstrap)
                if again:
                    refreshed = -_REFRESH_SECONDS
        finally:
            tasks = [committer, *pending.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _place_new(self, reader: Reader) -> None:
        """Finds the partitions, and where to begin those not read yet."""
        async with asyncio.timeout(self._config.request_timeout + reader.throttled_for()):
            known = await reader.partitions()
            self._gone |= self._next.keys() - known
            for gone in self._placed.keys() - known:
                del self._placed[gone]
            fresh = sorted(known - self._placed.keys())
            since_ms = self._now_ms() - self._max_age_ms
            bounds = await reader.bounds(fresh, since_ms) if fresh else {}
        for partition in fresh:
            await self._place(partition, Bounds(*bounds[partition]), self._next.get(partition))
        if not known:
            self.ready.clear()
            self._set_state(LinkState.CONNECTING, f"there is no topic {self._topic}", trouble=True)
        elif self.ready.is_set():
            self._log.tell(LinkState.CONNECTED, self._config.bootstrap)

    async def _place(self, partition: int, bounds: Bounds, stored: int | None) -> None:
        start = choose(bounds.end + 1 if partition in self._gone else stored, bounds)
        self._gone.discard(partition)
        self._next[partition] = start.offset
        self._placed[partition] = start.too_old_before
        self._given[partition] = self._entered[partition] = start.offset
        self._ends[partition] = bounds.end
        if start.why is not None:
            self.stats.resets += 1
            await self._queue.put(_Reset(partition, start.offset, start.why))

    async def _round(self, reader: Reader, pending: "dict[int, asyncio.Task[list[Fetched]]]") -> bool:
        """Keeps one fetch at each node, takes in what has come. True: ask for the partitions again."""
        by_node: dict[int, dict[int, int]] = {}
        homeless = False
        for partition in self._placed:
            node = reader.leader(partition)
            if node is None:
                homeless = True
            elif node not in pending:
                by_node.setdefault(node, {})[partition] = self._next[partition]
        wait_ms = self._patience.wait_ms((time.monotonic() - self._last_record) * 1000)
        if len(by_node) == 1 and not pending:
            ((node, positions),) = by_node.items()  # the usual broker: no task is needed to wait for one
            return await self._take_all(await self._fetch(reader, node, positions, wait_ms), again=homeless)
        for node, positions in by_node.items():
            work = self._fetch(reader, node, positions, wait_ms)
            pending[node] = asyncio.create_task(work, name=f"redpanda-fetch-{node}")
        if not pending:
            await asyncio.sleep(_RETRY_SECONDS)
            return True
        done, _ = await asyncio.wait(pending.values(), timeout=_REFRESH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finished = [node for node, task in pending.items() if task in done]
        return await self._take_all([one for node in finished for one in pending.pop(node).result()], again=homeless)

    async def _take_all(self, found: list[Fetched], *, again: bool) -> bool:
        for fetched in found:
            again |= await self._take_in(fetched)
        if sum(len(fetched.records) for fetched in found) == 1:
            # Whoever takes it asks the terminal first: the next fetch costs as much, and can be sent meanwhile.
            for _ in range(_TURNS_FIRST):
                await asyncio.sleep(0)
        if again:
            await asyncio.sleep(_RETRY_SECONDS)
        return again

    async def _fetch(self, reader: Reader, node: int, positions: Mapping[int, int], wait_ms: int) -> list[Fetched]:
        began = time.monotonic()
        async with asyncio.timeout(wait_ms / 1000 + self._config.request_timeout / 2 + reader.throttled_for()):
            fetched = await reader.fetch(node, positions, wait_ms)
        took_ms = (time.monotonic() - began) * 1000
        self._patience.fetched(wait_ms, took_ms, records=any(each.records for each in fetched))
        return fetched

    async def _take_in(self, fetched: Fetched) -> bool:
        """Queues what came. True: the partition must be looked up again."""
        partition = fetched.partition
        if partition not in self._placed or fetched.position != self._next[partition]:
            return False  # asked before the partition was placed anew, or moved to another node
        if fetched.error == TopicAuthorizationFailedError.errno:
            raise TopicAuthorizationFailedError(self._topic)  # nothing is heard until a person grants the right: told
        if fetched.error:
            # Out of range: placed anew like a partition never seen, by what the broker says of it then.
            del self._placed[partition]
            if fetched.error != OffsetOutOfRangeError.errno:
                logger.bind(event="fetch_error", partition=partition, code=fetched.error).debug("Fetch error")
            return True
        if fetched.end is not None:
            self._ends[partition] = fetched.end
        records = fetched.records
        if fetched.corrupt:
            self._passed_over(fetched)
        too_old_before = self._placed[partition]
        if too_old_before and records:
            records = self._young(records, too_old_before)
        if fetched.next_offset >= too_old_before:
            self._placed[partition] = 0
        if records:
            await self._give(partition, records)
        self._next[partition] = fetched.next_offset
        return False

    async def _give(self, partition: int, records: list[Record]) -> None:
        self.stats.records += len(records)
        self._last_record = time.monotonic()
        if self._entered[partition] >= self._given[partition]:
            self._entered[partition] = records[0].offset
        self._given[partition] = records[-1].offset + 1
        await self._queue.put(records)

    def _passed_over(self, fetched: Fetched) -> None:
        if fetched.records:
            return  # the sound ones before it; it is asked for again
        self.stats.corrupt += fetched.next_offset - fetched.position
        if self._reminder.due(f"partition {fetched.partition}", time.monotonic()):
            logger.bind(event="record_unreadable", partition=fetched.partition, offset=fetched.position).error(
                "ERROR signals of {topic}/{partition} at {begin} to {end} cannot be decoded and are skipped: {why}",
                topic=self._topic,
                partition=fetched.partition,
                begin=fetched.position,
                end=fetched.next_offset - 1,
                why=fetched.corrupt,
            )

    def _young(self, records: list[Record], too_old_before: int) -> list[Record]:
        since_ms = self._now_ms() - self._max_age_ms
        young = [each for each in records if each.offset >= too_old_before or each.timestamp_ms >= since_ms]
        self.stats.too_old += len(records) - len(young)
        return young

    async def _commit_loop(self, reader: Reader) -> None:
        while True:
            await self._commit_due.wait()
            self._commit_due.clear()
            offsets, self._to_commit = self._to_commit, {}
            try:
                async with asyncio.timeout(self._config.request_timeout):
                    await reader.commit(self._group, offsets)
                self.stats.commits += 1
            except (KafkaError, OSError) as error:
                self.stats.commit_failures += 1
                self._to_commit = offsets | self._to_commit
                self._commit_due.set()
                self._tell_commit(error)
            await asyncio.sleep(1.0)  # a second's worth of offsets in one request is soon enough for a lag monitor

    def _tell_commit(self, error: BaseException) -> None:
        """A right that is missing is a person's business, everything else passes."""
        lasting = isinstance(error, GroupAuthorizationFailedError | TopicAuthorizationFailedError)
        cause = str(denied(self._config, "READ", f"group {self._group}")) if lasting else describe(error)
        known = not lasting or not self._commit_told.due(cause, time.monotonic())
        logger.bind(event="commit_failed").log(
            "DEBUG" if known else "WARNING",
            "Signals are heard, but their lag cannot be watched, offsets are not committed: {}",
            cause,
        )

    def _set_state(self, state: LinkState, detail: str, *, trouble: bool = False) -> None:
        if (state, detail) == (self.state, self.detail):
            return
        self.state, self.detail = state, detail
        (self._log.trouble if trouble else self._log.tell)(state, detail)
        if self._on_state is not None:
            self._on_state(state, detail)

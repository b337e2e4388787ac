"""One life of an aiokafka producer: started, watched, and buried in bounded time when its broker dies."""

import asyncio
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import TopicPartition

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.redpanda.batch import FramedBatch, RecordBatch
from mt5_bridge.redpanda.faults import RecordRefused, describe, refusal
from mt5_bridge.redpanda.throttle import Throttle

_BURIAL_SECONDS = 2.0
_ASK_SECONDS = 1.0
_REMEMBERED_KEYS = 10_000


class SessionEndedError(BrokerError):
    """What was asked of a session was not answered before its end; the next one may answer."""


class _Chosen(dict[bytes | None, int]):
    """Where the keys of a topic belong while it has the partitions known, found out once; no key belongs anywhere."""

    _partitioner = DefaultPartitioner()

    def __init__(self, known: AbstractSet[int]) -> None:
        super().__init__()
        self.known = known
        self._all = sorted(known)

    def __missing__(self, key: bytes | None) -> int:
        partition = int(self._partitioner(key, self._all, self._all))
        if key is not None:
            if len(self) >= _REMEMBERED_KEYS:
                self.clear()
            self[key] = partition
        return partition


class ProducerSession:
    """An idempotent producer that waits for every replica.

    Args:
        options: connection settings of `security.client_options`.
        max_batch_bytes: the largest batch that will be given to `send`.
    """

    def __init__(self, options: dict[str, Any], max_batch_bytes: int) -> None:
        self._producer = AIOKafkaProducer(
            **options,
            enable_idempotence=True,
            acks="all",
            max_batch_size=max_batch_bytes,
            # A broker may be slow in getting a topic's leader elected; the default of 100 ms is right for that, and
            # what a lost connection costs.
            retry_backoff_ms=100,
            metadata_max_age_ms=30_000,
            connections_max_idle_ms=None,
        )
        self._throttle = Throttle(self._producer.client, "Producer")
        self._partitions: dict[str, _Chosen] = {}
        self._due: dict[asyncio.Future[Any], float] = {}
        self._first: dict[tuple[str, int], asyncio.Future[Any]] = {}
        self._last: dict[tuple[str, int], asyncio.Future[Any]] = {}
        self._last_news = time.monotonic()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, timeout: float) -> None:
        """Connects.

        Raises:
            TimeoutError: the broker did not answer in time.
            aiokafka.errors.KafkaError: it could not be reached or refused.
        """
        async with asyncio.timeout(timeout):
            await self._producer.start()
        self._last_news = time.monotonic()

    async def partition(self, topic: str, key: bytes | None, timeout: float) -> int:
        """The partition that Java's partitioner chooses for the key.

        Raises:
            SessionEndedError: meanwhile this session did.
            RecordRefused: the topic is not there, or may not be seen.
            BrokerError: the broker does not answer.
        """
        if (chosen := self.partitions(topic)) is not None:
            return chosen[key]
        try:
            async with asyncio.timeout(timeout):
                known = await self._look_up(topic)
        except (TimeoutError, UnknownTopicOrPartitionError) as error:
            if await self.alive(_ASK_SECONDS):
                raise RecordRefused("the broker does not have it", "topic") from error
            raise BrokerError(f"topic {topic}: the broker does not answer") from error
        except KafkaError as error:
            raise refusal(error) or BrokerError(f"topic {topic}: {describe(error)}") from error
        return self._chosen(topic, known)[key]

    async def _look_up(self, topic: str) -> AbstractSet[int]:
        """aiokafka's closed client would let it wait for ever."""
        lookup = asyncio.ensure_future(self._producer.partitions_for(topic))
        try:
            await asyncio.wait([lookup, self._over], return_when=asyncio.FIRST_COMPLETED)
            if not lookup.done():
                raise SessionEndedError(f"topic {topic}: the session ended")
            known: AbstractSet[int] = await lookup
            return known
        finally:
            lookup.cancel()

    def partitions(self, topic: str) -> Mapping[bytes | None, int] | None:
        """The partition that Java's partitioner chooses for each key, without asking the broker: None where the topic
        has not been asked for.
        """
        known: AbstractSet[int] | None = self._producer.client.cluster.partitions_for_topic(topic)
        return None if known is None else self._chosen(topic, known)

    def _chosen(self, topic: str, known: AbstractSet[int]) -> "_Chosen":
        chosen = self._partitions.get(topic)
        if chosen is None or chosen.known != known:
            chosen = self._partitions[topic] = _Chosen(known)
        return chosen

    async def send(
        self, batch: RecordBatch | FramedBatch, topic: str, partition: int, done: Callable[[asyncio.Future[Any]], None]
    ) -> None:
        """Hands a batch over, when the one before it of that partition is on its way.

        Args:
            done: called when the batch is acknowledged or has failed.
        """
        self._handed_over(await self._producer.send_batch(batch, topic, partition=partition), topic, partition, done)

    def send_now(
        self, batch: RecordBatch | FramedBatch, topic: str, partition: int, done: Callable[[asyncio.Future[Any]], None]
    ) -> None:
        """As `send`, where `ready_for` has just said that nothing is to be waited for."""
        # What `send_batch` comes to then, without three coroutines and a shielded future for each batch.
        accumulated = self._producer._message_accumulator._append_batch(batch, TopicPartition(topic, partition))
        self._handed_over(accumulated.future, topic, partition, done)

    def ready_for(self, topic: str, partition: int) -> bool:
        """Whether a batch can be handed over without waiting, for another one or for the topic."""
        first, last = self._first.get((topic, partition)), self._last.get((topic, partition))
        if first is None or last is None or first in self._due or (last.done() and last in self._due):
            return False  # none has arrived yet, or what became of the last one is not told yet: nothing may pass it
        accumulator: Any = self._producer._message_accumulator
        return (
            not accumulator._batches.get((topic, partition))
            and accumulator._exception is None
            and partition in (self._producer.client.cluster.partitions_for_topic(topic) or ())
        )

    def _handed_over(
        self, future: asyncio.Future[Any], topic: str, partition: int, done: Callable[[asyncio.Future[Any]], None]
    ) -> None:
        self._first.setdefault((topic, partition), future)
        self._last[topic, partition] = future
        self._due[future] = time.monotonic()
        future.add_done_callback(partial(self._settled, done))

    async def first_settled(self, topic: str, partition: int) -> None:
        """Returns when a batch may follow the session's first one of that partition.

        A broker that knows nothing of a producer in a partition takes any sequence number: were the first batch
        refused, one behind it would pass it.
        """
        first = self._first.get((topic, partition))
        if first is not None and not first.done():
            await asyncio.wait([first])

    def silent_for(self) -> float:
        """Seconds since the broker last acknowledged anything, while something is due; else 0.

        What a quota makes it wait does not count.
        """
        if not self._due:
            return 0.0
        listening = max(self._last_news, next(iter(self._due.values())), self._throttle.until())
        return max(0.0, time.monotonic() - listening)

    async def alive(self, timeout: float) -> bool:
        """Asks the broker for its metadata, which an idle connection needs to be known as dead."""
        if self._throttle.left() > 0:
            return True  # it has answered, and does not listen for a while
        try:
            async with asyncio.timeout(timeout):
                answered = bool(await self._producer.client.force_metadata_update())
        except TimeoutError:
            answered = False
        return answered or self._throttle.left() > 0  # the answer to another request may have come meanwhile

    def broken(self) -> str | None:
        """Why nothing will ever be sent any more; None: all is well."""
        sender = self._producer._sender.sender_task
        if sender is None or not sender.done() or sender.cancelled():
            return None
        error = sender.exception()
        return describe(error.__cause__ or error) if error else "the producer ended"

    async def drain(self, timeout: float) -> bool:
        """Waits until all that was sent is settled."""
        if self._due:
            await asyncio.wait(list(self._due), timeout=timeout)
        return not self._due

    async def bury(self) -> None:
        """Closes the sockets, then sees the sender task end, so that nothing is sent any more. Never raises.

        aiokafka's own `stop` waits for what an idempotent producer retries for ever.
        """
        if not self._over.done():
            self._over.set_result(None)
        producer: Any = self._producer
        producer._closed = True  # stop() is replaced by this function
        sender = producer._sender.sender_task
        tasks = [asyncio.create_task(producer.client.close(), name="kafka-close")]
        await asyncio.wait(tasks, timeout=_BURIAL_SECONDS)
        if sender is not None:
            tasks.append(sender)
        # Those who wait to send, too: they would connect anew, and the sender ends with the first of them.
        while left := [task for task in (*tasks, *self._throttle.sending) if not task.done()]:
            # Again if need be: the sender answers the first by waiting for its requests.
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=_BURIAL_SECONDS / 4)
        for task in tasks:
            if not task.cancelled():
                task.exception()

    def _settled(self, done: Callable[[asyncio.Future[Any]], None], future: "asyncio.Future[Any]") -> None:
        self._due.pop(future, None)
        self._last_news = time.monotonic()
        done(future)

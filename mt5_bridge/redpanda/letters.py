"""Looks into a topic from its end, for a person: the newest records, or one of them. Nothing is moved or committed."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, for_code

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.redpanda.causes import denied
from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.redpanda.faults import describe
from mt5_bridge.redpanda.finish import finish
from mt5_bridge.redpanda.inquiry import diagnose
from mt5_bridge.redpanda.reader import Reader, Record
from mt5_bridge.redpanda.security import client_options

LOOK_S = 30.0
"""A look that takes longer has found a broker that does not do its part."""
_FETCH_WAIT_MS = 500
_HEADERS, _HEADER_BYTES = 16, 2_000
"""What an overview keeps of headers, the bridge's own among them: a thousand records of a MiB must fit the memory."""


class NoTopic(BrokerError):
    """The broker does not have the topic, or does not show it to these credentials."""

    retriable = False


class Letter(msgspec.Struct, frozen=True):
    """A record, its key, value and headers cut where only an overview is wanted.

    Attributes:
        size: bytes of the whole value; 0 for a tombstone.
    """

    record: Record
    size: int

    @property
    def newness(self) -> tuple[int, int, int]:
        """Grows from older to newer; between partitions by the broker's time."""
        return self.record.timestamp_ms, self.record.offset, self.record.partition


async def newest(config: RedpandaConfig, topic: str, limit: int, *, keep_bytes: int = 256) -> list[Letter]:
    """The last records of a topic over all its partitions, newest first, cut to what an overview needs.

    Raises:
        NoTopic: it is not there.
        BrokerError: the broker cannot be asked, with the reason.
        SettingsError: the connection's settings are wrong.
    """
    async with _looking(config, topic) as look:
        found: list[Letter] = []
        for partition, (begin, end) in (await look.ends()).items():
            found += await look.last(partition, begin, end, limit, keep_bytes)
            found = heapq.nlargest(limit, found, key=lambda letter: letter.newness)
        return found


async def one(config: RedpandaConfig, topic: str, partition: int, offset: int) -> Letter | tuple[int, int] | None:
    """The record at a place, whole.

    Returns:
        Where there is none: the partition's first and next offset, None where there is no such partition.

    Raises:
        As `newest`.
    """
    async with _looking(config, topic) as look:
        ends = (await look.ends()).get(partition)
        if ends is None or not ends[0] <= offset < ends[1]:
            return ends
        records = await look.read(partition, offset, offset + 1, None)
        return records[0] if records else ends


class _Look:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def ends(self) -> dict[int, tuple[int, int]]:
        """First and next offset of each partition."""
        reader = self._reader
        known = await reader.partitions()
        if not known:
            raise NoTopic(f"there is no topic {reader.topic}, or these credentials may not see it")
        return {each: (begin, end) for each, (begin, end, _) in (await reader.bounds(sorted(known), 0)).items()}

    async def last(self, partition: int, begin: int, end: int, limit: int, keep_bytes: int) -> list[Letter]:
        """The last records, `limit` at most. Offsets have gaps where a topic is compacted: it reaches back further."""
        found: list[Letter] = []
        step = limit
        while len(found) < limit and end > begin:
            start = max(begin, end - step)
            found = await self.read(partition, start, end, keep_bytes) + found
            end, step = start, step * 2
        return found[-limit:]

    async def read(self, partition: int, start: int, end: int, keep_bytes: int | None) -> list[Letter]:
        """The records from one offset up to another."""
        found: list[Letter] = []
        while start < end:
            node = self._reader.leader(partition)
            if node is None:
                raise BrokerError(f"partition {partition} of {self._reader.topic} has no leader now; try again")
            (fetched,) = await self._reader.fetch(node, {partition: start}, _FETCH_WAIT_MS)
            if fetched.error == TopicAuthorizationFailedError.errno:
                raise TopicAuthorizationFailedError(self._reader.topic)
            if fetched.error:
                raise for_code(fetched.error)()
            found += [_cut(record, keep_bytes) for record in fetched.records if record.offset < end]
            if fetched.next_offset == start:
                break  # the broker has nothing more, whatever it said of the end
            start = fetched.next_offset
        return found


@asynccontextmanager
async def _looking(config: RedpandaConfig, topic: str) -> AsyncIterator[_Look]:
    options = client_options(config)
    # Asked for all topics: to ask for one that is missing can make a broker create it.
    reader = Reader(options, topic, all_topics=True)
    try:
        async with asyncio.timeout(LOOK_S):
            await reader.connect()
            yield _Look(reader)
    except TimeoutError as error:
        raise BrokerError(f"{config.bootstrap}: {describe(error)}") from error
    except TopicAuthorizationFailedError as error:
        raise BrokerError(f"{config.bootstrap}: {denied(config, 'READ', f'topic {topic}')}") from error
    except (KafkaError, OSError) as error:
        reason = str(await diagnose(error, config, options, config.request_timeout))
        raise BrokerError(reason if config.bootstrap in reason else f"{config.bootstrap}: {reason}") from error
    finally:
        await finish(reader.close(), "redpanda-look-end")


def _cut(record: Record, keep_bytes: int | None) -> Letter:
    size = len(record.value or b"")
    if keep_bytes is not None:
        record = msgspec.structs.replace(
            record,
            key=None if record.key is None else record.key[:keep_bytes],
            value=None if record.value is None else record.value[:keep_bytes],
            headers=tuple((name, content[:_HEADER_BYTES]) for name, content in record.headers[-_HEADERS:]),
        )
    return Letter(record, size)

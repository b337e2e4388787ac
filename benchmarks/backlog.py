"""A day of signals that waited for a bridge that was not there: how fast they are all denied."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks import rig
from benchmarks.figures import Figure, Section
from benchmarks.signals import ready

PER_PARTITION = 20_000
"""The embedded broker keeps 5 MiB of a partition, and it must keep them all."""
TOPIC = "trading_signals"
EVENTS = "mt5_events"
_DAY_MS = 24 * 3_600_000
_YOUNGEST_MS = 60_000 + 60_000
"""Beyond the rig's SIGNAL_MAX_AGE_MS, which is a minute, for as long as the start may take."""
_POLL_S = 0.02
_FEW = 20
"""Events of the start that are no results."""
_LIMIT_S = 240.0
METHOD = """\
A daemon runs once, so that its journal knows how far the signal topic was read, and ends. Then a day of signals is
written behind that, the youngest two minutes old, and the daemon starts again. Each signal is decoded, looked up in the
inbox, denied as `stale`, and entered with its result, the offset behind it and the announcement in the outbox, synced
to the disk; none asks the terminal. The rate is that of the offsets in the journal, from their first move to the end of
the topic, by the journal's file. The announcements leave meanwhile; their rate is that of the event topic's end offset
on the broker, from its first move to the last result."""


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is 20,000 signals a partition."""
    each = max(1_000, int(PER_PARTITION * scale))
    with rig.broker() as bootstrap, tempfile.TemporaryDirectory(prefix="mt5-bench-") as name:
        home = {"DATA_DIR": name}
        journal = Path(name) / "journal.db"
        async with rig.consumer(bootstrap, EVENTS) as results:
            with rig.signal_sender(bootstrap) as sender, rig.daemon(bootstrap, home):
                await ready(sender, results)
            # Only of a partition that was read before does the journal know where to go on.
            partitions = sorted(_positions(journal))
            count = each * len(partitions)
            await _write(bootstrap, partitions, each)
            with rig.daemon(bootstrap, home) as daemon:
                denied, announced = await asyncio.gather(_denied(journal, count), _announced(results, count))
                cpu, memory = rig.cpu_seconds([daemon.pid]), rig.rss_mib(daemon.pid)
        with closing(sqlite3.connect(journal)) as db:
            stale = db.execute("SELECT COUNT(*) FROM signals WHERE key LIKE 'old-%' AND reason = 'stale'").fetchone()[0]
    return Section(
        "A day of old signals at the start",
        METHOD,
        (
            Figure("signals denied as stale", stale, "signals", count, at_least=True),
            Figure("denied, journalled", denied, "signals/s", 20_000, at_least=True),
            Figure("their results at the broker", announced, "results/s"),
            Figure("CPU of the daemon, start included", cpu / count * 1e6, "µs/signal"),
            Figure("daemon, resident memory after it", memory, "MiB", 50),
        ),
    )


async def _write(bootstrap: str, partitions: Sequence[int], count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for partition in partitions:
            await _write_one(producer, partition, count)
    finally:
        await producer.stop()


async def _write_one(producer: AIOKafkaProducer, partition: int, count: int) -> None:
    """A day of signals into one partition, evenly spread over the day."""
    now = time.time_ns() // 1_000_000
    number = 0
    while number < count:
        batch = producer.create_batch()
        while number < count:
            made = now - _YOUNGEST_MS - (count - number) * (_DAY_MS - 2 * _YOUNGEST_MS) // count
            symbol = rig.SYMBOLS[number % len(rig.SYMBOLS)]
            name = f"old-{partition}-{number}"
            value = rig.signal(name, symbol, "BUY", volume=0.01, stop_loss=0.5, created_at=made)
            if batch.append(key=symbol.encode(), value=value, timestamp=made) is None:
                break
            number += 1
        batch.close()
        await (await producer.send_batch(batch, TOPIC, partition=partition))


async def _denied(journal: Path, count: int) -> float:
    """Signals a second by the offsets in the journal."""

    async def read() -> int:
        return sum((await asyncio.to_thread(_positions, journal)).values())

    return await _rate(read, count)


def _positions(journal: Path) -> dict[int, int]:
    """The next offset of each partition that was read."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
        return dict(db.execute("SELECT partition, next_offset FROM offsets WHERE topic = ?", (TOPIC,)).fetchall())


async def _announced(results: AIOKafkaConsumer, count: int) -> float:
    """Results a second by the end offsets of the event topic; a few other events are among them."""
    places = [TopicPartition(EVENTS, number) for number in results.partitions_for_topic(EVENTS) or ()]

    async def read() -> int:
        return sum((await results.end_offsets(places)).values())

    return await _rate(read, count)


async def _rate(read: Callable[[], Awaitable[int]], count: int) -> float:
    """How fast a number grows by so much, from its first move on."""
    start = last = await read()
    first, began = start, time.perf_counter()
    async with asyncio.timeout(_LIMIT_S):
        while last < start + count:
            await asyncio.sleep(_POLL_S)
            now = await read()
            if first == start and now > start + _FEW:
                first, began = now, time.perf_counter()
            last = now
    return (last - first) / (time.perf_counter() - began)

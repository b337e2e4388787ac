"""What a symbol costs, from eight to a thousand, and how old ticks get meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import rig
from benchmarks.figures import Figure, Section, percentile
from benchmarks.terminal.many_symbols import names

COUNTS = (8, 100, 300, 1000)
HZ = 10
COUNTERS = ("missed_slots", "ticks")
METHOD = """\
A daemon on a market of so many symbols, ten ticks a second each, evenly spread; the market costs the host next to
nothing. CPU is that of daemon and host over the time watched. The age of a tick runs from the poll that saw it (the
envelope's time) to the hands of a consumer, which reads one of the topic's partitions, so as not to take the cores from
what it measures; the age since the tick itself has the wait for the poll in it, up to 100 ms. A slot is missed when a
round of all symbols took longer than its 100 ms. Memory is the daemon's, at the end and what it grew by meanwhile."""


@dataclass
class Watched:
    """What one number of symbols came to."""

    daemon: float
    hosts: float
    ages: list[float]
    since_tick: list[float]
    missed: int
    published: float
    rss: float
    grown: float
    host_rss: float


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 watches each number of symbols for 30 s."""
    figures: list[Figure] = []
    for count in COUNTS if scale >= 1 else (COUNTS[0], COUNTS[-1]):
        seen = await _watched(count, max(4.0, 30 * scale))
        most = 15 if count == COUNTS[0] else 100
        figures += [
            Figure(f"{count:,} symbols: tick age at the consumer, p50", percentile(seen.ages, 50), "ms"),
            Figure(f"{count:,} symbols: tick age at the consumer, p99", percentile(seen.ages, 99), "ms", most),
            Figure(f"{count:,} symbols: since the tick itself, p99", percentile(seen.since_tick, 99), "ms"),
            Figure(f"{count:,} symbols: slots missed", seen.missed, "slots", 0),
            Figure(f"{count:,} symbols: ticks published", seen.published, "ticks/s", 0.98 * HZ * count, at_least=True),
            Figure(f"{count:,} symbols: CPU of the daemon", seen.daemon * 100, "% of a core"),
            Figure(f"{count:,} symbols: CPU of its host", seen.hosts * 100, "% of a core"),
            Figure(f"{count:,} symbols: CPU per tick, both", 1e6 * (seen.daemon + seen.hosts) / seen.published, "µs"),
            Figure(f"{count:,} symbols: daemon, resident memory", seen.rss, "MiB", 50),
            Figure(f"{count:,} symbols: daemon, growth while watched", seen.grown, "MiB", 1),
            Figure(f"{count:,} symbols: host, resident memory", seen.host_rss, "MiB", 40),
        ]
    return Section("Many symbols", METHOD, tuple(figures))


async def _watched(count: int, seconds: float) -> Watched:
    settings = {
        "SYMBOLS": ",".join(names(count)),
        "BENCH_MANY": str(count),
        "BENCH_MANY_SINCE": str((int(time.time()) - 60) * 1000),
        "TRADING_ENABLED": "false",
    }
    async with rig.backend() as backend:
        with rig.broker() as bootstrap, rig.daemon(bootstrap, settings | {"BACKEND_WS_URL": backend.url}) as daemon:
            bridge = await backend.connected()
            async with asyncio.timeout(rig.START_S):
                while len((await bridge.command("get_status"))["symbols"]) < count:
                    daemon.check()
                    await asyncio.sleep(0.2)
            async with _one_partition(bootstrap) as reader:
                await rig.tick_ages(reader, max(2.0, seconds / 3))
                before, began = await bridge.command("get_status"), time.perf_counter()
                cpu, rss = _cpu(daemon), rig.rss_mib(daemon.pid)
                ages, since_tick = await rig.tick_ages(reader, seconds)
                took = time.perf_counter() - began
                used, after = _cpu(daemon), await bridge.command("get_status")
                missed, published = (_counted(after, what) - _counted(before, what) for what in COUNTERS)
                end = rig.rss_mib(daemon.pid)
                return Watched(
                    (used[0] - cpu[0]) / took,
                    (used[1] - cpu[1]) / took,
                    ages,
                    since_tick,
                    missed,
                    published / took,
                    end,
                    end - rss,
                    max(rig.rss_mib(pid) for pid in daemon.hosts()),
                )


def _counted(status: dict[str, Any], what: str) -> int:
    return int(status["counters"][what])


def _cpu(daemon: rig.Daemon) -> tuple[float, float]:
    return rig.cpu_seconds([daemon.pid]), rig.cpu_seconds(daemon.hosts())


@asynccontextmanager
async def _one_partition(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=2)
    await reader.start()
    try:
        partition = TopicPartition("tick_data", 0)
        reader.assign([partition])
        await reader.seek_to_end(partition)
        yield reader
    finally:
        await reader.stop()

"""What the daemon costs the trading PC, how fast it starts, and how old a tick is when the broker has it."""

import asyncio
import time

from benchmarks import rig
from benchmarks.figures import Figure, Section, percentile

HZ = 10
METHOD = """\
A daemon in hybrid mode on the paper terminal, eight symbols at ten ticks a second each, connected to the embedded
broker and to a backend, measured by psutil from outside after it has settled; no trading. The start runs from
launching the interpreter to the first tick in a consumer's hands. The tick's age runs from the poll that saw it
(the envelope's time) to a consumer's hands, which is after the broker's acknowledgement could be sent; it has the
envelope's resolution, 1 ms."""


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 settles for 10 s and watches for 60 s."""
    async with rig.backend() as backend:
        settings = {"BACKEND_WS_URL": backend.url}
        with rig.broker() as bootstrap:
            async with rig.consumer(bootstrap, "tick_data", wait_ms=2) as reader:
                await rig.assigned(reader)
                with rig.daemon(bootstrap, settings, ticks_per_s=HZ * len(rig.SYMBOLS)) as daemon:
                    async with asyncio.timeout(rig.START_S):
                        await reader.getone()
                    start = time.perf_counter() - daemon.started
                    await rig.tick_ages(reader, max(3.0, 10 * scale))
                    pids = [daemon.pid, *daemon.hosts()]
                    cpu, began = rig.cpu_seconds(pids), time.perf_counter()
                    before = rig.rss_mib(daemon.pid)
                    seen, _ = await rig.tick_ages(reader, max(5.0, 60 * scale))
                    busy = (rig.cpu_seconds(pids) - cpu) / (time.perf_counter() - began)
                    after = rig.rss_mib(daemon.pid)
                    host = max(rig.rss_mib(pid) for pid in daemon.hosts())
    return Section(
        "Footprint and tick age",
        METHOD,
        (
            Figure("start → first tick at a consumer", start, "s", 1.5),
            Figure("tick age at the consumer, p50", percentile(seen, 50), "ms"),
            Figure("tick age at the consumer, p99", percentile(seen, 99), "ms", 15),
            Figure("ticks measured", len(seen), "ticks"),
            Figure("daemon, resident memory", after, "MiB", 50),
            Figure("daemon, growth while watched", after - before, "MiB"),
            Figure("terminal host, resident memory", host, "MiB", 40),
            Figure("CPU of daemon and host", busy * 100, "% of a core", 2),
        ),
    )

"""From a signal at the broker to `order_send`, with the intent durable in between."""

import asyncio
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from benchmarks import rig
from benchmarks.figures import Figure, Section, percentile
from benchmarks.sender import SignalSender

RATE = 100
AT_ONCE = 50
"""Signals of the flood in one request, as a producer would batch them."""
RAM_DISK = Path("/dev/shm")  # noqa: S108 - a fresh folder is made in it
METHOD = """\
A daemon on the paper terminal and the embedded broker; BUY and CLOSE by turns on eight symbols, each executed. The
latency runs from the moment the signal's bytes are handed to the broker's socket to the moment `order_send` is called
in the terminal host, both on this machine's clock: the broker's own work is in it, and the up to 2 ms for which the
embedded broker holds a record back from a fetch that came before it. The sustained rate is that of final results on
`mt5_events` when signals come as fast as they are taken. Two syncs stand in every order's way (intent before, result
after), so the same is measured on a RAM disk to tell the bridge's share from the disk's. And with two brokers that hand
a record on as it comes, as Redpanda does: kfake, an imitation in Go that takes next to nothing of the cores, where
there is Go; and one node of Apache Kafka, where the tests' kit has it, whose Java takes more of them than the bridge
(it is measured behind a first flood, when it has compiled what it needs)."""


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is 2,000 signals at 100/s and 5,000 at full rate, on each kind of disk and broker."""
    with rig.broker() as b:
        figures = await _measure(scale, b, None, "on this disk")
    if RAM_DISK.is_dir():  # noqa: ASYNC240 - nothing runs in this loop yet
        with rig.broker() as b:
            figures += await _measure(scale, b, RAM_DISK, "on a RAM disk")
    if scale >= 1:  # made anew each time
        with rig.kfake() as fake:
            if fake is not None:
                figures += await _measure(scale, fake, None, "on this disk, kfake")
    with rig.apache_kafka() as kafka:
        if kafka is not None:
            figures += await _measure(scale, kafka, None, "on this disk, Apache Kafka", warmth=int(5_000 * scale))
    return Section("Signal → order_send", METHOD, (Figure("fsync of this disk, p50", _fsync_ms(), "ms"), *figures))


async def _measure(scale: float, b: str, folder: Path | None, where: str, *, warmth: int = 0) -> list[Figure]:
    """Paced signals, then a flood.

    Args:
        scale: of both.
        b: the broker.
        folder: where the journal is; None: where temporary files go.
        where: how the figures are called.
        warmth: signals of a flood before it all.
    """
    with rig.daemon(b, folder=folder) as daemon, rig.signal_sender(b) as sender:
        async with rig.consumer(b, "mt5_events") as results:
            await ready(sender, results)
            await flood(sender, results, "warm", warmth)
            waits = await paced(daemon, sender, results, "paced", max(100, int(2000 * scale)))
            executed = await flood(sender, results, "flood", max(400, int(5_000 * scale)))
    return [
        Figure(f"p50 at 100 signals/s, {where}", percentile(waits, 50), "ms", 3),
        Figure(f"p99 at 100 signals/s, {where}", percentile(waits, 99), "ms", 10),
        Figure("signals measured", len(waits), "signals"),
        Figure(f"sustained, executed, {where}", executed, "signals/s", 1000, at_least=True),
    ]


async def paced(
    daemon: rig.Daemon, sender: SignalSender, results: AIOKafkaConsumer, label: str, count: int
) -> list[float]:
    """Send so many signals at `RATE`; of each that was filled, the ms from the broker's socket to `order_send`."""
    sent = await _send(sender, label, count, RATE)
    done = await _collect(results, set(sent))
    called = daemon.notes()
    return [
        (called[result["magic"]] - sent[name]) / 1e6
        for name, result in done.items()
        if result["status"] == "filled" and result.get("magic") in called
    ]


async def flood(sender: SignalSender, results: AIOKafkaConsumer, label: str, count: int) -> float:
    """Send so many signals as fast as the broker takes them; how many were executed a second."""
    signals = [_signal(label, number) for number in range(count)]
    began = time.perf_counter()
    for start in range(0, len(signals), AT_ONCE):
        sender.send_all([(value, key) for _, value, key in signals[start : start + AT_ONCE]])
    answered = await _collect(results, {name for name, *_ in signals})
    executed = sum(result["status"] in ("filled", "closed") for result in answered.values())
    return executed / (time.perf_counter() - began)


def _fsync_ms() -> float:
    """What making one page durable costs here, without any of the bridge."""
    waits: list[float] = []
    with tempfile.TemporaryFile(prefix="mt5-bench-") as file:
        for _ in range(100):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            waits.append((time.perf_counter() - began) * 1000)
    return percentile(waits, 50)


async def ready(sender: SignalSender, results: AIOKafkaConsumer) -> None:
    """Until signals are executed: the daemon has started, reconciled, and every symbol has a quote."""
    async with asyncio.timeout(rig.START_S):
        for attempt in range(1000):
            names = {f"ready-{attempt}-{symbol}": symbol for symbol in rig.SYMBOLS}
            for name, symbol in names.items():
                sender.send(rig.signal(name, symbol, "CLOSE"), symbol)
            # What was sent long before the first start is passed over in silence.
            done = await _collect(results, set(names), 2.0)
            if len(done) == len(names) and all(r["reason"] in (None, "not_found") for r in done.values()):
                return


async def _send(sender: SignalSender, label: str, count: int, rate: int) -> dict[str, int]:
    """Send signals at a pace; when each left, by its id."""
    left: dict[str, int] = {}
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        name, value, key = _signal(label, number)
        left[name] = sender.send(value, key)
    return left


def _signal(label: str, number: int) -> tuple[str, bytes, str]:
    """Id, value and key: BUY and CLOSE by turns on every symbol."""
    symbol = rig.SYMBOLS[number % len(rig.SYMBOLS)]
    buy = number // len(rig.SYMBOLS) % 2 == 0
    name = f"{label}-{number}"
    more = {"volume": 0.01, "stop_loss": 0.5} if buy else {}
    return name, rig.signal(name, symbol, "BUY" if buy else "CLOSE", **more), symbol


async def _collect(results: AIOKafkaConsumer, names: set[str], seconds: float = 120.0) -> dict[str, dict[str, Any]]:
    """The final results of the signals named: all, or what came within so many seconds."""
    found: dict[str, dict[str, Any]] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _fill(found, results, names)
    return found


async def _fill(found: dict[str, dict[str, Any]], results: AIOKafkaConsumer, names: set[str]) -> None:
    while len(found) < len(names):
        for records in (await results.getmany(timeout_ms=100)).values():
            for record in records:
                message = json.loads(record.value)
                data = message["data"]
                if message["type"] == "order_result" and data["signal_id"] in names and data["status"] != "unknown":
                    found[data["signal_id"]] = data

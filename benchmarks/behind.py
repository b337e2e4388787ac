"""Hours of ticks to catch up, and what live symbols and orders feel of it."""

import asyncio
import json
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from benchmarks import rig
from benchmarks.figures import Figure, Section, percentile
from benchmarks.sender import SignalSender
from benchmarks.terminal.many_symbols import EVERY_MS, names
from mt5_bridge.app.bridge import JOURNAL_FILE
from mt5_bridge.core.intent import magic_for
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal

FAR = 4
HOURS = 10
HZ = 10
SIGNALS_PER_S = 20
MAGIC = 235
METHOD = """\
A daemon comes back after ten hours: four symbols have 360,000 ticks each to catch up, eight others are live at ten
ticks a second each, and 20 signals a second are executed. The same is measured when it has caught up, for as long. Ages
run from the poll that saw a tick to the hands of a consumer (librdkafka's), which reads a partition with live symbols
and far ones; signals from the broker to `order_send`. The rate of the catch-up is that of the far symbols, from the
first tick in that partition to the moment at which those in it are live."""


@dataclass
class Watcher:
    """Reads a partition of the tick topic in a thread: all of them would take the cores from what is measured.

    Attributes:
        watched: how many of the far symbols are in it.
        ages: (UTC s when it came, age in ms) of each live tick.
        caught_up: UTC s at which the last far symbol was live; None before.
    """

    bootstrap: str
    watched: int = 0
    first_far: float | None = None
    caught_up: float | None = None
    ages: list[tuple[float, float]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    _newest: dict[bytes, int] = field(default_factory=dict)

    def run(self) -> None:
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": "behind", "fetch.wait.max.ms": 2, "log_level": 0}
        )
        consumer.assign([TopicPartition("tick_data", self._partition(consumer), OFFSET_BEGINNING)])
        while not self.done.is_set():
            for message in consumer.consume(500, 0.002):
                if message.error() is None:
                    self._take(message.key() or b"", message.timestamp()[1], message.value() or b"")
        consumer.close()

    def _partition(self, consumer: Consumer) -> int:
        """One in which both a symbol far behind and a live one are."""
        while not (count := len(consumer.list_topics("tick_data").topics["tick_data"].partitions)):
            time.sleep(0.1)
        choose, every = DefaultPartitioner(), list(range(count))
        live = {choose(name.encode(), every, every) for name in rig.SYMBOLS}
        far = {name: choose(name.encode(), every, every) for name in names(FAR)}
        place = next(place for place in far.values() if place in live)
        self.watched = sum(found == place for found in far.values())
        return int(place)

    def _take(self, key: bytes, stamp: int, value: bytes) -> None:
        now = time.time()
        if not key.startswith(b"M"):
            polled = datetime.fromisoformat(json.loads(value)["timestamp"]).timestamp()
            self.ages.append((now, (now - polled) * 1000))
            return
        self.first_far = self.first_far or now
        self._newest[key] = stamp
        if (
            self.caught_up is None
            and len(self._newest) == self.watched
            and now * 1000 - min(self._newest.values()) < 2_000
        ):
            self.caught_up = now


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 has ten hours to catch up."""
    hours = max(0.5, HOURS * scale)
    with tempfile.TemporaryDirectory(prefix="mt5-bench-", ignore_cleanup_errors=True) as data:
        since = await _long_ago(Path(data), hours)
        settings = {
            "DATA_DIR": data,
            "SYMBOLS": ",".join((*rig.SYMBOLS, *names(FAR))),
            "BENCH_MANY": str(FAR),
            "BENCH_MANY_SINCE": str(since),
        }
        with rig.broker() as bootstrap, rig.signal_sender(bootstrap) as sender:
            watcher = Watcher(bootstrap)
            thread = threading.Thread(target=watcher.run)
            thread.start()
            try:
                with rig.daemon(bootstrap, settings, ticks_per_s=HZ * len(rig.SYMBOLS)) as daemon:
                    sent, end = await _signals(watcher, sender, daemon)
                    called = daemon.notes()
            finally:
                watcher.done.set()
                thread.join()
    assert watcher.caught_up is not None
    assert watcher.first_far is not None
    waits = [(at, (called[magic] - at * 1e9) / 1e6) for magic, at in sent.items() if magic in called]
    rate = hours * 3_600_000 / EVERY_MS * FAR / (watcher.caught_up - watcher.first_far)
    figures = [Figure("ticks caught up", rate, "ticks/s")]
    for what, start, until in (
        ("while catching up", watcher.first_far, watcher.caught_up),
        ("afterwards", watcher.caught_up + 1, end),
    ):
        ages = [age for at, age in watcher.ages if start < at < until]
        orders = [wait for at, wait in waits if start < at < until]
        figures += [
            Figure(f"live ticks measured {what}", len(ages), "ticks"),
            Figure(f"tick age {what}, p50", percentile(ages, 50), "ms"),
            Figure(f"tick age {what}, p99", percentile(ages, 99), "ms", 100 if until == watcher.caught_up else 15),
            Figure(f"signal → order_send {what}, p50", percentile(orders, 50), "ms"),
            Figure(f"signal → order_send {what}, p99", percentile(orders, 99), "ms"),
        ]
    return Section("Catching up beside live symbols", METHOD, tuple(figures))


async def _long_ago(data: Path, hours: float) -> int:
    """A journal whose cursors of the far symbols are hours old; since when (a whole second, UTC ms)."""
    since = (int(time.time()) - int(hours * 3600)) * 1000
    journal = await Journal.open(data / JOURNAL_FILE)
    moved = [changes.CursorMoved(symbol=name, epoch=0, time_msc=since, count=0) for name in names(FAR)]
    await journal.commit(*moved)
    await journal.close()
    return since


async def _signals(watcher: Watcher, sender: SignalSender, daemon: rig.Daemon) -> tuple[dict[int, float], float]:
    """Send signals until it has caught up and for as long again; when each left (UTC s) by its magic, and the end."""
    sent: dict[int, float] = {}
    end = float("inf")
    async with asyncio.timeout(4 * rig.START_S):
        while not watcher.ages:
            daemon.check()
            await asyncio.sleep(0.05)
        began = time.perf_counter()
        while time.time() < end:
            await asyncio.sleep(max(0.0, began + len(sent) / SIGNALS_PER_S - time.perf_counter()))
            name = f"beside-{len(sent)}"
            symbol = rig.SYMBOLS[len(sent) % len(rig.SYMBOLS)]
            at = sender.send(rig.signal(name, symbol, "BUY", volume=0.01, stop_loss=0.5), symbol)
            sent[magic_for(MAGIC, name, 0)] = at / 1e9
            if watcher.caught_up is not None and watcher.first_far is not None:
                end = watcher.caught_up + 1 + max(4.0, watcher.caught_up - watcher.first_far)
    await asyncio.sleep(1.0)
    return sent, end

"""A bridge with a long memory: a journal of a million signals, and an account of a thousand positions to agree with."""

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from benchmarks import rig, signals
from benchmarks.figures import Figure, Section, percentile
from mt5_bridge.app.bridge import JOURNAL_FILE
from mt5_bridge.core.intent import magic_for
from mt5_bridge.journal import changes, schema
from mt5_bridge.journal.journal import Journal

SIGNALS = 1_000_000
OLD = 100_000
POSITIONS = 1_000
DAY_MS = 24 * 60 * 60 * 1000
KEEP_MS = 30 * DAY_MS
MAGIC = 235
METHOD = """\
A journal is filled with a million settled signals of the last thirty days, half of them executed, and a tenth as many
older ones; a signal has 260 bytes, its result 700. A daemon on the paper terminal starts on it: to its first tick at a
consumer. Then the older ones are forgotten, while somebody commits a change every few ms and waits for it. The file is
bounded when what is forgotten makes room: as many new signals as were forgotten are written behind it. For the
reconciliation a daemon opens a thousand positions, is killed, and started again: from the connected terminal to the
agreement of journal and terminal, by the times in its log."""


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 keeps 1,000,000 signals and 1,000 positions."""
    count, old = int(SIGNALS * scale), int(OLD * scale)
    with tempfile.TemporaryDirectory(prefix="mt5-bench-", ignore_cleanup_errors=True) as name:
        path = Path(name) / JOURNAL_FILE
        now = time.time_ns() // 1_000_000
        _fill(path, "kept", count, now - KEEP_MS + DAY_MS, now)
        figures = [Figure(f"size with {count:,} signals", _mib(path), "MiB")]
        figures.append(Figure("the same per signal", path.stat().st_size / count, "bytes"))
        _fill(path, "old", old, now - 3 * KEEP_MS, now - KEEP_MS - DAY_MS)
        with tempfile.TemporaryDirectory(prefix="mt5-bench-", ignore_cleanup_errors=True) as empty:
            figures.append(Figure("start → first tick, no journal yet", await _start(empty), "s"))
        figures.append(Figure(f"start → first tick, {count + old:,} signals", await _start(name), "s", 1.5))
        figures += await _pruned(path, now, old)
    figures += await _reconciled(max(50, int(POSITIONS * scale)))
    return Section("A long memory", METHOD, tuple(figures))


def _fill(path: Path, prefix: str, count: int, since_msc: int, until_msc: int) -> None:
    """Settled signals, evenly spread over a time, every other one with an intent that was filled."""
    db = schema.open_database(path)
    db.execute("PRAGMA synchronous = OFF")
    result = json.dumps({"type": "order_result", "data": {"filler": "x" * 650}}).encode()
    payload = json.dumps({"type": "trading_signal", "data": {"filler": "y" * 200}}).encode()
    request = json.dumps({"deed": "deal", "filler": "z" * 150}).encode()
    step = (until_msc - since_msc) / max(1, count)
    rows = ((n, f"{prefix}-{n:08}", int(since_msc + n * step)) for n in range(count))
    while batch := list(itertools.islice(rows, 20_000)):
        db.execute("BEGIN")
        db.executemany(
            'INSERT INTO signals (key, signal_id, source, topic, partition, "offset", account, symbol, action, '
            "payload, received_msc, status, reason, event_id, result, settled_msc) VALUES "
            "(?, ?, 'topic', 'trading_signals', 0, ?, '', 'EURUSD', 'BUY', ?, ?, ?, '', ?, ?, ?)",
            [(k, k, n, payload, at, "denied" if n % 2 else "filled", f"e-{k}", result, at + 5) for n, k, at in batch],
        )
        db.executemany(
            "INSERT OR IGNORE INTO intents (magic, key, leg, symbol, action, request, state, opened_msc, moved_msc, "
            'volume, retcode, "order", deal, position) '
            "VALUES (?, ?, 0, 'EURUSD', 'BUY', ?, 'filled', ?, ?, 0.1, 10009, ?, ?, ?)",
            [(magic_for(MAGIC, k, 0), k, request, at, at + 5, n, n, n) for n, k, at in batch if n % 2 == 0],
        )
        db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.close()


async def _start(data: str) -> float:
    with rig.broker() as bootstrap:
        async with rig.consumer(bootstrap, "tick_data", wait_ms=2) as reader:
            await rig.assigned(reader)
            with rig.daemon(bootstrap, {"DATA_DIR": data}) as daemon:
                async with asyncio.timeout(rig.START_S):
                    await reader.getone()
                return time.perf_counter() - daemon.started


async def _pruned(path: Path, now: int, old: int) -> list[Figure]:
    journal = await Journal.open(path)
    waits: list[float] = []
    committing = asyncio.create_task(_commits(journal, waits))
    try:
        began = time.perf_counter()
        gone = await journal.prune(now - KEEP_MS)
        took = time.perf_counter() - began
        again = time.perf_counter()
        await journal.prune(now - KEEP_MS)
        idle = time.perf_counter() - again
    finally:
        committing.cancel()
        await asyncio.wait([committing])
        await journal.close()
    before = _mib(path)
    _fill(path, "new", old, now - DAY_MS, now)
    return [
        Figure("rows forgotten", gone, "rows", old, at_least=True),
        Figure("forgetting them", took, "s"),
        Figure("finding nothing to forget", idle * 1000, "ms"),
        Figure("a commit meanwhile, p99", percentile(waits, 99), "ms", 10),
        Figure("a commit meanwhile, longest", max(waits, default=0.0), "ms", 50),
        Figure("growth by as many new signals as were forgotten", _mib(path) - before, "MiB", max(1.0, before / 20)),
    ]


async def _commits(journal: Journal, waits: list[float]) -> None:
    for number in itertools.count():
        began = time.perf_counter()
        await journal.commit(changes.Memo(name="benchmark", value=b"%d" % number))
        waits.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.003)


async def _reconciled(count: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="mt5-bench-", ignore_cleanup_errors=True) as data:
        settings = {"DATA_DIR": data, "LOG_LEVEL": "INFO"}
        with rig.broker() as bootstrap, rig.signal_sender(bootstrap) as sender:
            async with rig.consumer(bootstrap, "mt5_events") as results:
                with rig.daemon(bootstrap, settings) as daemon:
                    await signals.ready(sender, results)
                    for number in range(count):
                        symbol = rig.SYMBOLS[number % len(rig.SYMBOLS)]
                        value = rig.signal(f"held-{number}", symbol, "BUY", volume=0.01, stop_loss=0.5)
                        sender.send(value, symbol)
                    await _filled(results, count)
                    daemon.process.kill()
                with rig.daemon(bootstrap, settings) as daemon:
                    lives = await _agreement(Path(data), count)
    return [Figure(f"terminal connected → reconciled, {count:,} positions", lives, "s", 1)]


async def _filled(results: AIOKafkaConsumer, count: int) -> None:
    seen = 0
    async with asyncio.timeout(120):
        async for record in results:
            frame = json.loads(record.value)
            if frame["type"] == "order_result" and str(frame["data"]["signal_id"]).startswith("held-"):
                assert frame["data"]["status"] == "filled", frame
                seen += 1
                if seen == count:
                    return


async def _agreement(data: Path, count: int) -> float:
    """Seconds between the two lines of the last life's log, once the second is there."""
    async with asyncio.timeout(rig.START_S):
        while True:
            connected = None
            for event, at, line in _log(data):
                connected = at if event == "terminal_state" and line["state"] == "connected" else connected
                if event == "reconciled" and line["positions"] == count and connected is not None:
                    return (at - connected).total_seconds()
            await asyncio.sleep(0.1)


def _log(data: Path) -> Iterator[tuple[str, datetime, dict[str, Any]]]:
    for text in (data / "mt5_bridge.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        yield line["event"], datetime.fromisoformat(line["time"]), line


def _mib(path: Path) -> float:
    return path.stat().st_size / (1 << 20)

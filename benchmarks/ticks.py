"""Ticks from the terminal to the broker's acknowledgement, beside producers that people use today."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from statistics import median

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Producer as LibrdkafkaProducer

from benchmarks import rig
from benchmarks.figures import Figure, Section

ROUNDS = 3
POLL_S = 0.02
Row = tuple[str, int, int, float, float]
"""Symbol, UTC ms, number within the ms, bid, ask."""

HEADERS: list[tuple[str, str | bytes | None]] = [
    ("schema", b"tick_data/1"),
    ("bridge", b"benchmark"),
    ("account", b"5000001"),
]
METHOD = """\
A daemon starts with a long past of eight symbols still to publish (its terminal's ticks were made beforehand) to
the embedded broker, `acks=all`, idempotent. The rate is counted on the broker: from the first ticks it holds to the
last, by its end offsets, so the start is not in it, and reading, conversion, encoding, publishing, acknowledgement
and the moving of cursors are. CPU time is that of the same span: of the daemon, of its terminal hosts (the history
host reads, converts, encodes and frames), of the broker. The peers, one after the other against the same kind of
broker with the same settings, start from ticks already in memory and send the same records, key, time and headers
included: a plain `aiokafka` producer with `json.dumps` and one `send` per tick, and a raw librdkafka producer
(`confluent-kafka`) with `json.dumps`, and with values made before its clock starts. Rounds of all take turns; the
median of three."""


@dataclass
class Run:
    """One round of one producer."""

    ticks: int
    wall_s: float
    cpu_s: float
    hosts_s: float = 0.0
    broker_s: float = 0.0
    rss_mib: float = 0.0

    @property
    def rate(self) -> float:
        return self.ticks / self.wall_s

    @property
    def core_rate(self) -> float:
        return self.ticks / self.cpu_s


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is 8 times 100,000 ticks a round for the bridge."""
    per_symbol = max(5_000, int(100_000 * scale))
    rounds = ROUNDS if scale >= 1 else 1
    rows = _rows(max(4_000, int(100_000 * scale)))
    turns = [await _turn(per_symbol, rows) for _ in range(rounds)]
    bridge, plain, raw, ready = (_median(runs) for runs in zip(*turns, strict=True))
    return Section(
        "Ticks, terminal → broker ack",
        METHOD,
        (
            Figure("the bridge", bridge.rate, "ticks/s", 300_000, at_least=True),
            Figure("the bridge, per CPU second of the daemon", bridge.core_rate, "ticks/s", 300_000, at_least=True),
            Figure("CPU of the daemon", bridge.cpu_s / bridge.ticks * 1e6, "µs/tick"),
            Figure("CPU of its hosts", bridge.hosts_s / bridge.ticks * 1e6, "µs/tick"),
            Figure("CPU of the broker meanwhile", bridge.broker_s / bridge.ticks * 1e6, "µs/tick"),
            Figure("daemon, most resident memory meanwhile", bridge.rss_mib, "MiB", 50),
            Figure("plain aiokafka + json", plain.rate, "ticks/s"),
            Figure("librdkafka + json", raw.rate, "ticks/s"),
            Figure("librdkafka, values ready", ready.rate, "ticks/s"),
            Figure("the bridge / plain aiokafka + json", bridge.rate / plain.rate, "x", 3, at_least=True),
            Figure("the bridge / librdkafka + json", bridge.rate / raw.rate, "x", 1, at_least=True),
            Figure("the bridge / librdkafka, values ready", bridge.rate / ready.rate, "x", 1, at_least=True),
        ),
    )


async def _turn(per_symbol: int, rows: list[Row]) -> tuple[Run, Run, Run, Run]:
    """One round of each, so that what else the machine does meets them all."""
    bridge = await _bridge(per_symbol)
    with rig.broker() as bootstrap:
        plain = await _aiokafka(bootstrap, rows)
        raw = await asyncio.to_thread(_librdkafka, bootstrap, rows, False)
        return bridge, plain, raw, await asyncio.to_thread(_librdkafka, bootstrap, rows, True)


def _median(runs: Sequence[Run]) -> Run:
    return Run(*(median(figures) for figures in zip(*map(astuple, runs), strict=True)))


async def _bridge(per_symbol: int) -> Run:
    """From the first tick the broker holds to the last, as its end offsets grow."""
    wanted = per_symbol * len(rig.SYMBOLS)
    settings = {
        "BENCH_FLOOD": str(per_symbol),
        "BENCH_FLOOD_END": str(round(time.time() * 1000)),
        "TICK_BACKFILL": "3600",
        "TRADING_ENABLED": "false",
    }
    with rig.broker() as bootstrap, rig.daemon(bootstrap, settings) as daemon:
        async with rig.consumer(bootstrap, "tick_data") as reader, asyncio.timeout(120):
            partitions = [TopicPartition("tick_data", p) for p in await _partitions(reader)]
            first = held = 0
            began, before, rss = 0.0, (0.0, 0.0, 0.0), 0.0
            while held < wanted:
                await asyncio.sleep(POLL_S)
                daemon.check()
                held = sum((await reader.end_offsets(partitions)).values())
                rss = max(rss, rig.rss_mib(daemon.pid))
                if not first and held:
                    first, began, before = held, time.perf_counter(), _used(daemon)
            took = time.perf_counter() - began
            daemons, hosts, brokers = (now - then for now, then in zip(_used(daemon), before, strict=True))
            return Run(wanted - first, took, daemons, hosts, brokers, rss)


def _used(daemon: rig.Daemon) -> tuple[float, float, float]:
    """CPU seconds so far of the daemon, its hosts, the broker."""
    return rig.cpu_seconds([daemon.pid]), rig.cpu_seconds(daemon.hosts()), rig.cpu_seconds(rig.brokers())


async def _partitions(reader: AIOKafkaConsumer) -> set[int]:
    while not (found := reader.partitions_for_topic("tick_data")):
        await asyncio.sleep(0.1)
    return set(found)


def _rows(count: int) -> list[Row]:
    """Ticks in memory, for the peers."""
    start = int(time.time() * 1000) - count
    return [
        (rig.SYMBOLS[n % 8], start + n, 0, round(1.1 + n * 7 % 40 / 1e5, 5), round(1.1 + n * 7 % 40 / 1e5 + 0.00012, 5))
        for n in range(count)
    ]


def _message(row: Row) -> dict[str, object]:
    symbol, time_msc, seq, bid, ask = row
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_msc / 1000)) + f".{time_msc % 1000:03d}Z"
    data = {"symbol": symbol, "bid": bid, "ask": ask, "last": 0.0, "volume": 0.0, "spread": 12, "time": stamp}
    return {
        "type": "tick_data",
        "timestamp": stamp,
        "data": {**data, "time_msc": time_msc, "flags": 6, "seq": seq},
    }


async def _aiokafka(bootstrap: str, rows: list[Row]) -> Run:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait("plain_ticks", b"first")
    wall, cpu = time.perf_counter(), time.process_time()
    acks = []
    for row in rows:
        value = json.dumps(_message(row)).encode()
        key = row[0].encode()
        acks.append(await producer.send("plain_ticks", value, key=key, timestamp_ms=row[1], headers=HEADERS))
    await asyncio.gather(*acks)
    done = Run(len(rows), time.perf_counter() - wall, time.process_time() - cpu)
    await producer.stop()
    return done


def _librdkafka(bootstrap: str, rows: list[Row], ready: bool) -> Run:
    producer = LibrdkafkaProducer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.produce("raw_ticks", b"first")
    producer.flush(10)
    values = [json.dumps(_message(row)).encode() for row in rows] if ready else None
    wall, cpu = time.perf_counter(), time.process_time()
    for index, row in enumerate(rows):
        value = values[index] if values is not None else json.dumps(_message(row)).encode()
        producer.produce("raw_ticks", value, key=row[0], timestamp=row[1], headers=HEADERS)
    producer.flush(60)
    return Run(len(rows), time.perf_counter() - wall, time.process_time() - cpu)

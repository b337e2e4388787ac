"""Producers that people use today, each given the ticks the bridge sends: same records, key, time and headers."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer as LibrdkafkaProducer

from benchmarks import rig

Row = tuple[str, int, int, float, float]
"""Symbol, UTC ms, number within the ms, bid, ask."""

HEADERS: list[tuple[str, bytes]] = [
    ("schema", b"tick_data/1"),
    ("bridge", b"benchmark"),
    ("account", b"5000001"),
]


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


def rows_of(count: int) -> list[Row]:
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


async def aiokafka(bootstrap: str, rows: list[Row]) -> Run:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait("plain_ticks", b"first")
    wall, cpu = time.perf_counter(), time.process_time()
    acks = []
    for row in rows:
        value = json.dumps(_message(row)).encode()
        key = row[0].encode()
        acks.append(await producer.send("plain_ticks", value, key=key, timestamp_ms=row[1], headers=list(HEADERS)))
    await asyncio.gather(*acks)
    done = Run(len(rows), time.perf_counter() - wall, time.process_time() - cpu)
    await producer.stop()
    return done


def librdkafka(bootstrap: str, rows: list[Row], ready: bool) -> Run:
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
        producer.produce("raw_ticks", value, key=row[0], timestamp=row[1], headers=list(HEADERS))
    producer.flush(60)
    return Run(len(rows), time.perf_counter() - wall, time.process_time() - cpu)


async def cryptofeed(bootstrap: str, rows: list[Row]) -> Run | None:
    """cryptofeed's Kafka backend, which waits for each record's acknowledgement; None where it is not installed.

    Its records are its own: key, topic per symbol and JSON by its tables; no headers, no time.
    """
    try:
        from cryptofeed.backends.kafka import TickerKafka
        from cryptofeed.types import Ticker
    except ImportError:
        return None
    backend: Any = TickerKafka(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    backend.start(asyncio.get_running_loop())
    ticks = [Ticker("MT5", symbol, bid, ask, at / 1000, raw=None) for symbol, at, _, bid, ask in rows]
    for symbol in range(8):  # its topics are there before the clock starts
        await backend(ticks[symbol], time.time())
    await backend.queue.join()
    wall, cpu = time.perf_counter(), time.process_time()
    for tick in ticks:
        await backend(tick, time.time())
    await backend.queue.join()
    done = Run(len(rows), time.perf_counter() - wall, time.process_time() - cpu)
    await backend.stop()
    await backend.worker
    return done

"""Ticks from the terminal to the broker's acknowledgement, beside producers that people use today."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer as LibrdkafkaProducer

from benchmarks import rig
from benchmarks.figures import Figure, Section
from benchmarks.flood_terminal import START_S
from mt5_bridge.core.model import Cursor, TickBlock
from mt5_bridge.core.wire import encode_ticks
from mt5_bridge.redpanda import Producer, RedpandaConfig
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.session import MT5SessionManager

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "USDCHF", "NZDUSD", "EURJPY")
ROUNDS = 3
IN_FLIGHT = 16
PER_PARTITION_BYTES = 3_000_000

METHOD = """\
Eight symbols with a long past in a terminal host (its ticks made beforehand) are read through frames, converted to UTC,
encoded as `tick_data` and published to the embedded broker, `acks=all`, idempotent, until every record is acknowledged.
The peers, one after the other against the same broker with the same settings, start from ticks already in memory: a
plain `aiokafka` producer with `json.dumps` and one `send` per tick, and a raw librdkafka producer (`confluent-kafka`)
with `json.dumps`, and with values made before the clock starts. Median of three rounds. The rate on one core counts the
daemon's own CPU seconds; host and broker are other processes."""


@dataclass
class Run:
    """One round of one producer."""

    ticks: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.ticks / self.wall_s

    @property
    def core_rate(self) -> float:
        return self.ticks / self.cpu_s


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is 8 times 50,000 ticks a round for the bridge."""
    per_symbol = max(2000, int(50_000 * scale))
    with rig.broker() as bootstrap:
        bridge = await _rounds(lambda: _bridge(bootstrap, per_symbol))
        blocks, clock_rows = await _read(per_symbol)
        rows = [(symbol, row) for symbol, block in blocks for row in clock_rows(block)]
        rows = rows[: max(4000, len(rows) // 4)]
        plain = await _rounds(lambda: _aiokafka(bootstrap, rows))
        ready = await _rounds(lambda: asyncio.to_thread(_librdkafka, bootstrap, rows, True))
        raw = await _rounds(lambda: asyncio.to_thread(_librdkafka, bootstrap, rows, False))
    return Section(
        "Ticks, terminal → broker ack",
        METHOD,
        (
            Figure("the bridge", bridge.rate, "ticks/s", 300_000, at_least=True),
            Figure("the bridge, per core of the daemon", bridge.core_rate, "ticks/s", 300_000, at_least=True),
            Figure("plain aiokafka + json", plain.rate, "ticks/s"),
            Figure("librdkafka + json", raw.rate, "ticks/s"),
            Figure("librdkafka, values ready", ready.rate, "ticks/s"),
            Figure("the bridge / plain aiokafka + json", bridge.rate / plain.rate, "x", 3, at_least=True),
            Figure("the bridge / librdkafka + json", bridge.rate / raw.rate, "x", 1, at_least=True),
            Figure("the bridge / librdkafka, values ready", bridge.rate / ready.rate, "x", 1, at_least=True),
        ),
    )


async def _rounds(once: Callable[[], Awaitable[Run]]) -> Run:
    runs = [await once() for _ in range(ROUNDS)]
    return Run(runs[0].ticks, median(r.wall_s for r in runs), median(r.cpu_s for r in runs))


def _terminal(per_symbol: int) -> MT5SessionManager:
    return MT5SessionManager(
        TerminalConfig(
            backend="benchmarks.flood_terminal",
            settings={"FLOOD_TICKS": str(per_symbol)},
            server_timezone="UTC",
            python_path=(str(rig.ROOT),),
        )
    )


async def _bridge(bootstrap: str, per_symbol: int) -> Run:
    """The rooms as the daemon joins them: polls on one side, publishes in flight on the other."""
    producer = Producer(RedpandaConfig(bootstrap=bootstrap, client_id="benchmark"))
    async with _terminal(per_symbol) as terminal:
        await producer.start()
        await producer.wait_connected()
        points = {symbol: (await terminal.get_symbol(symbol)).point for symbol in SYMBOLS}
        cursors = {symbol: Cursor(START_S * 1000, 0) for symbol in SYMBOLS}
        await terminal.poll_ticks(cursors, max_ticks=1)
        room = asyncio.Semaphore(IN_FLIGHT)
        sent, wall, cpu = 0, time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as publishes:
            while sent < per_symbol * len(SYMBOLS):
                poll = await terminal.poll_ticks(cursors)
                cursors |= poll.cursors
                for block in poll.blocks:
                    sent += block.count
                    await room.acquire()
                    publishes.create_task(_publish(producer, terminal, block, points[block.symbol], room))
        done = Run(sent, time.perf_counter() - wall, time.process_time() - cpu)
        await producer.stop(5)
    return done


async def _publish(
    producer: Producer, terminal: MT5SessionManager, block: TickBlock, point: float, room: asyncio.Semaphore
) -> None:
    rows = convert.ticks(block, terminal.clock)
    records = encode_ticks(block.symbol, point, rows, now_msc=time.time_ns() // 1_000_000)
    await producer.publish("tick_data", block.symbol.encode(), records, [("schema", b"tick_data/1")])
    room.release()


async def _read(per_symbol: int) -> tuple[list[tuple[str, TickBlock]], Callable[[TickBlock], list[tuple[float, ...]]]]:
    """All ticks into memory, for the peers."""
    found: list[tuple[str, TickBlock]] = []
    async with _terminal(per_symbol) as terminal:
        cursors = {symbol: Cursor(START_S * 1000, 0) for symbol in SYMBOLS}
        while sum(block.count for _, block in found) < per_symbol * len(SYMBOLS):
            poll = await terminal.poll_ticks(cursors)
            cursors |= poll.cursors
            found += [(block.symbol, block) for block in poll.blocks]
        clock = terminal.clock
    return found, lambda block: list(convert.ticks(block, clock))


def _message(symbol: str, row: tuple[float, ...]) -> dict[str, object]:
    time_msc, seq, bid, ask, last, volume, flags = row
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_msc / 1000)) + f".{int(time_msc) % 1000:03d}Z"
    data = {"symbol": symbol, "bid": bid, "ask": ask, "last": last, "volume": volume, "spread": 12, "time": stamp}
    return {
        "type": "tick_data",
        "timestamp": stamp,
        "data": {**data, "time_msc": time_msc, "flags": flags, "seq": seq},
    }


async def _aiokafka(bootstrap: str, rows: list[tuple[str, tuple[float, ...]]]) -> Run:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait("plain_ticks", b"first")
    wall, cpu = time.perf_counter(), time.process_time()
    acks = []
    for symbol, row in rows:
        value = json.dumps(_message(symbol, row)).encode()
        acks.append(await producer.send("plain_ticks", value, key=symbol.encode(), timestamp_ms=int(row[0])))
    await asyncio.gather(*acks)
    done = Run(len(rows), time.perf_counter() - wall, time.process_time() - cpu)
    await producer.stop()
    return done


def _librdkafka(bootstrap: str, rows: list[tuple[str, tuple[float, ...]]], ready: bool) -> Run:
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
    values = [json.dumps(_message(symbol, row)).encode() for symbol, row in rows] if ready else None
    wall, cpu = time.perf_counter(), time.process_time()
    for index, (symbol, row) in enumerate(rows):
        value = values[index] if values is not None else json.dumps(_message(symbol, row)).encode()
        producer.produce("raw_ticks", value, key=symbol, timestamp=int(row[0]))
    producer.flush(60)
    return Run(len(rows), time.perf_counter() - wall, time.process_time() - cpu)

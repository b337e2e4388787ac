"""Ticks from the terminal to the broker's acknowledgement, beside producers that people use today."""

import asyncio
import random
import struct
import time
from collections.abc import Sequence
from dataclasses import astuple
from statistics import median

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import peers, rig
from benchmarks.figures import Figure, Section
from benchmarks.peers import Row, Run
from mt5_bridge.core.model import TICK_RECORD
from mt5_bridge.core.ticks import Label, TickFramer
from mt5_bridge.redpanda.batch import FramedBatch
from mt5_bridge.redpanda.compress import codec

ROUNDS = 3
POLL_S = 0.02
METHOD = """\
A daemon starts with a long past of eight symbols still to publish (its terminal's ticks were made beforehand) to
the embedded broker, `acks=all`, idempotent. The rate is counted on the broker: from the first ticks it holds to the
last, by its end offsets, so the start is not in it, and reading, conversion, encoding, publishing, acknowledgement
and the moving of cursors are. CPU time is that of the same span: of the daemon, of its terminal hosts (the history
host reads, converts, encodes and frames), of the broker. The same with each REDPANDA_COMPRESSION. The peers, one after
the other against the same kind of broker with the same settings, start from ticks already in memory and send the same
records, key, time and headers included: a plain `aiokafka` producer with `json.dumps` and one `send` per tick, and a
raw librdkafka producer (`confluent-kafka`) with `json.dumps`, and with values made before its clock starts; and, where
it is installed (`pip install cryptofeed`), cryptofeed's Kafka backend with records of its own kind. Rounds of all take
turns; the median of three. How small a compressed tick is was measured on batches of a walk's ticks."""
CODECS = ("lz4", "zstd")


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is 8 times 100,000 ticks a round for the bridge."""
    per_symbol = max(5_000, int(100_000 * scale))
    rounds = ROUNDS if scale >= 1 else 1
    rows = peers.rows_of(max(4_000, int(100_000 * scale)))
    turns = [await _turn(per_symbol, rows) for _ in range(rounds)]
    found = {name: _median([turn[name] for turn in turns]) for name in turns[0]}
    bridge = found.pop("the bridge")
    figures = [
        Figure("the bridge", bridge.rate, "ticks/s", 300_000, at_least=True),
        Figure("the bridge, per CPU second of the daemon", bridge.core_rate, "ticks/s", 300_000, at_least=True),
        Figure("CPU of the daemon", bridge.cpu_s / bridge.ticks * 1e6, "µs/tick"),
        Figure("CPU of its hosts", bridge.hosts_s / bridge.ticks * 1e6, "µs/tick"),
        Figure("CPU of the broker meanwhile", bridge.broker_s / bridge.ticks * 1e6, "µs/tick"),
        Figure("daemon, most resident memory meanwhile", bridge.rss_mib, "MiB", 50),
    ]
    for name in CODECS:
        small = found.pop(f"the bridge, {name}")
        figures += [
            Figure(f"the bridge, {name}", small.rate, "ticks/s"),
            Figure(f"CPU of the daemon, {name}", small.cpu_s / small.ticks * 1e6, "µs/tick"),
        ]
    figures += [Figure(f"a tick on the wire, {name}", size, "bytes") for name, size in sizes().items()]
    figures += [Figure(name, peer.rate, "ticks/s") for name, peer in found.items()]
    figures += [
        Figure(f"the bridge / {name}", bridge.rate / peer.rate, "x", 3 if "plain" in name else 1, at_least=True)
        for name, peer in found.items()
    ]
    return Section("Ticks, terminal → broker ack", METHOD, tuple(figures))


async def _turn(per_symbol: int, rows: list[Row]) -> dict[str, Run]:
    """One round of each, so that what else the machine does meets them all."""
    runs = {"the bridge": await _bridge(per_symbol, "none")}
    for name in CODECS:
        runs[f"the bridge, {name}"] = await _bridge(per_symbol, name)
    with rig.broker() as bootstrap:
        runs["plain aiokafka + json"] = await peers.aiokafka(bootstrap, rows)
        runs["librdkafka + json"] = await asyncio.to_thread(peers.librdkafka, bootstrap, rows, False)
        runs["librdkafka, values ready"] = await asyncio.to_thread(peers.librdkafka, bootstrap, rows, True)
        feed = await peers.cryptofeed(bootstrap, rows[: len(rows) // 20])
        return runs if feed is None else runs | {"cryptofeed's Kafka backend": feed}


def sizes() -> dict[str, float]:
    """Bytes of a tick on the wire by codec, in batches of a catch-up."""
    chance, pack = random.Random(1), struct.Struct(TICK_RECORD).pack
    bid, at, data = 1.1, 1_760_000_000_000, []
    for _ in range(1600):
        at += chance.choice((10, 40, 90, 130, 250))
        bid = round(bid + chance.choice((-2, -1, 0, 1, 2)) * 1e-5, 5)
        data.append(pack(at // 1000, bid, round(bid + chance.choice((8, 9, 12)) * 1e-5, 5), 0.0, 0, at, 6, 0.0))
    label = Label("EURUSD", 1e-5, peers.HEADERS)
    framed = list(TickFramer(label, first_seq=0, now_msc=at).frame(b"".join(data), 0))
    return {
        name: sum(len(FramedBatch(batch, codec(name))._build()) for batch in framed) / 1600
        for name in ("none", *CODECS)
    }


def _median(runs: Sequence[Run]) -> Run:
    return Run(*(median(figures) for figures in zip(*map(astuple, runs), strict=True)))


async def _bridge(per_symbol: int, compression: str) -> Run:
    """From the first tick the broker holds to the last, as its end offsets grow."""
    wanted = per_symbol * len(rig.SYMBOLS)
    settings = {
        "BENCH_FLOOD": str(per_symbol),
        "BENCH_FLOOD_END": str(round(time.time() * 1000)),
        "TICK_BACKFILL": "3600",
        "TRADING_ENABLED": "false",
        "REDPANDA_COMPRESSION": compression,
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

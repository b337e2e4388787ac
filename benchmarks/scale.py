"""Ten bridges of ten accounts on one broker: what each costs, and what they cost one another."""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import rig
from benchmarks.figures import Figure, Section, percentile
from benchmarks.sender import SignalSender

BRIDGES, FEW = 10, 2
RATE = 20.0
"""Signals a second over all bridges."""
FOREIGN = 20_000
FOREIGN_RATE = 100.0
TICKS, EVENTS, SIGNALS = "tick_data", "mt5_events", "trading_signals"
_FIRST_LOGIN = 5_000_101
_WATCH_S, _SIGNALS_S = 20.0, 20.0
_LIMIT_S = 180.0
_PAUSE_S = 1.1
_LOGINS = 64
METHOD = """\
Ten daemons with a live terminal host each, accounts of their own, on one embedded broker: eight symbols at ten ticks a
second each, so 800 ticks a second over all, and `SIGNAL_REQUIRE_ACCOUNT=true`. First they are watched while nothing
trades. Then 20 signals a second, BUY and CLOSE by turns, go to the ten accounts by turns, keyed by account; the round
trip runs from the sender's hand to the `order_result` in a consumer's, and each must be answered by its bridge and no
other. Then come signals of accounts that none of them trades: what passing over one costs a bridge is its daemon's CPU
meanwhile, less that of its idle time. The sizes are of the records as they stand on the topics, uncompressed, key and
headers included. Two cores carry all of this, the measuring program too."""


@dataclass
class Fleet:
    """The bridges, by login."""

    daemons: dict[str, rig.Daemon] = field(default_factory=dict)

    def daemon_pids(self) -> list[int]:
        return [daemon.pid for daemon in self.daemons.values()]

    def host_pids(self) -> list[int]:
        return [pid for daemon in self.daemons.values() for pid in daemon.hosts()]


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is ten bridges; below a half there are two."""
    count = BRIDGES if scale >= 0.5 else FEW
    with contextlib.ExitStack() as stack:
        bootstrap = stack.enter_context(rig.broker())
        sender = stack.enter_context(rig.signal_sender(bootstrap))
        async with rig.consumer(bootstrap, TICKS) as ticks, rig.consumer(bootstrap, EVENTS, wait_ms=5) as events:
            await asyncio.gather(rig.assigned(ticks), rig.assigned(events))
            fleet = Fleet()
            for number in range(count):
                login = str(_FIRST_LOGIN + number)
                settings = {"MT5_LOGIN": login, "BRIDGE_ID": f"pc-{login}", "SIGNAL_REQUIRE_ACCOUNT": "true"}
                daemon = rig.daemon(bootstrap, settings, ticks_per_s=10 * len(rig.SYMBOLS))
                fleet.daemons[login] = stack.enter_context(daemon)
            await _ready(fleet, sender, events)
            idle = await _watch(fleet, ticks, _WATCH_S * max(scale, 0.15))
            busy = await _trade(fleet, sender, events, _SIGNALS_S * max(scale, 0.15))
            together = await _pass_over(fleet, sender, max(1_000, int(FOREIGN * scale)), idle.daemon_cores)
            count_apart = max(100, int(FOREIGN * scale / 10))
            apart = await _pass_over(fleet, sender, count_apart, idle.daemon_cores, rate=FOREIGN_RATE)
    bridges = f"{count} bridges"
    return Section(
        "Ten bridges on one broker",
        METHOD,
        (
            Figure(f"ticks of {bridges} at the broker", idle.ticks_per_s, "ticks/s"),
            Figure("a daemon, resident memory, the largest", idle.daemon_mib, "MiB", 50),
            Figure("a host, resident memory, the largest", idle.host_mib, "MiB", 40),
            Figure("CPU of a bridge, daemon and host", idle.bridge_cores * 100, "% of a core"),
            Figure("CPU of the broker", idle.broker_cores * 100, "% of a core"),
            Figure("a tick on its topic", idle.tick_bytes, "bytes"),
            Figure("signals answered by their bridge", busy.answered, "signals", busy.sent, at_least=True),
            Figure("answered twice, or by another", busy.wrong, "signals", 0),
            Figure("signal → result at a consumer, p50", percentile(busy.latencies, 50), "ms"),
            Figure("signal → result at a consumer, p99", percentile(busy.latencies, 99), "ms"),
            Figure("an order_result on its topic", busy.event_bytes, "bytes"),
            Figure("CPU to pass over a signal of others, in a flood", together * 1e6, "µs/signal"),
            Figure(f"the same at {FOREIGN_RATE:g} a second, one by one", apart * 1e6, "µs/signal"),
        ),
    )


async def _ready(fleet: Fleet, sender: SignalSender, events: AIOKafkaConsumer) -> None:
    """Until every bridge has executed a signal."""
    waiting = set(fleet.daemons)
    async with asyncio.timeout(_LIMIT_S):
        attempt = 0
        while waiting:
            attempt += 1
            for login in waiting:
                _send(sender, login, f"ready-{login}-{attempt}", "EURUSD", "BUY", volume=0.01, stop_loss=0.5)
            end = time.monotonic() + 2.0
            while waiting and time.monotonic() < end:
                for daemon in fleet.daemons.values():
                    daemon.check()
                for found in (await events.getmany(timeout_ms=200)).values():
                    for record in found:
                        if b'"filled"' in record.value:
                            waiting.discard(record.key.decode())


def _send(sender: SignalSender, login: str, name: str, symbol: str, action: str, **more: float) -> None:
    sender.send(rig.signal(name, symbol, action, account=login, **more), login)


@dataclass(frozen=True)
class Idle:
    """While nothing trades; CPU in cores."""

    ticks_per_s: float
    daemon_mib: float
    host_mib: float
    daemon_cores: float
    bridge_cores: float
    broker_cores: float
    tick_bytes: float


async def _watch(fleet: Fleet, ticks: AIOKafkaConsumer, seconds: float) -> Idle:
    daemons, hosts, brokers = fleet.daemon_pids(), fleet.host_pids(), rig.brokers()
    places = [TopicPartition(TICKS, number) for number in ticks.partitions_for_topic(TICKS) or ()]
    for place, end in (await ticks.end_offsets(places)).items():
        ticks.seek(place, end)
    before = [rig.cpu_seconds(pids) for pids in (daemons, hosts, brokers)]
    began, count, size = time.perf_counter(), 0, 0
    while (took := time.perf_counter() - began) < seconds:
        for found in (await ticks.getmany(timeout_ms=100)).values():
            count += len(found)
            size += sum(map(_size, found))
    used = [rig.cpu_seconds(pids) - was for pids, was in zip((daemons, hosts, brokers), before, strict=True)]
    return Idle(
        ticks_per_s=count / took,
        daemon_mib=max(map(rig.rss_mib, daemons)),
        host_mib=max(map(rig.rss_mib, hosts)),
        daemon_cores=used[0] / took / len(daemons),
        bridge_cores=(used[0] + used[1]) / took / len(daemons),
        broker_cores=used[2] / took,
        tick_bytes=size / count,
    )


def _size(record: Any) -> int:
    headers = sum(len(name) + len(content) for name, content in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


@dataclass
class Busy:
    """While all trade."""

    sent: int = 0
    answered: int = 0
    wrong: int = 0
    latencies: list[float] = field(default_factory=list)
    event_bytes: float = 0.0


async def _trade(fleet: Fleet, sender: SignalSender, events: AIOKafkaConsumer, seconds: float) -> Busy:
    sent: dict[str, float] = {}
    done = Busy(sent=int(RATE * seconds))

    async def send() -> None:
        logins = list(fleet.daemons)
        began = time.perf_counter()
        for number in range(done.sent):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            login, turn = logins[number % len(logins)], number // len(logins)
            name, symbol = f"{login}-{turn}", rig.SYMBOLS[turn // 2 % len(rig.SYMBOLS)]
            sent[name] = time.perf_counter()
            if turn % 2:
                _send(sender, login, name, symbol, "CLOSE")
            else:
                _send(sender, login, name, symbol, "BUY", volume=0.01, stop_loss=0.5)

    async def receive() -> None:
        seen: set[str] = set()
        size = 0
        while len(seen) < done.sent:
            for found in (await events.getmany(timeout_ms=100)).values():
                now = time.perf_counter()
                for record in found:
                    told = json.loads(record.value)
                    name = told["data"].get("signal_id") if told["type"] == "order_result" else None
                    if name is None or name not in sent:
                        continue
                    size += _size(record)
                    wrong = name in seen or not name.startswith(record.key.decode())
                    done.wrong += wrong
                    if not wrong:
                        seen.add(name)
                        done.latencies.append((now - sent[name]) * 1000)
                        done.answered += told["data"]["status"] in ("filled", "closed")
        done.event_bytes = size / len(seen)

    async with asyncio.timeout(_LIMIT_S), asyncio.TaskGroup() as group:
        group.create_task(send())
        group.create_task(receive())
    return done


async def _pass_over(
    fleet: Fleet, sender: SignalSender, count: int, idle_cores: float, rate: float | None = None
) -> float:
    """CPU seconds of a daemon for a signal that is none of its business.

    Args:
        fleet: the bridges.
        sender: of the signals.
        count: how many.
        idle_cores: what a daemon takes without them.
        rate: signals a second; None: as fast as they can be sent.
    """
    pids = fleet.daemon_pids()
    starts = await asyncio.to_thread(_read_so_far, fleet)
    cpu, began = rig.cpu_seconds(pids), time.perf_counter()
    for number in range(count):
        if rate is not None:
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        _foreign(sender, number)
    async with asyncio.timeout(_LIMIT_S):
        while not _all(await asyncio.to_thread(_read_so_far, fleet), starts, lambda was: was + count):
            await asyncio.sleep(_PAUSE_S)
            for number in range(_LOGINS):  # the last offsets become durable with what comes a second later
                _foreign(sender, number)
    used, took = rig.cpu_seconds(pids) - cpu, time.perf_counter() - began
    return max(0.0, used / len(pids) - idle_cores * took) / count


def _foreign(sender: SignalSender, number: int) -> None:
    login = str(900 + number % _LOGINS)  # over all partitions
    _send(sender, login, f"foreign-{number}", "EURUSD", "BUY", volume=0.01, stop_loss=0.5)


def _all(now: Iterable[int], before: Iterable[int], wanted: Callable[[int], int]) -> bool:
    return all(is_ >= wanted(was) for is_, was in zip(now, before, strict=True))


def _read_so_far(fleet: Fleet) -> list[int]:
    """By bridge, how many records of the signal topic it has behind it."""
    found = []
    for daemon in fleet.daemons.values():
        journal = daemon.folder / "data/journal.db"
        with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            (total,) = db.execute("SELECT SUM(next_offset) FROM offsets WHERE topic = ?", (SIGNALS,)).fetchone()
        found.append(int(total or 0))
    return found

"""Real processes to measure on: broker, daemon and a backend, and a figure or two about any process."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.sender import SignalSender
from mt5_bridge.client import BridgeConnection, Frame

ROOT = Path(__file__).resolve().parents[1]
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "USDCHF", "NZDUSD", "EURJPY")
START_S = 60.0

_UNLIMITED = {
    "TRADING_ENABLED": "true",
    "MAX_DAILY_TRADES": "1000000",
    "MAX_DAILY_LOSS_PCT": "off",
    "MAX_ORDERS_PER_SECOND": "10000",
    "MAX_RISK_PERCENT": "100",
    "SIGNAL_MAX_AGE_MS": "60000",
    "PAPER_BALANCE": "1000000000",
}
"""No rule may stand in the way of what is measured; each is still judged."""


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """The embedded broker in a process of its own; gives its address."""
    with program("-m", "mt5_bridge.demo.broker") as process:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["bootstrap"])


@contextlib.contextmanager
def apache_kafka() -> Iterator[str | None]:
    """One node of real Apache Kafka with the bridge's topics, where the tests' kit has it: its address, or None."""
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from kafka.kit import install
    from support.kafka import KafkaBroker

    if not install.JARS.is_dir():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mt5-bench-") as folder, KafkaBroker(Path(folder)) as node:
        for topic in ("trading_signals", "mt5_events", "tick_data"):
            node.create_topic(topic, partitions=4)
        yield node.bootstrap


@contextlib.contextmanager
def kfake() -> Iterator[str | None]:
    """A broker that takes next to nothing of the cores (`kfake/main.go`), where there is Go: its address, or None."""
    if shutil.which("go") is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mt5-bench-") as folder:
        built = Path(folder) / "kfake"
        made = subprocess.run(["go", "build", "-o", str(built), "."], cwd=ROOT / "benchmarks/kfake", check=False)
        if made.returncode != 0:
            yield None
            return
        with subprocess.Popen([built], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield process.stdout.readline().strip() or None


@contextlib.contextmanager
def program(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, stdout: int = subprocess.PIPE
) -> Iterator["subprocess.Popen[str]"]:
    """A Python program of the project, asked to end (then made to) at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout != subprocess.PIPE else None,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


@dataclass
class Daemon:
    """A running bridge on the benchmark's terminal."""

    process: "subprocess.Popen[str]"
    folder: Path
    started: float

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """A daemon that ended cannot be measured.

        Raises:
            RuntimeError: with the last it said.
        """
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon ended: {self.log_end()}")

    def hosts(self) -> list[int]:
        """Its terminal hosts' process ids."""
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def log_end(self) -> str:
        """The last lines it wrote, for a benchmark that fails."""
        return (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")[-3000:]

    @property
    def hang(self) -> Path:
        """As long as this file exists, the terminal does not answer `positions_get`."""
        return self.folder / "hang"

    def notes(self) -> dict[int, int]:
        """When `order_send` was first called for each magic: UTC ns."""
        found: dict[int, int] = {}
        for line in (self.folder / "notes").read_text().splitlines():
            at, magic, _ = line.split()
            found.setdefault(int(magic), int(at))
        return found


@contextlib.contextmanager
def daemon(
    bootstrap: str,
    settings: Mapping[str, str] | None = None,
    *,
    ticks_per_s: float | None = None,
    folder: Path | None = None,
    root: Path = ROOT,
) -> Iterator[Daemon]:
    """A bridge in hybrid mode in a folder of its own, with `order_send` noted down.

    Args:
        bootstrap: the broker.
        settings: more of the daemon's settings.
        ticks_per_s: a market with so many ticks over all symbols, evenly spread; None: the paper terminal's walks.
        folder: where its own folder is made; None: where temporary files go.
        root: the checkout that it runs from.
    """
    with tempfile.TemporaryDirectory(prefix="mt5-bench-", dir=folder) as name:
        folder = Path(name)
        env = {
            "PYTHONPATH": os.pathsep.join([str(root), str(root / "benchmarks/terminal")]),
            "HOME": str(folder),  # where accounts are locked: two benchmarks may run at once
            "TERMINAL": "mt5",
            "DATA_DIR": str(folder / "data"),
            "BRIDGE_ID": "benchmark",
            "MT5_SERVER_TIMEZONE": "UTC",
            "PAPER_SERVER_OFFSET": "0",
            "REDPANDA_BOOTSTRAP_SERVERS": bootstrap,
            "SYMBOLS": ",".join(SYMBOLS),
            "LOG_LEVEL": "WARNING",
            "BENCH_NOTES": str(folder / "notes"),
            "BENCH_HANG": str(folder / "hang"),
            **_UNLIMITED,
            **(_market(folder, ticks_per_s / len(SYMBOLS)) if ticks_per_s else {}),
            **(settings or {}),
        }
        with (folder / "console.log").open("wb") as console:
            began = time.perf_counter()
            with program(
                "-m", "mt5_bridge", "run", "--mode", "hybrid", env=env, cwd=folder, stdout=console.fileno()
            ) as process:
                yield Daemon(process, folder, began)


def _market(folder: Path, per_symbol: float) -> dict[str, str]:
    """Tick files of half a minute, which the paper terminal repeats."""
    files = []
    start = datetime(2026, 1, 5, 10, tzinfo=UTC)
    for symbol in SYMBOLS:
        price = 110.0 if symbol.endswith("JPY") else 1.1
        tick = 0.001 if symbol.endswith("JPY") else 0.00001
        rows = ["timestamp,bid,ask"]
        for number in range(int(30 * per_symbol)):
            bid = price + tick * (number * 7 % 40)
            at = start + timedelta(seconds=number / per_symbol)
            rows.append(f"{at.isoformat(sep=' ', timespec='microseconds')},{bid:.5f},{bid + 12 * tick:.5f}")
        path = folder / f"{symbol.lower()}-ticks.csv"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        files.append(str(path))
    return {"PAPER_TICKS": ",".join(files)}


@dataclass
class Backend:
    """A backend that one bridge is connected to."""

    url: str = ""
    bridge: BridgeConnection | None = None
    socket: ServerConnection | None = None
    on_frame: Callable[[Frame], None] = field(default=lambda frame: None)

    async def connected(self) -> BridgeConnection:
        """The bridge, once it has said hello."""
        async with asyncio.timeout(START_S):
            while self.bridge is None or self.bridge.hello is None:
                await asyncio.sleep(0.01)
        return self.bridge


@contextlib.asynccontextmanager
async def backend() -> AsyncIterator[Backend]:
    """A WebSocket server on loopback that takes one bridge."""
    side = Backend()

    async def handle(socket: ServerConnection) -> None:
        side.socket, side.bridge = socket, BridgeConnection(socket, lambda frame: side.on_frame(frame))
        await side.bridge.run()

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        side.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"
        yield side


@contextlib.asynccontextmanager
async def consumer(bootstrap: str, topic: str, *, wait_ms: int = 100) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads a topic from its beginning; waits until the topic exists.

    Args:
        bootstrap: the broker.
        topic: its name.
        wait_ms: how late records may come. The embedded broker answers an empty fetch only after this time, and who
            asks 500 times a second takes a good part of a core from what is measured.
    """
    reader = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=wait_ms,
        metadata_max_age_ms=500,
    )
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()


async def assigned(reader: AIOKafkaConsumer) -> None:
    """Until the consumer reads its topic's partitions, which its asking has created on the embedded broker."""
    async with asyncio.timeout(START_S):
        while not reader.assignment():
            await asyncio.sleep(0.05)


_SETTLE_S = 0.5


async def tick_ages(reader: AIOKafkaConsumer, seconds: float) -> tuple[list[float], list[float]]:
    """Age in ms of the ticks received during so many seconds, since their poll and since themselves."""
    polled: list[float] = []
    happened: list[float] = []
    began = time.perf_counter()
    begin, end = began + _SETTLE_S, began + seconds
    while (asked := time.perf_counter()) < end:
        for records in (await reader.getmany(timeout_ms=100)).values():
            if asked < begin:
                continue  # it has lain here while nobody asked: its age would be the measuring program's
            now = time.time() * 1000
            for record in records:
                stamp = json.loads(record.value)["timestamp"]
                polled.append(now - datetime.fromisoformat(stamp).timestamp() * 1000)
                happened.append(now - record.timestamp)
    return polled, happened


@contextlib.contextmanager
def signal_sender(bootstrap: str) -> Iterator[SignalSender]:
    """A sender of signals, as a backend would have one."""
    sender = SignalSender(bootstrap)
    try:
        yield sender
    finally:
        sender.close()


def signal(name: str, symbol: str, action: str, **more: Any) -> bytes:
    """A `trading_signal` as a record's value."""
    data = {"signal_id": name, "symbol": symbol, "action": action, **more}
    return json.dumps({"type": "trading_signal", "data": data}).encode()


def rss_mib(pid: int) -> float:
    """Resident memory of a process in MiB."""
    return float(psutil.Process(pid).memory_info().rss) / (1 << 20)


def brokers() -> list[int]:
    """Process ids of the embedded brokers running."""
    children = psutil.Process().children()
    return [child.pid for child in children if "mt5_bridge.demo.broker" in child.cmdline()]


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes so far."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(float(t.user + t.system) for t in times)

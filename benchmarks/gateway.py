"""The gateway under load: requests, messages, many connections, an order's way, and the ticks beside all that."""

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from benchmarks import rig, signals
from benchmarks.figures import Figure, Section, percentile
from benchmarks.load import Http, Load, Measured, http
from benchmarks.sender import SignalSender

T = TypeVar("T")

TOKEN = "a-token-of-the-benchmark"  # noqa: S105 - of a daemon that lives for a minute
RATE = 1_000
CLOSED = 8
LISTENERS = 64
IDLE = 500
ORDERS_PER_S = 20
SIGNALS_PER_S = 20
PATHS = ("/account", "/positions", "/orders", "/symbols/EURUSD", "/health")
METHOD = f"""\
A daemon in hybrid mode with its gateway: eight symbols at ten ticks a second each, and {SIGNALS_PER_S} signals a second
from the broker executed all the while. The load comes from another process on loopback, which shares the two cores with
daemon, terminal host and broker. Requests (`{"`, `".join(PATHS)}` by turns,
with a token) are due at fixed times, {RATE:,} a second over {CLOSED} connections, and wait from then on, not from when
they could be sent; how many there can be is measured with {CLOSED} connections that ask as soon as they are answered.
{LISTENERS} WebSocket clients subscribe to all ticks; a message's age runs from the poll that saw the tick (its
envelope's time, 1 ms resolution) to the client's hands. Orders go one by one, {ORDERS_PER_S} a second, from the request
`POST /signal` to `order_send` in the terminal host, the intent durable in between. Idle connections are welcomed
WebSocket clients that have subscribed to nothing. The tick's age at a consumer of the topic is measured while nobody
asks the gateway, and beside {RATE:,} requests a second and all the WebSocket clients."""


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is 20 s of each load and 400 orders."""
    seconds = max(2.0, 20 * scale)
    port = _free_port()
    settings = {
        "GATEWAY_ENABLED": "true",
        "GATEWAY_TOKEN": TOKEN,
        "MT5_BRIDGE_PORT": str(port),
        "MAX_CONNECTIONS": str(IDLE + LISTENERS + 10),
        "RATE_LIMIT_REQUESTS": "10000000",
    }
    with contextlib.ExitStack() as stack:
        bootstrap = stack.enter_context(rig.broker())
        daemon = stack.enter_context(rig.daemon(bootstrap, settings, ticks_per_s=10 * len(rig.SYMBOLS)))
        sender = stack.enter_context(rig.signal_sender(bootstrap))
        async with (
            rig.consumer(bootstrap, "mt5_events") as results,
            rig.consumer(bootstrap, "tick_data", wait_ms=2) as ticks,
        ):
            await _listening(daemon, port)
            await signals.ready(sender, results)
            # Before all else: what others left behind would be used again, and not be seen to grow.
            count = IDLE if scale >= 1 else max(20, round(IDLE * scale))
            grown = await _idle(daemon, port, count)
            rest = Load("rest", port, TOKEN, CLOSED, seconds, paths=PATHS)
            paced = Load("rest", port, TOKEN, CLOSED, seconds, rate=RATE, paths=PATHS)
            stream = Load("websocket", port, TOKEN, LISTENERS, seconds, subscribe={"channels": ["ticks"]})
            async with _trading(sender):
                await ticks.seek_to_end()
                (alone, _), idle = await asyncio.gather(rig.tick_ages(ticks, seconds), _cpu(daemon, seconds))
                (most,), _ = await _loaded(rest, beside=_cpu(daemon, seconds))
                (asked,), asking = await _loaded(paced, beside=_cpu(daemon, seconds))
                (heard,), hearing = await _loaded(stream, beside=_cpu(daemon, seconds))
                await ticks.seek_to_end()
                _, (beside, _) = await _loaded(paced, stream, beside=rig.tick_ages(ticks, seconds))
            orders = await _orders(daemon, port, max(20, round(400 * scale)))
            daemon.check()
    cpu = (asking - idle, hearing - idle)
    return Section("The gateway", METHOD, _figures(most, asked, heard, cpu, alone, beside, orders, (count, grown)))


def _figures(
    most: Measured,
    asked: Measured,
    heard: Measured,
    cpu: tuple[float, float],
    alone: list[float],
    beside: list[float],
    orders: list[float],
    idle: tuple[int, float],
) -> tuple[Figure, ...]:
    count, grown = idle
    return (
        Figure("requests answered, as many as there can be", most.count / most.took, "req/s", RATE, at_least=True),
        Figure(f"p50 at {RATE:,} requests/s", percentile(asked.waits, 50), "ms"),
        Figure(f"p99 at {RATE:,} requests/s", percentile(asked.waits, 99), "ms", 10),
        Figure("CPU of the daemon for a request", cpu[0] / asked.count * 1e6, "µs"),
        Figure("requests that failed", most.failed + asked.failed, "requests", 0),
        Figure(f"messages to {LISTENERS} clients", heard.count / heard.took, "msg/s", 5_000, at_least=True),
        Figure("a message's age, p50", percentile(heard.waits, 50), "ms"),
        Figure("a message's age, p99", percentile(heard.waits, 99), "ms", 5),
        Figure("CPU of the daemon for a message", cpu[1] / heard.count * 1e6, "µs"),
        Figure("POST /signal → order_send, p50", percentile(orders, 50), "ms"),
        Figure("POST /signal → order_send, p99", percentile(orders, 99), "ms", 15),
        Figure("orders measured", len(orders), "orders"),
        Figure(f"{count} idle connections, resident memory more", grown, "MiB", 30),
        Figure("tick age at a consumer, p99, gateway idle", percentile(alone, 99), "ms", 15),
        Figure("tick age at a consumer, p99, beside both loads", percentile(beside, 99), "ms", 15),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _listening(daemon: rig.Daemon, port: int) -> None:
    async with asyncio.timeout(rig.START_S):
        while True:
            daemon.check()
            with contextlib.suppress(OSError):
                (await http(port, TOKEN)).close()
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _loading(load: Load) -> AsyncIterator[asyncio.subprocess.Process]:
    """The load's process, once all its connections stand; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", json.dumps(asdict(load)),
        cwd=rig.ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(rig.START_S):
            if not await process.stdout.readline():
                raise RuntimeError("the load could not begin")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _loaded(*loads: Load, beside: Awaitable[T]) -> tuple[list[Measured], T]:
    """What the loads measured, all at once, and what came of something done beside them."""
    async with contextlib.AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_loading(load)) for load in loads]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        found = await beside
        lines = [await process.stdout.readline() for process in processes if process.stdout is not None]
        return [Measured(**json.loads(line)) for line in lines], found


async def _cpu(daemon: rig.Daemon, seconds: float) -> float:
    """CPU seconds of the daemon within so many seconds."""
    before = rig.cpu_seconds([daemon.pid])
    await asyncio.sleep(seconds)
    return rig.cpu_seconds([daemon.pid]) - before


@asynccontextmanager
async def _trading(sender: SignalSender) -> AsyncIterator[None]:
    """Signals by the broker, BUY and CLOSE by turns, as long as the block goes on."""

    async def send() -> None:
        number, began = 0, time.perf_counter()
        while True:
            await asyncio.sleep(max(0.0, began + number / SIGNALS_PER_S - time.perf_counter()))
            symbol, action, more = _turn(number)
            sender.send(rig.signal(f"load-{began}-{number}", symbol, action, **more), symbol)
            number += 1

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _turn(number: int) -> tuple[str, str, dict[str, float]]:
    symbol = rig.SYMBOLS[number % len(rig.SYMBOLS)]
    if number // len(rig.SYMBOLS) % 2 == 0:
        return symbol, "BUY", {"volume": 0.01, "stop_loss": 0.5}
    return symbol, "CLOSE", {}


async def _orders(daemon: rig.Daemon, port: int, count: int) -> list[float]:
    """ms from the request to `order_send`, of those that opened."""
    client = await http(port, TOKEN)
    left: dict[int, int] = {}
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / ORDERS_PER_S - time.perf_counter()))
        sent = time.time_ns()
        result = await _order(client, number)
        if result.get("status") == "filled":
            left[int(result["magic"])] = sent
    client.close()
    called = daemon.notes()
    return [(called[magic] - sent) / 1e6 for magic, sent in left.items() if magic in called]


async def _order(client: Http, number: int) -> dict[str, Any]:
    symbol, action, more = _turn(number)
    body = {"signal_id": f"rest-{number}", "symbol": symbol, "action": action, **more}
    _, answer = await client.request("POST", "/signal", json.dumps(body).encode())
    told: dict[str, Any] = json.loads(answer)
    result: dict[str, Any] = told.get("result", told)
    return result


async def _idle(daemon: rig.Daemon, port: int, count: int) -> float:
    """What so many clients cost, MiB; a few were there before them, who made what all share."""
    async with _loading(Load("websocket", port, TOKEN, 5, 0.0)):
        await asyncio.sleep(1)
    before = rig.rss_mib(daemon.pid)
    async with _loading(Load("websocket", port, TOKEN, count, 0.0)):
        await asyncio.sleep(1)
        return rig.rss_mib(daemon.pid) - before

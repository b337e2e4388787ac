"""What the dashboard's page costs: how soon it is there, and the CPU it takes with 8 symbols at 10 Hz.

python -m benchmarks.dashboard       # needs chromium, and requirements/browser.txt

A server of this program stands in for the gateway and sends what one sends: every symbol's tick ten times a second,
account and positions twice a second, a heartbeat and an order's result every second. The dashboard is the real one, in
a process of its own, the browser Chromium without a GPU: what a graphics card would draw is in the figure.
"""

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from mt5_bridge.core import wire
from mt5_bridge.core.times import iso

SYMBOLS = {"EURUSD": 1.1, "USDJPY": 150.0, "GBPUSD": 1.3, "XAUUSD": 2000.0, "BTCUSD": 60_000.0, "AUDUSD": 0.7,
           "USDCHF": 0.9, "EURJPY": 160.0}  # fmt: skip
HZ = 10
MEASURED_S = 20.0
SETTLED_S = 8.0
LOADS = 5
PRICE = ".quotes tbody .price"
ROOT = Path(__file__).resolve().parents[1]


class Gateway:
    """What the dashboard is connected to."""

    def __init__(self) -> None:
        self.port = 0
        self.ready = threading.Event()

    def run(self) -> None:
        """Serve for ever, in a thread of its own."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with serve(self._serve, "127.0.0.1", 0) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self.ready.set()
            await asyncio.Future()

    async def _serve(self, socket: ServerConnection) -> None:
        telling = asyncio.create_task(self._tell(socket))
        with suppress(ConnectionClosed):
            async for raw in socket:
                asked = json.loads(raw)
                answer = {"command": asked["type"], "success": True, "data": self._answer(asked)}
                if asked.get("request_id"):
                    await _send(socket, "command_result", answer, request_id=asked["request_id"])
        telling.cancel()

    def _answer(self, asked: dict[str, Any]) -> Any:
        if asked["type"] == "get_rates":
            price = SYMBOLS[asked["data"]["symbol"]]
            begin = _now() // 60_000 * 60_000
            return [{"time": iso(begin - 60_000 * n), **_bar(price, n)} for n in range(119, -1, -1)]
        if asked["type"] == "get_status":
            limits = [{"name": "max_daily_trades", "used": 3, "limit": 10, "unit": "trades", "least": False}]
            return {"limits": limits, "counters": {"ticks": _now() // 12}, "tick_age_ms": 5, "status": "ok"}
        return []

    async def _tell(self, socket: ServerConnection) -> None:
        scopes = ["read", "trade", "stop", "admin"]
        welcome = {"bridge_id": "b", "symbols": list(SYMBOLS), "scopes": scopes, "halt": {"state": "active"}}
        await _send(socket, "welcome", welcome)
        turn = 0
        while True:
            began = time.monotonic()
            for name, price in SYMBOLS.items():
                bid = price * (1 + 0.0005 * math.sin(turn / 37 + price) + 0.00002 * (turn % 3))
                await _send(socket, "tick_data", _tick(name, bid))
            if turn % 5 == 0:
                await _send(socket, "account_info", _account(turn))
                await _send(socket, "positions", [_position(n, turn) for n in range(6)])
            if turn % HZ == 0:
                await _send(socket, "heartbeat", {"status": "ok", "channels": {"terminal": "connected"}})
                await _send(socket, "order_result", _result(turn), event_id=f"e-{turn}")
            turn += 1
            await asyncio.sleep(max(0.0, 1 / HZ - (time.monotonic() - began)))


async def _send(socket: ServerConnection, type: str, data: Any, **beside: Any) -> None:
    await socket.send(wire.encode(type, data, now_msc=_now(), **beside), text=True)


def _bar(price: float, n: int) -> dict[str, float]:
    close = price * (1 + 0.0004 * math.sin(n / 9))
    return {"open": close * 0.9999, "high": close * 1.0002, "low": close * 0.9998, "close": close}


def _tick(name: str, bid: float) -> dict[str, Any]:
    digits = 3 if bid > 100 else 5
    ask = round(bid * 1.0001, digits)
    return {"symbol": name, "bid": round(bid, digits), "ask": ask, "spread": 10, "time_msc": _now()}


def _account(turn: int) -> dict[str, Any]:
    equity = 10_000 + 20 * math.sin(turn / 90)
    return {"login": 5, "server": "s", "currency": "USD", "leverage": 100, "balance": 10_000.0, "equity": equity,
            "free_margin": 9_000.0, "margin_level": 900.0, "profit": equity - 10_000}  # fmt: skip


def _position(number: int, turn: int) -> dict[str, Any]:
    symbol, price = list(SYMBOLS.items())[number % 3]
    return {"ticket": number, "symbol": symbol, "type": number % 2, "side": "buy" if number % 2 == 0 else "sell",
            "volume": 0.1, "price_open": price, "price_current": price * (1 + turn % 7 / 1e5), "time_msc": _now(),
            "stop_loss": price * 0.9995, "take_profit": price * 1.0005, "swap": 0.0,
            "profit": turn % 9 - 4.0}  # fmt: skip


def _result(turn: int) -> dict[str, Any]:
    fate = ("filled", "denied", "closed")[turn % 3]
    return {"signal_id": f"s-{turn}", "status": fate, "symbol": "EURUSD", "action": "BUY", "price": 1.1,
            "latency_ms": 5.0 + turn % 11, "done_at": iso(_now())}  # fmt: skip


def _now() -> int:
    return time.time_ns() // 1_000_000


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())


def _loads(page: Page) -> list[float]:
    """Milliseconds from the request of the page to the first price on it."""
    taken = []
    for _ in range(LOADS):
        began = time.perf_counter()
        page.reload(wait_until="commit")
        page.wait_for_selector(PRICE)
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


def _measure(page: Page, dashboard: psutil.Process) -> None:
    loads = _loads(page)
    print(f"page loaded to the first price, median of {LOADS}: {loads[LOADS // 2]:.0f} ms (most: {loads[-1]:.0f})")
    time.sleep(SETTLED_S)
    family = psutil.Process().children(recursive=True)
    kinds = {"renderer": "--type=renderer", "GPU process (software)": "--type=gpu-process"}
    groups = {kind: [p for p in family if mark in p.cmdline()] for kind, mark in kinds.items()}
    groups["dashboard process"] = [dashboard]
    before, began = {kind: _cpu(group) for kind, group in groups.items()}, time.monotonic()
    time.sleep(MEASURED_S)
    for kind, group in groups.items():
        share = (_cpu(group) - before[kind]) / (time.monotonic() - began) * 100
        print(f"CPU of the {kind}, {len(SYMBOLS)} symbols at {HZ} Hz: {share:.1f} % of a core")
    print(f"resident memory of the dashboard process: {dashboard.memory_info().rss / 1e6:.0f} MB")
    print(f"load of the machine meanwhile: {psutil.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def main() -> int:
    """Exit code 1 when there is no chromium; the figures are no test."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("chromium is missing", file=sys.stderr)
        return 1
    gateway = Gateway()
    threading.Thread(target=gateway.run, daemon=True).start()
    gateway.ready.wait()
    place = ["--url", f"ws://127.0.0.1:{gateway.port}/", "--listen", "127.0.0.1:0", "--no-browser", "--until-eof"]
    with tempfile.TemporaryDirectory() as folder:
        dashboard = subprocess.Popen(
            [sys.executable, "-m", "mt5_bridge", "dashboard", *place],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
            env={**os.environ, "DASHBOARD_TOKEN": "t", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert dashboard.stdout is not None
        address = json.loads(dashboard.stdout.readline())["dashboard"]
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1600, "height": 1000})
                page.goto(address)
                page.wait_for_selector(PRICE)
                _measure(page, psutil.Process(dashboard.pid))
                browser.close()
        finally:
            dashboard.kill()
            dashboard.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The emergency stop under load: from the frame on the socket to the latch, the answer and the first order out."""

import asyncio
import time

from benchmarks import rig, signals
from benchmarks.figures import Figure, Section, percentile
from benchmarks.sender import SignalSender
from mt5_bridge.client import BridgeConnection

TICKS_PER_S = 10_000
SIGNALS_PER_S = 200
METHOD = """\
A daemon under 10,000 ticks/s (eight paper symbols, replayed fast) and 200 signals/s (BUY and CLOSE by turns,
executed), all through the embedded broker. Each round waits for an open position, sends `emergency_stop` over the
WebSocket, waits for its end, and resumes. Times run from the moment the backend sends the frame to the moment the
answer is back (so the network both ways is in it), and to the first `order_send` in the terminal host after it."""


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is 100 stops."""
    answers: list[float] = []
    closes: list[float] = []
    slow = 0
    async with rig.backend() as backend:
        # Signals that a slow machine cannot keep up with grow stale instead of piling up before every round.
        settings = {"BACKEND_WS_URL": backend.url, "RESUME_REMOTE": "true", "SIGNAL_MAX_AGE_MS": "1000"}
        with rig.broker() as bootstrap, rig.daemon(bootstrap, settings, ticks_per_s=TICKS_PER_S) as daemon:
            bridge = await backend.connected()
            with rig.signal_sender(bootstrap) as sender:
                async with rig.consumer(bootstrap, "mt5_events") as results:
                    await signals.ready(sender, results)
                load = asyncio.create_task(_load(sender))
                for number in range(max(5, int(100 * scale))):
                    await _position(bridge)
                    sent, began = time.time_ns(), time.perf_counter()
                    await bridge.command("emergency_stop", {"reason": "benchmark", "by": "benchmark"})
                    answers.append((time.perf_counter() - began) * 1000)
                    await _flat(bridge)
                    first = min((at for at in daemon.notes().values() if at > sent), default=None)
                    if first is None:
                        slow += 1
                    else:
                        closes.append((first - sent) / 1e6)
                    await bridge.command(
                        "resume_trading", {"reason": f"round {number}", "by": "benchmark", "force": True}
                    )
                load.cancel()
                await asyncio.wait([load])
    return Section(
        "Emergency stop under load",
        METHOD,
        (
            Figure("frame → answer, p50", percentile(answers, 50), "ms"),
            Figure("frame → answer, p99", percentile(answers, 99), "ms", 10),
            Figure("frame → first order out, p50", percentile(closes, 50), "ms"),
            Figure("frame → first order out, p99", percentile(closes, 99), "ms", 10),
            Figure("stops measured", len(closes), "stops"),
            Figure("stops that found nothing to close", slow, "stops"),
        ),
    )


async def _load(sender: SignalSender) -> None:
    number, began = 0, time.perf_counter()
    while True:
        await asyncio.sleep(max(0.0, began + number / SIGNALS_PER_S - time.perf_counter()))
        symbol = rig.SYMBOLS[number % len(rig.SYMBOLS)]
        buy = number // len(rig.SYMBOLS) % 2 == 0
        more = {"volume": 0.01, "stop_loss": 0.5} if buy else {}
        sender.send(rig.signal(f"load-{began}-{number}", symbol, "BUY" if buy else "CLOSE", **more), symbol)
        number += 1


async def _position(bridge: BridgeConnection) -> None:
    async with asyncio.timeout(30):
        while not await bridge.command("get_positions"):
            await asyncio.sleep(0.02)


async def _flat(bridge: BridgeConnection) -> None:
    async with asyncio.timeout(40):
        while await bridge.command("get_positions"):
            await asyncio.sleep(0.05)

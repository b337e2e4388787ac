"""The event loop while a call of the terminal hangs, seen from outside: how long a ping waits for its pong."""

import asyncio
import time

from benchmarks import rig
from benchmarks.figures import Figure, Section, percentile

PAUSE_S = 0.005
METHOD = """\
The backend pings the daemon 200 times a second over the WebSocket, which the daemon's event loop answers: first in
peace, then while `positions_get` does not return in the terminal host. No pong may wait longer than the loop may
stall."""


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 pings for 10 s each."""
    seconds = max(2.0, 10 * scale)
    async with rig.backend() as backend:
        with rig.broker() as bootstrap, rig.daemon(bootstrap, {"BACKEND_WS_URL": backend.url}) as daemon:
            await backend.connected()
            await asyncio.sleep(1)
            peace = await _pings(backend, seconds)
            daemon.hang.touch()
            hung = await _pings(backend, seconds)
            daemon.hang.unlink()
    return Section(
        "Event loop while the terminal hangs",
        METHOD,
        (
            Figure("longest pong in peace", max(peace), "ms"),
            Figure("longest pong while a call hangs", max(hung), "ms", 50),
            Figure("p99 while a call hangs", percentile(hung, 99), "ms"),
        ),
    )


async def _pings(backend: "rig.Backend", seconds: float) -> list[float]:
    assert backend.socket is not None
    waits: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        waits.append(1000 * await (await backend.socket.ping()))
        await asyncio.sleep(PAUSE_S)
    return waits

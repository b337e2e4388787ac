"""The plan of a run: what happens to a bridge in its lives, drawn from the seed, and the calm at the end."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.simulation.backend import Backend
from support.simulation.broker import MAX_AGE_MS, Broker
from support.simulation.disk import JOURNAL
from support.simulation.happenings import Happenings
from support.simulation.life import Life
from support.simulation.oracle import Oracle
from support.simulation.signals import SKEW_MS, SYMBOLS
from support.simulation.traffic import Traffic
from support.simulation.weather import Weather
from support.simulation.world import World, spread

from mt5_bridge.core.model import PAPER_LOGIN

_CALM_S = 20.0
_CALM_MOST_S = 400.0


@dataclass(frozen=True)
class Focus:
    """What a run is to be about.

    Attributes:
        course: what happens more often than usual, or never.
        roomy: limits are wide.
    """

    course: Mapping[str, float]
    roomy: bool = False


class Run:
    """The plan of one run, drawn from its seed."""

    def __init__(self, world: World, folder: Path, focus: Focus | None) -> None:
        self.world, self.folder, self.focus = world, folder, focus
        self.random = random = world.random("plan")
        self.weather = Weather(world)
        self.broker = Broker(world, self.weather)
        self.limits: dict[str, int | None] = {
            "max_simultaneous_trades": random.choice((1, 2, 5, 20)),
            "max_positions_per_symbol": random.choice((None, None, 1, 2)),
            "max_daily_trades": random.choice((5, 60, 200)),
        }
        self.throttle_latch = random.choice((5, 20))
        if focus is not None and focus.roomy:
            self.limits |= {"max_simultaneous_trades": 20, "max_positions_per_symbol": None, "max_daily_trades": 200}
            self.throttle_latch = 5
        self.oracle = Oracle(world, self.broker, self.limits, self.throttle_latch)
        self.broker.on_taken = self.oracle.taken
        self.backend = Backend(world, self.weather, self.oracle.heard, self.oracle.handed)
        self.hmac_key = random.choice((None, None, "key"))
        self.traffic = self.oracle.traffic = Traffic(
            world,
            self.broker,
            self.backend,
            hmac_key=self.hmac_key,
            login=PAPER_LOGIN,
        )
        self.netting = random.random() < 0.2
        self.env = self._settings()
        self.life: Life
        self.lives = 0
        self.gap_s = spread(random, 0.2, 3.0)
        course = {} if focus is None else focus.course
        self.happenings = Happenings(world, self.weather, self.traffic, self.oracle.halts, folder, course)

    def _settings(self) -> dict[str, str]:
        random = self.random
        env = {
            "TERMINAL": "paper",
            "TRADING_ENABLED": "true",
            "BRIDGE_ID": "simulated",
            "SYMBOLS": ",".join(SYMBOLS),
            "BACKEND_WS_URL": "ws://backend.simulated/bridge",
            "TICK_HZ": random.choice(("0.5", "1")),
            "MT5_HISTORY_HOST": random.choice(("true", "false")),
            "ACCOUNT_INTERVAL": "20",
            "HEARTBEAT_INTERVAL": "20",
            "SIGNAL_MAX_AGE_MS": str(MAX_AGE_MS),
            "CLOCK_SKEW_MS": str(SKEW_MS),
            "MAX_DAILY_LOSS_PCT": random.choice(("1", "5", "50")),
            "MAX_ORDERS_PER_SECOND": random.choice(("1", "2", "5")),
            "THROTTLE_LATCH": str(self.throttle_latch),
            "PAPER_SEED": str(self.world.seed),
            "PAPER_SPEED": random.choice(("0.1", "0.3")),
            "PAPER_MARGIN_MODE": "netting" if self.netting else "hedging",
        }
        if self.hmac_key is not None:
            env["SIGNAL_HMAC_KEY"] = self.hmac_key
        for name, value in self.limits.items():
            if value is not None:
                env[name.upper()] = str(value)
        return env

    # --- the course of things

    async def whole(self) -> None:
        """All lives, the calm, the verdict."""
        lives = self.random.choice((1, 1, 2, 2, 3, 4))
        for number in range(lives):
            await self._begin()
            if not await self._live(spread(self.random, 20.0, 120.0)):
                return
            if number + 1 < lives:
                await (self._stop if self.random.random() < 0.2 else self._kill)()
                if not await self.world.sleep(spread(self.random, 0.5, 1800.0)):
                    return
        if self.random.random() < 0.5 or self.focus:
            self.happenings.last_stop()
            if not await self.world.sleep(self.random.uniform(1.0, 4.0)):
                return
        await self._calm()

    async def _begin(self) -> None:
        self.lives += 1
        self.life = Life(self.world, self.weather, self.oracle, self.folder, self.env, self.oracle.journal_written)
        self.life.begin()
        self._await_opening(self.life)

    def _await_opening(self, life: Life) -> None:
        """The judges must see it before it can trade."""
        if life.bridge.opened:
            self.oracle.life_begins(life.bridge)
        elif life.disk.alive:
            self.world.after(0.002, self._await_opening, life)

    async def _open(self) -> bool:
        """Wait until the bridge's rooms are open."""
        while self.oracle.halts.bridge is None:
            if not await self.world.sleep(0.02):
                return False
        return True

    async def _live(self, seconds: float) -> bool:
        """One life until its end; whether all promises held."""
        until = self.world.monotonic() + seconds
        if self.random.random() < 0.1:
            return await self.world.sleep(spread(self.random, 0.001, 0.5))  # it dies while it opens
        if not await self._open():
            return False
        while self.world.monotonic() < until:
            if not await self.world.sleep(self.random.expovariate(1 / self.gap_s)):
                return False
            await self.happenings.something()
        return not self.world.broken.done()

    async def _kill(self) -> None:
        await self.life.kill()
        self.backend.hang_up("killed")
        self.oracle.restarted()

    async def _stop(self) -> None:
        await self.life.stop()
        self.backend.hang_up("stopped")
        self.oracle.restarted()

    # --- the end

    async def _calm(self) -> None:
        """Nothing goes wrong any more: everything must come to rest, and all of it be accounted for."""
        self.weather.calm = True
        if not await self._open():
            return
        if not self.broker.up:
            self.broker._come_up()
        self.backend.up = True
        if self.backend.socket is not None and self.backend.socket.silent:
            self.backend.hang_up("calm")
        if not await self.world.sleep(_CALM_S):
            return
        waited = _CALM_S
        while waited < _CALM_MOST_S and not self._at_rest():
            waited += 10.0
            if not await self.world.sleep(10.0):
                return
        with _looking_at(self.folder) as db:
            self.oracle.verdict(db)
        if not self.world.broken.done():
            await self.life.stop()

    def _at_rest(self) -> bool:
        """Nothing is under way any more, and the terminal's ticks are read to their end."""
        flows = self.life.bridge.flows
        busy = flows.desk._tasks or flows.desk.unresolved or flows.trader.lanes._lanes or flows.emergency.unfinished
        return not busy and flows.book.reconciled.is_set() and self.oracle.tape.is_fresh()


@contextmanager
def _looking_at(folder: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"file:{folder / JOURNAL}?mode=ro", uri=True)
    try:
        yield db
    finally:
        db.close()

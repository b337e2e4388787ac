"""The plan of a run: what happens to a bridge in its lives, drawn from the seed, and the calm at the end."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from support.simulation.backend import Backend
from support.simulation.books import close_by_hand
from support.simulation.broker import MAX_AGE_MS, Broker
from support.simulation.disk import JOURNAL
from support.simulation.life import Life
from support.simulation.oracle import Oracle
from support.simulation.signals import SKEW_MS, SYMBOLS
from support.simulation.traffic import Traffic
from support.simulation.weather import Weather
from support.simulation.world import World, spread

from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.model import PAPER_LOGIN
from mt5_bridge.flows.control import Refusal
from mt5_bridge.flows.watch import STOP_FILE

_CALM_S = 20.0
_CALM_MOST_S = 400.0


class Run:
    """The plan of one run, drawn from its seed."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.random = random = world.random("plan")
        self.weather = Weather(world)
        self.broker = Broker(world, self.weather)
        self.limits: dict[str, int | None] = {
            "max_simultaneous_trades": random.choice((1, 2, 3, 5)),
            "max_positions_per_symbol": random.choice((None, 1, 2)),
            "max_daily_trades": random.choice((5, 20, 60, 200)),
        }
        self.throttle_latch = random.choice((5, 20))
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
        self._resume_at = float("inf")
        self._things = self._what_may_happen()

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
            if not await self._live(spread(self.random, 30.0, 200.0)):
                return
            if number + 1 < lives:
                await (self._stop if self.random.random() < 0.2 else self._kill)()
                if not await self.world.sleep(spread(self.random, 0.5, 1800.0)):
                    return
        if self.random.random() < 0.5:
            self._last_stop()
            if not await self.world.sleep(self.random.uniform(0.1, 2.0)):
                return
        await self._calm()

    async def _begin(self) -> None:
        self.lives += 1
        self.life = Life(self.world, self.weather, self.oracle, self.folder, self.env, self.oracle.journal_written)
        self.life.begin()

    async def _open(self) -> bool:
        """Wait until the bridge's rooms are open."""
        while not self.life.bridge.opened:
            if not await self.world.sleep(0.02):
                return False
        if self.oracle.halts.bridge is None:
            self.oracle.halts.life_begins(self.life.bridge)
        return True

    async def _live(self, seconds: float) -> bool:
        """One life until its end; whether all promises held."""
        until = self.world.monotonic() + seconds
        if self.random.random() < 0.1:
            await self.world.sleep(spread(self.random, 0.001, 0.5))
            return not self.world.broken.done()  # it dies while it opens
        if not await self._open():
            return False
        while self.world.monotonic() < until:
            if not await self.world.sleep(self.random.expovariate(1 / self.gap_s)):
                return False
            await self._something()
        return not self.world.broken.done()

    async def _kill(self) -> None:
        await self.life.kill()
        self.backend.hang_up("killed")
        self.oracle.restarted()

    async def _stop(self) -> None:
        await self.life.stop()
        self.backend.hang_up("stopped")
        self.oracle.restarted()

    async def _something(self) -> None:
        """One more thing happens."""
        if self.world.monotonic() > self._resume_at:
            await self._resume()
        what = self.random.choices(list(_COURSE), list(_COURSE.values()))[0]
        if what == "resume":
            await self._resume()
        else:
            self._things[what]()

    def _what_may_happen(self) -> dict[str, Callable[[], None]]:
        return {
            "signal": self.traffic.signal,
            "burst": self.traffic.burst,
            "command": self.traffic.command,
            "stop": self._stops,
            "rush": self._rush,
            "storm": lambda: self._blow("storm", 2.0, 30.0),
            "slow_disk": lambda: self._blow("slow", 1.0, 20.0),
            "full_disk": lambda: self._blow("full", 0.5, 20.0, only_with="full"),
            "deaf": lambda: self._blow("deaf", 0.5, 8.0, only_with="faults"),
            "broker": self._broker_down,
            "retention": self._retention,
            "backend": self._backend_trouble,
            "by_hand": partial(close_by_hand, self.world, self.random),
            "sleep": self._sleep,
        }

    def _blow(self, what: str, least: float, most: float, *, only_with: str = "") -> None:
        if not only_with or self.weather.level[only_with]:
            self.weather.blow(what, spread(self.random, least, most))

    def _rush(self) -> None:
        """Signals, and a stop right behind them."""
        self.traffic.burst()
        self.world.after(self.random.uniform(0.0, 0.08), self._stops)

    def _last_stop(self) -> None:
        """A stop that nobody lifts any more, in the middle of everything."""
        self._blow("storm", 0.5, 2.0)
        self._rush()

    def _broker_down(self) -> None:
        if self.weather.level["broker"]:
            self.broker.go_down(spread(self.random, 0.5, 40.0))

    def _retention(self) -> None:
        if self.weather.level["broker"]:
            self.broker.forget(self.random.choice(list(self.broker.signals)))

    def _backend_trouble(self) -> None:
        if self.weather.level["backend"]:
            hang_up = partial(self.backend.hang_up, "drops")
            self.random.choice((hang_up, self.backend.fall_silent, self._backend_down))()

    def _sleep(self) -> None:
        """The PC sleeps: time leaps."""
        self.world.loop.now += spread(self.random, 1.0, 900.0)

    def _stops(self) -> None:
        """Somebody stops everything, and somebody will want to go on."""
        random = self.random
        if random.random() < 0.2:
            self.world.note("stop_file")
            (self.folder / STOP_FILE).touch()
            self.oracle.halts.file_made()
        else:
            self.traffic.stop()
        if random.random() < 0.5:
            self._blow("deaf", 1.0, 8.0, only_with="faults")
        self._resume_at = self.world.monotonic() + spread(random, 1.0, 20.0)

    def _backend_down(self) -> None:
        self.backend.go_down(spread(self.random, 1.0, 60.0))

    async def _resume(self) -> None:
        """A person lifts the latch: from the backend or, what was stopped here, from this PC."""
        halts = self.oracle.halts
        if halts.bridge is None or halts.state is HaltState.ACTIVE:
            self._resume_at = float("inf")
            return
        if self.random.random() < 0.5:
            self.traffic.resume()
            return
        asked = {"reason": "simulated", "by": "person", "force": self.random.random() < 0.3}
        self.world.note("local_resume", asked)
        task = asyncio.create_task(self._local_resume(asked), name="person")
        either: set[asyncio.Future[Any]] = {task, self.world.broken}
        await asyncio.wait(either, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()

    async def _local_resume(self, asked: dict[str, Any]) -> None:
        word = object()
        self.oracle.halts.resume_given(word)
        try:
            await self.life.bridge.local._do_resume(asked)
        except Refusal as refusal:
            self.world.note("refused", refusal.code)
            self.oracle.halts.resume_refused(word)

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
        bridge = self.life.bridge
        busy = bridge.desk._tasks or bridge.desk.unresolved or bridge.trader.lanes._lanes or bridge.emergency.unfinished
        return not busy and bridge.book.reconciled.is_set() and self.oracle.tape.is_fresh()


@contextmanager
def _looking_at(folder: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"file:{folder / JOURNAL}?mode=ro", uri=True)
    try:
        yield db
    finally:
        db.close()


_COURSE = {
    "signal": 55.0,
    "burst": 2.0,
    "command": 10.0,
    "stop": 0.4,
    "rush": 2.5,
    "resume": 1.0,
    "storm": 1.0,
    "slow_disk": 1.0,
    "full_disk": 0.7,
    "deaf": 1.5,
    "broker": 0.7,
    "retention": 0.2,
    "backend": 1.0,
    "by_hand": 0.7,
    "sleep": 0.5,
}
"""How often each thing happens, beside the others."""

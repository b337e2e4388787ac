"""What may happen to a bridge: signals and commands, people, troubles of every kind, each now and then."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from support.simulation.books import close_by_hand
from support.simulation.halts import HaltJudge
from support.simulation.traffic import Traffic
from support.simulation.weather import Weather
from support.simulation.world import World, spread

from mt5_bridge.app.bridge import Bridge
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.watch import STOP_FILE


class Happenings:
    """Draws what happens next.

    Args:
        halts: told of the stops and resumes that no frame brings; knows which bridge runs.
        folder: DATA_DIR.
        course: what happens more often than usual, or never: weights as in `_COURSE`.
    """

    def __init__(
        self,
        world: World,
        weather: Weather,
        traffic: Traffic,
        halts: HaltJudge,
        folder: Path,
        course: Mapping[str, float],
    ) -> None:
        self.world, self.weather, self.traffic, self.halts, self.folder = world, weather, traffic, halts, folder
        self._course = {**_COURSE, **course}
        self.random = world.random("plan")
        self._resume_at = float("inf")
        self._things = self._what_may_happen()

    async def something(self) -> None:
        """One more thing happens."""
        if self.world.monotonic() > self._resume_at:
            await self._resume()
        what = self.random.choices(list(self._course), list(self._course.values()))[0]
        if what == "resume":
            await self._resume()
        else:
            self._things[what]()

    def _what_may_happen(self) -> dict[str, Callable[[], None]]:
        return {
            "signal": self.traffic.signal,
            "burst": self.traffic.burst,
            "flood": self.traffic.flood,
            "command": self.traffic.command,
            "stop": self._stops,
            "rush": self._rush,
            "take_back": self._take_back,
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
        if self.random.random() < 0.3:
            self._blow("late", 0.5, 2.0, only_with="faults")
        self._stop_when(self.random.choice((self._is_decided, self._is_on_its_way)), self._stops, 300)

    def _take_back(self) -> None:
        """A person resumes, and somebody stops in the same moment: anew, or once more with the same words."""
        self.traffic.resume()
        self.world.after(spread(self.random, 0.0005, 0.02), self.traffic.stop_again)

    def _is_decided(self) -> bool:
        """An opening may go, and has not gone yet."""
        bridge = self.halts.bridge
        if bridge is None:
            return False
        return bool(bridge.flows.book.in_flight()) and not bridge.flows.desk.flying and not bridge.flows.desk.unresolved

    def _is_on_its_way(self) -> bool:
        """An order has gone, and nobody knows what became of it."""
        bridge = self.halts.bridge
        return bridge is not None and bool(bridge.flows.desk.flying or bridge.flows.desk.unresolved)

    def _stop_when(self, is_the_moment: Callable[[], bool], stop: Callable[[], None], tries: int) -> None:
        """A stop in the worst moment; at some other one, when that does not come."""
        if is_the_moment() or not tries:
            stop()
        else:
            self.world.after(0.001, self._stop_when, is_the_moment, stop, tries - 1)

    def last_stop(self) -> None:
        """A stop that nobody lifts any more, in the middle of everything."""
        self._blow("late", 3.0, 8.0)
        self.traffic.burst()
        self._stop_when(self._is_on_its_way, self._stop_for_good, 2000)

    def _stop_for_good(self) -> None:
        if not self.traffic.order("emergency_stop", reason="simulated"):
            self._stop_by_file()

    def _broker_down(self) -> None:
        if self.weather.level["broker"]:
            self.traffic.broker.go_down(spread(self.random, 0.5, 40.0))

    def _retention(self) -> None:
        if self.weather.level["broker"]:
            self.traffic.broker.forget(self.random.choice(list(self.traffic.broker.signals)))

    def _backend_trouble(self) -> None:
        if self.weather.level["backend"]:
            hang_up = partial(self.traffic.backend.hang_up, "drops")
            self.random.choice((hang_up, self.traffic.backend.fall_silent, self._backend_down))()

    def _sleep(self) -> None:
        """The PC sleeps: time leaps."""
        self.world.loop.now += spread(self.random, 1.0, 900.0)

    def _stops(self) -> None:
        """Somebody stops everything, and somebody will want to go on."""
        random = self.random
        if random.random() < 0.2:
            self._stop_by_file()
        else:
            self.traffic.stop()
        if random.random() < 0.5:
            self._blow("deaf", 1.0, 8.0, only_with="faults")
        self._resume_at = self.world.monotonic() + spread(random, 0.3, 10.0)

    def _stop_by_file(self) -> None:
        self.world.note("stop_file")
        (self.folder / STOP_FILE).touch()
        self.halts.file_made()

    def _backend_down(self) -> None:
        self.traffic.backend.go_down(spread(self.random, 1.0, 60.0))

    async def _resume(self) -> None:
        """A person lifts the latch: from the backend or, what was stopped here, from this PC."""
        if self.halts.bridge is None or self.halts.state is HaltState.ACTIVE:
            self._resume_at = float("inf")
            return
        here = self.halts.bridge.flows.latch.halt.origin is Origin.LOCAL
        if self.random.random() < (0.1 if here else 0.7):
            self.traffic.resume()
            return
        asked = {"reason": "simulated", "by": "person", "force": self.random.random() < 0.5}
        self.world.note("local_resume", asked)
        task = asyncio.create_task(self._local_resume(self.halts.bridge, asked), name="person")
        either: set[asyncio.Future[Any]] = {task, self.world.broken}
        await asyncio.wait(either, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()

    async def _local_resume(self, bridge: Bridge, asked: dict[str, Any]) -> None:
        word = object()
        self.halts.resume_given(word)
        try:
            await bridge.flows.local._do_resume(asked)
        except Refusal as refusal:
            self.world.note("refused", refusal.code)
            self.halts.resume_refused(word)


_COURSE = {
    "signal": 55.0,
    "burst": 2.0,
    "flood": 0.7,
    "command": 10.0,
    "stop": 0.3,
    "rush": 1.2,
    "take_back": 0.5,
    "resume": 1.0,
    "storm": 1.0,
    "slow_disk": 1.0,
    "full_disk": 0.7,
    "deaf": 1.5,
    "broker": 0.7,
    "retention": 0.2,
    "backend": 1.0,
    "by_hand": 0.7,
    "sleep": 0.2,
}
"""How often each thing happens, beside the others."""

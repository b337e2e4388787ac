"""Judges the ticks: every one that the terminal holds is published, in order; what comes again has come before (P5)."""

import json
from bisect import bisect_left
from itertools import takewhile

from support.simulation.signals import SYMBOLS
from support.simulation.world import World

import mt5_bridge.simulator as paper
from mt5_bridge.simulator import api

_HEAD_MS = 120_000
"""So long a bridge may take until it has found a terminal in whose ticks it can begin."""
_TAIL_MS = 5_000
"""The last moments of the market need not be published yet."""

Place = tuple[int, int]
"""Of a tick: its time, and the how manyth of that time it is."""


class Tape:
    """What came of each symbol, each tick once, in the order in which it came first."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._came: dict[str, list[Place]] = {symbol: [] for symbol in SYMBOLS}
        self._begun_msc = 0

    def life_begins(self) -> None:
        """A symbol of which nothing came before begins now, and not where the market was before."""
        self._begun_msc = self.world.now_ms()

    def published(self, symbol: str, value: bytes) -> None:
        """One more tick is on the topic."""
        data = json.loads(value)["data"]
        place, came = (data["time_msc"], data["seq"]), self._came[symbol]
        if not came or place > came[-1]:
            came.append(place)
        elif came[bisect_left(came, place)] != place:
            self.world.breach("P5", f"the tick {place} of {symbol} comes behind {came[-1]}")

    def is_fresh(self) -> bool:
        """Whether the last ticks that the terminal has are published."""
        until = self.world.now_ms() - _TAIL_MS
        market = api._state.functions.terminal.market
        newest = {symbol: market.quote(symbol, until) for symbol in SYMBOLS}
        return all(
            quote is None
            or any(time == quote.time_msc for time, _ in self._came[symbol][-100:])
            or (not self._came[symbol] and quote.time_msc < self._begun_msc + _HEAD_MS)
            for symbol, quote in newest.items()
        )

    def verdict(self) -> None:
        """None is missing between the first that came and the last moments."""
        for symbol, came in self._came.items():
            held = self._held(symbol, came[0][0] if came else self._begun_msc + _HEAD_MS)
            missing = sorted(set(held) - {time for time, _ in came})
            if missing:
                self.world.breach(
                    "P5", f"{len(missing)} of {len(held)} ticks of {symbol} are missing, the first {missing[0]}"
                )

    def _held(self, symbol: str, since_msc: int) -> list[int]:
        """The times of all ticks that the terminal has, but for the last moments."""
        ahead, until = api._state.functions.terminal.market.server_time(0), self.world.now_ms() - _TAIL_MS
        ticks = paper.copy_ticks_range(
            symbol, (since_msc + ahead) // 1000, (until + ahead) // 1000 + 1, paper.COPY_TICKS_ALL
        )
        times = [time - ahead for time in ticks["time_msc"].tolist()]
        return list(takewhile(lambda time: time <= until, (time for time in times if time >= since_msc)))

"""Answers kept for a moment: a thousand readers ask the terminal once.

Each tier has its own lifetime. Of those who ask for the same thing at once, one looks it up and all get it; what was
looked up before a write is given to nobody who asks after it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from loguru import logger

TTL_S: Mapping[str, float] = {
    "account": 0.25,
    "positions": 0.25,
    "orders": 0.25,
    "ticks": 0.25,
    "rates": 1.0,
    "history": 2.0,
    "symbols": 60.0,
}
"""Tier → seconds that an answer lives."""
WRITTEN = ("account", "positions", "orders", "history")
"""The tiers that an order, a close or a cancel makes untrue."""
MOST_ENTRIES = 256
"""Answers a tier keeps; of more, the one unused for longest goes."""

T = TypeVar("T")
Load = Callable[[], Awaitable[bytes]]


class SecondTier(Protocol):
    """A store that several processes share, asked where this process has nothing. Its failures are no reader's."""

    async def get(self, key: str) -> bytes | None:
        """The value under a key, None when there is none or it is over."""
        ...

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value for so many seconds."""
        ...

    async def drop(self, tier: str) -> None:
        """Forget all keys of a tier: those that begin with its name and a colon."""
        ...


@dataclass
class TierStats:
    """Counters of one tier.

    Attributes:
        hits: answered from here.
        joined: waited with another for the same look-up.
        second: answered by the second tier.
        misses: looked up.
        drops: how often a write made all of it untrue.
    """

    hits: int = 0
    joined: int = 0
    second: int = 0
    misses: int = 0
    drops: int = 0

    @property
    def hit_rate(self) -> float | None:
        """The part that cost no look-up, 0 to 1; None before the first reader."""
        asked = self.hits + self.joined + self.second + self.misses
        return None if not asked else (asked - self.misses) / asked


@dataclass
class _Tier:
    ttl_s: float
    stats: TierStats = field(default_factory=TierStats)
    entries: "OrderedDict[str, tuple[float, bytes]]" = field(default_factory=OrderedDict)
    flights: "dict[str, asyncio.Task[bytes]]" = field(default_factory=dict)
    age: int = 0
    """Grows with every write: what was begun at another age is not kept."""
    dropping: int = 0
    """Writes that the second tier has not heard of yet: what it keeps is from before them."""


class Cache:
    """The tiers of one gateway.

    Args:
        ttl_s: tier → seconds.
        second: asked after this process's own memory; None: there is none.
        monotonic: seconds.
    """

    def __init__(
        self,
        ttl_s: Mapping[str, float] = TTL_S,
        *,
        second: SecondTier | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tiers = {name: _Tier(seconds) for name, seconds in ttl_s.items()}
        self._second = second
        self._monotonic = monotonic
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, tier: str, key: str, load: Load) -> bytes:
        """An answer, looked up by `load` where none is kept.

        Args:
            tier: one of the tiers.
            key: names the answer within the tier.
            load: looks it up; what it raises goes to everyone who waits for it, and is not kept.
        """
        kept = self._tiers[tier]
        entry = kept.entries.get(key)
        if entry is not None and self._monotonic() < entry[0]:
            kept.stats.hits += 1
            kept.entries.move_to_end(key)
            return entry[1]
        flight = kept.flights.get(key)
        if flight is None:
            flight = self._spawn(self._look_up(kept, tier, key, load))
            kept.flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(kept, key, done))
        else:
            kept.stats.joined += 1
        # Who goes away must not take the look-up with him: others wait for it.
        return await asyncio.shield(flight)

    def drop(self, *tiers: str) -> None:
        """Forget what tiers keep: something was written."""
        for name in tiers:
            tier = self._tiers[name]
            tier.age += 1
            tier.stats.drops += 1
            tier.entries.clear()
            tier.flights.clear()
            if self._second is not None:
                tier.dropping += 1
                self._spawn(self._drop_second(self._second, name, tier))

    def stats(self) -> dict[str, dict[str, Any]]:
        """Counters and hit rate by tier."""
        return {
            name: {
                "hits": tier.stats.hits,
                "joined": tier.stats.joined,
                "second": tier.stats.second,
                "misses": tier.stats.misses,
                "drops": tier.stats.drops,
                "hit_rate": tier.stats.hit_rate,
                "entries": len(tier.entries),
                "ttl_s": tier.ttl_s,
            }
            for name, tier in self._tiers.items()
        }

    async def close(self) -> None:
        """End the look-ups under way."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_up(self, kept: _Tier, tier: str, key: str, load: Load) -> bytes:
        age = kept.age
        value = None if kept.dropping else await self._from_second(tier, key)
        if age != kept.age:
            value = None
        if value is not None:
            kept.stats.second += 1
        else:
            kept.stats.misses += 1
            value = await load()
            if age == kept.age:
                await self._to_second(tier, key, value, kept.ttl_s)
        if age == kept.age:
            kept.entries[key] = (self._monotonic() + kept.ttl_s, value)
            kept.entries.move_to_end(key)
            while len(kept.entries) > MOST_ENTRIES:
                kept.entries.popitem(last=False)
        return value

    @staticmethod
    def _landed(kept: _Tier, key: str, done: "asyncio.Task[bytes]") -> None:
        if kept.flights.get(key) is done:
            del kept.flights[key]
        if not done.cancelled():
            done.exception()  # each reader gets it; there may be none left

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work, name="gateway-cache")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _from_second(self, tier: str, key: str) -> bytes | None:
        if self._second is None:
            return None
        try:
            return await self._second.get(f"{tier}:{key}")
        except (OSError, TimeoutError) as error:
            self._failed(error)
            return None

    async def _to_second(self, tier: str, key: str, value: bytes, ttl_s: float) -> None:
        if self._second is None:
            return
        try:
            await self._second.set(f"{tier}:{key}", value, ttl_s)
        except (OSError, TimeoutError) as error:
            self._failed(error)

    async def _drop_second(self, second: SecondTier, name: str, tier: _Tier) -> None:
        try:
            await second.drop(name)
        except (OSError, TimeoutError) as error:
            self._failed(error)
        finally:
            tier.dropping -= 1

    @staticmethod
    def _failed(error: BaseException) -> None:
        logger.bind(event="cache_second_tier").debug("The second cache tier failed: {error}", error=error)

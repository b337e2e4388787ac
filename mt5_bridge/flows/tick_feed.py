"""One symbol's ticks on their way out: where reading and publishing stand, and what is counted on the way."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mt5_bridge.core.model import Cursor, SymbolInfo
from mt5_bridge.core.ticks import Framed

Headers = Sequence[tuple[str, bytes]]
Records = Sequence[tuple[int | None, bytes | None]]


class TickPublisher(Protocol):
    """What the tick flow needs of the Redpanda producer."""

    @property
    def connected(self) -> bool: ...

    async def wait_connected(self) -> None: ...

    def offer(
        self, topic: str, parts: Sequence[tuple[bytes | None, Records]], headers: Headers
    ) -> "list[tuple[asyncio.Future[None], list[int]]]": ...

    async def publish(self, topic: str, key: bytes | None, records: Records, headers: Headers) -> None: ...

    async def publish_framed(self, topic: str, key: bytes, batches: Sequence[Framed]) -> None: ...


class TickStream(Protocol):
    """What the tick flow needs of the WebSocket client."""

    def send_latest(self, slot: str, frame: bytes) -> None: ...


@dataclass
class TickStats:
    """Counters of the tick path.

    Attributes:
        polls: round trips to the live host.
        missed_slots: deadlines of TICK_HZ at which the round before was still going on.
        published: ticks the broker acknowledged, or the socket was given.
        resent: ticks given to the broker once more, since the first time was not acknowledged: so many may be there
            twice. What a killed life had not written down comes on top.
        gaps: how often the terminal no longer had the tick up to which a symbol had been read.
        unusable: ticks left out because a price is no number.
        conflated: ticks left out because a newer one is enough (`TICK_CAPTURE=latest`, standard mode).
        catch_ups: how often a symbol far behind was read by the history host.
        age_ms: age of the last published tick when the broker had taken it.
    """

    polls: int = 0
    missed_slots: int = 0
    published: int = 0
    failed_publishes: int = 0
    resent: int = 0
    gaps: int = 0
    unusable: int = 0
    conflated: int = 0
    poll_failures: int = 0
    catch_ups: int = 0
    age_ms: int | None = None
    last_tick_msc: int | None = None


@dataclass(eq=False)
class Feed:
    """One symbol: what has been read, what the broker has."""

    info: SymbolInfo
    key: bytes
    read: Cursor | None = None
    acked: Cursor | None = None
    busy: "asyncio.Future[None] | None" = None
    handed: bool = False
    """What is in `busy` went to the producer without a task, perhaps with other symbols, and its end has not been
    looked at."""
    apart: bool = False
    """Its ticks go by themselves: among some that went together was one that the broker refuses."""
    gone: bool = False
    """It is not subscribed any more: what of it is under way may arrive or not."""
    dirty: bool = False
    starting: bool = False
    live_until: float = 0.0

    @property
    def free(self) -> bool:
        """Nothing of it is under way: it may be asked for."""
        return self.busy is None or (self.busy.done() and not self.handed)

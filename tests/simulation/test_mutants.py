"""The simulation must notice when the bridge is broken: each of these faults, put into it by hand, turns it red."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from support.simulation.run import simulate

from mt5_bridge.core.intent import Verdict
from mt5_bridge.core.model import Cursor
from mt5_bridge.flows import judge, orders
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.control import ControlFlow
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.sorting import Sorted
from mt5_bridge.flows.ticks import Feed, TickFlow
from mt5_bridge.journal import changes
from mt5_bridge.terminal import host_ops
from mt5_bridge.terminal.host_ops import Host

SEEDS = range(1000, 1060)
"""Within so many seeds every mutant must be caught; the one that is known to catch it is tried first."""

Places = list[tuple[object, str, object]]


def no_halt_check() -> Places:
    """The last look at the halt, next to the send, is gone."""
    return [(judge, "check_halt", lambda *args, **named: None)]


def sent_twice_on_unknown() -> Places:
    """An unknown outcome is taken for a requote."""
    return [(orders, "_TRY_AGAIN", orders._TRY_AGAIN | {Verdict.UNKNOWN})]


def offset_committed_early() -> Places:
    """The offset is durable before the records below it are in the inbox."""
    real = Intake._enter

    async def enter(self: Intake, work: Sorted, **named: Any) -> int:
        moves = [change for change in work.beside if isinstance(change, changes.OffsetMoved)]
        if moves:
            await self._outbox.commit(*moves)
        return await real(self, work, **named)

    return [(Intake, "_enter", enter)]


def none_is_flat() -> Places:
    """A terminal that does not say which positions there are is taken for one without any."""

    def positions(self: Host, symbol: str | None, ticket: int | None) -> Any:
        found = self._mt5.positions_get(**host_ops._which(symbol, ticket))
        return [host_ops._position(position) for position in found or ()]

    return [(Host, "positions", positions)]


def limits_counted_after_the_send() -> Places:
    """An opening counts in the limits only when its answer is there."""
    real: dict[str, Callable[..., Any]] = {name: getattr(Book, name) for name in ("reserve", "settle", "mark_unknown")}
    held: dict[int, Any] = {}

    def reserve(self: Book, exposure: Any) -> None:
        held[exposure.magic] = exposure

    def counted(name: str) -> Callable[[Book, int], None]:
        def answered(self: Book, magic: int) -> None:
            if magic in held:
                real["reserve"](self, held.pop(magic))
            real[name](self, magic)

        return answered

    return [
        (Book, "reserve", reserve),
        (Book, "settle", counted("settle")),
        (Book, "mark_unknown", counted("mark_unknown")),
    ]


def latch_in_memory_only() -> Places:
    """A stop is not written down: a restart lifts it."""

    def write_down(self: HaltLatch, *, announce: bool = True) -> Any:
        import asyncio

        return asyncio.ensure_future(asyncio.sleep(0))

    return [(HaltLatch, "write_down", write_down)]


def cursor_before_the_acknowledgement() -> Places:
    """A tick counts as delivered when it has been read."""
    real = TickFlow._advance

    def advance(self: TickFlow, symbol: str, cursor: Cursor, blocks: Any, may_publish: bool) -> None:
        real(self, symbol, cursor, blocks, may_publish)
        feed: Feed | None = self._feeds.get(symbol)
        if feed is not None:
            feed.read = feed.acked = cursor
            feed.dirty = True

    return [(TickFlow, "_advance", advance)]


def commands_not_remembered() -> Places:
    """A command that is sent again is done again."""

    async def once(self: ControlFlow, command: Any, key: str, latched: Any) -> dict[str, Any]:
        return await self._do(command, latched)

    return [
        (ControlFlow, "_once", once),
        (Intake, "earlier_command", _nothing_earlier),
    ]


async def _nothing_earlier(self: Intake, name: str) -> None:
    """No command was ever done before."""


@contextmanager
def mutated(places: Places) -> Iterator[None]:
    """The bridge with a fault in it."""
    with ExitStack() as stack:
        for where, name, what in places:
            stack.enter_context(patch.object(where, name, what))
        yield


def caught(mutant: Callable[[], Places], seeds: list[int]) -> tuple[int, str]:
    """The first seed that breaks a promise, and which."""
    for seed in seeds:
        with mutated(mutant()):
            outcome = simulate(seed)
        if outcome.breach is not None:
            return seed, outcome.breach
    raise AssertionError(f"{mutant.__doc__} Nothing of it shows in {len(seeds)} runs")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mutant", "known", "promises"),
    [
        (no_halt_check, 1000, ("P3",)),
        (sent_twice_on_unknown, 1000, ("P1", "P2")),
        (offset_committed_early, 1000, ("offsets",)),
        (none_is_flat, 1000, ("P8", "P9", "P4")),
        (limits_counted_after_the_send, 1000, ("P9",)),
        (latch_in_memory_only, 1000, ("P3",)),
        (cursor_before_the_acknowledgement, 1000, ("P5",)),
        (commands_not_remembered, 1000, ("P11", "P3")),
    ],
)
def test_a_broken_bridge_is_noticed(mutant: Callable[[], Places], known: int, promises: tuple[str, ...]) -> None:
    seed, breach = caught(mutant, [known, *SEEDS])
    assert breach.split(":")[0] in promises, breach
    assert simulate(seed).breach is None, "the run must be green without the fault"

"""Faults to put into the bridge by hand: the simulation must notice each of them.

Each mutant says what to put in the place of what. The last one is a fault that the simulation itself has found.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from support.simulation.plan import Focus

from mt5_bridge.control.pacing import Pace
from mt5_bridge.core import throttle, wire
from mt5_bridge.core.intent import Verdict
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Cursor, OrderRequest, Side
from mt5_bridge.core.trailing import Move, next_stop
from mt5_bridge.flows import judge, orders, outbox, trader, trailing
from mt5_bridge.flows.answers import Answers
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.control import ControlFlow
from mt5_bridge.flows.emergency import Emergency
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.once import Answer, Once
from mt5_bridge.flows.parts import Part
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.sorting import Sorted, Sorter
from mt5_bridge.flows.tick_feed import Feed
from mt5_bridge.flows.ticks import TickFlow
from mt5_bridge.flows.watch import Watch
from mt5_bridge.journal import changes
from mt5_bridge.terminal import host_ops
from mt5_bridge.terminal.client import HostClient
from mt5_bridge.terminal.host_ops import Host

_NO_STOPS = {"stop": 0.0, "rush": 0.0, "take_back": 0.0, "command": 0.0}
ANYTHING = Focus({})
STOPS = Focus({"take_back": 15.0, "rush": 8.0, "resume": 10.0})
ONE_STOP = Focus({**_NO_STOPS, "signal": 0.0, "burst": 0.0, "flood": 0.0, "sleep": 0.0}, roomy=True)
CROWD = Focus({**_NO_STOPS, "burst": 12.0})
CROWD_BEFORE_DEAF_EARS = Focus({**_NO_STOPS, "burst": 12.0, "deaf": 12.0})
FLOODS = Focus({**_NO_STOPS, "flood": 6.0}, roomy=True)
PEOPLE = Focus({**_NO_STOPS, "command": 60.0}, roomy=True)

Places = list[tuple[object, str, object]]
Mutant = Callable[[], Places]


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """The bridge with a fault in it."""
    with ExitStack() as stack:
        for where, name, what in mutant():
            stack.enter_context(patch.object(where, name, what))
        yield


# --- P1, P2


def partial_fill_asked_again() -> Places:
    """A partial fill is taken for a requote: the whole is asked for once more."""
    return [(orders, "_TRY_AGAIN", orders._TRY_AGAIN | {Verdict.PARTIAL})]


def copies_are_signals_of_their_own() -> Places:
    """A signal that comes twice is two signals."""
    real, came = Intake._fresh, dict[str, int]()

    async def fresh(self: Intake, entries: list[Any], *args: Any, **named: Any) -> list[Any]:
        for job in (entry.job for entry in entries):
            came[job.key] = came.get(job.key, 0) + 1
            job.key += f"#{came[job.key]}" * (came[job.key] > 1)
        return await real(self, entries, *args, **named)

    return [(Intake, "_fresh", fresh), (trader, "comment_for", lambda key, comment: key.split("#")[0])]


def sent_twice_on_unknown() -> Places:
    """An unknown outcome is taken for a requote."""
    return [(orders, "_TRY_AGAIN", orders._TRY_AGAIN | {Verdict.UNKNOWN})]


# --- P3


def no_halt_check() -> Places:
    """The last look at the halt, next to the send, is gone."""
    return [(judge, "check_halt", lambda *args, **named: None)]


def orders_not_taken_back() -> Places:
    """What the terminal's host has been handed goes out behind a latch."""
    return [(HostClient, "recall", lambda self: None)]


def latch_in_memory_only() -> Places:
    """A stop is not written down: a restart lifts it."""

    def write_down(self: HaltLatch, *args: Any, **named: Any) -> Any:
        return asyncio.ensure_future(asyncio.sleep(0))

    return [(HaltLatch, "write_down", write_down)]


def stop_file_not_looked_for() -> Places:
    """Nobody looks for the stop's file."""

    async def look(self: Watch) -> None:
        """There is none."""

    return [(Watch, "look_for_stop_file", look)]


def resume_lifts_what_came_after_it() -> Places:
    """A resume does not care what was latched while it waited."""
    return [(Answers, "_stopped_since", lambda self, latched: False)]


# --- P4


def late_fills_not_watched_for() -> Places:
    """A stop that finds the account flat is done, whatever is still on its way."""
    real = Emergency._round

    async def once(self: Emergency, *args: Any, **named: Any) -> Any:
        left = await real(self, *args, **named)
        self._desk.flying.clear()
        return left

    async def watch(self: Emergency, work: Any, began: float) -> bool:
        self._watched.clear()
        return False

    return [(Emergency, "_watch", watch), (Emergency, "_round", once)]


# --- P5


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


# --- P6


def latched_after_a_look_at_the_terminal() -> Places:
    """A stop is latched when the account has been read: a terminal that hangs delays it."""
    real = ControlFlow._stop

    async def look(self: ControlFlow, frame: Any) -> None:
        await self._answers._emergency._book.refresh()
        real(self, frame)

    return [(ControlFlow, "_stop", lambda self, frame: self._spawn(look(self, frame)))]


# --- P7


def age_counted_from_receipt() -> Places:
    """A signal is as young as the moment in which it was read."""
    real = Sorter._job_of

    def job_of(self: Sorter, record: Any, value: bytes, signal: Any, received: int) -> Job:
        job = real(self, record, value, signal, received)
        job.created_msc = received
        return job

    return [(Sorter, "_job_of", job_of)]


def no_age_next_to_the_send() -> Places:
    """Age is judged once, and an order may wait for long after that."""
    return [(Job, "deadline_msc", lambda self, max_age_ms: self.created_msc + 10**9)]


def signatures_not_looked_at() -> Places:
    """Whoever can write to the topic can trade."""
    return [(wire, "signature_matches", lambda value, key, signature: True)]


def poison_thrown_away() -> Places:
    """What cannot be read leaves no trace."""
    return [(Sorter, "_bury", lambda self, record, error, work: None)]


def offset_committed_early() -> Places:
    """The offset is durable before the records below it are in the inbox."""
    real = Intake._enter

    async def enter(self: Intake, work: Sorted, **named: Any) -> int:
        moves = [change for change in work.beside if isinstance(change, changes.OffsetMoved)]
        if moves:
            await self._outbox.commit(*moves)
        return await real(self, work, **named)

    return [(Intake, "_enter", enter)]


def parts_of_a_flood_overtake() -> Places:
    """Of a flood, what lies behind a part that the disk did not take is written before it."""
    real = Part.__init__

    def alone(self: Part, *args: Any, **named: Any) -> None:
        real(self, *args, **named)
        self.required = {}

    return [(Part, "__init__", alone)]


# --- P8


def none_is_flat() -> Places:
    """A terminal that does not say which positions there are is taken for one without any."""

    def positions(self: Host, symbol: str | None, ticket: int | None) -> Any:
        found = self._mt5.positions_get(**host_ops._which(symbol, ticket))
        return [host_ops._position(position) for position in found or ()]

    return [(Host, "positions", positions)]


def a_lost_connection_changes_nothing() -> Places:
    """What was read before the terminal went is good enough when it is back."""
    return [(Book, "lost_connection", lambda self: None)]


# --- P9, P10, P11


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


def throttle_without_latch() -> Places:
    """Signals over the rate are denied, and that is all."""
    return [(throttle, "count_denial", lambda latch, *args: (latch, False))]


def commands_not_remembered() -> Places:
    """A command that is sent again is done again."""

    async def once(self: Once, command: Any, key: str, do: Callable[[], Awaitable[Answer]]) -> Answer:
        return await do()

    async def nothing_earlier(self: Intake, name: str) -> None:
        """No command was ever done before."""

    return [(Once, "answer", once), (Intake, "earlier_command", nothing_earlier)]


def connects_without_a_pause() -> Places:
    """A backend that refuses is asked again at once."""
    names = ("wait", "after_failure", "after_refusal", "after_busy", "after_session")
    return [(Pace, name, lambda self, *args: 0.01) for name in names]


# --- managed stops


def managed_stops_go_both_ways() -> Places:
    """A trailing stop keeps its distance from the price, wherever that goes."""
    real = next_stop

    def either_way(position: Any, price: float, symbol: Any, plan: Any) -> Move | None:
        move = real(position, price, symbol, plan)
        if move is not None or not plan.trailing_points:
            return move
        away = plan.trailing_points * symbol.point
        stop = round(price - away if position.side is Side.BUY else price + away, symbol.digits)
        return None if stop == position.stop_loss else Move(stop, Reason.TRAILING_STOP)

    return [
        (trailing, "next_stop", either_way),
        (OrderRequest, "stops", lambda self, stop, target: (self.stop_loss, target)),
    ]


# --- P12


def ids_of_its_own() -> Places:
    """Events get ids that no seed gives again."""
    return [(outbox, "new_event_id", lambda: secrets.token_hex(16))]


# --- found by the simulation


def repeated_stop_beats_no_resume() -> Places:
    """A stop said again is answered `halted`, and the resume on its way goes on."""
    real = HaltLatch.tighten

    def tighten(self: HaltLatch, new: Any, beside: Any = tuple) -> Any:
        return None if new is self.halt else real(self, new, beside)

    return [(HaltLatch, "tighten", tighten), (Answers, "_said_stop", property(lambda self: self._emergency.stops))]

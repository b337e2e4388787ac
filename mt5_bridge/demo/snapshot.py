"""What the reference backend has seen, as one value: sent to those who watch, drawn by the demo's screen."""

from typing import Any

import msgspec


class QuoteLine(msgspec.Struct, kw_only=True):
    """A symbol: last quote, ticks so far, age of the last tick in ms, last direction (-1, 0, 1)."""

    symbol: str
    bid: float
    ask: float
    digits: int
    spread: int
    ticks: int
    age_ms: int
    moved: int


class SignalLine(msgspec.Struct, kw_only=True):
    """A signal that was sent and what became of it. `latency_ms` is the bridge's own figure."""

    signal_id: str
    at_msc: int
    intent: str
    bad: str | None = None
    fate: str = "waiting"
    reason: str | None = None
    price: float | None = None
    latency_ms: float | None = None
    round_trip_ms: float | None = None


class Stop(msgspec.Struct, kw_only=True):
    """The last emergency stop, as seen from outside. Times in ms since it was sent or first seen."""

    asked_msc: int | None = None
    answer: dict[str, Any] | None = None
    answer_ms: float | None = None
    latched_on: list[str] = []
    done_on: list[str] = []
    done_ms: float | None = None
    cancelled: list[int] = []
    closed: list[int] = []
    survivors: list[int] = []


class Seen(msgspec.Struct, kw_only=True):
    """Distinct things seen on one channel (the topics, or the socket)."""

    ticks: int = 0
    fills: int = 0
    denials: int = 0
    halts: int = 0


class Snapshot(msgspec.Struct, kw_only=True):
    """Everything at one moment."""

    at_msc: int
    bridges: list[dict[str, Any]] = []
    quotes: list[QuoteLine] = []
    ticks_per_s: float = 0.0
    tick_age_p50_ms: float | None = None
    tick_age_p99_ms: float | None = None
    broker_seen_ms: int | None = None
    signals: list[SignalLine] = []
    sent: int = 0
    fates: dict[str, int] = {}
    reasons: dict[str, int] = {}
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    account: dict[str, Any] | None = None
    positions: list[dict[str, Any]] = []
    health: dict[str, Any] | None = None
    halt: dict[str, Any] = {}
    stop: Stop = msgspec.field(default_factory=Stop)
    topics: Seen = msgspec.field(default_factory=Seen)
    socket: Seen = msgspec.field(default_factory=Seen)


def proven(seen: Snapshot) -> dict[str, bool]:
    """What the demo promises to show, and whether it was really seen on the topics and on the socket."""
    return traded(seen) | stopped(seen)


def traded(seen: Snapshot) -> dict[str, bool]:
    """The part of `proven` that must come before the stop."""
    return {
        "ticks on the topic": seen.topics.ticks > 0,
        "a fill on the topic and the socket": seen.topics.fills > 0 and seen.socket.fills > 0,
        "a denial on the topic and the socket": seen.topics.denials > 0 and seen.socket.denials > 0,
    }


def stopped(seen: Snapshot) -> dict[str, bool]:
    """The part of `proven` that the stop brings."""
    both = {"topics", "socket"}
    return {
        "the stop answered by its command_result": (seen.stop.answer or {}).get("state") == "halted",
        "halt_changed latched on the topic and the socket": both <= set(seen.stop.latched_on),
        "halt_changed done on the topic and the socket": both <= set(seen.stop.done_on),
    }

"""Results of orders, as people and counters see them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from loguru import logger

from mt5_bridge.core.intent import IntentState
from mt5_bridge.core.messages import OrderResult, Status


@dataclass
class OrderStats:
    """Counters of the desk."""

    sends: int = 0
    filled: int = 0
    placed: int = 0
    rejected: int = 0
    unknown: int = 0
    denied: int = 0
    simulated: int = 0
    stops_repaired: int = 0
    results: dict[str, int] = field(default_factory=dict)
    """By `order_result.status`, interim ones and corrections included."""
    denials: dict[str, int] = field(default_factory=dict)
    """By `order_result.reason`, of those denied."""


def count(stats: OrderStats, final: OrderResult) -> None:
    """Add a result to the counters."""
    tally(stats.results, final.status.value)
    match final.status:
        case Status.FILLED | Status.PARTIAL | Status.CLOSED:
            stats.filled += 1
        case Status.PLACED:
            stats.placed += 1
        case Status.REJECTED | Status.ABANDONED:
            stats.rejected += 1
        case Status.DENIED:
            stats.denied += 1
            tally(stats.denials, final.reason or "")
        case Status.SIMULATED:
            stats.simulated += 1


def tally(counts: dict[str, int], name: str) -> None:
    """One more of that name."""
    counts[name] = counts.get(name, 0) + 1


def log(final: OrderResult, correlation: str | None = None) -> None:
    """One line for people, with fields for machines; `correlation` is the id of the HTTP request behind it."""
    words = {
        Status.FILLED: "Order placed and filled",
        Status.PARTIAL: "Order placed and filled in part",
        Status.PLACED: "Order placed",
        Status.CLOSED: "Position closed",
        Status.MODIFIED: "Modified",
        Status.CANCELLED: "Order cancelled",
        Status.DENIED: "Signal denied",
        Status.REJECTED: "Order rejected",
        Status.UNKNOWN: "Order outcome unknown",
        Status.ABANDONED: "Order outcome not found",
        Status.SIMULATED: "Order simulated",
    }[final.status]
    bad = final.status in (Status.REJECTED, Status.UNKNOWN, Status.ABANDONED)
    # The ids by which a signal is found again: in the request's line, in the journal, in the terminal's deals.
    logger.bind(
        event="order_result",
        status=final.status.value,
        signal_id=final.signal_id,
        correlation_id=correlation,
        request_id=final.request_id,
        reason=final.reason,
        magic=final.magic,
        order=final.order,
        deal=final.deal,
        position=final.position,
        latency_ms=final.latency_ms,
    ).log(
        "WARNING" if bad else "INFO",
        "{words}: {action} {symbol} {volume} {reason} {detail}",
        words=words,
        action=final.action,
        symbol=final.symbol,
        volume=final.volume_filled or final.volume_requested or "",
        reason=final.reason or "",
        detail=final.detail or "",
    )


def statuses(states: Sequence[IntentState]) -> Status:
    """The status of a signal with several legs."""
    if any(state.open for state in states):
        return Status.UNKNOWN
    if all(state is IntentState.SIMULATED for state in states):
        return Status.SIMULATED
    done = [state for state in states if state in (IntentState.CLOSED, IntentState.PARTIAL)]
    if done and all(state is IntentState.CLOSED for state in states):
        return Status.CLOSED
    if done:
        return Status.PARTIAL
    return Status.ABANDONED if IntentState.ABANDONED in states else Status.REJECTED

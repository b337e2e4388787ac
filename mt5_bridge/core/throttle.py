"""The rate of orders and what happens when signals keep exceeding it (P10). Pure: a frozen state in, a new one out.

Times are milliseconds of any clock that does not run backwards; if it does, nobody waits longer than one window.
"""

import math

import msgspec

from mt5_bridge.core.times import MINUTE, SECOND

LATCH_WINDOW_MS = MINUTE


class Throttle(msgspec.Struct, frozen=True):
    """When the last orders that raise risk were sent, oldest first, as many as one window may hold."""

    sent: tuple[int, ...] = ()


def capacity(rate: float) -> tuple[int, float]:
    """How many orders fit into a window of how many ms: 5 a second is 5 in 1000, half a one is 1 in 2000."""
    room = max(1, math.floor(rate))
    return room, room * SECOND / rate


def wait_ms(throttle: Throttle, now_ms: int, rate: float | None, ahead: int = 0) -> int:
    """How long an order has to wait, 0 when it may go now.

    Args:
        throttle: what was sent.
        now_ms: the clock of `record`.
        rate: MAX_ORDERS_PER_SECOND, positive; None: no limit.
        ahead: how many go before it, each as soon as it may.
    """
    if rate is None:
        return 0
    room, window = capacity(rate)
    windows, place = divmod(ahead, room)
    # Places free at the times when what was sent leaves the window; those who go ahead take the first of them.
    place -= room - len(throttle.sent)
    wait = 0.0 if place < 0 else min(max(0.0, throttle.sent[place] + window - now_ms), window)
    return math.ceil(wait + windows * window)


def record(throttle: Throttle, now_ms: int, rate: float | None) -> Throttle:
    """An order that raises risk is being sent now."""
    if rate is None:
        return throttle
    return Throttle((*throttle.sent, now_ms)[-capacity(rate)[0] :])


class ThrottleLatch(msgspec.Struct, frozen=True):
    """Signals denied `throttled` within the last minute: `(when, signal id)`, oldest first, each id once."""

    denied: tuple[tuple[int, str], ...] = ()


def count_denial(latch: ThrottleLatch, signal_id: str, now_ms: int, limit: int | None) -> tuple[ThrottleLatch, bool]:
    """Count one more risk-raising signal denied `throttled`.

    Args:
        latch: those before it.
        signal_id: a signal counts once, however often it is repeated.
        now_ms: the time of the denial.
        limit: THROTTLE_LATCH; None: never latches.

    Returns:
        The new state, and whether the halt machine must go to REDUCING.
    """
    if limit is None:
        return latch, False
    recent = tuple(entry for entry in latch.denied if now_ms - entry[0] < LATCH_WINDOW_MS)
    if all(known != signal_id for _, known in recent):
        recent = (*recent, (now_ms, signal_id))
    return ThrottleLatch(recent), len(recent) >= limit

"""The one word of the heartbeat, from facts: `ok`, `degraded` or `not_ready`. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from mt5_bridge.core.decision import Readiness

STALL_MS = 500.0
"""An event loop that stood still this long since the last heartbeat is worth a word."""

SKEW_MS = 60_000
"""Ticks that are further from this PC's clock get wrong times, or none at all."""


class Health(StrEnum):
    """`heartbeat.status`."""

    OK = "ok"
    DEGRADED = "degraded"
    NOT_READY = "not_ready"


class Verdict(msgspec.Struct, frozen=True):
    """The status and what is behind it, in words; empty when all is well."""

    status: Health
    why: tuple[str, ...] = ()


def judge(
    readiness: Readiness,
    channels: Mapping[str, bool],
    *,
    troubles: Iterable[str] = (),
    clock_skew_ms: int | None = None,
    loop_stall_ms: float = 0.0,
) -> Verdict:
    """How the bridge is.

    Args:
        readiness: whether an order could be sent; if not, `not_ready`.
        channels: the channels that are configured, and whether each is up; one that is down makes `degraded`.
        troubles: what else does not work, in words; any makes `degraded`.
        clock_skew_ms: how far the terminal's last tick was from this PC's clock; None: unknown.
        loop_stall_ms: the longest stall of the event loop since the last heartbeat.
    """
    why = [f"{name} is down" for name, up in channels.items() if not up]
    why += troubles
    if clock_skew_ms is not None and abs(clock_skew_ms) > SKEW_MS:
        why.append(f"the terminal's ticks are {clock_skew_ms / 1000:+.0f} s from this PC's clock")
    if loop_stall_ms >= STALL_MS:
        why.append(f"the event loop stood still for {loop_stall_ms:.0f} ms")
    if (missing := readiness.why_not) is not None:
        return Verdict(Health.NOT_READY, (missing, *why))
    return Verdict(Health.DEGRADED if why else Health.OK, tuple(why))

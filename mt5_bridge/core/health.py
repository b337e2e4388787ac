"""The one word of the heartbeat, from facts: `ok`, `degraded` or `not_ready`. Pure."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from mt5_bridge.core.decision import Readiness

STALL_MS = 500.0
"""An event loop that stood still this long since the last heartbeat is worth a word."""


class Health(StrEnum):
    """`heartbeat.status`."""

    OK = "ok"
    DEGRADED = "degraded"
    NOT_READY = "not_ready"


class Verdict(msgspec.Struct, frozen=True):
    """The status and what is behind it, in words; empty when all is well."""

    status: Health
    why: tuple[str, ...] = ()


def judge(readiness: Readiness, channels: Mapping[str, bool], *, loop_stall_ms: float = 0.0) -> Verdict:
    """How the bridge is.

    Args:
        readiness: whether an order could be sent; if not, `not_ready`.
        channels: the channels that are configured, and whether each is up; one that is down makes `degraded`.
        loop_stall_ms: the longest stall of the event loop since the last heartbeat.
    """
    down = tuple(f"{name} is down" for name, up in channels.items() if not up)
    stalled = (f"the event loop stood still for {loop_stall_ms:.0f} ms",) if loop_stall_ms >= STALL_MS else ()
    if (missing := readiness.why_not) is not None:
        return Verdict(Health.NOT_READY, (missing, *down, *stalled))
    return Verdict(Health.DEGRADED if down or stalled else Health.OK, (*down, *stalled))

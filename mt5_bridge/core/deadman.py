"""The dead-man's switch, its pure part: when the daemon counts as gone, and the record of what was then done."""

from typing import Literal

import msgspec

from mt5_bridge.core.intent import MAGIC_LOW_BITS, MAGIC_LOW_MASK
from mt5_bridge.core.model import OrderRequest, TradeResult

REPORTS = "deadman-*.json"
"""The files in DATA_DIR that tell the next bridge what the terminal's host did by itself."""

_TURNS = 8
_SHORTEST_TURN_S, _LONGEST_TURN_S = 0.05, 1.0
_LATE = 2.0
_LATE_S = 0.1


def report_name(id: str) -> str:
    """The file of one report."""
    return REPORTS.replace("*", id)


class Pulse:
    """Counts for how long nothing came from the daemon, in turns of waiting, each of which must have gone normally.

    A turn that took much longer than it should (the PC slept, the process stood still) proves nothing about the daemon,
    which stood still as well: the count begins anew, so what waited in the pipe meanwhile is read before judging.

    Args:
        after_s: seconds of silence after which the daemon counts as dead; None: silence says nothing.

    Attributes:
        turn_s: how long to wait for a frame before each `turned`; None: for ever.
    """

    def __init__(self, after_s: float | None) -> None:
        self.turn_s = None if after_s is None else min(max(after_s / _TURNS, _SHORTEST_TURN_S), _LONGEST_TURN_S)
        self._after_s = after_s
        self._silent_s = 0.0
        self._reads = 0

    def turned(self, reads: int, seconds: float) -> bool:
        """A turn of waiting is over and brought no request.

        Args:
            reads: how often anything has been read from the daemon so far.
            seconds: how long the turn really took.

        Returns:
            Whether the daemon counts as dead.
        """
        if self._after_s is None or self.turn_s is None:
            return False
        if reads != self._reads or seconds > self.turn_s * _LATE + _LATE_S:
            self._reads, self._silent_s = reads, 0.0
        else:
            self._silent_s += seconds
        return self._silent_s >= self._after_s


class Act(msgspec.Struct, kw_only=True):
    """One request that the host sent by itself. Without `answer` its outcome is unknown, unless it was not `sent`."""

    magic: int
    leg: int
    request: OrderRequest
    at_msc: int
    volume_before: float
    sent: bool = True
    answer: TradeResult | None = None
    detail: str = ""


class Report(msgspec.Struct, kw_only=True):
    """What the host did. Times are UTC ms.

    Attributes:
        id: 32 hexadecimal digits, drawn at random.
        why: what it took for the daemon's death, in words.
        ended_msc: None while it acts, and for ever when it was cut off.
        cancelled, closed: tickets that it tried and that a later complete read did not show any more.
        left: tickets that should be gone and are not, with the reason.
        fault: why the account could not be read at the end; empty when it could.
    """

    id: str
    action: Literal["cancel", "flatten"]
    why: str
    login: int
    server: str
    began_msc: int
    ended_msc: int | None = None
    cancelled: list[int] = []
    closed: list[int] = []
    left: dict[int, str] = {}
    fault: str = ""
    acts: list[Act] = []

    @property
    def key(self) -> str:
        """Of its orders in the journal."""
        return f"deadman-{self.id}"

    def magic(self, base: int, leg: int) -> int:
        """The magic of one of its orders: numbers in a row, from a random one on.

        Args:
            base: MT5_MAGIC.
            leg: from 1.
        """
        return base << MAGIC_LOW_BITS | (int(self.id[:8], 16) + leg & MAGIC_LOW_MASK)

    @property
    def detail(self) -> str:
        """What went wrong, in words; empty when nothing did."""
        told = [f"{ticket}: {why}" for ticket, why in self.left.items() if why]
        if self.fault:
            told.append(f"the account could not be read: {self.fault}")
        if self.ended_msc is None:
            told.append("it was cut off before its end")
        return "; ".join(told)

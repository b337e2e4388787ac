"""Counts of observed values by size: what a latency metric is made of. No clock, no library, no lock."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

LATENCY_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Seconds: fine around what the bridge promises (3, 10 and 15 ms), coarse up to the deadline of an `order_send`."""
AGE_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Seconds: from a tick of this moment to the backlog of an hour."""


class Histogram:
    """Buckets with upper bounds that belong to them, and one above the last.

    One writer: `observe` is no atomic step. Where another thread reads meanwhile, sum and counts may differ by the
    value that is just coming in.

    Args:
        bounds: upper bounds, ascending.

    Attributes:
        bounds: as given.
        counts: how many values fell into each bucket, one more than there are bounds.
        sum: of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = LATENCY_S) -> None:
        self.bounds = tuple(bounds)
        if not self.bounds or any(a >= b for a, b in zip(self.bounds, self.bounds[1:], strict=False)):
            raise ValueError("bounds must ascend, and there must be one")
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one below nothing (a clock was set back) counts as 0, what is no number is left out."""
        if value != value:  # NaN would poison the sum for ever
            return
        if value < 0.0:
            value = 0.0
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> tuple[tuple[float, int], ...]:
        """(upper bound, how many values up to it), the last bound infinite."""
        return tuple(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True))

    def quantile(self, part: float) -> float | None:
        """An upper limit of the value that `part` (0 … 1) of all do not exceed: the bound of its bucket.

        None without values; infinite above the last bound.
        """
        total = self.count
        if not total:
            return None
        return next(bound for bound, count in self.cumulative() if count >= part * total and count)

"""How long to wait before trying again: exponential, capped, with full jitter. Pure; randomness comes in.

A connection that dies young does not reset the backoff (the minimum-uptime rule): a peer that accepts and closes at
once would otherwise be called thousands of times a second.
"""

from collections.abc import Callable, Iterator

import msgspec


class BackoffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a backoff, in seconds.

    Attributes:
        first: ceiling of the first delay.
        factor: growth of the ceiling with each failure.
        cap: the ceiling grows no further.
        floor: no delay is shorter, whatever the jitter says.
        min_uptime: a connection that lived at least so long counts as a success.
    """

    first: float = 0.5
    factor: float = 2.0
    cap: float = 30.0
    floor: float = 0.1
    min_uptime: float = 10.0


def ceiling(policy: BackoffPolicy, failures: int) -> float:
    """The longest delay, in seconds, after `failures` failures in a row (from 1)."""
    if failures < 1:
        return 0.0
    # Beyond 64 doublings every cap is reached; the bound keeps the power from overflowing.
    return min(policy.cap, policy.first * policy.factor ** min(failures - 1, 64))


def delay(policy: BackoffPolicy, failures: int, random: float) -> float:
    """The delay in seconds before the next try.

    Args:
        policy: the figures.
        failures: failures in a row; 0 means there is nothing to wait for.
        random: uniform in [0, 1), the jitter.
    """
    if failures < 1:
        return 0.0
    return max(policy.floor, random * ceiling(policy, failures))


def delays(policy: BackoffPolicy, random: Callable[[], float]) -> Iterator[float]:
    """Delays in seconds for one unbroken row of failures, without end."""
    failures = 0
    while True:
        failures += 1
        yield delay(policy, failures, random())


class Backoff(msgspec.Struct, frozen=True):
    """A backoff as a value: each event gives the next one.

    Attributes:
        policy: the figures.
        failures: failures in a row so far.
    """

    policy: BackoffPolicy = BackoffPolicy()
    failures: int = 0

    def failed(self) -> "Backoff":
        """A try failed."""
        return Backoff(self.policy, self.failures + 1)

    def ended(self, uptime: float) -> "Backoff":
        """A connection ended after `uptime` seconds: an old one starts the row anew, a young one is a failure more."""
        return Backoff(self.policy, 1 if uptime >= self.policy.min_uptime else self.failures + 1)

    def delay(self, random: float) -> float:
        """Seconds to wait now, given `random` in [0, 1)."""
        return delay(self.policy, self.failures, random)

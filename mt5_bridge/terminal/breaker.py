"""The circuit breaker before the terminal: a pure state machine.

    CLOSED → (failures in a row reach the threshold) → OPEN → (cool-down over, or a CRITICAL call) → HALF_OPEN
    HALF_OPEN → success → CLOSED; failure → OPEN

CRITICAL calls always pass: an emergency stop must not be refused because reads failed, and it serves as the probe.
"""

from enum import StrEnum


class BreakerState(StrEnum):
    """Whether calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Refuses calls after `threshold` failures in a row, until a probe succeeds. Holds no clock: time comes in.

    Attributes:
        threshold: failures in a row that open it.
        cooldown: seconds it stays open before one call may probe.
        trips: how often it opened.
        state: CLOSED, OPEN or HALF_OPEN.
    """

    def __init__(self, *, threshold: int = 5, cooldown: float = 10.0) -> None:
        self.threshold = threshold
        self.cooldown = cooldown
        self.trips = 0
        self.state = BreakerState.CLOSED
        self._failures = 0
        self._opened_at = 0.0

    def admit(self, now: float, *, critical: bool = False) -> bool:
        """Whether a call may pass now (`now`: monotonic seconds). In HALF_OPEN one probe is out, the rest wait."""
        if self.state is BreakerState.CLOSED:
            return True
        if critical or (self.state is BreakerState.OPEN and now - self._opened_at >= self.cooldown):
            self.state = BreakerState.HALF_OPEN
            return True
        return False

    def succeeded(self) -> None:
        """A call was answered: the terminal is well."""
        self.reset()

    def failed(self, now: float) -> None:
        """A call failed in a way that blames the terminal (timeout, broken pipe, dead host)."""
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self.threshold:
            if self.state is not BreakerState.OPEN:
                self.trips += 1
            self.state = BreakerState.OPEN
            self._opened_at = now

    def withdrawn(self) -> None:
        """An admitted call never reached the terminal: a probe that says nothing leaves the breaker open."""
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN

    def retry_in(self, now: float) -> float:
        """Seconds until a call may probe; 0 when one may now."""
        if self.state is not BreakerState.OPEN:
            return 0.0
        return max(0.0, self.cooldown - (now - self._opened_at))

    def reset(self) -> None:
        """Back to CLOSED, by hand or by success."""
        self.state = BreakerState.CLOSED
        self._failures = 0

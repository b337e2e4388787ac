"""So many frames a second from one client. Pure: the time now is an argument."""


class Allowance:
    """A bucket that fills steadily and holds a second's worth.

    Args:
        per_s: frames a second, and how many may come at once.
        now: monotonic seconds.
    """

    __slots__ = ("_at", "_left", "_per_s")

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at = now

    def take(self, now: float) -> bool:
        """Whether one more frame is within the rate."""
        self._left = min(self._per_s, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

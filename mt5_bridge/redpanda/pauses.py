"""How long to wait before the next connection. Pure; randomness comes in."""

from collections.abc import Callable

from mt5_bridge.core.backoff import Backoff
from mt5_bridge.redpanda.config import RedpandaConfig


class Pauses:
    """Short ones for what passes by itself, long ones for what waits for a person.

    Args:
        random: jitter, uniform in [0, 1).
    """

    def __init__(self, config: RedpandaConfig, random: Callable[[], float]) -> None:
        self._backoff = Backoff(config.backoff)
        self._patience = Backoff(config.patience)
        self._random = random

    @property
    def failures(self) -> int:
        """Connections in a row that did not last."""
        return self._backoff.failures

    def after(self, uptime: float, *, lasting: bool) -> float:
        """Seconds to wait.

        Args:
            uptime: how long the connection lived, in seconds.
            lasting: whether only a person can mend what ended it.
        """
        self._backoff = self._backoff.ended(uptime)
        if not lasting:
            self._patience = Backoff(self._patience.policy)
            return self._backoff.delay(self._random())
        self._patience = self._patience.failed()
        return self._patience.delay(self._random())

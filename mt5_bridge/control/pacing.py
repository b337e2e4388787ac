"""When the next connection may be tried. Pure: the time now and randomness are arguments.

Invariant: whatever the server does (refuses, accepts and closes, redirects), no more than `MAX_IN_WINDOW` connections
are opened in any ten seconds.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mt5_bridge.core.backoff import Backoff, BackoffPolicy

MAX_IN_WINDOW = 10
WINDOW = 10.5
"""Seconds. Half a second more than promised: the server counts arrivals, this side departures."""
REFUSED_BASE = 4.0
REFUSED_CAP = 30.0
FAILED = BackoffPolicy(cap=10.0)
"""Short enough for an operator who waits to stop the bridge from his own backend, once that is back."""
RETRY_AFTER_CAP = 3600.0


class Pace:
    """The memory of the reconnect loop: attempts in the window, failures and refusals in a row.

    Args:
        random: uniform numbers from 0 to 1, for the jitter.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._starts: deque[float] = deque(maxlen=MAX_IN_WINDOW)
        self._backoff = Backoff(FAILED)
        self._refusals = 0

    def wait(self, now: float) -> float:
        """Seconds until another connection fits into the window; 0 when it does now."""
        if len(self._starts) < MAX_IN_WINDOW:
            return 0.0
        return max(0.0, self._starts[0] + WINDOW - now)

    def started(self, now: float) -> None:
        """A connection is being tried."""
        self._starts.append(now)

    def after_failure(self) -> float:
        """Seconds to wait after no connection came about."""
        return self._next(self._backoff.failed())

    def after_refusal(self) -> float:
        """Seconds to wait after 401 or 403: 4, doubling to 30, without jitter. A token does not mend itself quickly."""
        pause = min(REFUSED_BASE * 2.0 ** min(self._refusals, 8), REFUSED_CAP)
        self._refusals += 1
        return pause

    def after_busy(self, retry_after: float | None) -> float:
        """Seconds to wait after 429 or 503: what the server asked for, and never less than the back-off."""
        return max(self._next(self._backoff.failed()), min(retry_after or 0.0, RETRY_AFTER_CAP))

    def after_session(self, uptime: float) -> float:
        """Seconds to wait after a connection that lived for `uptime` seconds."""
        return self._next(self._backoff.ended(uptime))

    def _next(self, backoff: Backoff) -> float:
        self._refusals = 0
        self._backoff = backoff
        return backoff.delay(self._random())


def retry_after_seconds(header: str | None, now_ms: int) -> float | None:
    """`Retry-After` (RFC 9110) in seconds: a number or an HTTP date; None when absent or unreadable."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds())

"""How many requests somebody may make, by the library `limits`, in memory."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from mt5_bridge.gateway.problems import Problem

BAD_TOKENS_A_MINUTE = 60
"""Of one address; who has a good token is not held up by it."""

MOST_ADDRESSES = 1_000


class Rates:
    """The limits of requests.

    Args:
        requests: RATE_LIMIT_REQUESTS, of one token in a minute.
    """

    def __init__(self, requests: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._addresses = MemoryStorage()
        self._strangers = SlidingWindowCounterRateLimiter(self._addresses)
        self._requests = RateLimitItemPerMinute(requests)
        self._bad = RateLimitItemPerMinute(BAD_TOKENS_A_MINUTE)

    async def take(self, subject: str) -> None:
        """Count a request of somebody.

        Raises:
            Problem: 429 `rate_limited`.
        """
        if not await self._limiter.hit(self._requests, "requests", subject):
            raise await self._refused(self._limiter, self._requests, "requests", subject)

    async def bad_token(self, address: str) -> None:
        """Count a request with a bad token.

        Raises:
            Problem: 429 `rate_limited`: too many came from that address.
        """
        if len(self._addresses.storage) >= MOST_ADDRESSES:
            # The library looks at all it knows with every request: a thousand strangers must not cost the others.
            await self._addresses.reset()
        if not await self._strangers.hit(self._bad, "bad", address):
            raise await self._refused(self._strangers, self._bad, "bad", address)

    async def _refused(
        self, limiter: SlidingWindowCounterRateLimiter, item: RateLimitItemPerMinute, *of: str
    ) -> Problem:
        stats = await limiter.get_window_stats(item, *of)
        wait = max(1, math.ceil(stats.reset_time - time.time()))
        words = f"more than {item.amount} requests a minute: wait {wait} s"
        return Problem(429, "rate_limited", words, headers={"Retry-After": str(wait)}, retry_after_s=wait)

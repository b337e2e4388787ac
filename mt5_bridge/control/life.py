"""Whether there is still somebody at the other end: pings, and what counts as a sign of life."""

import asyncio
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection

PING_INTERVAL = 5.0
PING_TIMEOUT = 5.0
"""A link that died silently is noticed after at most interval + ping timeout = 10 s, and torn down at once."""
STALL_S = 0.5


class Life:
    """The signs of life of one connection.

    Args:
        on_sign: called with each.
    """

    def __init__(self, on_sign: Callable[[], None]) -> None:
        self._on_sign = on_sign
        self._last = asyncio.get_running_loop().time()

    def sign(self) -> None:
        """A frame or a pong has come."""
        self._last = asyncio.get_running_loop().time()
        self._on_sign()

    async def watch(self, socket: ClientConnection) -> None:
        """Ping for ever. Not the library's pings: there a pong alone counts, and must not come late.

        Raises:
            TimeoutError: nothing came back.
            ConnectionClosed: the connection ended.
        """
        while True:
            await asyncio.sleep(PING_INTERVAL)
            answered = asyncio.ensure_future(_ping(socket))
            try:
                await self.until(answered)
            finally:
                answered.cancel()
            self.sign()

    async def until(self, pong: "asyncio.Future[float]") -> None:
        """Wait for a pong. A backend that reads slowly is not gone: whatever comes from it meanwhile is life.

        Raises:
            TimeoutError: nothing at all came for 5 s.
            ConnectionClosed: the connection ended.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not pong.done():
            until = max(began, self._last) + PING_TIMEOUT
            if loop.time() >= until:
                raise TimeoutError
            await asyncio.wait((pong,), timeout=until - loop.time())
            if loop.time() > until + STALL_S:
                began = loop.time()  # this process stood still: what came meanwhile has not been read yet
        pong.result()


async def _ping(socket: ClientConnection) -> float:
    return await (await socket.ping())

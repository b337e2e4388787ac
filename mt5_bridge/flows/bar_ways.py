"""The two ways bars leave by: the bar topic in hybrid mode, the WebSocket in standard mode."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

Headers = Sequence[tuple[str, bytes]]
Records = Sequence[tuple[int, bytes]]
"""(UTC ms of when the bar was over, message), oldest first."""

FRAMES_AT_ONCE = 128
"""Frames that wait for the backend's pong at a time: far fewer than its queue holds, which results share."""


class BarWay(Protocol):
    """Where bars go."""

    @property
    def open(self) -> bool:
        """Something can be sent now."""

    async def put(self, symbol: str, records: Records) -> None:
        """Send a symbol's bars; returns when all have arrived.

        Raises:
            BrokerError, ChannelClosedError: some may not have arrived.
        """


class BarPublisher(Protocol):
    """What is needed of the Redpanda producer."""

    @property
    def connected(self) -> bool: ...

    async def publish(
        self, topic: str, key: bytes | None, records: Sequence[tuple[int | None, bytes | None]], headers: Headers
    ) -> None: ...


class BarChannel(Protocol):
    """What is needed of the WebSocket client."""

    @property
    def connected(self) -> bool: ...

    async def send_confirmed(self, frame: bytes) -> None: ...


class TopicWay:
    """The bar topic, keyed by symbol."""

    def __init__(self, producer: BarPublisher, topic: str, headers: Callable[[str], Headers]) -> None:
        self._producer = producer
        self._topic = topic
        self._headers = headers

    @property
    def open(self) -> bool:
        """There is a broker."""
        return self._producer.connected

    async def put(self, symbol: str, records: Records) -> None:
        """See `BarWay`."""
        await self._producer.publish(self._topic, symbol.encode(), records, self._headers("bar_data"))


class SocketWay:
    """The WebSocket, a frame a bar, each confirmed by a pong."""

    def __init__(self, channel: BarChannel) -> None:
        self._channel = channel
        self._room = asyncio.Semaphore(FRAMES_AT_ONCE)

    @property
    def open(self) -> bool:
        """There is a backend."""
        return self._channel.connected

    async def put(self, symbol: str, records: Records) -> None:
        """See `BarWay`."""
        ends = await asyncio.gather(*(self._send(frame) for _, frame in records), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end

    async def _send(self, frame: bytes) -> None:
        async with self._room:
            await self._channel.send_confirmed(frame)

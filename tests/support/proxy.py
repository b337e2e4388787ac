"""A TCP proxy with faults, for any protocol: cut connections, refuse, hang, delay."""

import asyncio
from types import TracebackType

from mt5_bridge.demo.relay import Relay, readdress


class FaultyProxy(Relay):
    """Stands between a client and `127.0.0.1:target_port`, healthy until told otherwise.

    For a Kafka broker use `in_front_of_broker`: its clients would otherwise go past the proxy to the address it tells.
    """

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self._flow = asyncio.Event()
        self._flow.set()
        self._delay = 0.0
        self._port = 0

    @classmethod
    async def in_front_of_broker(cls, target_port: int) -> "FaultyProxy":
        proxy = cls(target_port)
        await proxy.start()
        proxy.on_answer = readdress("127.0.0.1", target_port, proxy.port)
        return proxy

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self, port: int = 0) -> None:
        await super().start(port)
        self._port = self.port

    async def refuse(self) -> None:
        """Closes the port and every connection."""
        await self.close()

    async def accept(self) -> None:
        """Opens the same port again."""
        await super().start(self._port)

    def hang(self) -> None:
        """Connections stay and are accepted, nothing passes."""
        self._flow.clear()

    def heal(self) -> None:
        """Lets everything pass at once, what waited included."""
        self._delay = 0.0
        self._flow.set()

    def delay(self, seconds: float) -> None:
        """Every chunk waits that long, in both directions."""
        self._delay = seconds

    async def pass_on(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        await self._flow.wait()
        if self._delay:
            await asyncio.sleep(self._delay)
        await super().pass_on(writer, chunk)

    async def __aenter__(self) -> "FaultyProxy":
        if not self._port:
            await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flow.set()
        await self.close()

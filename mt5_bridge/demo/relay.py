"""A small TCP relay on the loopback: gives the embedded broker a port of one's choice."""

import asyncio
from collections.abc import Callable

_CHUNK = 1 << 18
_FRAME_HEAD = 4


class Relay:
    """Passes bytes between clients and one target.

    Args:
        target_port: where to connect on 127.0.0.1.
        on_answer: changes each length-prefixed frame that comes back, keeping its length; None passes bytes untouched.
    """

    def __init__(self, target_port: int, on_answer: Callable[[bytes], bytes] | None = None) -> None:
        self.target_port = target_port
        self.on_answer = on_answer
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port listened on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, port: int = 0) -> None:
        """Listens on 127.0.0.1.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def close(self) -> None:
        """Stops listening and ends every connection."""
        if self._server is not None:
            self._server.close()
        await self.cut()
        if self._server is not None:
            await self._server.wait_closed()

    async def cut(self) -> None:
        """Ends every connection; new ones are still accepted."""
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        if self._server is None or not self._server.is_serving():
            writer.transport.abort()  # accepted at the last moment, when `close` had already cut the others
            return
        self._links.add(link)
        try:
            await self._link(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # the end of a connection is the relay's doing here, no failure of its server
        finally:
            self._links.discard(link)
            writer.close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.target_port, limit=_CHUNK)
        except OSError:
            writer.transport.abort()
            return
        there = asyncio.ensure_future(self._pump(reader, back_writer))
        back = asyncio.ensure_future(self._answers(back_reader, writer))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First of all: whoever cuts the link while it ends by itself cancels what follows.
            back_writer.transport.abort()
            for pump in (there, back):
                pump.cancel()
            await asyncio.gather(there, back, return_exceptions=True)

    async def pass_on(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        """Sends a chunk on, at the pace of its receiver."""
        writer.write(chunk)
        await writer.drain()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await self.pass_on(writer, chunk)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.on_answer is None:
            await self._pump(reader, writer)
            return
        while True:
            head = await reader.readexactly(_FRAME_HEAD)
            body = await reader.readexactly(int.from_bytes(head, "big"))
            await self.pass_on(writer, head + self.on_answer(body))


def readdress(host: str, old_port: int, new_port: int) -> Callable[[bytes], bytes]:
    """Changes the port under which a Kafka broker tells its clients to reach it.

    In every answer of the protocol a broker's address is the host as a string, then the port in four bytes.
    """
    address = host.encode("ascii")
    old = address + old_port.to_bytes(4, "big")
    new = address + new_port.to_bytes(4, "big")
    return lambda frame: frame.replace(old, new)

"""The relay: what it opened it closes, however its links end."""

import asyncio
from contextlib import suppress

from support.eventually import eventually

from mt5_bridge.demo.relay import Relay


class Reluctant(Relay):
    """One whose pump takes its time to end."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.ending = asyncio.Event()

    async def pass_on(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        never = asyncio.Event()
        try:
            await never.wait()
        except asyncio.CancelledError:
            self.ending.set()
            await never.wait()


async def test_a_link_that_is_cut_while_it_ends_leaves_no_socket() -> None:
    targets: list[asyncio.StreamReader] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        targets.append(reader)
        writer.write(b"hello")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        ended.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        relay = Reluctant(server.sockets[0].getsockname()[1])
        await relay.start()
        _, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        await eventually(lambda: targets, why="the link made")
        writer.close()
        await asyncio.wait_for(relay.ending.wait(), 10.0)
        await relay.close()
        await asyncio.wait_for(ended.wait(), 10.0)
        await writer.wait_closed()

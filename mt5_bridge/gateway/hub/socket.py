"""The WebSocket under a client: uvicorn's, with what many and hostile clients need besides.

It reads in small pieces, so that thousands of tiny frames sent at once are parsed in turns with everything else the
loop does; it writes frames made elsewhere, joined, without making each anew for every client; it says when it may be
written to again and when a ping was answered; and it cuts off a peer that reads nothing instead of waiting for it.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

EXTENSION = "mt5_bridge.socket"
"""Under this name of the ASGI scope's `extensions` the socket is found."""
PIECE = 2048
PINGS = 32
BREATH_S = 0.01
"""After so many pings nothing is read for so long: nobody needs more, and no rate counts them."""
HIGH_WATER = 64 << 10
SEND_BUFFER = 64 << 10
CUT_AFTER_S = 2.0
"""How long a peer may take to read what stands before the close frame, and to answer it."""


def _nothing(*_: Any) -> None:
    """Until a client takes over."""


class HubSocket(WebSocketsSansIOProtocol, asyncio.BufferedProtocol):
    """A WebSocket connection.

    Attributes:
        on_writable: called when more may be written.
        on_pong: called with the payload of a pong that answers no keep-alive ping.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.on_writable: Callable[[], None] = _nothing
        self.on_pong: Callable[[bytes], None] = _nothing
        self._piece = bytearray(PIECE)
        self._cut: asyncio.TimerHandle | None = None
        self._pings = 0

    # --- reading

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where the transport puts the next piece."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """A piece came."""
        self.data_received(bytes(memoryview(self._piece)[:nbytes]))

    def handle_ping(self) -> None:
        """Answered while the peer reads: pongs that nobody reads would pile up without bound."""
        output = b"".join(self.conn.data_to_send())
        if self.ready:
            self.transport.write(output)
        self._pings += 1
        if self._pings % PINGS == 0 and not self.transport.is_closing():
            self.transport.pause_reading()
            self.loop.call_later(BREATH_S, self._go_on)

    def _go_on(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_pong(self, event: Frame) -> None:
        """To the keep-alive, or to the client that asked."""
        if self.pending_ping_payload == bytes(event.data):
            super().handle_pong(event)
        else:
            self.on_pong(bytes(event.data))

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what the kernel and the transport hold: what waits there can no longer be replaced by what is newer."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with suppress(OSError):  # a smaller buffer is a wish; without it the window bounds what is on its way
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def handle_connect(self, event: Request) -> None:
        """Let the application find this socket in its scope."""
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]  # typed for the standard ones

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._cut is not None:
            self._cut.cancel()
        self.on_writable = self.on_pong = _nothing
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """A peer that answers no ping is gone, or reads nothing: waiting for it to read the close frame is vain."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """The server ends: whoever does not read that is cut off."""
        super().shutdown()
        self._cut_later()

    # --- writing

    @property
    def ready(self) -> bool:
        """Whether what is written now leaves soon."""
        return self.writable.is_set() and not self.disconnected

    def resume_writing(self) -> None:
        """There is room again."""
        super().resume_writing()
        self.on_writable()

    def write(self, frames: bytes) -> None:
        """Whole frames, one behind the other; nothing once the connection is being closed."""
        if self.conn.state is State.OPEN and not self.close_sent and not self.transport.is_closing():
            self.transport.write(frames)

    def close(self, code: int, reason: str) -> None:
        """Close without waiting for room to do so; who does not read it is cut off."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self._cut_later()

    def _cut_later(self) -> asyncio.TimerHandle:
        if self._cut is None:
            self._cut = self.loop.call_later(CUT_AFTER_S, self.transport.abort)
        return self._cut

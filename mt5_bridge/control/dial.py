"""Makes a connection to the backend, and ends one: the library's client with this project's manners."""

import asyncio
import logging
import socket as sockets

from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import CloseCode

from mt5_bridge.control.config import ControlConfig
from mt5_bridge.control.security import Credentials

OPEN_TIMEOUT = 5.0
CLOSE_TIMEOUT = 1.0
_SEND_BUFFER = 262_144
"""Bytes the system may hold back for a slow backend: there nothing is replaced and nothing overtakes."""

# The library logs request headers at DEBUG, among them the token: this logger never goes below WARNING.
_quiet = logging.getLogger("mt5_bridge.control.websocket")
_quiet.setLevel(logging.WARNING)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """A redirect is an error here: it would carry the connection elsewhere, and past the limit of attempts."""
        return exc


async def dial(config: ControlConfig, known: Credentials, *, secure: bool) -> ClientConnection:
    """A connection, or what the library raises when there is none.

    Args:
        config: address and bounds.
        known: token and context.
        secure: the address is `wss://`.
    """
    connection = await _Connect(
        config.url,
        # And no Origin: that is a browser's word, by which a backend may turn pages away.
        additional_headers={"Authorization": f"Bearer {known.token}"} if known.token else None,
        compression=None,  # frames are small and the memory of two deflate windows is not
        proxy=None,
        open_timeout=OPEN_TIMEOUT,
        ping_interval=None,  # `Life` does it, to see the pongs
        close_timeout=CLOSE_TIMEOUT,
        max_size=config.max_size,
        logger=_quiet,
        ssl=known.tls or (True if secure else None),
    )
    line = connection.transport.get_extra_info("socket")
    line.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, _SEND_BUFFER)
    return connection


async def hang_up(socket: ClientConnection) -> None:
    """Close politely within a second, else cut. The library's own close may wait for ever on a full send buffer."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await socket.close(1001)
    except TimeoutError:
        socket.transport.abort()


def goodbye(socket: ClientConnection) -> str:
    """How a connection ended, in words."""
    ended = socket.protocol.close_exc
    if ended.sent is not None and ended.sent.code == CloseCode.MESSAGE_TOO_BIG:
        return f"a frame of the backend is over the limit: {ended.sent.reason}"
    code, reason = socket.close_code, socket.close_reason
    return f"code {code} {reason}".strip() if code is not None else "connection lost"

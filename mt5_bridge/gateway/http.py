"""HTTP as uvicorn speaks it, within bounds that uvicorn leaves open: who sends no request, or heads without end, goes.

What reaches the app is bounded by the shield; this is what happens before there is a request at all.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MOST = 32_768
"""Bytes of a request's line and headers."""
HEAD_WITHIN_S = 10.0
"""How long a connection may take for its first request, and for the head of any."""
CONNECTIONS_BESIDE = 1_000
"""Connections at once beside those of WebSocket clients."""


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    most_connections = CONNECTIONS_BESIDE
    """Set by the server, by MAX_CONNECTIONS."""
    _head = 0
    _last = 0.0
    """When something happened on it last, by the loop's clock."""
    _reading_head = True
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's own
        """A client is there."""
        super().connection_made(transport)
        self._active()
        if len(self.connections) > self.most_connections and not self._make_room():
            transport.abort()
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._got()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of more than one."""
        if self._reading_head:
            self._head += len(data)
            if self._patience is None:
                self._wait()
        super().data_received(data)
        if self._reading_head and self._head > HEAD_MOST and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        self._reading_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is here."""
        self._head, self._reading_head = 0, False
        self._got()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is here; the next one may follow in the same bytes."""
        super().on_message_complete()
        self._reading_head = True

    def handle_websocket_upgrade(self) -> None:
        """It is a WebSocket from now on."""
        self._got()
        super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        """It is answered: from now on it is idle."""
        self._active()
        super().on_response_complete()

    @property
    def known(self) -> bool:
        """Whether its last request came with a good token."""
        state: dict[str, Any] = {} if self.scope is None else self.scope.get("state", {})
        return state.get("principal") is not None

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _active(self) -> None:
        self._last = asyncio.get_running_loop().time()

    def _make_room(self) -> bool:
        """Hang up on who has been idle longest: whoever fills all places must not keep a stop out.

        Strangers go first, and also those who do not read what they asked for.
        """
        others = (each for each in self.connections if isinstance(each, BoundedHttp) and each is not self)
        idle = [each for each in others if not (each.known and each.busy)]
        if not idle:
            return False
        oldest = min(idle, key=lambda each: (each.known, each._last))
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _wait(self) -> None:
        self._patience = asyncio.get_running_loop().call_later(HEAD_WITHIN_S, self._give_up)

    def _got(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if not self.transport.is_closing():
            self.transport.close()


def bounded(most_connections: int) -> type[Any]:
    """The protocol for a server with so many connections at most."""
    return type("BoundedHttp", (BoundedHttp,), {"most_connections": most_connections})

"""What stands before every request: no foreign host name, no foreign page, and headers that keep the page to itself."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'self'; "
    # Vue compiles the page's templates in the browser; NiceGUI's page has inline scripts and styles.
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_SAFE = frozenset({"GET", "HEAD"})


class Gate:
    """An ASGI application before another.

    Args:
        app: the other.
        hosts: names by which people reach it, beside the loopback's.
    """

    def __init__(self, app: App, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = {*LOOPBACK, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or not."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if not self._welcome(scope, headers):
            await _refuse(scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send))

    def _welcome(self, scope: Scope, headers: dict[bytes, str]) -> bool:
        host = headers.get(b"host", "")
        if (urlsplit(f"//{host}").hostname or "") not in self._hosts:
            return False
        origin = headers.get(b"origin")
        acts = scope["type"] == "websocket" or scope.get("method") not in _SAFE
        # A browser always names the page behind a WebSocket or a form; what names none is no browser.
        return origin is None or not acts or urlsplit(origin).netloc == host


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4403})
        return
    body = b"This page answers to its own address only.\n"
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})

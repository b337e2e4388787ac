"""What every request passes before any route: whom it is meant for, who sent it, how much, how often.

In this order: Host (DNS rebinding), Origin (strange pages, also on the WebSocket), the token, the rate, the body's
size. What goes wrong in a route becomes a problem here, and what acted is noted in the audit.
"""

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

from loguru import logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mt5_bridge.core import correlation
from mt5_bridge.core.reminder import Reminder
from mt5_bridge.gateway.audit import Audit
from mt5_bridge.gateway.auth import Authenticator, Principal
from mt5_bridge.gateway.config import LOOPBACK, GatewayConfig
from mt5_bridge.gateway.problems import Problem
from mt5_bridge.gateway.rates import Rates

BODY_WITHIN_S = 10.0
STOP = "/emergency-stop"
"""Never limited away."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_LIFE, _NUMBERS = secrets.token_hex(8), count(1)
"""Requests are told apart by who asked them first: nobody has to guess an id, or not to."""

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_DEFAULTS: dict[bytes, bytes] = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
"""Where the route says nothing else."""
_HSTS = (b"strict-transport-security", b"max-age=31536000")


@dataclass
class ShieldStats:
    """Counters of requests and of what was turned away."""

    requests: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """By the problem's code."""
    defects: int = 0


class Shield:
    """The outermost layer of the app.

    Args:
        app: what it protects.
        config: what is allowed.
        auth: knows the tokens.
        rates: counts.
        audit: remembers.
        open_paths: need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: GatewayConfig,
        auth: Authenticator,
        rates: Rates,
        audit: Audit,
        stats: ShieldStats,
        open_paths: Iterable[str],
    ) -> None:
        self._app = app
        self._config = config
        self._auth = auth
        self._rates = rates
        self._audit = audit
        self._stats = stats
        self._open = frozenset(open_paths)
        self._hosts = _hosts(config)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in config.allowed_origins)
        self._told = Reminder()
        self._always = HEADERS if config.tls_cert is None else (*HEADERS, _HSTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    # --- HTTP

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._stats.requests += 1
        headers = _headers(scope)
        request_id = _identify(headers)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        outgoing = _Outgoing(send, self._always, request_id)
        correlation.request.set(request_id)
        with logger.contextualize(correlation_id=request_id):
            try:
                self._look(scope, headers)
                state["principal"] = await self._judge(scope, headers)
                body = _Body(receive, self._config.body_limit, headers)
                if not _is_stop(scope):
                    body.look()
                await self._app(scope, body, outgoing)
            except Problem as problem:
                self._count(problem)
                await self._answer(problem, scope, receive, outgoing, request_id)
            except Exception as error:  # noqa: BLE001  a defect of one request is no end of the bridge
                self._stats.defects += 1
                logger.bind(event="gateway_defect").opt(exception=error).error(
                    "ERROR the gateway failed on {method} {path}: {e!r}",
                    method=scope["method"],
                    path=scope["path"],
                    e=error,
                )
                defect = Problem(500, "defect", "the bridge made a mistake; its log says which")
                await self._answer(defect, scope, receive, outgoing, request_id)
            self._note(scope, outgoing.status, request_id)

    async def _answer(
        self, problem: Problem, scope: Scope, receive: Receive, outgoing: "_Outgoing", request_id: str
    ) -> None:
        if outgoing.status is not None:
            return
        response = problem.response(request_id)
        if _has_body(scope) or scope["state"].get("principal") is None:
            response.headers["Connection"] = "close"  # nobody will read the rest, and a stranger needs no place
        await response(scope, receive, outgoing)

    def _note(self, scope: Scope, status: int | None, request_id: str) -> None:
        principal: Principal | None = scope["state"].get("principal")
        if scope["method"] in SAFE or principal is None:
            return
        outcome = scope["state"].get("outcome", "")
        detail = " ".join(part for part in (str(status or "no answer"), outcome, f"request {request_id}") if part)
        self._audit.note(
            principal.subject, f"{scope['method']} {scope['path']}", detail, told=True, unlimited=_is_stop(scope)
        )

    def _count(self, problem: Problem) -> None:
        self._stats.refused[problem.code] = self._stats.refused.get(problem.code, 0) + 1

    # --- WebSocket

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A client that sends its token as a header is known before it is accepted; a browser sends it as a frame."""
        self._stats.requests += 1
        headers = _headers(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = _identify(headers)
        try:
            self._look(scope, headers)
            state["principal"] = None
            if b"authorization" in headers:
                state["principal"] = await self._judge(scope, headers)
        except Problem as problem:
            self._count(problem)
            if "websocket.http.response" in scope.get("extensions", {}):
                await _deny(problem, state["request_id"], send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": problem.code})
            return
        correlation.request.set(state["request_id"])
        with logger.contextualize(correlation_id=state["request_id"]):
            await self._app(scope, receive, send)

    # --- whom, from where, who, how often

    def _look(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> None:
        if not scope["path"].isprintable():
            raise Problem(400, "bad_request", "the path holds control characters")  # logs and the audit quote it
        hosts = headers.get(b"host", [])
        if len(hosts) != 1:
            raise Problem(400, "host_not_allowed", "a request needs one Host header")
        host, port = _host_of(hosts[0].decode("latin-1"))
        if host not in self._hosts and not (_any_address(self._config.host) and _is_address(host)):
            words = "the Host header names no address of this gateway; GATEWAY_ALLOWED_HOSTS can allow it"
            raise Problem(400, "host_not_allowed", words)
        for origin in headers.get(b"origin", []):
            self._look_at_origin(scope, origin.decode("latin-1").lower(), host, port)

    def _look_at_origin(self, scope: Scope, origin: str, host: str, port: int | None) -> None:
        secure = scope["scheme"] in ("https", "wss")
        try:
            parts = urlsplit(origin)
            theirs = (parts.scheme, _bracketed(parts.hostname or ""), parts.port or _DEFAULT_PORTS.get(parts.scheme))
        except ValueError:
            theirs = ("", "", None)
        ours = ("https" if secure else "http", host, port or _DEFAULT_PORTS["https" if secure else "http"])
        if theirs != ours and origin not in self._origins:
            words = "pages of other origins may not ask; GATEWAY_ALLOWED_ORIGINS can allow one"
            raise Problem(403, "origin_not_allowed", words)

    async def _judge(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> Principal | None:
        path = scope["path"]
        if path in self._open and scope["type"] == "http" and scope["method"] in SAFE:
            return None
        given = headers.get(b"authorization", [])
        try:
            principal = self._auth.of_header(given[0].decode("latin-1") if len(given) == 1 else None)
        except Problem as problem:
            address = (scope.get("client") or ("unknown",))[0]
            self._tell(problem, address)
            if given:
                await self._rates.bad_token(address)  # who sends none guesses none
            raise
        if not _is_stop(scope):
            await self._rates.take(principal.subject)
        return principal

    def _tell(self, problem: Problem, address: str) -> None:
        """Of a flood, a line a minute."""
        if self._told.due(f"{address} {problem.code}", asyncio.get_running_loop().time()):
            logger.bind(event="gateway_token_refused", code=problem.code).warning(
                "A request from {address} is refused: {why}", address=address, why=problem.detail
            )


class _Outgoing:
    """Adds what every answer carries, and knows its status."""

    def __init__(self, send: Send, always: tuple[tuple[bytes, bytes], ...], request_id: str) -> None:
        self.status: int | None = None
        self._send = send
        self._always = (*always, (b"x-request-id", request_id.encode()))

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = list(message.get("headers", []))
            named = {name.lower() for name, _ in given}
            own = [(name, value) for name, value in _DEFAULTS.items() if name not in named]
            message = {**message, "headers": [*given, *own, *self._always]}
        await self._send(message)


class _Body:
    """A request's body, within bounds of size and time."""

    def __init__(self, receive: Receive, limit: int, headers: dict[bytes, list[bytes]]) -> None:
        self._receive = receive
        self._left = limit
        self._limit = limit
        self._whole = False
        self._until = asyncio.get_running_loop().time() + BODY_WITHIN_S
        said = headers.get(b"content-length", [b"0"])[0]
        self._refused = said.isdigit() and int(said) > limit

    def look(self) -> None:
        """Refuse what says itself that it is too long.

        Raises:
            Problem: 413.
        """
        if self._refused:
            raise self._too_large()

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()  # waits for the client to go
        self.look()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            words = f"the body took more than {BODY_WITHIN_S:g} s"
            raise Problem(408, "too_slow", words, headers={"Connection": "close"}) from None
        self._whole = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise self._too_large()
        return message

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"a body may have {self._limit} bytes", headers={"Connection": "close"})


def _is_stop(scope: Scope) -> bool:
    """Neither a rate nor anything about its body keeps this one back."""
    return scope["path"] == STOP and scope.get("method") == "POST"


async def _deny(problem: Problem, request_id: str, send: Send) -> None:
    response = problem.response(request_id)
    await send(
        {
            "type": "websocket.http.response.start",
            "status": problem.status,
            "headers": [*response.raw_headers, *HEADERS],
        }
    )
    await send({"type": "websocket.http.response.body", "body": bytes(response.body)})


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _identify(headers: dict[bytes, list[bytes]]) -> str:
    """The request's id: the client's where it is one, so that its logs and ours agree."""
    given = headers[b"x-request-id"][0].decode("latin-1") if b"x-request-id" in headers else ""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return f"{_LIFE}{next(_NUMBERS):016x}"


def _hosts(config: GatewayConfig) -> frozenset[str]:
    own = () if _any_address(config.host) else (_bracketed(config.host.lower()),)
    return frozenset({*LOOPBACK, *own, *(host.lower() for host in config.allowed_hosts)})


def _any_address(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104  compared, not bound to


def _is_address(host: str) -> bool:
    """An address needs no DNS, which nobody can rebind then."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _host_of(value: str) -> tuple[str, int | None]:
    """Name and port of a Host header; an empty name where it is malformed."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", value.strip())
    if found is None:
        return "", None
    return found[1].lower().rstrip("."), None if found[2] is None else int(found[2])

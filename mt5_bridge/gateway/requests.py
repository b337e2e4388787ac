"""Every request timed, counted and told in one line with its ids: the outermost layer of the app.

A line has `correlation_id` (X-Request-ID, given or made), which the journal keeps with a signal and the order's own
lines carry, too. What acted is told to people, what failed here loudly; mere looks only where LOG_LEVEL=DEBUG.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loguru import logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mt5_bridge.core.histogram import Histogram

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = SAFE | {"POST", "PUT", "PATCH", "DELETE"}
OTHER = "other"
"""Stands for every path that is no route, and every method that is none: whoever asks cannot make up metrics."""
SLOW_S = 1.0
_TEXT_MOST = 200


@dataclass
class Requests:
    """What was asked and how long it took.

    Attributes:
        in_flight: being answered now.
        answered: (method, route, status) → how many.
        seconds: (method, route) → how long, to the answer's last byte.
    """

    in_flight: int = 0
    answered: dict[tuple[str, str, str], int] = field(default_factory=dict)
    seconds: dict[tuple[str, str], Histogram] = field(default_factory=dict)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One more answer; `status` 0: the client went before there was one."""
        key = (method, route, str(status) if status else "none")
        self.answered[key] = self.answered.get(key, 0) + 1
        histogram = self.seconds.get((method, route))
        if histogram is None:
            histogram = self.seconds[method, route] = Histogram()
        histogram.observe(seconds)


class Measured:
    """Measures what the app within does.

    Args:
        app: the app within.
        requests: where it is counted.
        tells_looks: requests that only look are told as well, where the log has room for them.
        monotonic: seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        requests: Requests,
        *,
        tells_looks: bool = True,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._requests = requests
        self._tells_looks = tells_looks
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def outgoing(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # Before anything within may copy it: what the inner layers learn is wanted here afterwards.
        scope.setdefault("state", {})
        began = self._monotonic()
        self._requests.in_flight += 1
        try:
            await self._app(scope, receive, outgoing)
        finally:
            self._requests.in_flight -= 1
            seconds = self._monotonic() - began
            method, route = _method(scope), _route(scope)
            self._requests.count(method, route, status, seconds)
            level = _level(scope, method, status, seconds)
            if level != "DEBUG" or self._tells_looks:
                _tell(level, scope, method, route, status, seconds)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else OTHER


def _route(scope: Scope) -> str:
    route = scope.get("route")
    path: str = getattr(route, "path", "") or OTHER
    return path


def _tell(level: str, scope: Scope, method: str, route: str, status: int, seconds: float) -> None:
    state: dict[str, Any] = scope["state"]
    principal = state.get("principal")
    who = getattr(principal, "subject", None)
    logger.bind(event="gateway_request").log(
        level,
        "{method} {path} answered {said} to {who} in {ms} ms (request {correlation_id})",
        correlation_id=state.get("request_id"),
        idempotency_key=_header(scope, b"idempotency-key"),
        method=method,
        path=scope["path"][:_TEXT_MOST],
        route=route,
        status=status,
        said=status or "not answered",
        ms=round(seconds * 1000, 2),
        by=who,
        who=who or "somebody",
        client=(scope.get("client") or (None,))[0],
    )


def _level(scope: Scope, method: str, status: int, seconds: float) -> str:
    """A stranger's refusals must not flood the log of those who are let in."""
    if status >= 500:
        return "WARNING"
    acted = method not in SAFE and scope["state"].get("principal") is not None
    return "INFO" if acted or seconds > SLOW_S else "DEBUG"


def _header(scope: Scope, name: bytes) -> str | None:
    found = next((value for key, value in scope["headers"] if key.lower() == name), None)
    return None if found is None else found.decode("latin-1")[:_TEXT_MOST]

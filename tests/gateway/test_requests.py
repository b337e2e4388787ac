"""Each request is timed, counted and told once; strangers can neither make up metrics nor flood the log."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from loguru import logger
from starlette.types import Message, Receive, Scope, Send

from mt5_bridge.gateway.auth import ALL_SCOPES, Principal
from mt5_bridge.gateway.requests import Measured, Requests

ANN = Principal(subject="ann", scopes=ALL_SCOPES)


class Route:
    path = "/orders/{ticket}"


class App:
    """Stands for everything within: answers as the path says."""

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        kind = scope["path"].split("/")[1]
        if kind == "hang":
            self.began.set()
            await asyncio.Event().wait()
        if kind == "orders":
            scope["route"] = Route()
        scope["state"] |= {"request_id": "x-1", "principal": None if kind == "stranger" else ANN}
        status = {"broken": 503, "missing": 404}.get(kind, 200)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    sink = logger.add(lambda message: found.append({**message.record["extra"], "level": message.record["level"].name}))
    yield found
    logger.remove(sink)


async def ask(
    requests: Requests, method: str, path: str, *, app: App | None = None, headers: dict[str, str] | None = None
) -> None:
    ticks = itertools.count()
    measured = Measured(app or App(), requests, monotonic=lambda: next(ticks) * 0.004)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(measured), base_url="http://here") as client:
        await client.request(method, path, headers=headers)


async def test_by_route_and_status(lines: list[dict[str, Any]]) -> None:
    requests = Requests()
    for path in ("/orders/1", "/orders/2", "/a", "/b", "/missing"):
        await ask(requests, "GET", path)
    await ask(requests, "BREW", "/orders/1")
    assert requests.answered == {
        ("GET", "/orders/{ticket}", "200"): 2,
        ("GET", "other", "200"): 2,
        ("GET", "other", "404"): 1,
        ("other", "/orders/{ticket}", "200"): 1,
    }
    histogram = requests.seconds["GET", "/orders/{ticket}"]
    assert (histogram.count, histogram.quantile(1.0), requests.in_flight) == (2, 0.005, 0)
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("method", "path", "level"),
    [
        ("GET", "/orders/1", "DEBUG"),
        ("POST", "/orders/1", "INFO"),
        ("POST", "/stranger", "DEBUG"),
        ("GET", "/broken", "WARNING"),
        ("GET", "/missing", "DEBUG"),
    ],
)
async def test_what_acted_and_what_failed_is_told(
    lines: list[dict[str, Any]], method: str, path: str, level: str
) -> None:
    await ask(Requests(), method, path, headers={"Idempotency-Key": "k-1"})
    [line] = lines
    assert line["level"] == level
    assert (line["event"], line["correlation_id"], line["idempotency_key"]) == ("gateway_request", "x-1", "k-1")
    assert (line["method"], line["by"]) == (method, None if path == "/stranger" else "ann")
    assert line["ms"] == 4.0


async def test_a_client_that_goes_is_counted_as_not_answered(lines: list[dict[str, Any]]) -> None:
    requests, app = Requests(), App()
    task = asyncio.create_task(ask(requests, "GET", "/hang", app=app))
    await app.began.wait()
    assert requests.in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (requests.in_flight, requests.answered) == (0, {("GET", "other", "none"): 1})
    assert len(lines) == 1


async def test_a_websocket_is_no_request() -> None:
    requests = Requests()

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    await Measured(App(), requests)({"type": "websocket"}, receive, send)
    assert requests.answered == {}

"""Every route with every kind of token: made from the app's own routes, so that none is forgotten."""

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from support.fake_bridge_port import Disk, FakePort, gateway, symbol
from support.gateway import JWT_KEY, TOKEN, jwt_for

from mt5_bridge.gateway.app import OPEN, OPEN_ON_LOOPBACK, ROUTERS, create_app, routes_of, scope_of
from mt5_bridge.gateway.auth import Scope
from mt5_bridge.gateway.config import GatewayConfig

CONFIG = GatewayConfig(token=TOKEN, jwt_key=JWT_KEY)
IMPLIED = {
    Scope.READ: {Scope.READ},
    Scope.TRADE: {Scope.READ, Scope.TRADE},
    Scope.STOP: {Scope.STOP},
    Scope.ADMIN: set(Scope),
}
"""As docs/gateway.md says it; not taken from the code under test."""
NEEDED = {
    ("GET", "/account"): Scope.READ,
    ("GET", "/positions"): Scope.READ,
    ("POST", "/ticks"): Scope.READ,
    ("POST", "/order"): Scope.TRADE,
    ("POST", "/signal"): Scope.TRADE,
    ("PATCH", "/positions/{ticket}"): Scope.TRADE,
    ("DELETE", "/orders/{ticket}"): Scope.TRADE,
    ("POST", "/emergency-stop"): Scope.STOP,
    ("POST", "/resume"): Scope.ADMIN,
    ("POST", "/connect"): Scope.ADMIN,
    ("POST", "/disconnect"): Scope.ADMIN,
    ("POST", "/websocket/ws/broadcast"): Scope.ADMIN,
}
"""What the contract says of some; of the others: a GET needs `read`, and what acts more than that."""


def made() -> FastAPI:
    return create_app(FakePort(), CONFIG, Disk(), now_ms=lambda: 0)


def endpoints() -> Iterator[tuple[str, APIRoute]]:
    for route in routes_of(ROUTERS):
        for method in sorted(route.methods or ()):
            yield method, route


ENDPOINTS = list(endpoints())
GUARDED = [(method, route) for method, route in ENDPOINTS if route.path not in (*OPEN, *OPEN_ON_LOOPBACK)]


def able() -> FakePort:
    """A port that answers what the routes ask for as the bridge would."""
    port = FakePort()
    latched = {"state": "halted", "reason": "r", "by": "ann", "at": "2026-01-05T10:00:00.000Z", "durable": True}
    port.answers["emergency_stop"] = lambda asked: {"data": latched}
    port.answers["get_symbols"] = lambda asked: {"data": [symbol("EURUSD")]}
    return port


def named(each: Any) -> str:
    return each.path if isinstance(each, APIRoute) else str(each)


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: "7" if found[1] == "ticket" else "EURUSD", path)


async def ask(asking: httpx.AsyncClient, method: str, route: APIRoute, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body: dict[str, Any] | None = None if method in ("GET", "DELETE") else {}
    request = asking.build_request(method, filled(route.path), headers=headers, json=body)
    if token is None:
        del request.headers["Authorization"]
    return await asking.send(request)


def test_there_are_routes_and_what_is_open_is_few() -> None:
    assert len(GUARDED) >= 15
    told = {
        (method.upper(), path.partition("{")[0]) for path, item in made().openapi()["paths"].items() for method in item
    }
    assert told <= {(method, route.path.partition("{")[0]) for method, route in ENDPOINTS}
    assert {route.path for _, route in ENDPOINTS} - {route.path for _, route in GUARDED} <= {*OPEN, *OPEN_ON_LOOPBACK}
    assert set(OPEN) <= {"/", "/health", "/health/live", "/health/ready"}
    assert {("GET", path) for path in OPEN} <= {(method, route.path) for method, route in ENDPOINTS}


@pytest.mark.parametrize(("method", "route"), GUARDED, ids=named)
def test_what_each_needs(method: str, route: APIRoute) -> None:
    needed = NEEDED.get((method, route.path))
    if needed is None and method == "GET":
        needed = Scope.READ
    assert needed is None or scope_of(route) is needed
    assert method in ("GET", "HEAD") or route.path == "/ticks" or scope_of(route) is not Scope.READ


@pytest.mark.parametrize(("method", "route"), GUARDED, ids=named)
async def test_nobody_comes_in_without_a_token(method: str, route: APIRoute) -> None:
    now = int(time.time())
    claims = {"sub": "eve", "scope": "admin", "exp": now + 86_400}
    bad = [
        None,
        "",
        TOKEN[:-1],
        TOKEN.upper(),
        jwt.encode(claims, JWT_KEY + "x", algorithm="HS256"),
        jwt.encode({**claims, "exp": now - 60}, JWT_KEY, algorithm="HS256"),
        jwt.encode({"sub": "eve", "scope": "admin"}, JWT_KEY, algorithm="HS256"),
        jwt.encode(claims, "", algorithm="none"),
        jwt_for(Scope.ADMIN)[:-2],
    ]
    async with gateway(jwt_key=JWT_KEY) as client:
        for token in bad:
            answer = await ask(client.http, method, route, token)
            assert answer.status_code == 401, (token, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
        port = client.port
        assert (port.asked, port.latched, port.sessions, port.refreshes) == ([], [], [], 0)


@pytest.mark.parametrize(("method", "route"), GUARDED, ids=named)
async def test_scopes_open_what_they_say_and_no_more(method: str, route: APIRoute) -> None:
    needed = scope_of(route)
    kinds = [set(some) for size in (0, 1, 2) for some in itertools.combinations(Scope, size)]
    async with gateway(able(), jwt_key=JWT_KEY) as client:
        for scopes in kinds:
            before = len(client.port.asked) + len(client.port.sessions)
            answer = await ask(client.http, method, route, jwt_for(*scopes))
            may = any(needed in IMPLIED[scope] for scope in scopes)
            if may:
                assert answer.status_code not in (401, 403, 500), (scopes, answer.text)
                continue
            assert answer.status_code == 403, (scopes, answer.text)
            assert answer.json()["code"] == "missing_scope"
            assert len(client.port.asked) + len(client.port.sessions) == before
        assert (await ask(client.http, method, route, TOKEN)).status_code not in (401, 403, 500)


@pytest.mark.parametrize("path", OPEN_ON_LOOPBACK)
async def test_the_description_is_open_on_loopback_only(path: str) -> None:
    for host, status in (("127.0.0.1", 200), ("10.0.0.5", 401)):
        async with gateway(jwt_key=JWT_KEY, host=host) as client:
            request = client.http.build_request("GET", path)
            del request.headers["Authorization"]
            assert (await client.http.send(request)).status_code == status


@pytest.mark.parametrize(("method", "route"), GUARDED, ids=named)
async def test_no_page_of_strangers_and_no_other_host(method: str, route: APIRoute) -> None:
    async with gateway() as client:
        for header, value, status in (("Origin", "http://evil.example", 403), ("Host", "evil.example", 400)):
            answer = await client.http.request(method, filled(route.path), headers={header: value})
            assert answer.status_code == status
        assert not client.port.asked


async def test_a_route_that_asks_for_no_scope_is_found_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import APIRouter

    from mt5_bridge.gateway import app

    careless = APIRouter()

    @careless.get("/secrets")
    async def secrets() -> None: ...

    monkeypatch.setattr(app, "ROUTERS", (*app.ROUTERS, careless))
    with pytest.raises(AssertionError, match="/secrets asks for no scope"):
        made()

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from support.fake_bridge_port import Disk, FakePort
from support.gateway import JWT_KEY, TOKEN, bearer, jwt_for

from mt5_bridge.gateway.app import ROUTERS, create_app, routes_of
from mt5_bridge.gateway.auth import Admin, NeedsUnlessOpen, Reader, Scope
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.shortcut import Shortcut, plain_of, plain_routes
from mt5_bridge.gateway.state import Here

router = APIRouter()


@router.get("/plain")
async def plain(gateway: Here, who: Reader, limit: Annotated[int, Query()] = 5) -> Response:
    return Response(f"{who.subject} {limit}")


@router.get("/admin")
async def admin(who: Admin) -> Response:
    return Response(who.subject)


@router.get("/model")
async def model(who: Reader) -> dict[str, int]:
    return {}


@router.get("/request")
async def request(request: Request, who: Reader) -> Response:
    return Response()


@router.get("/header")
async def header(who: Reader, x_key: Annotated[str | None, Header()] = None) -> Response:
    return Response()


@router.get("/needed")
async def needed(who: Reader, symbol: Annotated[str, Query()]) -> Response:
    return Response()


@router.get("/named/{name:path}")
async def named(who: Reader, name: Annotated[str, Path(max_length=8)]) -> Response:
    return Response()


@router.get("/within/{name}/more")
async def within(who: Reader, name: str) -> Response:
    return Response()


@router.post("/post")
async def post(who: Reader) -> Response:
    return Response()


@router.get("/either")
@router.get("/both", dependencies=[])
async def both(who: Reader) -> Response:
    return Response()


def route(path: str) -> APIRoute:
    return next(each for each in router.routes if isinstance(each, APIRoute) and each.path == path)


@pytest.mark.parametrize("path", ["/plain", "/admin", "/either", "/both", "/named/{name:path}"])
def test_a_get_that_needs_rooms_and_a_scope_only_is_plain(path: str) -> None:
    assert plain_of(route(path)) is not None


@pytest.mark.parametrize("path", ["/model", "/request", "/header", "/needed", "/post", "/within/{name}/more"])
def test_whatever_needs_more_goes_the_long_way(path: str) -> None:
    assert plain_of(route(path)) is None


def test_a_scope_that_depends_on_more_goes_the_long_way() -> None:
    for each in ROUTERS:
        for found in each.routes:
            if isinstance(found, APIRoute):
                open_too = any(isinstance(one.call, NeedsUnlessOpen) for one in found.dependant.dependencies)
                assert not (open_too and plain_of(found))


async def test_both_ways_answer_the_same() -> None:
    """With and without what makes a request take the long way, by everybody who asks."""
    config = GatewayConfig(token=TOKEN, jwt_key=JWT_KEY)
    app = create_app(FakePort(), config, Disk(), now_ms=lambda: 0)
    assert isinstance(app.router.middleware_stack, Shortcut)
    paths = [path if path[-1] != "/" or path == "/" else f"{path}EURUSD" for path in plain_routes(routes_of(ROUTERS))]
    assert {"/account", "/positions", "/orders", "/health", "/symbols/EURUSD"} <= set(paths)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as http:
        for path in (*paths, "/symbols/", f"/symbols/{'X' * 65}", "/symbols/A/B"):
            for scope in Scope:
                headers = bearer(jwt_for(scope))
                short, long = [await http.get(f"{path}{end}", headers=headers) for end in ("", "?unknown=1")]
                assert short.status_code == long.status_code
                assert set(short.headers) == set(long.headers)
                if short.status_code == 200:
                    assert short.json().keys() == long.json().keys()
                else:
                    assert short.json()["code"] == long.json()["code"]
            assert (await http.get(path)).status_code == (await http.get(f"{path}?unknown=1")).status_code
        counted = app.state.gateway.stats.refused
        assert "missing_scope" not in counted, "what a route refuses was not turned away before it"
        for path in ("/account", "/nowhere", "/order"):
            for method in ("GET", "POST", "DELETE", "HEAD"):
                short, long = [
                    await http.request(method, f"{path}{end}", headers=bearer(TOKEN)) for end in ("", "?unknown=1")
                ]
                assert short.status_code == long.status_code

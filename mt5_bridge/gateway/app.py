"""The app: its routes, and what stands before them."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.middleware import Middleware

from mt5_bridge import __version__
from mt5_bridge.gateway import problems, shortcut
from mt5_bridge.gateway.audit import Audit, Writing
from mt5_bridge.gateway.auth import Authenticator, Needs
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.description import TITLE, openapi_of
from mt5_bridge.gateway.hub.connection import Connections
from mt5_bridge.gateway.hub.hub import Hub, HubConfig
from mt5_bridge.gateway.port import BridgePort
from mt5_bridge.gateway.rates import Rates
from mt5_bridge.gateway.requests import Measured
from mt5_bridge.gateway.routes import (
    account,
    docs,
    health,
    market,
    metrics,
    root,
    session,
    status,
    stop,
    trading,
    websocket,
)
from mt5_bridge.gateway.shield import Shield
from mt5_bridge.gateway.state import Gateway

OPEN = ("/", "/health", "/health/live", "/health/ready")
"""Needs no token, wherever it is asked."""
OPEN_ON_LOOPBACK = docs.PATHS
ROUTERS: tuple[APIRouter, ...] = (
    root.router,
    health.router,
    status.router,
    metrics.router,
    account.router,
    market.router,
    trading.router,
    stop.router,
    session.router,
    websocket.router,
    docs.router,
)


def create_app(port: BridgePort, config: GatewayConfig, journal: Writing, *, now_ms: Callable[[], int]) -> FastAPI:
    """The gateway's ASGI app; `app.state.gateway` has its rooms.

    Args:
        port: the bridge.
        config: the settings.
        journal: where the audit trail is kept.
        now_ms: the time, UTC.
    """
    auth, rates, audit = (
        Authenticator(config.token, config.jwt_key),
        Rates(config.rate_limit_requests),
        Audit(journal, now_ms),
    )
    hub = Hub(port, _hub_config(config), now_ms=now_ms)
    gateway = Gateway(port, config, auth, rates, audit, now_ms, hub, Connections(hub, port, auth, rates, audit))
    open_paths = (*OPEN, *(OPEN_ON_LOOPBACK if config.loopback else ()))
    app = FastAPI(
        title=TITLE,
        middleware=[
            Middleware(Measured, requests=gateway.requests, tells_looks=config.tells_looks),
            Middleware(
                Shield, config=config, auth=auth, rates=rates, audit=audit, stats=gateway.stats, open_paths=open_paths
            ),
            Middleware(shortcut.AtOnce, gateway=gateway, plain=shortcut.plain_routes(routes_of(ROUTERS))),
        ],
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # /metrics and the log are the bridge's own
    )
    app.state.gateway = gateway
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router, responses=problems.COMMON)
    shortcut.install(app)
    _look_at_scopes(open_paths)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # the way that FastAPI documents
    return app


def _hub_config(config: GatewayConfig) -> HubConfig:
    return HubConfig(
        version=__version__,
        bridge_id=config.bridge_id,
        max_connections=config.max_connections,
        messages_per_s=config.rate_limit_messages,
        heartbeat_s=config.heartbeat_s,
    )


def scope_of(route: APIRoute) -> Any:
    """The scope that a route asks for, None where it asks for none."""
    needs = [one.call for one in route.dependant.dependencies if isinstance(one.call, Needs)]
    return needs[0].scope if needs else None


def routes_of(routers: Iterable[APIRouter]) -> list[APIRoute]:
    """The HTTP endpoints of routers. An app has them only as what it included."""
    found = [route for router in routers for route in router.routes]
    strange = [route for route in found if not isinstance(route, APIRoute | APIWebSocketRoute)]
    assert not strange, f"{strange} cannot be looked at"
    return [route for route in found if isinstance(route, APIRoute)]


def _look_at_scopes(open_paths: tuple[str, ...]) -> None:
    """A route that somebody forgot to protect is found at the start, not by a thief."""
    for route in routes_of(ROUTERS):
        if route.path not in open_paths:
            assert scope_of(route) is not None, f"{route.path} asks for no scope"


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = openapi_of(app)
    return app.openapi_schema

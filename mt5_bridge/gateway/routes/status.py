"""How the whole service is, in one document."""

import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mt5_bridge import __version__
from mt5_bridge.core.times import iso
from mt5_bridge.gateway.auth import Reader
from mt5_bridge.gateway.performance import Performance, performance
from mt5_bridge.gateway.state import Gateway, Here

router = APIRouter(tags=["service"])


class Component(BaseModel):
    """One part of the service."""

    status: str = Field(examples=["connected"])
    detail: str | None = None


class Tier(BaseModel):
    """One tier of the cache."""

    hits: int
    misses: int
    hit_rate: float | None = Field(description="0 to 1; null before the first reader.", examples=[0.98])
    entries: int
    ttl_s: float


class Connections(BaseModel):
    """Who is connected."""

    websocket: int
    websocket_max: int = Field(description="MAX_CONNECTIONS.")
    http_in_flight: int
    backend: str | None = Field(description="State of the connection to the backend; null without one.")


class Features(BaseModel):
    """What is switched on."""

    trading: bool
    simulation: bool
    bars: bool
    tls: bool
    tokens: bool = Field(description="GATEWAY_TOKEN is set.")
    jwt: bool = Field(description="GATEWAY_JWT_KEY is set.")
    connect: bool = Field(description="GATEWAY_ALLOW_CONNECT.")
    metrics: bool = True
    websocket: bool = True


class Status(BaseModel):
    """How the service is."""

    success: bool = True
    service: str = "mt5-bridge"
    version: str
    status: str = Field(description="ok, degraded or not_ready.", examples=["ok"])
    timestamp: str
    uptime_s: float
    bridge_id: str
    mode: str
    account: str | None
    halt: str = Field(description="active, reducing or halted.", examples=["active"])
    halt_detail: dict[str, Any] = Field(description="Since when, by whom and why.")
    components: dict[str, Component]
    cache: dict[str, Tier] = Field(description="By tier.")
    connections: Connections
    features: Features
    performance: Performance
    bridge: dict[str, Any] = Field(description="As `get_status` and `mt5-bridge status` tell it, with all counters.")


@router.get("/status", summary="How the whole service is")
async def status(gateway: Here, who: Reader) -> Status:
    """Components, cache, connections, features, performance, and the bridge's own report."""
    told = gateway.port.status()
    return Status(
        version=__version__,
        status=told["status"],
        timestamp=iso(time.time_ns() // 1_000_000),
        uptime_s=told["uptime_s"],
        bridge_id=told["bridge_id"],
        mode=told["mode"],
        account=told["account"],
        halt=told["halt"],
        halt_detail=told["halt_detail"],
        components=_components(gateway, told),
        cache={name: Tier(**tier) for name, tier in gateway.cache.stats().items()},
        connections=Connections(
            websocket=len(gateway.hub.clients),
            websocket_max=gateway.config.max_connections,
            http_in_flight=gateway.requests.in_flight,
            backend=told["channels"].get("backend"),
        ),
        features=_features(gateway, told),
        performance=performance(await gateway.figures()),
        bridge=told,
    )


def _components(gateway: Gateway, told: dict[str, Any]) -> dict[str, Component]:
    found = {name: Component(status=state) for name, state in told["channels"].items()}
    found["journal"] = Component(status="ok" if told["journal_healthy"] else "failing")
    found["gateway"] = Component(status="ok")
    found["websocket"] = Component(status=gateway.hub.health()["status"])
    found["bridge"] = Component(status=told["status"], detail=told.get("detail"))
    return found


def _features(gateway: Gateway, told: dict[str, Any]) -> Features:
    config = gateway.config
    return Features(
        trading=told["trading_enabled"],
        simulation=told["simulation_mode"],
        bars=told["bars"] is not None,
        tls=config.tls_cert is not None,
        tokens=config.token is not None,
        jwt=config.jwt_key is not None,
        connect=config.allow_connect,
    )

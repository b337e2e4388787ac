"""Whether the service is there, and whether it can trade: the questions that need no token."""

import time
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from mt5_bridge.core.times import iso
from mt5_bridge.gateway.reads import encode
from mt5_bridge.gateway.routes.told import told
from mt5_bridge.gateway.state import Here

router = APIRouter(tags=["service"])

SERVICE = "mt5-bridge"
_STATES = Literal["ok", "degraded", "not_ready"]


class Mt5Status(BaseModel):
    """The terminal's state."""

    status: str = Field(description="State of the connection to the terminal.", examples=["connected"])
    server: str | None = Field(default=None, description="The account's trade server.", examples=["Paper-Demo"])
    last_update: str | None = Field(default=None, description="When the account was read last, UTC.")


class Health(BaseModel):
    """How the service is."""

    status: _STATES = Field(description="As in the heartbeat: `not_ready` means that no order could be sent now.")
    service: str = Field(default=SERVICE, examples=[SERVICE])
    timestamp: str
    mt5_status: Mt5Status


class Live(BaseModel):
    """The process runs and answers."""

    status: Literal["alive"] = "alive"
    service: str = Field(default=SERVICE, examples=[SERVICE])
    timestamp: str


class Ready(BaseModel):
    """Whether an order could be sent."""

    ready: bool
    status: _STATES
    halt: str = Field(description="A halt is no fault: the service is ready to close and to be resumed.")
    timestamp: str


@router.get("/health", summary="How the service is", response_model=Health)
async def health(gateway: Here) -> Response:
    """Answered without a token, always with 200; tells nothing of the account but its server's name."""
    told_now, snapshot = gateway.port.health(), gateway.port.snapshot()
    terminal = {
        "status": told_now.get("channels", {}).get("terminal", "unknown"),
        "server": (snapshot.account or {}).get("server"),
        "last_update": iso(snapshot.at_msc) if snapshot.at_msc else None,
    }
    return told(encode({**_of_now(), "status": told_now["status"], "mt5_status": terminal}))


@router.get("/health/live", summary="Whether the process answers", response_model=Live)
async def live() -> Response:
    """Liveness: whoever gets this answer need not restart anything, whatever else is broken."""
    return told(encode({**_of_now(), "status": "alive"}))


@router.get(
    "/health/ready",
    summary="Whether orders could be sent",
    responses={503: {"model": Ready, "description": "Not now."}},
    response_model=Ready,
)
async def ready(gateway: Here) -> Response:
    """Readiness: 200 while an order could be sent, 503 while not (terminal gone, not reconciled, journal failing)."""
    told_now = gateway.port.health()
    able = told_now["status"] != "not_ready"
    answer = {"ready": able, "status": told_now["status"], "halt": told_now["halt"], "timestamp": _now()}
    return told(encode(answer), 200 if able else 503)


def _of_now() -> dict[str, str]:
    return {"service": SERVICE, "timestamp": _now()}


def _now() -> str:
    return iso(time.time_ns() // 1_000_000)

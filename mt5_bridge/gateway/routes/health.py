"""Whether the service is there: the one question that needs no token."""

import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from mt5_bridge.core.times import iso
from mt5_bridge.gateway.state import Here

router = APIRouter(tags=["service"])


class Mt5Status(BaseModel):
    """The terminal's state."""

    status: str
    server: str | None = None
    last_update: str | None = None


class Health(BaseModel):
    """Whether the service is there."""

    status: str
    service: str
    timestamp: str
    mt5_status: Mt5Status


@router.get("/health", summary="Whether the service is there")
async def health(gateway: Here) -> Health:
    """Answered without a token; tells nothing of the account but the server's name."""
    told: dict[str, Any] = gateway.port.status()
    snapshot = gateway.port.snapshot()
    account = snapshot.account or {}
    return Health(
        status=str(told["status"]),
        service="mt5-bridge",
        timestamp=iso(round(time.time() * 1000)),
        mt5_status=Mt5Status(
            status=str(told.get("channels", {}).get("terminal", "unknown")),
            server=account.get("server"),
            last_update=iso(snapshot.at_msc) if snapshot.at_msc else None,
        ),
    )

"""The WebSocket, and what can be asked of it over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response, WebSocket
from pydantic import BaseModel, Field

from mt5_bridge.gateway.auth import Admin, Reader
from mt5_bridge.gateway.idempotency import Key, asked
from mt5_bridge.gateway.state import Here

router = APIRouter(prefix="/websocket/ws", tags=["WebSocket"])

MESSAGE_MOST = 16_384


class Subscriptions(BaseModel):
    """What a client hears."""

    channels: list[str] = Field(examples=[["ticks", "events"]])
    symbols: list[str] | None = Field(description="Of ticks; null: all.", examples=[["EURUSD"]])


class ClientStatus(BaseModel):
    """One connected client."""

    id: int
    by: str = Field(description="The token's subject.")
    scopes: list[str]
    remote: str
    since: str
    subscriptions: Subscriptions
    waiting: int = Field(description="Frames in its queue.")
    sent: int
    sent_bytes: int
    conflated: int = Field(description="Frames replaced by a newer one before they were sent.")
    received: int
    refused: int = Field(description="Frames over RATE_LIMIT_MESSAGES.")
    invalid: int


class HubStatus(BaseModel):
    """The hub's statistics."""

    active: int = Field(examples=[3])
    max: int = Field(description="MAX_CONNECTIONS.", examples=[100])
    unauthenticated: int = Field(description="Connections that have yet to send their `auth` frame.")
    uptime_s: float
    listening: bool = Field(description="Whether anybody has subscribed to anything.")
    subscriptions: dict[str, int] = Field(description="Clients by channel.")
    totals: dict[str, int] = Field(description="Counters since the start.")
    clients: list[ClientStatus]


class HubHealth(BaseModel):
    """Whether the hub takes one more."""

    status: str = Field(description="`healthy`, or `full`.", examples=["healthy"])
    active: int
    max: int
    waiting: int = Field(description="Frames in all queues.")
    timestamp: str


class Broadcast(BaseModel):
    """What to tell every client."""

    message: Annotated[str, Field(min_length=1, max_length=MESSAGE_MOST)] | dict[str, Any] = Field(
        description="Text, or an object.", examples=["maintenance at 22:00 UTC"]
    )


class Told(BaseModel):
    """How many were told."""

    success: bool = True
    clients: int = Field(examples=[3])


@router.websocket("")
async def connect(websocket: WebSocket, gateway: Here) -> None:
    """The hub; docs/gateway.md tells what is said over it."""
    await gateway.connections.serve(websocket)


@router.get("/status", summary="The WebSocket's statistics")
async def status(gateway: Here, who: Reader) -> HubStatus:
    """Who is connected, to what they have subscribed, what waits for them, and counters since the start."""
    return HubStatus(**gateway.hub.status())


@router.get("/health", summary="Whether the WebSocket takes clients")
async def health(gateway: Here, who: Reader) -> HubHealth:
    """`full`: as many clients as MAX_CONNECTIONS allows are connected."""
    return HubHealth(**gateway.hub.health())


@router.post("/broadcast", summary="Tell every client something")
async def broadcast(
    request: Request, response: Response, gateway: Here, who: Admin, body: Broadcast, key: Key = None
) -> Told:
    """A `broadcast` frame with the message and who sends it goes to every connected client.

    Repeated with its key it tells nobody anything: `clients` is 0.
    """
    once = await asked(gateway, request, who, key, body.message)
    once.mark(response)
    return Told(clients=0 if once.again else gateway.hub.broadcast(who.subject, body.message))

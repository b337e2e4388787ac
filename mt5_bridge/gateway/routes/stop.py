"""The emergency stop: latched before anything is waited for, whatever its body says or lacks."""

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from mt5_bridge.gateway.auth import Stopper
from mt5_bridge.gateway.idempotency import request_id_of
from mt5_bridge.gateway.problems import Problem
from mt5_bridge.gateway.shield import STOP
from mt5_bridge.gateway.state import Here

router = APIRouter(tags=["halt"])

BODY_AT_ONCE_S = 0.005
"""A body that is under way on the same machine is here by then; the latch waits for no other."""
BODY_AT_LAST_S = 2.0
_BODY_MOST = 65_536
KEY = "Idempotency-Key"
KEY_MOST = 200


class StopBody(BaseModel):
    """What a stop does beyond the latch; every field has its setting as default."""

    reason: str | None = Field(None, max_length=500, examples=["news"])
    by: str | None = Field(None, max_length=500, examples=["ann"])
    close_positions: bool | None = Field(None, description="Default: EMERGENCY_CLOSE_POSITIONS.")
    cancel_orders: bool | None = Field(None, description="Default: EMERGENCY_CANCEL_ORDERS.")
    scope: str | None = Field(None, description="`all` or `mine`; default: EMERGENCY_SCOPE.", examples=["all"])


_FIELDS = frozenset(StopBody.model_fields)


class Latched(BaseModel):
    """What was latched."""

    state: str = Field(examples=["halted"])
    reason: str
    by: str
    at: str
    durable: bool = Field(description="Whether the disk had it before this answer was sent; if not, it is being tried.")
    faults: list[str] | None = Field(None, description="What was wrong with the body. It never keeps a stop back.")


class StopAnswer(BaseModel):
    """The `data` of the command's `command_result`."""

    command: str = "emergency_stop"
    success: bool
    data: Latched


@router.post(
    STOP,
    summary="Emergency stop",
    response_model_exclude_none=True,
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": StopBody.model_json_schema()}}, "required": False},
        "parameters": [
            {
                "name": KEY,
                "in": "header",
                "required": False,
                "description": "The same key does nothing twice in the same halt.",
                "schema": {"type": "string", "maxLength": KEY_MOST},
            }
        ],
    },
)
async def emergency_stop(request: Request, gateway: Here, who: Stopper) -> StopAnswer:
    """Halt trading, cancel and close.

    Latches before it waits for anything, also while the terminal hangs; never limited in rate. Wrong fields are
    reported in the answer and keep no stop back. What is cancelled and closed follows as `halt_changed`.
    """
    reading = asyncio.ensure_future(_read(request))
    await asyncio.wait((reading,), timeout=BODY_AT_ONCE_S)
    if not reading.done():
        gateway.port.latch(by=who.subject)
    data, faults = await _body(reading)
    key = request.headers.get(KEY)
    if key is not None and len(key) > KEY_MOST:
        key = None
        faults.append(f"{KEY} is longer than {KEY_MOST} characters")
    request_id = request_id_of(key)
    answer = await gateway.port.command("emergency_stop", data, by=who.subject, request_id=request_id)
    request.scope["state"]["outcome"] = answer["data"]["state"]
    if faults:
        answer = {**answer, "data": {**answer["data"], "faults": [*answer["data"].get("faults", []), *faults]}}
    return StopAnswer(**answer)


async def _body(reading: "asyncio.Future[bytes]") -> tuple[dict[str, Any], list[str]]:
    """What the body says, and what is wrong with it."""
    try:
        raw = await reading
        data = json.loads(raw) if raw.strip() else {}
    except (Problem, ClientDisconnect, TimeoutError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        return {}, ["the body is no JSON object"]
    # Nothing else of it matters, and what is nested too deep could be read here and written nowhere.
    return {name: value for name, value in data.items() if name in _FIELDS and not isinstance(value, list | dict)}, [
        f"{name} must be no list and no object"
        for name, value in data.items()
        if name in _FIELDS and isinstance(value, list | dict)
    ]


async def _read(request: Request) -> bytes:
    body = b""
    async with asyncio.timeout(BODY_AT_LAST_S):
        async for piece in request.stream():
            body += piece
            if len(body) > _BODY_MOST:
                break
    return body

"""OpenAPI: what the endpoints take and answer, as `/openapi.json` tells it and `docs/openapi.json` publishes it."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from mt5_bridge import __version__
from mt5_bridge.gateway import problems

TITLE = "MT5 Bridge"
SUMMARY = "A MetaTrader 5 account over HTTP and WebSocket, behind the bridge's guards."
DESCRIPTION = """
The bridge on a trading PC, for people and services beside it. Every order meets the same guards as every signal, and
the emergency stop stands above all.

**Who asks.** `Authorization: Bearer TOKEN` with `GATEWAY_TOKEN`, which may do everything, or with a JWT (HS256, signed
with `GATEWAY_JWT_KEY`; claims `sub`, `exp`, `scope`). Scopes: `read`; `trade` (implies `read`); `stop`; `admin`
(implies all). Tokens never travel in addresses.

**Errors** are `application/problem+json` (RFC 9457) with a `code` for programs; `instance` is the request's
`X-Request-ID`, which the logs have too.

**Acting once.** What acts takes an `Idempotency-Key`: the same key of the same asker does nothing twice for 24 hours,
over restarts too, and is answered as the first time.

**The stream** of ticks, account, positions, events and health is the WebSocket at `/websocket/ws`.
"""
_NAMES_OF_FASTAPI = ("HTTPValidationError", "ValidationError")


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The description of an app's routes."""
    schema = get_openapi(
        title=TITLE, version=__version__, summary=SUMMARY, description=DESCRIPTION.strip(), routes=app.routes
    )
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    components["ProblemBody"] = problems.ProblemBody.model_json_schema()
    for name in _NAMES_OF_FASTAPI:
        components.pop(name, None)
    for operation in operations_of(schema):
        # Who needs no token is never told that one is missing.
        if "security" not in operation:
            for status in ("401", "403", "429"):
                operation["responses"].pop(status, None)
            operation["responses"] |= {str(code): said for code, said in problems.responses(403).items()}
        operation["responses"] = dict(sorted(operation["responses"].items()))
        for status, answer in operation["responses"].items():
            if int(status) < 400:
                answer.setdefault("headers", {})["X-Request-ID"] = {
                    "description": "Names the request in the logs.",
                    "schema": {"type": "string"},
                }
    return schema


def operations_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every method of every path."""
    for item in schema["paths"].values():
        yield from item.values()


def described(routers: Sequence[APIRouter]) -> dict[str, Any]:
    """The description without a bridge behind it."""
    app = FastAPI()
    for router in routers:
        app.include_router(router, responses=problems.COMMON)
    return openapi_of(app)

"""What only an administrator does: trading goes on, the session with the terminal ends and begins."""

from typing import Any

from fastapi import APIRouter, Request, Response

from mt5_bridge.gateway import examples, models
from mt5_bridge.gateway.auth import Admin
from mt5_bridge.gateway.bodies import Connect, Resume
from mt5_bridge.gateway.idempotency import Asked, Key, asked
from mt5_bridge.gateway.problems import responses
from mt5_bridge.gateway.reads import encode, refusal
from mt5_bridge.gateway.routes.told import told
from mt5_bridge.gateway.state import Here

router = APIRouter(tags=["administration"])


@router.post(
    "/resume",
    summary="Let trading go on",
    responses={200: examples.answer(models.HaltAnswer, examples.HALT), **responses(409)},
)
async def resume(request: Request, gateway: Here, who: Admin, wanted: Resume, key: Key = None) -> Response:
    """Lifts a halt on a person's word; refused while something survives or is unknown, unless forced."""
    data = wanted.model_dump(exclude_none=True)
    heard = gateway.port.heard()  # a stop that comes while the key is looked up came after this word
    once = await asked(gateway, request, who, key, data)
    answer = await gateway.port.command("resume_trading", data, by=who.subject, request_id=once.request_id, heard=heard)
    if not answer["success"]:
        raise once.refused(refusal(answer))
    request.scope["state"]["outcome"] = str(answer["data"]["state"])
    return once.mark(told(encode({"success": True, "halt": answer["data"]})))


@router.post(
    "/connect",
    summary="Connect the terminal",
    responses={
        200: examples.answer(models.SessionAnswer, examples.SESSION),
        202: examples.answer(
            models.SessionAnswer, examples.BEGINS_ANEW, "The bridge begins anew with another account."
        ),
        **responses(409),
    },
)
async def connect(
    request: Request, gateway: Here, who: Admin, wanted: Connect | None = None, key: Key = None
) -> Response:
    """Begins the session where it was ended; another account needs GATEWAY_ALLOW_CONNECT, and no order under way."""
    body = wanted or Connect()
    # No password, not even as a hash: what is remembered lies on the disk.
    once = await asked(gateway, request, who, key, {"login": body.login, "server": body.server})
    password = None if body.password is None else body.password.get_secret_value()
    answer = await gateway.port.connect(body.login, body.server, password, by=who.subject, request_id=once.request_id)
    return _session_told(request, gateway, once, answer)


@router.post(
    "/disconnect",
    summary="Disconnect the terminal",
    responses={200: examples.answer(models.SessionAnswer, examples.SESSION), **responses(409)},
)
async def disconnect(request: Request, gateway: Here, who: Admin, key: Key = None) -> Response:
    """Ends the session: no tick, no order, no stop moved until somebody connects. Refused while an order is open."""
    once = await asked(gateway, request, who, key)
    answer = await gateway.port.disconnect(by=who.subject, request_id=once.request_id)
    return _session_told(request, gateway, once, answer)


def _session_told(request: Request, gateway: Here, once: Asked, answer: dict[str, Any]) -> Response:
    gateway.reads.begun_anew()
    if not answer["success"]:
        raise once.refused(refusal(answer))
    data = answer["data"]
    request.scope["state"]["outcome"] = str(data["detail"])
    status = 202 if data.get("begins_anew") else 200
    body = {name: value for name, value in data.items() if name != "begins_anew"}
    return once.mark(told(encode({"success": True, **body}), status))

"""Answers as responses: bytes that are encoded already, what came of an order, what was refused."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from mt5_bridge.gateway import statuses
from mt5_bridge.gateway.reads import encode, problem, refusal

_WORDS = {
    "denied": "the guards let it not through",
    "rejected": "it was refused",
    "abandoned": "what came of it could not be found",
}


def told(body: bytes, status: int = 200) -> Response:
    """JSON that is encoded already."""
    return Response(body, status, media_type="application/json")


def result_told(request: Request, result: Mapping[str, Any]) -> Response:
    """What came of an order or a signal.

    Raises:
        Problem: it was denied, rejected or given up; `result` has its `order_result`.
    """
    state, reason = str(result["status"]), result.get("reason")
    _audited(request, result)
    http = statuses.of_result(state, reason)
    if http in (200, statuses.ACCEPTED):
        return told(encode({"success": http == 200, "result": result}), http)
    detail = str(result.get("detail") or _WORDS.get(state, state))
    raise problem(http, statuses.code_of_result(state, reason), detail, result=result)


def answer_told(request: Request, answer: Mapping[str, Any], key: str | None) -> Response:
    """What a command that trades was answered.

    Args:
        request: the request.
        answer: the bridge's.
        key: what the asker calls the request.

    Raises:
        Problem: it was refused.
    """
    result = answer["data"] if answer["success"] else answer["error"].get("result")
    if result is not None:
        return result_told(request, {**result, "request_id": key})
    raise refusal(answer)


def _audited(request: Request, result: Mapping[str, Any]) -> None:
    """For the audit trail: what came of it, by ticket."""
    parts = [str(result["status"])]
    parts += [f"{name} {result[name]}" for name in ("reason", "order", "deal", "position") if result.get(name)]
    request.scope["state"]["outcome"] = " ".join(parts)

"""What goes wrong, told as problem+json (RFC 9457): a status for HTTP, a code for programs, words for people."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException as FastApiError
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
_FAULTS_MOST = 10
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 422: "invalid"}


class ProblemBody(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:mt5-bridge:problem:missing_scope",
                    "title": "Forbidden",
                    "status": 403,
                    "detail": "this needs the scope 'trade'",
                    "code": "missing_scope",
                    "instance": "5f0c1d0e6a3b4f0f9f6f5d7a2b1c3d4e",
                }
            ]
        },
    )

    type: str = Field(description="Names the kind of problem.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong here, for people.")
    code: str = Field(description="The kind of problem, for programs.")
    instance: str | None = Field(default=None, description="The request's X-Request-ID, as the logs have it.")


class Problem(FastApiError):
    """An answer that says no.

    Args:
        status: the HTTP status.
        code: for programs.
        detail: for people.
        headers: of the answer.
        more: further members of the body.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        # FastAPI turns other errors that a body's reading raises into one of its own.
        super().__init__(status, detail, dict(headers or {}))
        self.status = status
        self.code = code
        self.more = more

    def body(self, instance: str | None = None) -> dict[str, Any]:
        """The body of the answer; `instance` is the request's id."""
        return {
            **self.more,
            "type": f"urn:mt5-bridge:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "instance": instance,
        }

    def response(self, instance: str | None = None) -> Response:
        """The answer."""
        # In ASCII: what is quoted from a request may hold halves of characters that no UTF-8 has.
        return Response(json.dumps(self.body(instance)), self.status, dict(self.headers or {}), MEDIA_TYPE)


_SAID = {
    400: "The request is malformed, or not meant for this service.",
    401: "No token, or none that is known here.",
    403: "The token lacks the scope, or the page that asks is a stranger's.",
    404: "There is no such thing.",
    405: "Not this method.",
    408: "The request took too long to arrive.",
    409: "It contradicts what is under way or was asked before.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A value is wrong.",
    429: "Too many requests of this token: wait as long as Retry-After says.",
    500: "A defect; the log has it under the request's id.",
    503: "The bridge cannot do it now.",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route says in OpenAPI of the problems it answers with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {status: {"description": _SAID[status], "content": content} for status in statuses}


COMMON = responses(400, 401, 403, 405, 408, 413, 422, 429, 500, 503)
"""What any route may answer."""


def install(app: FastAPI) -> None:
    """Let an app answer every error as a problem; defects are the shield's."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


def request_id(request: Request) -> str | None:
    """The request's X-Request-ID, given or made."""
    found: str | None = request.scope.get("state", {}).get("request_id")
    return found


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request_id(request))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "http_error")
    problem = Problem(error.status_code, code, str(error.detail), headers=error.headers)
    return problem.response(request_id(request))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Not what was given: it may be a password.
    faults = [
        {"where": ".".join(str(part) for part in fault["loc"]), "what": str(fault["msg"])}
        for fault in error.errors()[:_FAULTS_MOST]
    ]
    detail = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
    return Problem(422, "invalid", detail, faults=faults).response(request_id(request))

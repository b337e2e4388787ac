"""`Idempotency-Key`: who asks again with the same key gets the first answer again, and nothing is done twice.

A key belongs to whom the token names and stands, for a day and over restarts, for one request: method, path and
content. With another request it is refused, for nobody can tell which of the two is meant.
"""

import hashlib
import json
from typing import Annotated, Any

from fastapi import Header, Request, Response

from mt5_bridge.core.claim import Claim
from mt5_bridge.core.errors import JournalError
from mt5_bridge.gateway import statuses
from mt5_bridge.gateway.auth import Principal
from mt5_bridge.gateway.problems import Problem
from mt5_bridge.gateway.reads import problem
from mt5_bridge.gateway.state import Gateway

REPLAYED = "Idempotency-Replayed"
"""Header of an answer that was given before."""

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Yours; the same request repeated with it is done once and gets its first answer, for a day.",
        examples=["8e0d2c1e-order-1"],
    ),
]


class Asked:
    """One request that acts.

    Attributes:
        request_id: for the bridge; None without a key.
        again: it was asked before.
    """

    def __init__(self, request_id: str | None, *, again: bool) -> None:
        self.request_id = request_id
        self.again = again

    def refused(self, problem: Problem) -> Problem:
        """The refusal, which is all that the same key would get again."""
        headers, more = dict(problem.headers or {}), dict(problem.more)
        # A client that repeats by itself, with the same key, would never be served.
        if self.request_id is not None and headers.pop("Retry-After", None) is not None:
            more["retry"] = "with a new Idempotency-Key"
        if self.again:
            headers[REPLAYED] = "true"
        return Problem(problem.status, problem.code, problem.detail, headers=headers, **more)

    def mark(self, response: Response) -> Response:
        """The response, marked where it was given before."""
        if self.again:
            response.headers[REPLAYED] = "true"
        return response


async def asked(gateway: Gateway, request: Request, who: Principal, key: str | None, content: Any = None) -> Asked:
    """Take a request that acts, by its key.

    Args:
        gateway: ours.
        request: its method and path count.
        who: the key is theirs.
        key: None: nothing is remembered, asked again it is done again.
        content: what else makes the request what it is; no secrets.

    Raises:
        Problem: 422 `idempotency_key_reused`, 503 `journal_unavailable`.
    """
    request_id = request_id_of(key)
    if request_id is None:
        return Asked(None, again=False)
    try:
        claim = await gateway.port.claim(request_id, _fingerprint(request, content), by=who.subject)
    except JournalError as error:
        raise problem(statuses.UNAVAILABLE, "journal_unavailable", str(error)) from error
    if claim is Claim.OTHER:
        raise Problem(
            422, "idempotency_key_reused", "this Idempotency-Key was used for another request: take a new one"
        )
    return Asked(request_id, again=claim is Claim.AGAIN)


def request_id_of(key: str | None) -> str | None:
    """What the bridge knows a request with this key by."""
    return None if key is None else f"http:{key}"


def _fingerprint(request: Request, content: Any) -> str:
    text = json.dumps([request.method, request.url.path, content], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

import json

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mt5_bridge.gateway import problems
from mt5_bridge.gateway.problems import Problem


class Body(BaseModel):
    """For the tests."""

    count: int


@pytest.fixture
def app() -> FastAPI:
    made = FastAPI()
    problems.install(made)

    @made.post("/count")
    async def count(body: Body) -> None: ...

    @made.get("/problem")
    async def problem() -> None:
        raise Problem(409, "busy", "\ud800 is half a character", headers={"Retry-After": "1"}, left=[1])

    @made.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418)

    return made


async def ask(app: FastAPI, method: str, path: str, content: bytes | None = None) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert answer.headers["content-type"] == problems.MEDIA_TYPE
    assert answer.json()["status"] == answer.status_code
    problems.ProblemBody.model_validate(answer.json())
    return answer


async def test_a_problem_has_its_code_its_words_and_more(app: FastAPI) -> None:
    answer = await ask(app, "GET", "/problem")
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert answer.json() == {
        "type": "urn:mt5-bridge:problem:busy",
        "title": "Conflict",
        "status": 409,
        "detail": "\ud800 is half a character",
        "code": "busy",
        "instance": None,
        "left": [1],
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/none", 404, "not_found"),
        ("GET", "/count", 405, "method_not_allowed"),
        ("GET", "/teapot", 418, "http_error"),
    ],
)
async def test_the_frameworks_own_errors(app: FastAPI, method: str, path: str, status: int, code: str) -> None:
    answer = await ask(app, method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"count": "hunter2"}', b'{"count": NaN}', b'{"\\ud800": 1}', b"\xff", b"[" * 100_000,
     json.dumps({"count": {"hunter2": [1]}}).encode()],
)  # fmt: skip
async def test_a_wrong_body_says_where_and_what_and_not_what_was_given(app: FastAPI, content: bytes) -> None:
    answer = await ask(app, "POST", "/count", content)
    assert answer.status_code in (400, 422)
    assert "hunter2" not in answer.text
    if answer.status_code == 422:
        assert answer.json()["faults"][0]["where"].startswith("body")


def test_every_status_has_words() -> None:
    assert set(problems.COMMON) <= set(problems._SAID)
    assert problems.responses(404)[404]["content"][problems.MEDIA_TYPE]

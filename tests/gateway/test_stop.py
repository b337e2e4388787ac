"""The emergency stop's route, over a port that is not there yet and a body that may not come."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from support.simulated import simulated

from mt5_bridge.gateway import problems
from mt5_bridge.gateway.auth import Principal, Scope
from mt5_bridge.gateway.routes import stop
from mt5_bridge.gateway.routes.stop import BODY_AT_LAST_S


class Port:
    """What is asked of the bridge, in order."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.faults: list[str] = []

    def latch(self, *, by: str) -> None:
        self.asked.append(("latch", by))

    async def command(
        self, name: str, data: Mapping[str, Any], *, by: str, request_id: str | None = None
    ) -> dict[str, Any]:
        self.asked.append((name, dict(data), by, request_id))
        latched = {"state": "halted", "reason": "r", "by": by, "at": "2026-01-01T00:00:00.000Z", "durable": True}
        return {
            "command": name,
            "success": True,
            "data": {**latched, **({"faults": self.faults} if self.faults else {})},
        }


class Rooms:
    def __init__(self) -> None:
        self.port = Port()


def app_with(rooms: Rooms, scopes: frozenset[Scope] = frozenset({Scope.STOP})) -> Any:
    app = FastAPI()
    app.state.gateway = rooms
    problems.install(app)
    app.include_router(stop.router)

    async def known(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"principal": Principal(subject="ann", scopes=scopes), "request_id": "r"}
        await app(scope, receive, send)

    return known


async def post(rooms: Rooms, content: bytes | None = None, **headers: str) -> dict[str, Any]:
    transport = httpx.ASGITransport(app_with(rooms))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post("/emergency-stop", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_is_asked_is_passed_on_and_answered() -> None:
    rooms = Rooms()
    body = {"reason": "news", "by": "bo", "close_positions": False}
    answer = await post(rooms, json.dumps({**body, "unknown": 1}).encode(), **{"Idempotency-Key": "k1"})
    assert rooms.port.asked == [("emergency_stop", body, "ann", "http:k1")]
    assert (answer["success"], answer["data"]["state"]) == (True, "halted")
    assert "faults" not in answer["data"]


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b"7", b'"x"', b"null", b"\xff\xfe", b"[" * 50_000, b"x" * 70_000, b'{"reason": NaN']
)
async def test_no_body_keeps_a_stop_back(content: bytes) -> None:
    rooms = Rooms()
    rooms.port.faults = ["of the bridge"]
    answer = await post(rooms, content)
    assert rooms.port.asked == [("emergency_stop", {}, "ann", None)]
    assert answer["data"]["faults"] == ["of the bridge", "the body is no JSON object"]


@pytest.mark.parametrize("nested", [b"[" * 50 + b"]" * 50, b'{"a":' * 50 + b"1" + b"}" * 50])
@pytest.mark.parametrize("field", [b"reason", b"x"])
async def test_nor_does_one_that_is_nested(field: bytes, nested: bytes) -> None:
    rooms = Rooms()
    answer = await post(rooms, b'{"by": "ann", "%s": %s}' % (field, nested))
    assert rooms.port.asked == [("emergency_stop", {"by": "ann"}, "ann", None)]
    faults = ["reason must be no list and no object"] if field == b"reason" else None
    assert answer["data"].get("faults") == faults


@pytest.mark.parametrize("depth", [500, 900, 950, 975, 990, 2000])
async def test_nor_does_one_whose_depth_can_be_read_and_not_written(depth: int) -> None:
    """Where that begins depends on what stands on the stack already."""
    rooms = Rooms()
    await post(rooms, b'{"by": "ann", "x": %s1%s}' % (b'{"a":' * depth, b"}" * depth))
    [(asked, data, *_)] = rooms.port.asked
    assert asked == "emergency_stop"
    assert data in ({"by": "ann"}, {})


async def test_nor_does_a_key() -> None:
    rooms = Rooms()
    answer = await post(rooms, b"", **{"Idempotency-Key": "k" * 201})
    assert rooms.port.asked == [("emergency_stop", {}, "ann", None)]
    assert answer["data"]["faults"] == ["Idempotency-Key is longer than 200 characters"]


async def test_none_but_who_may() -> None:
    rooms = Rooms()
    transport = httpx.ASGITransport(app_with(rooms, frozenset({Scope.READ, Scope.TRADE})))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post("/emergency-stop")
    assert (answer.status_code, answer.json()["code"], rooms.port.asked) == (403, "missing_scope", [])


@pytest.mark.parametrize(("last", "data"), [(None, {}), (b'"late"}', {"reason": "late"}), ("gone", {})])
def test_it_latches_before_a_body_that_is_late_or_never_comes(last: Any, data: dict[str, Any]) -> None:
    @simulated
    async def run() -> None:
        rooms = Rooms()
        pieces: list[Any] = [{"type": "http.request", "body": b'{"reason": ', "more_body": True}]
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def receive() -> Any:
            if pieces:
                return pieces.pop()
            await asyncio.sleep(1.0)
            assert rooms.port.asked == [("latch", "ann")]
            if last is None:
                await asyncio.Event().wait()
            if last == "gone":
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": last, "more_body": False}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/emergency-stop", "headers": [], "query_string": b"",
            "scheme": "http", "server": ("x", 80),
        }  # fmt: skip
        await app_with(rooms)(scope, receive, send)
        assert rooms.port.asked == [("latch", "ann"), ("emergency_stop", data, "ann", None)]
        assert sent[0]["status"] == 200
        assert loop.time() - began <= BODY_AT_LAST_S + 0.5

    run()

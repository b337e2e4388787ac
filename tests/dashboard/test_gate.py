"""Who is let in: hosts, origins; and the headers of what goes out."""

from typing import Any

import pytest

from mt5_bridge.dashboard.gate import Gate


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "let in"})


async def tried(type: str = "http", method: str = "GET", **headers: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await Gate(app, ["desk.example"])({"type": type, "method": method, "headers": raw}, receive, send)
    return sent


@pytest.mark.parametrize("host", ["127.0.0.1:8010", "localhost", "[::1]:8010", "desk.example:8010"])
async def test_its_own_names(host: str) -> None:
    first, _ = await tried(host=host)
    assert first["status"] == 200
    headers = dict(first["headers"])
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
    assert b"default-src 'self'" in headers[b"content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
async def test_a_foreign_name_is_a_rebound_one(host: str) -> None:
    first, _ = await tried(host=host)
    assert first["status"] == 403
    assert await tried("websocket", host=host) == [{"type": "websocket.close", "code": 4403}]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:9", "null"])
async def test_a_foreign_page_neither_posts_nor_connects(origin: str) -> None:
    assert (await tried(method="POST", host="localhost:8010", origin=origin))[0]["status"] == 403
    assert (await tried("websocket", host="localhost:8010", origin=origin))[0]["type"] == "websocket.close"
    assert (await tried(host="localhost:8010", origin=origin))[0]["status"] == 200


async def test_its_own_page_does() -> None:
    own = {"host": "localhost:8010", "origin": "http://localhost:8010"}
    assert (await tried(method="POST", **own))[0]["status"] == 200
    assert await tried("websocket", **own) == [{"type": "let in"}]
    assert await tried("lifespan") == [{"type": "let in"}]

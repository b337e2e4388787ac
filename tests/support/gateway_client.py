"""A client of a running daemon's gateway."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from support.gateway import TOKEN, bearer


def settings(port: int, **more: str) -> dict[str, str]:
    """Settings of a daemon with a gateway at that port."""
    return {
        "GATEWAY_ENABLED": "true",
        "GATEWAY_TOKEN": TOKEN,
        "MT5_BRIDGE_PORT": str(port),
        "RATE_LIMIT_REQUESTS": "1000000",
        **more,
    }


class Gateway:
    """A daemon's gateway."""

    def __init__(self, port: int, http: httpx.AsyncClient) -> None:
        self.port = port
        self.http = http

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request."""
        given = {**(headers or {}), **({} if key is None else {"Idempotency-Key": key})}
        return await self.http.request(method, path, headers=given, **({} if body is None else {"json": body}))

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, key: str | None = None) -> Any:
        """The JSON of an answer, which must have this status."""
        response = await self.send(method, path, body, key=key)
        assert response.status_code == status, (response.status_code, response.text)
        return response.json()

    async def get(self, path: str) -> Any:
        """What a GET answers."""
        return await self.ask("GET", path)


@contextlib.asynccontextmanager
async def client(port: int, *, token: str = TOKEN) -> AsyncIterator[Gateway]:
    """A client with a token."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=bearer(token), timeout=60.0, limits=limits, trust_env=False
    ) as http:
        yield Gateway(port, http)

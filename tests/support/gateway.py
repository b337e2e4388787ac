"""A gateway for tests: a daemon of its own on the paper terminal, without a broker; and what one asks it with."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from support.broker import free_port
from support.daemon import Daemon
from support.eventually import eventually

from mt5_bridge.gateway.auth import Scope, issue

TOKEN = "a-token-for-tests-0123456789"
JWT_KEY = "a-key-for-tests-that-is-long-enough-to-sign-with-by-any-algorithm-there-is"
READY_S = 60.0


def jwt_for(*scopes: Scope, subject: str = "ann", key: str = JWT_KEY, ttl_s: int = 3600) -> str:
    """A JWT with these scopes."""
    return issue(key, subject=subject, scopes=frozenset(scopes), now_s=int(time.time()), ttl_s=ttl_s)


def bearer(token: str = TOKEN) -> dict[str, str]:
    """The header that says who asks."""
    return {"Authorization": f"Bearer {token}"}


class Served:
    """A daemon with a gateway.

    Attributes:
        daemon: the process and its folder.
        port: where it listens.
        client: asks it, with GATEWAY_TOKEN.
    """

    def __init__(self, daemon: Daemon, port: int, client: httpx.AsyncClient) -> None:
        self.daemon = daemon
        self.port = port
        self.client = client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts it and waits until it is ready to trade."""
        self.daemon.start()
        await eventually(self._ready, READY_S, "the gateway is ready")

    async def _ready(self) -> bool:
        if self.daemon.ended is not None:
            raise RuntimeError(f"exit code {self.daemon.ended}\n{self.daemon.console[-3000:]}")
        try:
            answer = await self.client.get("/health")
        except httpx.TransportError:
            return False
        return answer.is_success and "Journal and terminal agree" in self.daemon.console


@asynccontextmanager
async def served(folder: Path, *, token: str = TOKEN, **env: str) -> AsyncIterator[Served]:
    """A daemon with a gateway that is not started yet; everything ends with the block.

    Args:
        folder: its place.
        token: what the client sends.
        env: more of its settings.
    """
    port = free_port()
    settings = {
        "REDPANDA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "GATEWAY_ENABLED": "true",
        "MT5_BRIDGE_PORT": str(port),
        "GATEWAY_TOKEN": TOKEN,
        "GATEWAY_JWT_KEY": JWT_KEY,
        "RATE_LIMIT_REQUESTS": "1000000",
        **env,
    }
    daemon = Daemon(folder, settings)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, headers=bearer(token), timeout=30.0, trust_env=False) as client:
            yield Served(daemon, port, client)
    finally:
        daemon.close()

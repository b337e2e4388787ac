"""A gateway on a free port before a bridge in memory, and clients that connect to its WebSocket."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from support.eventually import eventually
from support.fake_bridge_port import FakePort
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from mt5_bridge.core.channels import Channel, Listener
from mt5_bridge.core.figures import Figures
from mt5_bridge.core.snapshot import AccountSnapshot
from mt5_bridge.gateway.app import create_app
from mt5_bridge.gateway.auth import Scope, issue
from mt5_bridge.gateway.cache import Cache
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.hub.hub import Hub
from mt5_bridge.gateway.server import GatewayServer
from mt5_bridge.journal import changes

TOKEN = "a-token-of-the-tests"
JWT_KEY = "a key of the tests, 32 bytes long at least"
HALT = {"state": "active", "reason": "", "by": "", "at": None}

Frame = dict[str, Any]


class HubPort(FakePort):
    """A bridge that answers everything and does nothing.

    Attributes:
        asked: every command and signal, in order: name, data, who, request_id.
        stopped: who latched, in order.
        hang: while set, commands but for a stop wait for it.
        error: raised by every command and signal while set.
        picture: what a listener is told first.
        listeners: who listens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, dict[str, Any], str, str | None]] = []
        self.stopped: list[str] = []
        self.hang: asyncio.Event | None = None
        self.error: Exception | None = None
        self.picture: list[tuple[Channel, str, bytes]] = []
        self.listeners: list[Listener] = []

    def status(self) -> dict[str, Any]:
        return {"status": "ok", "account": "1001", "symbols": ["EURUSD", "GBPUSD"], "halt_detail": HALT}

    health = status

    def latch(self, *, by: str) -> None:
        self.stopped.append(by)

    async def command(
        self, name: str, data: Mapping[str, Any], *, by: str, request_id: str | None = None, heard: Any = None
    ) -> dict[str, Any]:
        self.asked.append((name, dict(data), by, request_id))
        if name == "emergency_stop":
            self.stopped.append(by)
            await asyncio.sleep(0)
            return {"command": name, "success": True, "data": {"state": "halted", "by": by, "durable": True}}
        await self._doing()
        return {"command": name, "success": True, "data": {"asked": name}}

    async def signal(
        self,
        data: Mapping[str, Any],
        *,
        by: str,
        request_id: str | None = None,
        raw: bytes | None = None,
        signature: str | None = None,
    ) -> dict[str, Any]:
        content = dict(data) if raw is None else json.loads(raw)
        self.asked.append(("trading_signal", content, by, request_id))
        await self._doing()
        return {"signal_id": "s1", "status": "filled", "signature": signature}

    async def _doing(self) -> None:
        if self.hang is not None:
            await self.hang.wait()
        if self.error is not None:
            raise self.error

    def listen(self, listener: Listener, /) -> Callable[[], None]:
        self.listeners.append(listener)
        for told in self.picture:
            listener(*told)
        return lambda: self.listeners.remove(listener)

    async def figures(self) -> Figures:
        return {}

    def snapshot(self) -> AccountSnapshot:
        return AccountSnapshot(read=0, at_msc=0, reconciled=False, account=None, positions=(), orders=())

    def tell(self, channel: Channel, slot: str, type: str, data: Any) -> None:
        """What the bridge would tell now."""
        frame = json.dumps({"type": type, "data": data}).encode()
        for listener in tuple(self.listeners):
            listener(channel, slot, frame)


class Kept:
    """A journal that keeps what the audit writes."""

    def __init__(self) -> None:
        self.audited: list[changes.Audited] = []

    async def commit(self, *batch: changes.Change) -> None:
        self.audited += [change for change in batch if isinstance(change, changes.Audited)]


class Client:
    """A client of the hub; everything it receives is kept."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[Frame] = []
        self._reading = asyncio.create_task(self._read(), name="hub-client")

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                self.frames.append(json.loads(text))
        except ConnectionClosed:
            return

    async def send(self, type: str, data: Any = None, **more: Any) -> None:
        await self.socket.send(json.dumps({"type": type, "data": data, **more}))

    async def frame(
        self, type: str, where: Callable[[Frame], bool] = lambda frame: True, timeout: float = 20.0
    ) -> Frame:
        """The first frame of a type that fits."""

        def found() -> Frame | None:
            return next((frame for frame in self.frames if frame["type"] == type and where(frame)), None)

        return await eventually(found, timeout, type)

    async def ask(self, type: str, data: Any = None, *, request_id: str, result: str = "command_result") -> Any:
        """Send a command and give back the data of its answer."""
        await self.send(type, data, request_id=request_id)
        return (await self.frame(result, lambda frame: frame.get("request_id") == request_id))["data"]

    def of(self, type: str) -> list[Any]:
        """The data of all frames of a type."""
        return [frame["data"] for frame in self.frames if frame["type"] == type]

    async def closed(self) -> tuple[int, str]:
        """The close code and reason, once the connection has ended."""
        await self._reading
        return self.socket.close_code or 0, self.socket.close_reason or ""

    async def close(self) -> None:
        await self.socket.close()
        await self._reading


class HubKit:
    """A running gateway and what stands behind it."""

    def __init__(self, port: HubPort, server: GatewayServer, hub: Hub, kept: Kept, cache: Cache) -> None:
        self.port = port
        self.server = server
        self.hub = hub
        self.kept = kept
        self.cache = cache
        self.url = f"ws://127.0.0.1:{server.port}/websocket/ws"
        self._clients: list[Client] = []

    def cache_drops(self) -> int:
        """How often a write made the positions read over HTTP untrue."""
        return int(self.cache.stats()["positions"]["drops"])

    async def client(self, token: str | None = TOKEN, **options: Any) -> Client:
        """A client; with a token, one that has been welcomed."""
        made = await hub_client(self.url, token, **options)
        self._clients.append(made)
        return made

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))


async def hub_client(
    url: str, token: str | None, *, origin: str | None = None, subscribe: Any = None, **options: Any
) -> Client:
    """A client of the hub at an address; with a token, one that has been welcomed.

    Args:
        url: of the WebSocket.
        token: sent as a header; None: the first frame will have to show one.
        origin: as a browser's page would send it.
        subscribe: the `data` of a first `subscribe`, answered before this returns.
        options: of the connection.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if origin is not None:
        headers["Origin"] = origin
    made = Client(
        await connect(url, additional_headers=headers, proxy=None, **{"compression": None, "max_size": None, **options})
    )
    if token is not None:
        await made.frame("welcome")
    if subscribe is not None:
        await made.ask("subscribe", subscribe, request_id="kit-subscribe")
    return made


def token_of(*scopes: Scope, subject: str = "ann", ttl_s: int = 600) -> str:
    """A JWT with these scopes."""
    return issue(JWT_KEY, subject=subject, scopes=frozenset(scopes), now_s=int(time.time()), ttl_s=ttl_s)


@asynccontextmanager
async def hub_kit(*, auth_s: float | None = None, **settings: Any) -> AsyncIterator[HubKit]:
    """A gateway that listens on a free port; everything ends with the block."""
    config = GatewayConfig(**{"port": 0, "token": TOKEN, "jwt_key": JWT_KEY, "rate_limit_messages": 1000, **settings})
    port, kept = HubPort(), Kept()
    app = create_app(port, config, kept, now_ms=lambda: time.time_ns() // 1_000_000)
    hub: Hub = app.state.gateway.hub
    if auth_s is not None:
        hub.config = replace(hub.config, auth_s=auth_s)
    defects: list[BaseException] = []
    server = GatewayServer(app, config, defects.append)
    await server.start()
    kit = HubKit(port, server, hub, kept, app.state.gateway.cache)
    try:
        yield kit
    finally:
        await kit.close()
        await server.stop(2.0)
        assert not defects, defects

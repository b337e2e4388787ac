"""A bridge in memory behind the gateway's port, and a client of a gateway on it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from support.gateway import JWT_KEY, TOKEN, bearer

from mt5_bridge.core.channels import Listener
from mt5_bridge.core.claim import Claim
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.figures import Figures
from mt5_bridge.core.snapshot import AccountSnapshot
from mt5_bridge.gateway.app import create_app
from mt5_bridge.gateway.cache import Cache
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.reads import Reads
from mt5_bridge.journal import changes

NOW_MS = 1_767_600_000_000

ACCOUNT: dict[str, Any] = {
    "login": 1001,
    "server": "Fake-Demo",
    "currency": "USD",
    "leverage": 100,
    "balance": 10_000.0,
    "equity": 10_000.0,
    "margin": 0.0,
    "free_margin": 10_000.0,
    "margin_level": 0.0,
    "profit": 0.0,
    "margin_mode": "hedging",
    "trade_allowed": True,
}


def position(ticket: int, symbol: str = "EURUSD") -> dict[str, Any]:
    """A position as the port's snapshot has it."""
    prices = {"price_open": 1.1, "price_current": 1.1, "stop_loss": 1.0, "take_profit": 0.0, "swap": 0.0}
    when = {"time": "2026-01-05T10:00:00.000Z", "time_msc": NOW_MS}
    return {
        "ticket": ticket, "symbol": symbol, "type": 0, "side": "buy", "volume": 0.1, **prices, "profit": 0.0, **when,
        "magic": 1, "comment": "", "signal_id": None,
    }  # fmt: skip


def pending(ticket: int, symbol: str = "EURUSD") -> dict[str, Any]:
    """A pending order as the port's snapshot has it."""
    levels = {"price": 1.0, "stop_limit_price": 0.0, "stop_loss": 0.9, "take_profit": 0.0}
    return {
        "ticket": ticket, "symbol": symbol, "type": 2, "order_type": "BUY_LIMIT", "state": "placed", "volume": 0.1,
        "volume_initial": 0.1, **levels, "expiration": None, "time": "2026-01-05T10:00:00.000Z", "time_done": None,
        "magic": 1, "comment": "", "position": None,
    }  # fmt: skip


def order_result(status: str = "filled", reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """An `order_result`'s data."""
    empty = dict.fromkeys(
        ("detail", "retcode", "retcode_text", "order", "deal", "position", "symbol", "action", "volume_requested",
         "volume_filled", "price", "stop_loss", "take_profit", "magic", "comment", "received_at", "sent_at", "done_at",
         "latency_ms", "strategy", "legs", "supersedes", "request_id", "signal_id")
    )  # fmt: skip
    return {**empty, "attempts": 1, "status": status, "reason": reason, **fields}


def symbol(name: str) -> dict[str, Any]:
    """A symbol's rules as `get_symbols` answers them."""
    numbers = dict.fromkeys(
        ("tick_value", "contract_size", "volume_max", "volume_limit"), 1.0
    )  # fmt: skip
    return {
        "name": name, "digits": 5, "point": 0.00001, "tick_size": 0.00001, **numbers, "volume_min": 0.01,
        "volume_step": 0.01, "stops_level": 0, "freeze_level": 0, "trade_mode": 4, "execution": 2, "filling_bits": 3,
        "order_mode": 127, "expiration_mode": 15, "calc_mode": 0, "currency_base": "EUR", "currency_profit": "USD",
        "currency_margin": "EUR", "description": "", "path": "", "spread_points": 1, "selected": True,
    }  # fmt: skip


Handler = Callable[[Mapping[str, Any]], dict[str, Any]]


class FakePort:
    """Implements `gateway.port.BridgePort`.

    Attributes:
        asked: every command and signal: name, data, by, request_id.
        account, positions, orders: the picture.
        answers: command → what makes the `data` of its answer; an `order_result` by default.
        result: what a signal comes to.
        told: the health report.
        measured: the figures.
        gate: holds up every command while it is not set.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str, str | None]] = []
        self.signed: list[tuple[bytes | None, str | None]] = []
        self.account: dict[str, Any] | None = dict(ACCOUNT)
        self.positions: tuple[dict[str, Any], ...] = ()
        self.orders: tuple[dict[str, Any], ...] = ()
        self.reconciled = True
        self.at_msc = NOW_MS
        self.read = 1
        self.refreshes = 0
        self.on_refresh: Callable[[], Awaitable[None]] | None = None
        self.answers: dict[str, Handler] = {}
        self.result = order_result(order=7, deal=8, position=9)
        self.gate = asyncio.Event()
        self.gate.set()
        self.claims: dict[tuple[str, str], str] = {}
        self.broken = False
        self.measured: Figures = {}
        self.told: dict[str, Any] = {
            "status": "ok", "detail": None, "halt": "active", "halt_detail": {"state": "active"}, "uptime_s": 12.5,
            "channels": {"terminal": "connected"}, "bridge_id": "fake", "mode": "standard", "account": "1001",
            "bars": None, "trading_enabled": True, "simulation_mode": False, "journal_healthy": True,
        }  # fmt: skip
        self.latched: list[str] = []
        self.heard_last: Any = None
        self.sessions: list[tuple[Any, ...]] = []
        self.session: dict[str, Any] = {"connected": True, "account": 1001, "server": "Fake-Demo", "detail": "done"}
        self.refused: dict[str, Any] | None = None
        self._first: dict[tuple[str, str], dict[str, Any]] = {}
        self._numbers = itertools.count(1)

    def names(self) -> list[str]:
        """The commands asked for, in order."""
        return [name for name, *_ in self.asked]

    def status(self) -> dict[str, Any]:
        return self.told

    health = status

    async def figures(self) -> Figures:
        return self.measured

    def heard(self) -> Any:
        return len(self.latched)

    def latch(self, *, by: str) -> None:
        self.latched.append(by)

    async def command(
        self, name: str, data: Mapping[str, Any], *, by: str, request_id: str | None = None, heard: Any = None
    ) -> dict[str, Any]:
        key = (by, request_id or f"#{next(self._numbers)}")
        if key in self._first:
            return self._first[key]
        self.asked.append((name, dict(data), by, request_id))
        self.heard_last = heard
        await self.gate.wait()
        made = self.answers[name](data) if name in self.answers else {"data": order_result("closed", position=9)}
        answer = {"command": name, "success": "error" not in made, **made}
        if request_id is not None:
            self._first[key] = answer
        return answer

    async def signal(
        self,
        data: Mapping[str, Any],
        *,
        by: str,
        request_id: str | None = None,
        raw: bytes | None = None,
        signature: str | None = None,
    ) -> dict[str, Any]:
        self.signed.append((raw, signature))
        self.answers["trading_signal"] = lambda asked: {"data": self.result}
        answer = await self.command("trading_signal", data, by=by, request_id=request_id)
        return {**answer["data"], "request_id": request_id}

    def listen(self, listener: Listener, /) -> Callable[[], None]:
        return lambda: None

    def snapshot(self) -> AccountSnapshot:
        return AccountSnapshot(
            read=self.read,
            at_msc=self.at_msc,
            reconciled=self.reconciled,
            account=self.account,
            positions=self.positions,
            orders=self.orders,
        )

    async def refresh(self) -> None:
        self.refreshes += 1
        if self.on_refresh is not None:
            await self.on_refresh()

    async def claim(self, request_id: str, fingerprint: str, *, by: str) -> Claim:
        if self.broken:
            raise JournalError("the disk is gone")
        if (by, request_id) not in self.claims:
            self.claims[by, request_id] = fingerprint
            return Claim.FIRST
        return Claim.AGAIN if self.claims[by, request_id] == fingerprint else Claim.OTHER

    async def connect(
        self, login: int | None, server: str | None, password: str | None, *, by: str, request_id: str | None = None
    ) -> dict[str, Any]:
        self.sessions.append(("connect", login, server, password, by, request_id))
        return self._session_answer("connect")

    async def disconnect(self, *, by: str, request_id: str | None = None) -> dict[str, Any]:
        self.sessions.append(("disconnect", by, request_id))
        return self._session_answer("disconnect")

    def _session_answer(self, name: str) -> dict[str, Any]:
        if self.refused is not None:
            return {"command": name, "success": False, "error": self.refused}
        return {"command": name, "success": True, "data": self.session}


class Disk:
    """A journal that keeps the audit trail."""

    def __init__(self) -> None:
        self.kept: list[changes.Change] = []

    async def commit(self, *batch: changes.Change) -> None:
        self.kept.extend(batch)


class Client:
    """An HTTP client of a gateway on a fake port."""

    def __init__(self, app: FastAPI, port: FakePort, http: httpx.AsyncClient) -> None:
        self.app = app
        self.port = port
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, **headers: str) -> Any:
        """The JSON of an answer, which must have this status."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = {} if body is None else {"json": body}
        response = await self.http.request(method, path, headers=given, **content)
        assert response.status_code == status, (response.status_code, response.text)
        return response.json()


@asynccontextmanager
async def gateway(port: FakePort | None = None, **config: Any) -> AsyncIterator[Client]:
    """A client with the token of a gateway on a fake port."""
    port = port or FakePort()
    settings = GatewayConfig(**{"token": TOKEN, "jwt_key": JWT_KEY, "rate_limit_requests": 1_000_000, **config})
    app = create_app(port, settings, Disk(), now_ms=lambda: NOW_MS)
    keep_for_ever(app)
    async with client_of(app) as http:
        try:
            yield Client(app, port, http)
        finally:
            await app.state.gateway.cache.close()


def keep_for_ever(app: FastAPI) -> None:
    """On a slow machine, too, no answer that is kept grows old."""
    gateway = app.state.gateway
    gateway.cache = Cache(monotonic=lambda: 0.0)
    gateway.reads = Reads(gateway.port, gateway.cache, gateway.now_ms)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """An HTTP client of an app, with the token."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001", headers=bearer())

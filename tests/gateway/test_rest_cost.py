"""What readers cost the terminal, on the flows of a bridge: nothing, or one call for all of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.fake_bridge_port import Disk, client_of, keep_for_ever
from support.flow_kit import FlowKit
from support.gateway import TOKEN

from mt5_bridge.gateway.app import create_app
from mt5_bridge.gateway.config import GatewayConfig

READERS = 100


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[FlowKit, Any]]:
    """A kit that polls nothing by itself, and a client of the gateway on its door."""
    async with FlowKit.open(folder) as kit:
        config = GatewayConfig(token=TOKEN, rate_limit_requests=1_000_000)
        app = create_app(kit.door(), config, Disk(), now_ms=kit.clock.now_ms)
        keep_for_ever(app)
        try:
            async with client_of(app) as http:
                yield kit, http
        finally:
            await app.state.gateway.cache.close()


async def read(http: Any, *paths: str) -> None:
    """As many readers at once, each of all paths."""
    answers = await asyncio.gather(*(http.get(path) for path in paths for _ in range(READERS)))
    assert {answer.status_code for answer in answers} == {200}, answers[0].text


async def test_a_hundred_readers_of_the_account_cost_the_terminal_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as (kit, http):
        before = list(kit.terminal.calls)
        await read(http, "/account", "/positions", "/orders", "/positions?limit=1")
        assert kit.terminal.calls == before


async def test_a_hundred_readers_of_the_symbols_ask_once(tmp_path: Path) -> None:
    async with served(tmp_path) as (kit, http):
        await read(http, "/symbols", "/symbols/EURUSD", "/positions?symbol=EURUSD", "/symbols?limit=1")
        assert kit.terminal.calls.count("get_symbols") == 1


async def test_what_was_written_is_read_with_one_call_for_all_who_come_next(tmp_path: Path) -> None:
    async with served(tmp_path) as (kit, http):
        order = {"symbol": "EURUSD", "order_type": "BUY", "volume": 0.1, "sl": 1.09}
        assert (await http.post("/order", json=order)).status_code == 200
        await kit.idle()
        before = kit.terminal.calls.count("snapshot")
        await read(http, "/positions", "/account")
        assert kit.terminal.calls.count("snapshot") - before <= 1
        assert (await http.get("/positions")).json()["count"] == 1

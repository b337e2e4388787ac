"""A running bridge's figures are those of the catalogue, and say what happened."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.backend import Backend
from support.eventually import eventually

from mt5_bridge.app.bridge import Bridge
from mt5_bridge.app.figures import figures
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.figures import Figures
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.gateway.catalogue import FAMILIES, GATEWAY, Kind
from mt5_bridge.settings import load

OF_THE_BRIDGE = FAMILIES.keys() - {family.name for family in GATEWAY}
OF_REDPANDA = {
    f"mt5_bridge_{name}"
    for name in ("producer_records_total", "producer_batches_total", "producer_refused_total", "producer_pending_bytes",
                 "signal_lag_records")
}  # fmt: skip
OF_BARS = {"mt5_bridge_bars_published_total", "mt5_bridge_bars_corrected_total"}


@asynccontextmanager
async def running(folder: Path, backend: Backend, **env: str) -> AsyncIterator[Bridge]:
    settings = {
        "DATA_DIR": str(folder), "MODE": "standard", "BACKEND_WS_URL": backend.url, "TERMINAL": "paper",
        "TRADING_ENABLED": "true", "SYMBOLS": "EURUSD", "PAPER_SEED": "7", "PAPER_SPEED": "5",
        "MAX_RISK_PERCENT": "100", "BRIDGE_ID": "in-process", "MT5_HISTORY_HOST": "false",
        "MAX_DAILY_LOSS_PCT": "50", **env,
    }  # fmt: skip
    bridge = Bridge(load(env=settings, cwd=folder).settings)
    task = asyncio.create_task(bridge.run())
    try:
        await eventually(lambda: bridge.opened or task.done(), 30, "an open bridge")
        if task.done():
            await task
        yield bridge
    finally:
        bridge.request_stop()
        await asyncio.wait({task}, timeout=30)
    await task


def value(found: Figures, name: str, *labels: str) -> Any:
    return dict(found[f"mt5_bridge_{name}"])[labels]


async def test_of_a_life_on_the_socket(tmp_path: Path, backend: Backend) -> None:
    async with running(tmp_path, backend, BARS="M1") as bridge:
        await backend.frame("tick_data", timeout=30)
        signal = {"symbol": "EURUSD", "action": "BUY", "volume": 0.01, "stop_loss": 0.5, "signal_id": "s"}
        await backend.send("trading_signal", signal)
        await backend.frame("order_result", timeout=30)
        await backend.send("trading_signal", {**signal, "signal_id": "t", "stop_loss": None})
        await backend.frame("order_result", where=lambda f: f["data"]["signal_id"] == "t", timeout=30)
        await backend.command("get_status", {}, request_id="q", timeout=30)
        await eventually(lambda: len(bridge.flows.book.positions) == 1, 30)
        found = await figures(bridge)

        assert OF_THE_BRIDGE - found.keys() == OF_REDPANDA
        assert found.keys() <= FAMILIES.keys()
        for name, series in found.items():
            family = FAMILIES[name]
            assert len({labels for labels, _ in series}) == len(series), name
            for labels, figure in series:
                assert len(labels) == len(family.labels), name
                assert isinstance(figure, Histogram) == (family.kind is Kind.HISTOGRAM), name

        assert value(found, "results_total", "filled") == value(found, "results_total", "denied") == 1
        assert value(found, "denials_total", "no_stop_loss") == 1
        assert value(found, "signals_received_total", "websocket") == 2
        assert (value(found, "order_sends_total"), value(found, "positions")) == (1, 1)
        assert value(found, "signal_to_send_seconds").count == value(found, "order_send_seconds").count == 1
        assert value(found, "command_seconds", "get_status").count == 1
        assert value(found, "channel_state", "backend", "connected") == value(found, "channel_up", "terminal") == 1
        assert value(found, "health_state", "ok") + value(found, "health_state", "degraded") == 1
        assert value(found, "day_trades") == 1
        assert value(found, "day_loss_limit_ratio") == 0.5
        assert value(found, "ticks_published_total") >= value(found, "tick_age_seconds").count > 0
        assert value(found, "journal_size_bytes") > 0


async def test_without_a_backend_an_account_or_an_answer_of_the_disk(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, backend, MAX_DAILY_LOSS_PCT="off", MAX_DAILY_TRADES="off") as bridge:
        await eventually(lambda: bridge.flows.book.account is not None, 30)

        async def fails() -> int:
            raise JournalError("the disk is gone")

        monkeypatch.setattr(bridge.journal, "size_bytes", fails)
        monkeypatch.setattr(bridge.flows.book, "account", None)
        found = await figures(bridge)
        gone = {"journal_size_bytes", "account_equity", "positions", "day_trades_limit", "day_loss_limit_ratio"}
        assert not {f"mt5_bridge_{name}" for name in gone} & found.keys()
        assert value(found, "outbox_depth", "websocket") >= 0

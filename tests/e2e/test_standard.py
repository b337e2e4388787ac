"""Standard mode: everything over the WebSocket, nothing of Kafka."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.backend import Backend, Frame
from support.daemon import STANDARD, SYMBOLS, Daemon
from support.eventually import eventually
from support.world import TOKEN


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend(TOKEN) as made:
        yield made


def ticks(backend: Backend) -> list[Frame]:
    return [f for f in backend.frames if f["type"] == "tick_data"]


async def result(backend: Backend, signal_id: str) -> Frame:
    return await backend.frame("order_result", where=lambda f: f["data"]["signal_id"] == signal_id)


async def signal(backend: Backend, signal_id: str, action: str, **fields: Any) -> Frame:
    await backend.send("trading_signal", {"signal_id": signal_id, "symbol": "AUDUSD", "action": action, **fields})
    data: Frame = (await result(backend, signal_id))["data"]
    return data


async def test_all_of_it(backend: Backend, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"BACKEND_WS_URL": backend.url, "HEARTBEAT_INTERVAL": "0.5"}, STANDARD)
    daemon.start()
    try:
        hello = (await backend.frame("hello", timeout=15.0))["data"]
        assert hello["mode"] == "standard"
        await backend.frame("positions", timeout=10.0)
        await eventually(lambda: {f["data"]["symbol"] for f in ticks(backend)} == set(SYMBOLS), 10.0)
        bid = next(f["data"]["bid"] for f in ticks(backend) if f["data"]["symbol"] == "AUDUSD")
        heartbeat = (await backend.frame("heartbeat"))["data"]
        assert set(heartbeat["channels"]) == {"terminal", "backend"}

        # Every tick on request, behind a cursor; the stream has the latest only.
        asked: dict[str, Any] = {"symbol": "AUDUSD", "count": 3}
        every: list[dict[str, Any]] = []
        while len(every) < 12:
            page = (await backend.command("get_ticks", asked, request_id=f"t{len(backend.frames)}"))["data"]
            every += page["data"]
            asked["cursor"] = page["next"]
        keys = [(tick["time_msc"], tick["seq"]) for tick in every]
        span = {"symbol": "AUDUSD", "from_msc": keys[0][0], "to_msc": keys[-1][0], "count": 1000}
        whole = (await backend.command("get_ticks", span, request_id="whole"))["data"]["data"]
        assert [
            (tick["time_msc"], tick["seq"]) for tick in whole if (tick["time_msc"], tick["seq"]) <= keys[-1]
        ] == keys

        opened = await signal(backend, "one", "BUY", volume=0.01, stop_loss=round(bid * 0.98, 5))
        assert opened["status"] == "filled"
        await backend.frame("positions", where=lambda f: [p["ticket"] for p in f["data"]] == [opened["position"]])
        assert (await signal(backend, "two", "BUY", volume=0.01))["reason"] == "no_stop_loss"
        mark = len(backend.frames)
        await backend.send("trading_signal", {"signal_id": "one", "symbol": "AUDUSD", "action": "BUY"})
        again = await backend.frame("order_result", after=mark)
        assert again["event_id"] == (await result(backend, "one"))["event_id"]

        # Each frame without id is a signal of its own.
        mark = len(backend.frames)
        for _ in range(2):
            data = {"symbol": "AUDUSD", "action": "BUY", "volume": 0.01, "stop_loss": round(bid * 0.98, 5)}
            await backend.send("trading_signal", data)
        await backend.frame("positions", where=lambda f: len(f["data"]) == 3, after=mark)
        assert (await signal(backend, "all", "CLOSE"))["status"] == "closed"

        await backend.send("trading_signal", {"symbol": "AUDUSD", "action": "HODL", "signal_id": "bad"})
        denied = (await result(backend, "bad"))["data"]
        assert (denied["status"], denied["reason"]) == ("denied", "invalid")

        answer = await backend.command("emergency_stop", {}, request_id="es")
        assert answer["data"]["data"]["state"] == "halted"
        await backend.frame("halt_changed", where=lambda f: f["data"]["phase"] == "done")
        assert (await signal(backend, "late", "BUY", volume=0.01, stop_loss=0.5))["reason"] == "halted"
        await daemon.stop()
        assert "Producer" not in daemon.console
    finally:
        await asyncio.to_thread(daemon.close)


@pytest.mark.deep
async def test_one_frame_a_symbol_and_change(backend: Backend, tmp_path: Path) -> None:
    """The latest tick only, and nothing of a symbol that nobody wants any more."""
    daemon = Daemon(tmp_path, {"BACKEND_WS_URL": backend.url, "SYMBOLS": "AUDUSD", "TICK_HZ": "2"}, STANDARD)
    daemon.start()
    try:
        await backend.frame("tick_data", timeout=15.0)
        mark = len(backend.frames)
        await backend.command("subscribe", {"symbols": ["GBPUSD"]}, request_id="sub")
        await backend.frame("tick_data", where=lambda f: f["data"]["symbol"] == "GBPUSD", after=mark)
        answer = await backend.command("unsubscribe", {"symbols": ["AUDUSD"]}, request_id="unsub")
        assert answer["data"]["success"]
        mark = len(backend.frames)
        for _ in range(3):
            mark = backend.frames.index(await backend.frame("tick_data", after=mark)) + 1
        later = [f["data"] for f in backend.frames if f["type"] == "tick_data"]
        keys = [(tick["symbol"], tick["time_msc"]) for tick in later]
        assert len(keys) == len(set(keys))
        assert [tick["symbol"] for tick in later[-3:]] == ["GBPUSD"] * 3
        await daemon.stop()
    finally:
        await asyncio.to_thread(daemon.close)

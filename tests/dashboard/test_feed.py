"""One stream for all pages: what they hear, and what they may ask."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.eventually import eventually

from mt5_bridge.dashboard import feed as module
from mt5_bridge.dashboard.feed import Feed


@asynccontextmanager
async def feeding(url: str) -> AsyncIterator[Feed]:
    feed = Feed(url, "t")
    feed.start()
    try:
        yield feed
    finally:
        await feed.close()


class Page:
    """What a page was told, the newest of each part."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.patches = 0

    def tell(self, patch: dict[str, Any]) -> None:
        self.patches += 1
        self.known.update(patch)


async def test_a_page_gets_the_picture_and_what_changes(gateway: Any) -> None:
    gateway.answers |= {
        "get_signals": {"success": True, "data": [{"signal_id": "s-1", "status": "filled"}]},
        "get_orders": {"success": True, "data": [{"ticket": 3}]},
        "get_symbols": lambda frame: (
            {"success": True, "data": [{"name": "X", "digits": 3}]}
            if "cursor" in frame["data"]
            else {"success": True, "data": [{"name": "Y", "digits": 1}], "next": "c"}
        ),
    }
    async with feeding(gateway.url) as feed:
        page = Page()
        feed.attach(page.tell)
        assert page.known["full"]
        await eventually(lambda: page.known.get("bridge", {}).get("bridge_id") == "b-1")
        await eventually(lambda: page.known["symbols"].get("X", {}).get("digits") == 3)
        await eventually(lambda: page.known["orders"] == [{"ticket": 3}])
        await eventually(lambda: page.known["limits"] == [{"name": "n"}])
        assert page.known["signals+"][0]["signal_id"] == "s-1"
        feed.detach(page.tell)
        told = page.patches
        await gateway.send("positions", [{"ticket": 1}])
        await eventually(lambda: feed.board.full(0)["positions"])
        assert page.patches == told


async def test_who_asks_is_told_to_the_bridge(gateway: Any) -> None:
    gateway.answers |= {name: {"success": True, "data": 1} for name in ("resume_trading", "close_position")}
    async with feeding(gateway.url) as feed:
        await eventually(lambda: feed.board.symbols)
        assert (await feed.ask("resume_trading", {"reason": "r", "by": "somebody else"}, by="ann"))["success"]
        assert (await gateway.frame("resume_trading"))["data"] == {"reason": "r", "by": "ann"}
        assert (await feed.ask("close_position", {"ticket": 1}, by="ann"))["success"]
        refused = await feed.ask("trading_signal", {}, by="ann")
        assert refused["error"]["code"] == "unknown_command"


async def test_a_stop_is_carried_out_and_shown(gateway: Any) -> None:
    halt = {"state": "halted", "at": "t", "by": "ann", "reason": "r", "durable": True}
    gateway.answers["emergency_stop"] = {"success": True, "data": halt}
    async with feeding(gateway.url) as feed:
        await eventually(lambda: feed.board.symbols)
        answer = await feed.ask("emergency_stop", {}, by="ann")
        assert answer["data"] == halt
        assert (await gateway.frame("emergency_stop"))["data"]["by"] == "ann"
        assert feed.board.full(0)["stop"]["phase"] == "latched"


async def test_a_stop_without_a_connection_is_sent_as_soon_as_there_is_one(gateway: Any) -> None:
    gateway.answers["emergency_stop"] = {"success": True, "data": {"state": "halted", "at": "t"}}
    await gateway.stop()
    async with feeding(gateway.url) as feed:
        stopping = asyncio.create_task(feed.ask("emergency_stop", {}, by="ann"))
        await eventually(lambda: "trying again" in str((feed.board.full(0)["stop"] or {}).get("detail")))
        await gateway.start()
        assert (await stopping)["success"]
    assert len({f["request_id"] for f in gateway.frames if f["type"] == "emergency_stop"}) == 1


async def test_a_stop_that_never_gets_through_says_so(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_PATIENCE_S", 0.05)
    await gateway.stop()
    async with feeding(gateway.url) as feed:
        answer = await feed.ask("emergency_stop", {}, by="ann")
        assert (answer["success"], answer["error"]["code"]) == (False, "no_answer")
        assert feed.board.full(0)["stop"]["phase"] == "failed"
        other = await feed.ask("close_position", {"ticket": 1}, by="ann")
        assert other["error"]["code"] == "no_answer"


async def test_a_defect_is_shown_and_not_taken_for_the_truth(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with feeding(gateway.url) as feed:
        await eventually(lambda: feed.board.symbols)

        def broken(*_: Any) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(feed.board, "take", broken)
        await gateway.send("positions", [])
        await eventually(lambda: "a bug" in feed.board.full(0)["link"]["detail"])

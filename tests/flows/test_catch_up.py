"""Catching up: pages in order, the next one made while one is published, and nothing lost when either side fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.fake_terminal import OFFSET_MS, START_MS, FakeTerminal
from support.flow_kit import TICKS, FlowKit
from support.simulated import simulated

from mt5_bridge.core.errors import BrokerError, MT5DataError
from mt5_bridge.core.model import Cursor
from mt5_bridge.flows import tick_catch_up as flow
from mt5_bridge.journal.changes import CursorMoved
from mt5_bridge.redpanda import RecordRefused

PAGE = 10
COUNT = 35
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY")


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PAGE", PAGE)
    monkeypatch.setattr(flow, "AT_ONCE", 2)


@asynccontextmanager
async def behind(folder: Path, *symbols: str, **settings: Any) -> AsyncIterator[FlowKit]:
    """A bridge with a cursor an hour old and ticks since then, one a second."""
    terminal = FakeTerminal()
    for number in range(COUNT):
        for symbol in symbols:
            terminal.tick(symbol, 1.1 + number / 1e5, 1.2, after_ms=1000 if symbol == symbols[0] else 0)
    terminal.now_msc += 60_000
    for symbol in symbols:
        terminal.tick(symbol, 1.3, 1.4, after_ms=0)
    async with FlowKit.open(folder, terminal=terminal, symbols=symbols, **settings) as kit:
        old = START_MS + OFFSET_MS - 3_600_000
        await kit.journal.commit(*(CursorMoved(symbol=s, epoch=0, time_msc=old, count=1) for s in symbols))
        await kit.ticks.restore()
        yield kit


def got(kit: FlowKit, symbol: str = "EURUSD") -> list[int]:
    return [m["data"]["time_msc"] for m in kit.producer.of(TICKS) if m["data"]["symbol"] == symbol]


def held(kit: FlowKit) -> int:
    return len(kit.terminal.ticks["EURUSD"]) // 60


async def cursor(kit: FlowKit, symbol: str = "EURUSD") -> Cursor:
    await kit.ticks.save_cursors()
    return (await kit.journal.cursors())[symbol]


@simulated
async def test_every_tick_once_and_in_order(tmp_path: Path) -> None:
    async with behind(tmp_path, *SYMBOLS) as kit:
        kit.run("ticks")
        await eventually(lambda: all(len(got(kit, symbol)) == COUNT + 1 for symbol in SYMBOLS))
        for symbol in SYMBOLS:
            assert got(kit, symbol) == sorted(set(got(kit, symbol)))
        assert kit.terminal.calls.count("catch_up") == len(SYMBOLS) * -(-held(kit) // PAGE)
        assert (await cursor(kit)).time_msc == got(kit)[-1] + OFFSET_MS
        assert kit.ticks.stats.published == len(SYMBOLS) * (COUNT + 1)
        (record, *_) = kit.producer.records
        assert record.timestamp_ms == record.json["data"]["time_msc"]
        assert dict(record.headers)["schema"] == b"tick_data/1"


@simulated
async def test_while_a_page_is_published_the_next_is_made_and_no_more(tmp_path: Path) -> None:
    async with behind(tmp_path, "EURUSD") as kit:
        kit.producer.hang = asyncio.Event()
        kit.run("ticks")
        await eventually(lambda: kit.terminal.calls.count("catch_up") == 2)
        await asyncio.sleep(5)
        assert kit.terminal.calls.count("catch_up") == 2
        assert (await cursor(kit)).time_msc < START_MS + OFFSET_MS
        kit.producer.hang.set()
        await eventually(lambda: len(got(kit)) == COUNT + 1)


@simulated
async def test_a_page_that_fails_is_read_again_from_the_acknowledged_cursor(tmp_path: Path) -> None:
    async with behind(tmp_path, "EURUSD") as kit:
        kit.producer.hang = asyncio.Event()
        kit.run("ticks")
        await eventually(lambda: kit.terminal.calls.count("catch_up") == 2)
        kit.producer.error = BrokerError("gone")
        kit.producer.hang.set()
        await eventually(lambda: kit.ticks.stats.failed_publishes > 0)
        kit.producer.error = None
        await eventually(lambda: len(got(kit)) == COUNT + 1)
        assert got(kit) == sorted(set(got(kit)))


@simulated
async def test_symbols_that_the_broker_refuses_do_not_hold_up_others(tmp_path: Path) -> None:
    async with behind(tmp_path, *SYMBOLS) as kit:
        whole = kit.producer.publish_framed

        async def picky(topic: str, key: bytes, batches: Any) -> None:
            if key != b"USDJPY":
                raise RecordRefused("in the future", "timestamp")
            await whole(topic, key, batches)

        kit.producer.publish_framed = picky  # type: ignore[method-assign]  # this broker refuses two symbols
        kit.run("ticks")
        began = asyncio.get_running_loop().time()
        await eventually(lambda: len(got(kit, "USDJPY")) == COUNT + 1)
        assert asyncio.get_running_loop().time() - began < 4


@simulated
async def test_a_host_that_fails_is_asked_again(tmp_path: Path) -> None:
    async with behind(tmp_path, "EURUSD") as kit:
        kit.terminal.failures["catch_up"] = MT5DataError("history is busy")
        kit.run("ticks")
        await eventually(lambda: kit.terminal.calls.count("catch_up") >= 2)
        del kit.terminal.failures["catch_up"]
        await eventually(lambda: len(got(kit)) == COUNT + 1)


@simulated
async def test_a_host_that_fails_behind_a_page_leaves_that_page_published(tmp_path: Path) -> None:
    async with behind(tmp_path, "EURUSD") as kit:
        kit.producer.hang = asyncio.Event()
        kit.run("ticks")

        async def fails_later(name: str) -> None:
            if name == "catch_up" and kit.terminal.calls.count(name) == 2:
                kit.terminal.failures[name] = MT5DataError("history is busy")

        kit.terminal.step = fails_later
        await eventually(lambda: kit.terminal.failures)
        kit.producer.hang.set()
        await eventually(lambda: len(got(kit)) == PAGE)
        del kit.terminal.failures["catch_up"]
        await eventually(lambda: len(got(kit)) == COUNT + 1)
        assert got(kit) == sorted(set(got(kit)))


@simulated
async def test_only_the_newest_of_each_page_where_no_more_is_wanted(tmp_path: Path) -> None:
    async with behind(tmp_path, "EURUSD", latest_only=True) as kit:
        kit.run("ticks")
        await eventually(lambda: len(got(kit)) == -(-held(kit) // PAGE))
        assert (await cursor(kit)).time_msc == got(kit)[-1] + OFFSET_MS


@simulated
async def test_ticks_without_a_price_are_counted(tmp_path: Path) -> None:
    async with behind(tmp_path, "EURUSD") as kit:
        kit.terminal.now_msc = START_MS + 200_000
        kit.terminal.tick("EURUSD", float("nan"), 1.2)
        kit.terminal.tick("EURUSD", 1.1, 1.2)
        kit.run("ticks")
        await eventually(lambda: len(got(kit)) == COUNT + 2)
        assert kit.ticks.stats.unusable == 1


@simulated
async def test_unsubscribing_ends_it(tmp_path: Path) -> None:
    async with behind(tmp_path, "EURUSD") as kit:
        kit.producer.hang = asyncio.Event()
        kit.run("ticks")
        await eventually(lambda: kit.terminal.calls.count("catch_up") == 2)
        assert await kit.ticks.unsubscribe("EURUSD")
        kit.producer.hang.set()
        await asyncio.sleep(5)
        assert not got(kit)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("ticks-", "page-"))]

"""What an opening is decided by is read while the inbox is asked about its signal, and used only while it is true."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.halt import HaltState

READ = "quote_for_order"
BUY: dict[str, Any] = {"volume": 0.1, "stop_loss": 1.09}


def at_the_look_up(kit: FlowKit, do: Callable[[], Awaitable[object]]) -> None:
    """Do something, once, while the inbox is being asked about a signal."""

    async def step(name: str) -> None:
        if name.startswith("read") and "lambda" in name:
            kit.journal.step = None
            await do()

    kit.journal.step = step


async def reads_of(kit: FlowKit, signal_id: str = "s1") -> int:
    """How often the facts were read until a signal had its result."""
    kit.terminal.calls.clear()
    await kit.send(**BUY, signal_id=signal_id)
    await kit.result(signal_id)
    return kit.terminal.calls.count(READ)


@simulated
async def test_an_opening_is_decided_by_what_was_read_before_the_inbox_answered(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        seen = list[int]()

        async def look() -> None:
            await asyncio.sleep(0)
            seen.append(kit.terminal.calls.count(READ))

        at_the_look_up(kit, look)
        assert await reads_of(kit) == 1
        assert seen == [1]
        assert (await kit.result("s1"))["status"] == "filled"


@simulated
async def test_what_was_read_is_read_again_when_it_is_old(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def slow() -> None:
            await asyncio.sleep(0.03)
            kit.terminal.tick("EURUSD", 1.1010, 1.1011)

        at_the_look_up(kit, slow)
        assert await reads_of(kit) == 2
        assert kit.terminal.sent[0].price == 1.1011


@simulated
async def test_of_a_terminal_that_takes_its_time_nothing_is_asked_twice(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def slow(name: str) -> None:
            await asyncio.sleep(3.0 if name == READ else 0.0)

        kit.terminal.step = slow
        assert await reads_of(kit) == 1
        assert (await kit.result("s1"))["status"] == "filled"


@simulated
async def test_what_was_read_is_read_again_when_the_account_was_read_since(tmp_path: Path) -> None:
    """An order that the new picture shows counts no longer in flight, and is not in the margin of those facts."""
    async with FlowKit.open(tmp_path) as kit:
        at_the_look_up(kit, kit.book.refresh)
        assert await reads_of(kit) == 2


@simulated
async def test_a_read_that_failed_is_made_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        quotes = kit.terminal.quotes.copy()
        kit.terminal.quotes.clear()

        async def again() -> None:
            await asyncio.sleep(0.001)
            kit.terminal.quotes.update(quotes)

        at_the_look_up(kit, again)
        assert await reads_of(kit) == 2
        assert (await kit.result("s1"))["status"] == "filled"


@pytest.mark.parametrize("state", [HaltState.HALTED, HaltState.REDUCING])
@simulated
async def test_after_a_stop_nothing_is_read(tmp_path: Path, state: HaltState) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.halt(state)
        assert await reads_of(kit) == 0


@simulated
async def test_for_what_will_not_be_sent_nothing_is_read(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.calls.clear()
        await kit.take([kit.record(kit.value(**BUY, signal_id="old"), timestamp_ms=kit.clock.now_ms() - 60_000)])
        await kit.result("old")
        await kit.send("CLOSE", signal_id="c1")
        await kit.result("c1")
        assert READ not in kit.terminal.calls


@simulated
async def test_signals_sent_again_cost_a_read_now_and_then(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        kit.terminal.calls.clear()
        began = kit.clock.monotonic()
        while kit.clock.monotonic() - began < 1.0:
            await kit.send_frame(**BUY, signal_id="s1")
            await asyncio.sleep(0.005)
        assert 1 <= kit.terminal.calls.count(READ) <= 11

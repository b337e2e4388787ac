"""What is noted of managed stops: nothing is lost between two writers, nor to another account."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from support.eventually import eventually
from support.flow_kit import FlowKit
from support.managed import BUY, TRAIL, kit_in, moves, opened, plans, rise, stays, stop, until_bound, until_stop
from support.simulated import simulated

from mt5_bridge.core.errors import JournalError
from mt5_bridge.flows.binder import GONE_S


@simulated
async def test_a_modify_whose_inbox_row_is_slow_forgets_no_newer_plan(tmp_path: Path) -> None:
    """Whoever writes last must write what is true by then, or a crash loses the plan that came in between."""
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit))["position"]
        go_on, held = asyncio.Event(), list[str]()

        async def slow_inbox(name: str) -> None:
            if "SignalReceived" in name and name.startswith("commit ") and not held:
                held.append(name)
                await go_on.wait()

        kit.journal.step = slow_inbox
        sending = asyncio.create_task(kit.send("MODIFY", signal_id="m1", position=ticket, break_even_points=500))
        await eventually(lambda: held)
        await asyncio.sleep(0.5)
        kit.terminal.tick("GBPUSD", 1.3, 1.3001)
        await kit.send_frame(**{**BUY, "symbol": "GBPUSD", "stop_loss": 1.2950, "signal_id": "s2"}, **TRAIL)
        await kit.result("s2")
        kit.journal.step = None
        go_on.set()
        await sending
        await kit.result("m1")
        assert {m.key for m in await plans(kit)} == {"m1", "s2"}
        await kit.crash()


@simulated
async def test_what_a_former_journal_executed_is_noted_anew_when_the_disk_was_full(tmp_path: Path) -> None:
    """Its result is kept and written later: by then there may be other plans."""
    async with FlowKit.open(tmp_path / "lost") as kit:
        record = await kit.send(**BUY, **TRAIL, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
    async with kit_in(tmp_path / "new", terminal=kit.terminal) as kit:
        broken: list[str] = []

        async def full_once(name: str) -> None:
            if name.startswith("commit IntentOpened") and len(broken) < 2:
                broken.append(name)
                if len(broken) == 1:
                    raise JournalError("the disk is full")
                kit.desk.plans.open.clear()  # what is in memory by then counts, not what was tried before

        await kit.intake.position_lost("trading_signals", 0, 0, "no stored offset")
        kit.journal.step = full_once
        await kit.take([record])
        await kit.result("s1")
        kit.journal.step = None

        async def none_left() -> bool:
            return not await plans(kit)

        await eventually(none_left)


@pytest.mark.parametrize("bound", [True, False])
@simulated
async def test_plans_of_another_account_are_kept_and_not_followed(tmp_path: Path, bound: bool) -> None:
    """Started by mistake on another account, whose positions may have the same numbers."""
    async with FlowKit.open(tmp_path) as kit:
        if bound:
            kit.run("trailing")
        await opened(kit, **TRAIL)
        if bound:
            await until_bound(kit)
        own = kit.terminal.account
    held = dict(kit.terminal.positions)
    kit.terminal.account = msgspec.structs.replace(own, login=2002)
    if not bound:
        kit.terminal.positions.clear()
    async with kit_in(tmp_path, terminal=kit.terminal) as kit:
        rise(kit, 1.1050)
        await stays(kit)
        kit.terminal.positions.clear()
        await asyncio.sleep(3 * GONE_S)
    kit.terminal.positions.update(held)
    kit.terminal.account = own
    async with kit_in(tmp_path, terminal=kit.terminal) as kit:
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        assert len(moves(kit)) == 1
        assert stop(kit) == 1.1030

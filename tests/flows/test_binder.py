"""Which plan is for which position, and when one is over."""

import asyncio
from pathlib import Path

import msgspec
from support.eventually import eventually
from support.fake_terminal import Hangs
from support.flow_kit import FlowKit
from support.managed import (
    BUY,
    TRAIL,
    change,
    kit_in,
    moves,
    net_kit,
    opened,
    plans,
    rise,
    stays,
    stop,
    until_bound,
    until_ended,
    until_stop,
)
from support.simulated import simulated

from mt5_bridge.flows.binder import GONE_S


@simulated
async def test_an_empty_list_of_a_terminal_that_is_not_connected_is_no_end(tmp_path: Path) -> None:
    """A terminal that has been started without its server answers, and shows nothing."""
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)
        held, connected = dict(kit.terminal.positions), kit.terminal.terminal
        kit.terminal.positions.clear()
        kit.terminal.terminal = msgspec.structs.replace(connected, connected=False)
        await asyncio.sleep(3 * GONE_S)
        kit.terminal.terminal = connected
        await asyncio.sleep(GONE_S / 2)
        kit.terminal.positions.update(held)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


@simulated
async def test_on_netting_a_history_that_lags_ends_nothing(tmp_path: Path) -> None:
    async with net_kit(tmp_path) as kit:
        kit.terminal.lag_ms = 20_000
        await opened(kit, **TRAIL)
        await asyncio.sleep(5)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


@simulated
async def test_what_a_later_signal_said_of_a_fill_that_was_not_journalled_yet_counts(tmp_path: Path) -> None:
    """A pending order fills; until that is journalled, its own plan has no position, and is the older one."""
    async with FlowKit.open(tmp_path) as kit:
        kit.run("trailing", "account-poll")
        order = (await opened(kit, action="BUY_LIMIT", price=1.0990, stop_loss=1.0900, **TRAIL))["order"]
        kit.terminal.fill_pending(order)
        await kit.send("MODIFY", signal_id="m1", position=order, trailing_stop_points=0)
        assert (await kit.result("m1"))["status"] == "modified"
        await asyncio.sleep(3)
        kit.run("corrections")
        await until_ended(kit, 30.0)
        rise(kit, 1.1060)
        await stays(kit)
        assert stop(kit) == 1.0900


@simulated
async def test_a_modify_that_ends_a_plan_and_loosens_the_stop_is_not_undone_by_it(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit, **TRAIL))["position"]
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        await asyncio.sleep(2)
        kit.terminal.script(Hangs(executed=True))
        await kit.send("MODIFY", signal_id="m1", position=ticket, trailing_stop_points=0, stop_loss=1.1000)
        await asyncio.sleep(10)
        assert len(await kit.journal.intents("s1")) == 2, "nor is it tried"
        assert (await kit.result("m1", timeout=60.0))["status"] == "modified"
        await stays(kit)
        assert stop(kit) == 1.1000
        assert len(moves(kit)) == 1


@simulated
async def test_a_move_that_waits_behind_a_modify_of_its_plan_is_not_sent(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit, **TRAIL))["position"]
        await until_bound(kit)
        go_on, held = asyncio.Event(), list[str]()

        async def slow_move(name: str) -> None:
            if name.startswith("committed IntentOpened") and not held:
                held.append(name)
                await go_on.wait()

        kit.journal.step = slow_move
        rise(kit, 1.1050)
        await eventually(lambda: held)
        kit.terminal.script(Hangs(executed=True))
        await kit.send("MODIFY", signal_id="m1", position=ticket, trailing_stop_points=0, stop_loss=1.0940)
        await eventually(lambda: "m1" in {m.key for m in kit.desk.plans.open.values()})
        kit.journal.step = None
        go_on.set()
        await kit.idle()
        await until_ended(kit)
        assert moves(kit) == []
        assert stop(kit) == 1.0940


@simulated
async def test_a_position_that_is_seen_again_has_all_its_time_again(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit, **TRAIL))["position"]
        await until_bound(kit)
        held = kit.terminal.positions.pop(ticket)
        await asyncio.sleep(GONE_S / 2)
        kit.terminal.positions[ticket] = held
        await asyncio.sleep(1)
        change(kit, ticket, take_profit=1.2)
        kit.terminal.positions.pop(ticket)
        await asyncio.sleep(0.8 * GONE_S)
        assert len(await plans(kit)) == 1


@simulated
async def test_a_plan_whose_intent_waits_for_a_disk_that_hangs_is_not_given_up(tmp_path: Path) -> None:
    async with kit_in(tmp_path, limits={"signal_max_age_ms": 300_000}) as kit:
        go_on = asyncio.Event()

        async def hang(name: str) -> None:
            if name.startswith("commit "):
                await go_on.wait()

        kit.journal.step = hang
        sending = asyncio.create_task(kit.send(**BUY, **TRAIL, signal_id="s1"))
        for _ in range(int(1.5 * GONE_S)):
            await asyncio.sleep(1)
            await kit.book.refresh()
        go_on.set()
        await sending
        assert (await kit.result("s1"))["status"] == "filled"
        await until_bound(kit)

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from support.eventually import eventually
from support.fake_terminal import FakeTerminal, Late, Silent
from support.flow_kit import FlowKit
from support.simulated import leap, simulated

from mt5_bridge.core.errors import JournalError, MT5DataError
from mt5_bridge.core.model import Deed, OrderRequest
from mt5_bridge.flows.orders import Intent
from mt5_bridge.journal import changes

BUY: dict[str, Any] = {"action": "BUY", "volume": 0.1, "stop_loss": 1.095}
DAY_S = 86_400


async def abandoned(kit: FlowKit, key: str, **fields: Any) -> None:
    """A signal whose order was given up, and is executed when the test says so."""
    kit.terminal.script(Late(10011))
    await kit.send(**(BUY | fields | {"signal_id": key}))
    assert (await kit.result(key, 10.0))["status"] == "abandoned"


async def corrected(kit: FlowKit, key: str) -> dict[str, Any]:
    async def last() -> dict[str, Any] | None:
        found = [r for r in await kit.results(key) if r["supersedes"]]
        return found[-1] if found else None

    return await eventually(last)


async def final_event(kit: FlowKit, key: str) -> str:
    row = (await kit.journal.seen([key]))[key]
    assert row.event_id is not None
    return row.event_id


@simulated
async def test_a_fill_found_after_it_was_given_up_corrects_the_result(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("corrections", "account-poll")
        await abandoned(kit, "s1")
        assert kit.desk.abandoned
        await asyncio.sleep(100)
        assert len(await kit.results("s1")) == 2
        kit.terminal.fill_late()
        result = await corrected(kit, "s1")
        (position,) = kit.terminal.positions.values()
        assert (result["status"], result["position"], result["volume_filled"]) == ("filled", position.ticket, 0.1)
        assert result["supersedes"] == await final_event(kit, "s1")
        assert result["detail"] == "found after it was given up"
        story = await kit.journal.signal("s1")
        assert story is not None
        assert story.signal.status == "abandoned"
        assert [(c.status, c.supersedes) for c in story.corrections] == [("filled", story.signal.event_id)]
        assert [i.state for i in story.intents] == ["filled"]
        await asyncio.sleep(100)
        assert [r["status"] for r in await kit.results("s1")] == ["unknown", "abandoned", "filled"]
        assert kit.corrections.corrected == 1
        assert not kit.desk.abandoned


@simulated
async def test_its_stop_is_guarded(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("corrections", "account-poll")
        await abandoned(kit, "s1")
        kit.terminal.late = [msgspec.structs.replace(r, stop_loss=0.0) for r in kit.terminal.late]
        kit.terminal.fill_late()
        await corrected(kit, "s1")
        await kit.idle()
        assert [p.stop_loss for p in kit.terminal.positions.values()] == [1.095]


@simulated
async def test_a_later_life_corrects_too(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await abandoned(kit, "s1")
        await abandoned(kit, "p1", action="BUY_LIMIT", price=1.05, stop_loss=1.04)
        await kit.crash()
    kit.terminal.fill_late()
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        kit.run("corrections")
        assert (await corrected(kit, "s1"))["status"] == "filled"
        assert (await corrected(kit, "p1"))["status"] == "placed"


@simulated
async def test_a_close_found_later_corrects_its_leg(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("corrections", "account-poll")
        for key in ("a", "b"):
            await kit.send(**BUY, signal_id=key)
            await kit.result(key)
        kit.terminal.script(Late(10008))
        await kit.send("CLOSE", signal_id="c1")
        first = await kit.result("c1", 10.0)
        assert (first["status"], first["volume_filled"]) == ("partial", 0.1)
        kit.terminal.fill_late()
        result = await corrected(kit, "c1")
        assert (result["status"], result["volume_filled"]) == ("closed", 0.2)
        assert [leg["status"] for leg in result["legs"]] == ["closed", "closed"]


@simulated
async def test_an_order_of_the_bridges_own_is_noted_only(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
        (position,) = kit.terminal.positions.values()
        kit.terminal.script(Late(10008))
        kit.emergency.stop(reason="test", by="test", origin=kit.latch.halt.origin, options=kit.emergency.defaults)
        await eventually(lambda: len(kit.terminal.sent) >= 2)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=kit.terminal, settle_window_s=0.5) as kit:
        kit.run("corrections", "account-poll")
        await kit.idle()
        kit.terminal.fill_late()
        await asyncio.sleep(30)
        assert position.ticket not in kit.terminal.positions
        assert [r["status"] for r in await kit.results()] == ["filled"]


@simulated
async def test_an_order_without_a_signal_is_noted(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        request = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, magic=41)
        intent = Intent(key="stop-1", leg=0, request=request, action="EMERGENCY")
        await kit.journal.commit(
            kit.desk.opened(intent, kit.clock.now_ms()),
            changes.IntentMoved(magic=41, state="abandoned", at_msc=kit.clock.now_ms()),
        )
        kit.run("corrections")
        kit.terminal.execute(request)

        async def noted() -> bool:
            return (await kit.journal.intents("stop-1"))[0].state == "filled"

        await kit.book.refresh()
        await eventually(noted)
        assert not await kit.results()


@simulated
async def test_a_magic_that_turns_up_after_a_day_is_still_ours(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("corrections")
        await abandoned(kit, "s1")
        leap(DAY_S)
        await asyncio.sleep(60)
        assert not kit.desk.abandoned
        kit.terminal.fill_late()
        await kit.book.refresh()
        assert (await corrected(kit, "s1"))["status"] == "filled"


@simulated
async def test_half_a_truth_waits_for_the_other_half(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("corrections")
        await abandoned(kit, "s1")
        kit.terminal.fill_late()
        kit.terminal.deals[0] = msgspec.structs.replace(kit.terminal.deals[0], volume=0.05)
        past, kit.terminal.past_orders = kit.terminal.past_orders, []
        await kit.book.refresh()
        await asyncio.sleep(20)
        assert len(await kit.results("s1")) == 2
        kit.terminal.past_orders = past
        kit.terminal.deals.append(
            msgspec.structs.replace(kit.terminal.deals[0], ticket=99, time_msc=kit.clock.now_ms())
        )
        assert (await corrected(kit, "s1"))["volume_filled"] == 0.1


@simulated
async def test_neither_terminal_nor_journal_failing_loses_a_correction(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def unreadable(name: str) -> None:
            if "magics_opened_since" in name:
                raise JournalError("unreadable")

        kit.journal.step = unreadable
        kit.run("corrections")
        await asyncio.sleep(3)
        kit.journal.step = None
        await abandoned(kit, "s1")
        kit.terminal.failures["get_history_deals"] = MT5DataError("None")
        kit.terminal.fill_late()
        await asyncio.sleep(20)
        kit.journal.break_down()
        del kit.terminal.failures["get_history_deals"]
        await asyncio.sleep(20)
        kit.journal.mend()
        assert (await corrected(kit, "s1"))["status"] == "filled"
        assert len([r for r in await kit.results("s1") if r["supersedes"]]) == 1


@simulated
async def test_a_manual_position_is_nobodys_signal(tmp_path: Path) -> None:
    terminal = FakeTerminal()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        terminal.tick("EURUSD", 1.1, 1.1001)
        kit.run("corrections")
        kit.terminal.script(Silent(-10005))
        await kit.send(**BUY, signal_id="s1")
        terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1))
        assert (await kit.result("s1", 10.0))["status"] == "abandoned"
        await kit.book.refresh()
        await asyncio.sleep(30)
        assert len(await kit.results("s1")) == 2


# --- pending orders that fill


LIMIT: dict[str, Any] = {"action": "BUY_LIMIT", "volume": 0.1, "price": 1.098, "stop_loss": 1.095}


async def placed(kit: FlowKit, key: str) -> int:
    await kit.send(**LIMIT, signal_id=key)
    assert (await kit.result(key))["status"] == "placed"
    (ticket,) = kit.terminal.orders
    return ticket


def fills_bare(kit: FlowKit, ticket: int) -> None:
    """The broker fills a pending order and forgets its stop."""
    kit.terminal.orders[ticket] = msgspec.structs.replace(kit.terminal.orders[ticket], stop_loss=0.0)
    kit.terminal.fill_pending(ticket)


@simulated
async def test_the_stop_of_a_pending_orders_fill_is_looked_after(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("corrections", "account-poll")
        fills_bare(kit, await placed(kit, "p1"))
        await eventually(lambda: [p.stop_loss for p in kit.terminal.positions.values()] == [1.095])
        story = await kit.journal.signal("p1")
        assert story is not None
        assert [(i.leg, i.state) for i in story.intents] == [(0, "filled"), (1, "modified")]
        assert [r["status"] for r in await kit.results("p1")] == ["placed"]


@simulated
async def test_a_pending_order_that_fills_while_others_are_looked_at_is_not_forgotten(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = await placed(kit, "p1")
        await abandoned(kit, "s1")
        kit.run("corrections", "account-poll")
        looking = kit.terminal.holds["get_history_orders"] = asyncio.Event()
        await eventually(lambda: kit.terminal.calls[-1] == "get_history_orders" or None, 40.0)
        fills_bare(kit, ticket)
        await asyncio.sleep(6)
        del kit.terminal.holds["get_history_orders"]
        looking.set()
        await eventually(lambda: [p.stop_loss for p in kit.terminal.positions.values()] == [1.095], 3.0)


@simulated
async def test_a_pending_order_that_filled_while_the_bridge_was_off_is_looked_after(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = await placed(kit, "p1")
        terminal = kit.terminal
        await kit.crash()
    fills_bare(kit, ticket)
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        kit.run("corrections", "account-poll")
        await eventually(lambda: [p.stop_loss for p in terminal.positions.values()] == [1.095])


@simulated
async def test_a_pending_order_that_is_cancelled_or_whose_end_is_unclear_leaves_nothing_to_do(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("corrections", "account-poll")
        kit.terminal.lag_ms = 5000
        ticket = await placed(kit, "p1")
        await kit.send("CANCEL", signal_id="c1", order=ticket)
        await kit.result("c1")

        async def state() -> str:
            (intent,) = await kit.journal.intents("p1")
            return intent.state

        await asyncio.sleep(3)
        assert await state() == "placed"
        await asyncio.sleep(40)
        assert await state() == "cancelled"
        assert not kit.terminal.positions

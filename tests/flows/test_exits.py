import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import Answer, Executed, Hangs, Late, Lost, Refused, Silent
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.errors import JournalError, MT5ConnectionError, MT5DataError, MT5TimeoutError
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.messages import OrderResult, TradingSignal
from mt5_bridge.core.model import Action, Deed, MarginMode, OrderRequest, OrderType, Position
from mt5_bridge.terminal.port import Priority


async def opened(kit: FlowKit, *ids: str, volume: float = 0.2, **fields: Any) -> list[Position]:
    """Positions opened by signals, oldest first."""
    for key in ids:
        base: dict[str, Any] = {"action": "BUY", "stop_loss": 1.095, "volume": volume, "signal_id": key}
        await kit.send(**(base | fields))
        assert (await kit.result(key))["status"] == "filled"
    await kit.idle()
    return list(kit.terminal.positions.values())


def by_hand(kit: FlowKit, volume: float = 0.1, **fields: Any) -> int:
    return kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=volume, **fields)).order


async def person(kit: FlowKit, action: Action, **fields: Any) -> OrderResult:
    """What a person's command comes to."""
    job = await kit.intake.command(TradingSignal(symbol="EURUSD", action=action, **fields), None)
    return await job.outcome()


def closes(kit: FlowKit) -> list[OrderRequest]:
    return [r for r in kit.terminal.sent if r.position and r.deed is Deed.DEAL]


# --- CLOSE


@simulated
async def test_close_takes_our_positions_of_the_symbol_oldest_first(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_risk_percent": None}) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        first, second, third = await opened(kit, "a", "b", "c")
        await opened(kit, "yen", symbol="USDJPY", stop_loss=149.0, volume=0.01)
        manual = by_hand(kit)
        await kit.send("CLOSE", signal_id="c1", volume=0.3)
        result = await kit.result("c1")
        assert (result["status"], result["volume_filled"], result["volume_requested"]) == ("closed", 0.3, 0.3)
        assert [(leg["position"], leg["status"]) for leg in result["legs"]] == [
            (first.ticket, "closed"),
            (second.ticket, "closed"),
        ]
        assert all(leg["deal"] and leg["order"] for leg in result["legs"])
        left = {t: p.volume for t, p in kit.terminal.positions.items() if p.symbol == "EURUSD"}
        assert left == {second.ticket: 0.1, third.ticket: 0.2, manual: 0.1}
        await kit.send("CLOSE", signal_id="c2")
        assert (await kit.result("c2"))["volume_filled"] == 0.3
        await kit.idle()
        assert set(kit.terminal.positions) == {manual, *(t for t in kit.terminal.positions if t != manual)}
        await kit.send("CLOSE", signal_id="c3")
        assert (await kit.result("c3"))["reason"] == "not_found"


@simulated
async def test_close_by_ticket_and_by_target(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        first, second = await opened(kit, "a", "b")
        manual = by_hand(kit)
        await kit.send("CLOSE", signal_id="c1", target_signal_id="b")
        assert (await kit.result("c1"))["legs"][0]["position"] == second.ticket
        await kit.send("CLOSE", signal_id="c2", position=manual)
        assert (await kit.result("c2"))["status"] == "closed"
        assert set(kit.terminal.positions) == {first.ticket}
        await kit.send("CLOSE", signal_id="c3", target_signal_id="nobody")
        assert (await kit.result("c3"))["reason"] == "not_found"
        await kit.send("CLOSE", signal_id="c4", volume=0.001)
        assert (await kit.result("c4"))["reason"] == "below_min_volume"
        await kit.send("CLOSE", signal_id="c5", symbol="NOPE")
        assert (await kit.result("c5"))["reason"] == "unknown_symbol"


@simulated
async def test_closing_is_urgent_and_meets_no_limit(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")
        kit.limit(max_daily_trades=0, max_spread_points=0.0, max_orders_per_second=0.001, max_daily_loss_pct=0.0)
        await kit.send("CLOSE", signal_id="c1")
        assert (await kit.result("c1"))["status"] == "closed"


@simulated
async def test_a_close_goes_at_the_price_of_the_moment_it_is_sent(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")
        await kit.send("CLOSE", signal_id="c1")
        assert (await kit.result("c1"))["status"] == "closed"
        assert [request.price for request in closes(kit)] == [0.0]


@simulated
async def test_a_close_of_what_is_in_flight_waits_for_it(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Late(10008))
        await kit.send("BUY", signal_id="a", volume=0.1, stop_loss=1.09)
        await kit.send("CLOSE", signal_id="c1", target_signal_id="a")
        await kit.send("CLOSE", signal_id="c2")
        await asyncio.sleep(1)
        kit.terminal.fill_late()
        assert (await kit.result("c1"))["status"] == "closed"
        assert (await kit.result("c2"))["reason"] == "not_found"
        assert (await kit.result("a"))["status"] == "filled"


@simulated
async def test_a_close_waits_no_longer_than_its_time(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Late(10008))
        await kit.send("BUY", signal_id="a", volume=0.1, stop_loss=1.09)
        await kit.send("CLOSE", signal_id="c1", ttl_ms=500)
        await kit.send("MODIFY", signal_id="m1", ttl_ms=900, target_signal_id="a", stop_loss=1.095)
        assert (await kit.result("c1"))["status"] == "denied"
        assert (await kit.result("m1"))["status"] == "denied"


@pytest.mark.parametrize("executed", [True, False])
@simulated
async def test_an_unknown_leg_is_looked_up(tmp_path: Path, executed: bool) -> None:
    async with FlowKit.open(tmp_path) as kit:
        first, second = await opened(kit, "a", "b")
        kit.terminal.script(Silent(-10005, executed))
        await kit.send("CLOSE", signal_id="c1")
        result = await kit.result("c1", 10.0)
        statuses = [r["status"] for r in await kit.results("c1")]
        assert statuses == ["unknown", "closed" if executed else "partial"]
        assert [leg["status"] for leg in result["legs"]] == ["closed" if executed else "abandoned", "closed"]
        assert len(closes(kit)) == 2
        assert second.ticket not in kit.terminal.positions
        assert (first.ticket in kit.terminal.positions) != executed


@simulated
async def test_a_partial_fill_of_a_close_is_told(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")
        kit.terminal.script(Executed(volume=0.05))
        await kit.send("CLOSE", signal_id="c1")
        result = await kit.result("c1")
        assert (result["status"], result["volume_filled"]) == ("partial", 0.05)
        kit.terminal.script(Hangs(executed=True))
        await kit.send("CLOSE", signal_id="c2", volume=0.1)
        await eventually(lambda: len(closes(kit)) == 2)
        kit.terminal.kill_host("test")
        result = await kit.result("c2", 10.0)
        assert (result["status"], result["volume_filled"]) == ("closed", 0.1)


@simulated
async def test_refusals_of_a_close(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a", "b")
        kit.terminal.script(Refused(10018), Executed())
        await kit.send("CLOSE", signal_id="c1")
        result = await kit.result("c1")
        assert (result["status"], result["reason"], result["retcode"]) == ("partial", "market_closed", 10018)
        assert result["volume_filled"] == 0.2
        kit.terminal.script(Refused(10018))
        await kit.send("CLOSE", signal_id="c2")
        result = await kit.result("c2")
        assert (result["status"], result["volume_filled"]) == ("rejected", 0.0)


@simulated
async def test_a_requote_of_a_close_is_tried_again_on_a_fresh_read(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        go = asyncio.Event()
        kit.terminal.script(Refused(10004, after=go))
        await kit.send("CLOSE", signal_id="c1")
        await eventually(lambda: closes(kit))
        kit.terminal.tick("EURUSD", 1.2, 1.2001)
        half = msgspec.structs.replace(position, volume=0.1)
        kit.terminal.positions[position.ticket] = half
        go.set()
        result = await kit.result("c1")
        assert result["status"] == "closed"
        assert [(r.volume, r.price) for r in closes(kit)] == [(0.2, 0.0), (0.1, 0.0)]


@simulated
async def test_a_requote_without_a_read_is_not_tried_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")
        go = asyncio.Event()
        kit.terminal.script(Refused(10004, after=go))
        await kit.send("CLOSE", signal_id="c1")
        await eventually(lambda: closes(kit))
        kit.terminal.failures["snapshot"] = MT5DataError("None")
        go.set()
        result = await kit.result("c1")
        assert (result["status"], result["reason"]) == ("denied", "not_ready")
        assert len(closes(kit)) == 1


@simulated
async def test_a_state_that_is_another_is_looked_at(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        first, second = await opened(kit, "a", "b")
        go = asyncio.Event()
        kit.terminal.script(Refused(10038, after=go))
        await kit.send("CLOSE", signal_id="c1", position=first.ticket)
        await eventually(lambda: closes(kit))
        kit.terminal.positions[first.ticket] = msgspec.structs.replace(first, volume=0.05)
        go.set()
        result = await kit.result("c1")
        assert (result["status"], result["volume_filled"]) == ("closed", 0.05)
        gone = asyncio.Event()
        kit.terminal.script(Refused(10036, after=gone))
        await kit.send("CLOSE", signal_id="c2", position=second.ticket)
        await eventually(lambda: len(closes(kit)) == 3)
        del kit.terminal.positions[second.ticket]
        gone.set()
        result = await kit.result("c2")
        assert (result["status"], result["reason"], result["retcode"]) == ("denied", "not_found", None)


@simulated
async def test_a_frozen_order_stays_refused(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send("BUY_LIMIT", signal_id="p", volume=0.1, price=1.05, stop_loss=1.04)
        ticket = (await kit.result("p"))["order"]
        kit.terminal.script(Refused(10029))
        await kit.send("CANCEL", signal_id="x1", order=ticket)
        assert (await kit.result("x1"))["retcode"] == 10029
        go = asyncio.Event()
        kit.terminal.script(Refused(10029, after=go))
        await kit.send("CANCEL", signal_id="x2", order=ticket)
        await eventually(lambda: len(kit.terminal.sent) == 3)
        kit.terminal.failures["snapshot"] = MT5DataError("None")
        go.set()
        assert (await kit.result("x2"))["status"] == "rejected"
        del kit.terminal.failures["snapshot"]
        kit.terminal.script(Refused(10004))
        await kit.send("CANCEL", signal_id="x3", order=ticket)
        assert (await kit.result("x3"))["status"] == "cancelled"


@simulated
async def test_a_getter_that_fails_is_never_flat(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        kit.terminal.failures["snapshot"] = MT5DataError("positions_get: None", code=-10001)
        await kit.send("CLOSE", signal_id="c1")
        result = await kit.result("c1")
        assert (result["status"], result["reason"]) == ("denied", "not_ready")
        assert position.ticket in kit.book.positions


@simulated
async def test_legs_denied_between_them_and_all_of_them(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a", "b")
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send("CLOSE", signal_id="c1")
        await eventually(lambda: closes(kit))
        kit.halt()
        go.set()
        result = await kit.result("c1")
        assert (result["status"], result["reason"], result["volume_filled"]) == ("partial", "halted", 0.2)

        async def latch(name: str) -> None:
            if name == "committed IntentOpened":
                kit.halt()

    async with FlowKit.open(tmp_path / "two") as kit:
        await opened(kit, "a", "b")
        kit.journal.step = latch
        await kit.send("CLOSE", signal_id="c2")
        kit.halt(HaltState.REDUCING)
        result = await kit.result("c2")
        assert (result["status"], result["volume_filled"]) in (("denied", None), ("closed", 0.4))


@simulated
async def test_a_stop_before_the_first_leg_denies_all(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a", "b")

        async def latch(name: str) -> None:
            if name == "committed IntentOpened+IntentOpened":
                kit.halt()

        kit.journal.step = latch
        await kit.send("CLOSE", signal_id="c1")
        result = await kit.result("c1")
        assert (result["status"], result["reason"]) == ("denied", "halted")
        assert not closes(kit)


@simulated
async def test_a_leg_that_may_not_be_sent_denies_the_close(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a", "b")
        kit.limit(account=77)
        await kit.send("CLOSE", signal_id="c1")
        assert (await kit.result("c1"))["reason"] == "account_mismatch"
        assert not closes(kit)


@simulated
async def test_a_stop_between_a_requote_and_the_next_try_denies(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")
        go = asyncio.Event()
        kit.terminal.script(Refused(10004, after=go))
        await kit.send("CLOSE", signal_id="c1")
        await eventually(lambda: closes(kit))
        kit.halt()
        go.set()
        result = await kit.result("c1")
        assert (result["status"], result["reason"]) == ("denied", "halted")
        assert len(closes(kit)) == 1


@simulated
async def test_an_answer_without_volume_closed_what_was_asked(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        execute = kit.terminal.execute

        def bare(request: OrderRequest) -> Any:
            return msgspec.structs.replace(execute(request), volume=0.0)

        kit.terminal.execute = bare  # type: ignore[method-assign]  # a broker that says no more than "done"
        await kit.send("CLOSE", signal_id="c1", volume=0.05)
        assert (await kit.result("c1"))["volume_filled"] == 0.05
        short = by_hand(kit, 0.1, type=OrderType.SELL)
        await kit.send("CLOSE_BY", signal_id="b1", position=position.ticket, order=short)
        assert (await kit.result("b1"))["volume_filled"] == 0.1


# --- netting


@pytest.mark.parametrize("mode", [MarginMode.NETTING, MarginMode.EXCHANGE])
@simulated
async def test_on_netting_ours_is_the_sum_of_our_deals(tmp_path: Path, mode: MarginMode) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting(mode)
        await kit.book.refresh()
        by_hand(kit, 0.5)
        await kit.send("BUY", signal_id="a", volume=0.2, stop_loss=1.095)
        await kit.result("a")
        await kit.idle()
        (position,) = kit.terminal.positions.values()
        assert position.volume == 0.7
        await kit.send("CLOSE", signal_id="c1")
        assert (await kit.result("c1"))["volume_filled"] == 0.2
        await kit.send("CLOSE", signal_id="c2")
        assert (await kit.result("c2"))["reason"] == "not_found"
        by_hand(kit, 0.45, type=OrderType.SELL)
        await kit.send("BUY", signal_id="b", volume=0.1, stop_loss=1.095)
        await kit.result("b")
        await kit.idle()
        await kit.send("CLOSE", signal_id="c3", target_signal_id="b", volume=5.0)
        assert (await kit.result("c3"))["volume_filled"] == 0.1
        (left,) = kit.terminal.positions.values()
        assert left.volume == 0.05
        await kit.send("CLOSE", signal_id="c4", position=left.ticket)
        assert (await kit.result("c4"))["volume_filled"] == 0.05


@simulated
async def test_on_netting_a_short_is_ours_by_our_sells(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        await kit.book.refresh()
        await kit.send("SELL", signal_id="a", volume=0.2, stop_loss=1.105)
        await kit.result("a")
        await kit.send("SELL", symbol="USDJPY", signal_id="y", volume=0.01, stop_loss=150.1)
        await kit.result("y")
        await kit.idle()
        await kit.send("CLOSE", signal_id="c1")
        assert (await kit.result("c1"))["volume_filled"] == 0.2


@simulated
async def test_on_netting_a_close_by_signal_leaves_what_other_signals_opened(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        await kit.book.refresh()
        for name, volume in (("a", 0.2), ("b", 0.1)):
            await kit.send("BUY", signal_id=name, volume=volume, stop_loss=1.095)
            await kit.result(name)
        await kit.idle()
        await kit.send("CLOSE", signal_id="c1", target_signal_id="b")
        assert (await kit.result("c1"))["volume_filled"] == 0.1
        (left,) = kit.terminal.positions.values()
        assert left.volume == 0.2


# --- CLOSE_BY, MODIFY, CANCEL


@pytest.mark.parametrize(
    ("change", "by_then", "expected"),
    [
        ({"take_profit": 1.13}, {"stop_loss": 1.099}, (1.099, 1.13)),
        ({"take_profit": 1.13}, {"stop_loss": 1.09}, (1.09, 1.13)),
        ({"stop_loss": 1.097}, {"take_profit": 1.14}, (1.097, 1.14)),
        # Judged to tighten, it must not loosen what a managed stop or a person brought nearer meanwhile.
        ({"stop_loss": 1.097}, {"stop_loss": 1.099}, (1.099, 1.12)),
        ({"stop_loss": 1.097, "take_profit": 1.13}, {"stop_loss": 1.099}, (1.099, 1.13)),
        # One that loosens does so: its risk was judged.
        ({"stop_loss": 1.094}, {"stop_loss": 1.099}, (1.094, 1.12)),
    ],
)
@pytest.mark.parametrize("unknown", [False, True])
@simulated
async def test_a_modify_is_held_against_what_stands_when_it_is_sent(
    tmp_path: Path, change: dict[str, Any], by_then: dict[str, Any], expected: tuple[float, float], unknown: bool
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a", take_profit=1.12)

        async def somebody(name: str) -> None:
            if name == "order_send":
                held = kit.terminal.positions[position.ticket]
                kit.terminal.positions[position.ticket] = msgspec.structs.replace(held, **by_then)

        kit.terminal.step = somebody
        if unknown:
            kit.terminal.script(Silent(-10005, executed=True))
        await kit.send("MODIFY", signal_id="m1", position=position.ticket, **change)
        assert (await kit.result("m1"))["status"] == "modified"
        kit.terminal.step = None
        held = kit.terminal.positions[position.ticket]
        assert (held.stop_loss, held.take_profit) == expected
        await kit.idle()


@simulated
async def test_an_unknown_modify_is_noted_when_the_journal_can_be_written_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        failed: list[str] = []

        async def full_once(name: str) -> None:
            if name == "commit IntentMoved" and not failed:
                failed.append(name)
                raise JournalError("the disk is full")

        kit.terminal.script(Silent(-10005, executed=True))
        kit.journal.step = full_once
        await kit.send("MODIFY", signal_id="m1", position=position.ticket, stop_loss=1.097)
        assert (await kit.result("m1"))["status"] == "modified"
        await kit.idle()
        assert failed
        assert [i.state for i in await kit.journal.intents("m1")] == ["modified"]


@simulated
async def test_a_modify_that_raises_risk_keeps_to_the_rate(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a", volume=0.01)
        await asyncio.sleep(2)
        kit.limit(max_orders_per_second=1.0, throttle_latch=1)
        began = kit.clock.now_ms()
        for number in range(3):
            stop = 1.09 - number / 1000
            await kit.send("MODIFY", signal_id=f"m{number}", position=position.ticket, stop_loss=stop, ttl_ms=4000)
        assert (await kit.result("m2"))["status"] == "modified"
        assert kit.clock.now_ms() - began >= 2000
        await kit.send("MODIFY", signal_id="late", position=position.ticket, stop_loss=1.08, ttl_ms=500)
        result = await kit.result("late")
        assert (result["status"], result["reason"]) == ("denied", "throttled")
        assert kit.latch.halt.state is HaltState.REDUCING
        await kit.send("MODIFY", signal_id="tight", position=position.ticket, stop_loss=1.099, ttl_ms=500)
        assert (await kit.result("tight"))["status"] == "modified"


@simulated
async def test_a_modify_whose_target_goes_while_it_waits_is_told(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a", volume=0.01)
        kit.limit(max_orders_per_second=1.0)
        await kit.send("MODIFY", signal_id="m1", position=position.ticket, stop_loss=1.09)
        await eventually(lambda: kit.trader.lanes.waiting == 0)
        del kit.terminal.positions[position.ticket]
        assert (await kit.result("m1"))["reason"] == "not_found"


@simulated
async def test_close_by_closes_both_up_to_the_smaller(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (long,) = await opened(kit, "a", volume=0.2)
        short = by_hand(kit, 0.1, type=OrderType.SELL)
        await kit.send("CLOSE_BY", signal_id="b1", position=long.ticket, order=short)
        result = await kit.result("b1")
        assert (result["status"], result["volume_filled"], result["position"]) == ("closed", 0.1, long.ticket)
        assert kit.terminal.positions[long.ticket].volume == 0.1
        await kit.send("CLOSE_BY", signal_id="b2", position=long.ticket, order=short)
        assert (await kit.result("b2"))["reason"] == "not_found"
        other = by_hand(kit, 0.1)
        await kit.send("CLOSE_BY", signal_id="b3", position=long.ticket, order=other)
        assert (await kit.result("b3"))["reason"] == "invalid"


@simulated
async def test_an_unknown_close_by_is_found_by_its_deals(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (long,) = await opened(kit, "a", volume=0.1)
        short = by_hand(kit, 0.1, type=OrderType.SELL)
        kit.terminal.script(Lost(MT5ConnectionError("gone", sent=True), executed=True))
        await kit.send("CLOSE_BY", signal_id="b1", position=long.ticket, order=short)
        result = await kit.result("b1", 10.0)
        assert (result["status"], result["volume_filled"]) == ("closed", 0.1)


@simulated
async def test_a_denied_close_by_is_not_sent(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (long,) = await opened(kit, "a", volume=0.1)
        short = by_hand(kit, 0.1, type=OrderType.SELL)
        kit.limit(account=77)
        await kit.send("CLOSE_BY", signal_id="b1", position=long.ticket, order=short)
        assert (await kit.result("b1"))["reason"] == "account_mismatch"


@simulated
async def test_modify_of_a_position_and_of_a_pending(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        await kit.send("MODIFY", signal_id="m1", target_signal_id="a", stop_loss=1.0960049, take_profit=1.12)
        result = await kit.result("m1")
        assert (result["status"], result["stop_loss"], result["position"]) == ("modified", 1.096, position.ticket)
        changed = kit.terminal.positions[position.ticket]
        assert (changed.stop_loss, changed.take_profit) == (1.096, 1.12)
        await kit.send("MODIFY", signal_id="m2", position=position.ticket, stop_loss=1.096)
        assert (await kit.result("m2"))["status"] == "modified"  # 10025: nothing to change is done
        await kit.send("BUY_LIMIT", signal_id="p", volume=0.1, price=1.05, stop_loss=1.04)
        ticket = (await kit.result("p"))["order"]
        await kit.send("MODIFY", signal_id="m3", order=ticket, price=1.06, stop_loss=1.05)
        assert (await kit.result("m3"))["order"] == ticket
        assert kit.terminal.orders[ticket].price == 1.06
        await kit.send("CANCEL", signal_id="x1", target_signal_id="p")
        assert (await kit.result("x1"))["status"] == "cancelled"
        await kit.send("CANCEL", signal_id="x2", order=ticket)
        assert (await kit.result("x2"))["reason"] == "not_found"


@simulated
async def test_a_modify_that_raises_risk_meets_the_limits(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_open_risk_pct": 5.0}) as kit:
        (position, *_) = await opened(kit, "a", "b")
        await kit.send("MODIFY", signal_id="m1", position=position.ticket, stop_loss=1.0)
        assert (await kit.result("m1"))["reason"] == "risk"
        await kit.send("MODIFY", signal_id="m2", position=position.ticket, stop_loss=1.0945)
        assert (await kit.result("m2"))["status"] == "modified"


@simulated
async def test_reducing_passes_only_what_tightens(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        kit.halt(HaltState.REDUCING)
        await kit.send("MODIFY", signal_id="m1", position=position.ticket, stop_loss=1.097)
        assert (await kit.result("m1"))["status"] == "modified"
        await kit.send("MODIFY", signal_id="m2", position=position.ticket, stop_loss=1.09)
        assert (await kit.result("m2"))["reason"] == "reducing"
        await kit.send("BUY", signal_id="b", volume=0.1, stop_loss=1.09)
        assert (await kit.result("b"))["reason"] == "reducing"
        await kit.send("CLOSE", signal_id="c")
        assert (await kit.result("c"))["status"] == "closed"


@simulated
async def test_halted_a_person_closes_cancels_and_tightens(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        await kit.send("BUY_LIMIT", signal_id="p", volume=0.1, price=1.05, stop_loss=1.04)
        ticket = (await kit.result("p"))["order"]
        kit.halt()
        await kit.send("CLOSE", signal_id="c")
        assert (await kit.result("c"))["reason"] == "halted"
        assert (await person(kit, Action.MODIFY, position=position.ticket, stop_loss=1.097)).status == "modified"
        assert (await person(kit, Action.MODIFY, position=position.ticket, stop_loss=1.09)).reason == "halted"
        assert (await person(kit, Action.CANCEL, order=ticket)).status == "cancelled"
        assert (await person(kit, Action.CLOSE, position=position.ticket, volume=0.05)).status == "closed"
        kit.limit(trading_enabled=False)
        assert (await person(kit, Action.MODIFY, position=position.ticket, stop_loss=1.098)).status == "modified"
        assert (await person(kit, Action.CLOSE, position=position.ticket)).status == "closed"
        assert kit.terminal.calls.count("place_order") == len(kit.terminal.sent)


@simulated
async def test_unknown_modify_and_cancel_are_told_by_the_state(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        await kit.send("BUY_LIMIT", signal_id="p", volume=0.1, price=1.05, stop_loss=1.04)
        ticket = (await kit.result("p"))["order"]
        for number, executed in enumerate((False, True)):
            kit.terminal.script(*[Silent(-10005, executed)])
            await kit.send("MODIFY", signal_id=f"m{number}", position=position.ticket, stop_loss=1.097)
            status = (await kit.result(f"m{number}", 10.0))["status"]
            assert status == ("modified" if executed else "rejected")
        kit.terminal.script(Silent(-10005, executed=True))
        await kit.send("MODIFY", signal_id="m3", order=ticket, price=1.06, stop_loss=1.05)
        assert (await kit.result("m3", 10.0))["status"] == "modified"
        kit.terminal.script(Silent(-10005, executed=True))
        await kit.send("CANCEL", signal_id="x", order=ticket)
        assert (await kit.result("x", 10.0))["status"] == "cancelled"
        assert [r["status"] for r in await kit.results("x")] == ["unknown", "cancelled"]


# --- the journal


@simulated
async def test_a_person_closes_though_the_disk_is_full(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        first, second = await opened(kit, "a", "b")
        kit.journal.break_down()
        assert (await person(kit, Action.CLOSE, position=first.ticket)).status == "closed"
        kit.terminal.script(Silent(-10005, executed=True))
        assert (await person(kit, Action.CLOSE, position=second.ticket)).status == "unknown"
        assert not kit.terminal.positions
        gone = await person(kit, Action.CLOSE, position=second.ticket)
        assert gone.status == "denied"
        kit.journal.mend()
        await kit.idle()
        told = [r["status"] for r in await kit.results()]
        assert sorted(told) == ["closed", "closed", "filled", "filled", "unknown"]
        assert not await kit.journal.open_intents()


@pytest.mark.parametrize(("stop", "status"), [(1.094, "denied"), (1.097, "modified")])
@simulated
async def test_a_person_lowers_risk_on_a_disk_that_has_just_failed_and_does_not_raise_it(
    tmp_path: Path, stop: float, status: str
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (first,) = await opened(kit, "a")
        sent = len(kit.terminal.sent)

        async def fails(name: str) -> None:
            if name.startswith("commit IntentOpened"):
                raise JournalError("database or disk is full")  # and nobody has heard of it yet

        kit.journal.step = fails
        assert (await person(kit, Action.MODIFY, position=first.ticket, stop_loss=stop)).status == status
        assert len(kit.terminal.sent) - sent == (status == "modified")
        kit.journal.step = None
        await kit.idle()


@simulated
async def test_what_is_unknown_is_looked_up_though_the_disk_is_full(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (first,) = await opened(kit, "a")
        kit.journal.break_down()
        kit.terminal.script(Silent(-10005, executed=True))
        assert (await person(kit, Action.CLOSE, position=first.ticket)).status == "unknown"
        await eventually(lambda: not kit.desk.unresolved, 20.0)
        kit.journal.mend()
        await kit.idle()
        assert [r["status"] for r in await kit.results()][-2:] == ["unknown", "closed"]


@simulated
async def test_magics_of_legs_that_cannot_be_made_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a", "b")

        async def unreadable(magics: object) -> set[int]:
            raise JournalError("unreadable")

        monkeypatch.setattr(kit.journal, "our_magics_among", unreadable)
        await kit.send("CLOSE", signal_id="c1")
        assert (await kit.result("c1"))["reason"] == "journal_unavailable"
        await kit.idle()
        assert not kit.desk._reserved


@simulated
async def test_an_unknown_change_counts_whatever_else_is_done_to_its_target(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        await kit.send("MODIFY", signal_id="m1", position=position.ticket, stop_loss=1.0925)
        await eventually(lambda: kit.desk.unresolved)
        (during,) = (await kit.book.risks()).values()
        await kit.send("MODIFY", signal_id="m2", position=position.ticket, stop_loss=1.094)
        await kit.result("m2")
        await kit.book.refresh()
        assert kit.desk.unresolved
        assert list((await kit.book.risks()).values()) == [during]
        terminal = kit.terminal
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert kit.desk.unresolved
        assert list((await kit.book.risks()).values()) == [during]
        await kit.result("m1", 20.0)
        await kit.book.refresh()
        (known,) = (await kit.book.risks()).values()
        assert known is not None
        assert during is not None
        assert known < during


@simulated
async def test_a_signal_does_not_close_without_a_journal(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")

        async def fill_the_disk(name: str) -> None:
            if name == "commit IntentOpened":
                kit.journal.break_down()

        kit.journal.step = fill_the_disk
        await kit.send("CLOSE", signal_id="c1")
        await asyncio.sleep(1)
        assert not closes(kit)
        kit.journal.step = None
        kit.journal.mend()
        assert (await kit.result("c1"))["reason"] == "journal_unavailable"


@simulated
async def test_an_outcome_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send("CLOSE", signal_id="c1")
        await eventually(lambda: closes(kit))
        kit.journal.break_down()
        go.set()
        await asyncio.sleep(2)
        kit.journal.mend()
        assert (await kit.result("c1"))["status"] == "closed"


@pytest.mark.parametrize("answer", [Executed(), Silent(-10005, executed=True)])
def test_no_leg_stays_open_in_the_journal_because_the_disk_was_full(tmp_path: Path, answer: Answer) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            await opened(kit, "a", "b")
            kit.terminal.script(answer)

            async def fill_the_disk(name: str) -> None:
                if name == "commit IntentMoved":
                    kit.journal.step = None
                    kit.journal.break_down()

            kit.journal.step = fill_the_disk
            await kit.send("CLOSE", signal_id="c1")
            await eventually(lambda: kit.journal.broken, 20)
            await asyncio.sleep(1)
            kit.journal.mend()
            assert (await kit.result("c1"))["status"] == "closed"
            await kit.idle()
            assert not await kit.journal.open_intents()

    run()


@simulated
async def test_what_the_targets_are_cannot_be_read(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")

        async def break_reads(name: str) -> None:
            if "intents" in name:
                raise JournalError("unreadable")

        kit.journal.step = break_reads
        await kit.send("CLOSE", signal_id="c1", target_signal_id="a")
        assert (await kit.result("c1"))["reason"] == "journal_unavailable"
        kit.journal.step = None


# --- signals that a former journal may have executed


@simulated
async def test_a_suspect_close_is_looked_up_before_it_is_sent(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path / "lost") as kit:
        await opened(kit, "a", "b", "c")
        record = await kit.send("CLOSE", signal_id="c1", volume=0.3)
        await kit.result("c1")
        await kit.idle()
    terminal = kit.terminal
    async with FlowKit.open(tmp_path / "new", terminal=terminal) as kit:
        await kit.intake.position_lost("trading_signals", 0, 0, "no stored offset")
        await kit.take([record])
        result = await kit.result("c1")
        assert (result["status"], result["volume_filled"]) == ("closed", 0.3)
        assert result["detail"] == "executed before this journal began"
        assert len(closes(kit)) == 2
        await kit.send("CLOSE", signal_id="c2", volume=0.1, record={"timestamp_ms": kit.clock.now_ms()})
        assert (await kit.result("c2"))["status"] == "closed"
        assert len(closes(kit)) == 3
        (left, *_) = kit.terminal.positions
        await kit.send("MODIFY", signal_id="m", position=left, stop_loss=1.097)
        assert (await kit.result("m"))["status"] == "modified"
        kit.terminal.failures["get_history_deals"] = MT5DataError("None")
        await kit.send("CLOSE", signal_id="c3")
        assert (await kit.result("c3"))["reason"] == "not_ready"


@simulated
async def test_a_persons_command_waits_behind_no_signal(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (position,) = await opened(kit, "a")
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send("BUY", signal_id="slow", volume=0.1, stop_loss=1.095)
        await eventually(lambda: len(kit.terminal.sent) == 2)
        assert (await person(kit, Action.CLOSE, position=position.ticket)).status == "closed"
        go.set()
        await kit.result("slow")


@simulated
async def test_closing_goes_before_other_work_at_the_terminal(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await opened(kit, "a")
        seen: list[Priority] = []
        place = kit.terminal.place_order

        async def spy(request: OrderRequest, **how: Any) -> Any:
            seen.append(how["priority"])
            return await place(request, **how)

        kit.terminal.place_order = spy  # type: ignore[method-assign]  # what the desk asks for is the point here
        await kit.send("CLOSE", signal_id="c1", volume=0.1)
        await kit.result("c1")
        await kit.send("BUY", signal_id="b", volume=0.01, stop_loss=1.095)
        await kit.result("b")
        assert seen == [Priority.CRITICAL, Priority.HIGH]


@simulated
@pytest.mark.parametrize("state", [HaltState.REDUCING, HaltState.HALTED])
@pytest.mark.parametrize("by_person", [True, False])
async def test_what_reduces_risk_is_not_taken_back_on_its_way(
    tmp_path: Path, state: HaltState, by_person: bool
) -> None:
    """However old it is by then: it was let through, and a stop by a rule closes nothing in its place."""
    async with FlowKit.open(tmp_path, limits={"max_risk_percent": None}) as kit:
        (position,) = await opened(kit, "a")
        kit.terminal.holds["order_send"] = asyncio.Event()
        asked = asyncio.create_task(person(kit, Action.CLOSE, position=position.ticket)) if by_person else None
        if asked is None:
            await kit.send("CLOSE", signal_id="c1", ttl_ms=500)
        await eventually(lambda: bool(kit.terminal._handed))
        await asyncio.sleep(6)
        kit.halt(state)
        await asyncio.sleep(0.1)
        kit.terminal.holds["order_send"].set()
        status = (await asked).status if asked is not None else (await kit.result("c1"))["status"]
        assert status == "closed"
        assert position.ticket not in kit.terminal.positions


@simulated
async def test_a_change_that_raises_risk_is_taken_back_on_its_way(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_risk_percent": None}) as kit:
        (position,) = await opened(kit, "a", stop_loss=1.09)
        kit.terminal.holds["order_send"] = asyncio.Event()
        await kit.send("MODIFY", signal_id="m1", position=position.ticket, stop_loss=1.08)
        await eventually(lambda: bool(kit.terminal._handed))
        kit.halt(HaltState.REDUCING)
        result = await kit.result("m1")
        assert (result["status"], result["reason"]) == ("denied", "reducing")
        assert kit.terminal.positions[position.ticket].stop_loss == 1.09

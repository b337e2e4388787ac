"""Managed stops on a terminal in memory: what moves them, what does not, and what ends it."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import Executed, Hangs, Late, Lost, Refused, Silent
from support.flow_kit import FlowKit
from support.managed import (
    BUY,
    EVEN,
    FLOWS,
    SELL,
    STOP,
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

from mt5_bridge.cli.story import tell
from mt5_bridge.core.errors import MT5ConnectionError, MT5DataError
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.model import Deed, OrderRequest, Side, TradeResult
from mt5_bridge.flows.binder import GONE_S, WAITS_S
from mt5_bridge.flows.plans import FIRST_MOVE, PLANS_MEMO, follow_ups
from mt5_bridge.journal.changes import Memo
from mt5_bridge.journal.rows import StoredIntent
from mt5_bridge.terminal.port import TerminalState

# --- following


@pytest.mark.parametrize(("signal", "first", "second"), [(BUY, 1.1030, 1.1050), (SELL, 1.0970, 1.0950)])
@simulated
async def test_a_stop_follows_the_price_and_never_goes_back(
    tmp_path: Path, signal: dict[str, Any], first: float, second: float
) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **signal, **TRAIL)
        sign = 1 if signal is BUY else -1
        for price, wanted in ((first, first), (first - sign * 0.001, first), (second, second)):
            closing = round(price + sign * 0.002, 5)
            kit.terminal.tick("EURUSD", *((closing, closing + 0.0001) if sign > 0 else (closing - 0.0001, closing)))
            await until_stop(kit, wanted)
            await stays(kit)
        assert [request.stop_loss for request in moves(kit)] == [first, second]


@simulated
async def test_each_move_is_an_intent_an_event_and_a_line_of_the_signals_story(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        filled = await opened(kit, take_profit=1.12, **TRAIL, **EVEN)
        rise(kit, 1.1015)
        await until_stop(kit, 1.1001)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        first, second = moves(kit)
        opening, even, trail = await kit.journal.intents("s1")
        assert [(i.leg, i.action, i.state) for i in (even, trail)] == [
            (FIRST_MOVE, "break_even", "modified"),
            (FIRST_MOVE + 1, "trailing_stop", "modified"),
        ]
        assert len({opening.magic, first.magic, second.magic}) == 3
        told = [r for r in await kit.results() if r["signal_id"] is None]
        assert [(r["status"], r["reason"], r["stop_loss"], r["position"]) for r in told] == [
            ("modified", "break_even", 1.1001, filled["position"]),
            ("modified", "trailing_stop", 1.1030, filled["position"]),
        ]
        assert told[0]["detail"] == "as signal s1 asked"
        assert [r["status"] for r in await kit.results("s1")] == ["filled"]
        assert next(iter(kit.terminal.positions.values())).take_profit == 1.12
        shown = kit.channel.of("positions")[-1]["data"]
        assert [p["stop_loss"] for p in shown] == [1.1030]
        story = await kit.journal.signal("s1")
        assert story is not None
        text = "\n".join(tell(story))
        assert f"magic {first.magic}, leg 1000: stop of EURUSD to 1.1001 to break even" in text
        assert f"magic {second.magic}, leg 1001: stop of EURUSD to 1.103 to follow the price" in text


@simulated
async def test_ticks_alone_are_seen_too(tmp_path: Path) -> None:
    """Between two reads of the account the symbol's ticks tell; a quote that is old tells nothing."""
    async with FlowKit.open(tmp_path) as kit:
        kit.run("trailing", "ticks")
        await opened(kit, **TRAIL)
        await asyncio.sleep(5)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        for task in kit.tasks.values():
            task.cancel()
        rise(kit, 1.1040)
        kit.book.quotes["EURUSD"] = msgspec.structs.replace(kit.book.quotes["EURUSD"], bid=1.2)
        await asyncio.sleep(5)
        kit.run("trailing")
        before = len(kit.terminal.calls)
        await asyncio.sleep(5)
        assert len(kit.terminal.calls) == before


@simulated
async def test_at_most_one_move_a_second(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        began = kit.clock.now_ms()
        for step in range(100):
            rise(kit, 1.1030 + step * 0.0001)
            await asyncio.sleep(0.1)
        seconds = (kit.clock.now_ms() - began) / 1000
        assert 5 < len(moves(kit)) <= seconds + 1
        await until_stop(kit, round(1.1030 + 99 * 0.0001 - 0.002, 5))


@simulated
async def test_the_rate_of_orders_is_neither_asked_nor_used_up(tmp_path: Path) -> None:
    async with kit_in(tmp_path, limits={"max_orders_per_second": 0.001, "max_open_risk_pct": 0.0001}) as kit:
        kit.limit(max_orders_per_second=None, max_open_risk_pct=None)
        await opened(kit, **TRAIL)
        kit.limit(max_orders_per_second=0.001, max_open_risk_pct=0.0001)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


@simulated
async def test_without_a_managed_position_the_terminal_is_not_asked(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("trailing")
        await opened(kit)
        rise(kit, 1.1050)
        await kit.book.refresh()
        before = len(kit.terminal.calls)
        await asyncio.sleep(60)
        assert len(kit.terminal.calls) == before


@simulated
async def test_a_managed_position_costs_no_call_until_its_stop_is_to_move(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("trailing")
        await opened(kit, **TRAIL)
        await asyncio.sleep(5)
        before = len(kit.terminal.calls)
        await asyncio.sleep(60)
        assert len(kit.terminal.calls) == before


@simulated
async def test_what_counts_is_the_price_of_the_moment_of_the_move(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.terminal.holds["get_price"] = asyncio.Event()
        rise(kit, 1.1050)
        await eventually(lambda: kit.terminal.calls[-1] == "get_price")
        rise(kit, 1.1010)
        await kit.book.refresh()
        kit.terminal.holds.pop("get_price").set()
        await stays(kit)
        assert stop(kit) == STOP


@simulated
async def test_a_price_that_turns_out_not_to_be_asks_the_terminal_once_a_second(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("trailing")
        ticket = (await opened(kit, **TRAIL))["position"]
        await until_bound(kit)
        kit.book.positions[ticket] = msgspec.structs.replace(kit.book.positions[ticket], price_current=1.1050)
        before = len(kit.terminal.calls)
        await asyncio.sleep(10)
        assert 8 < len(kit.terminal.calls) - before <= 11
        assert moves(kit) == []


@simulated
async def test_what_a_person_or_another_bridge_opened_is_left_alone(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        result = await opened(kit, **TRAIL)
        mine = kit.terminal.positions[result["position"]]
        for ticket, magic in ((50, 0), (51, 236 << 32 | 7)):
            other = {"ticket": ticket, "identifier": ticket, "magic": magic}
            kit.terminal.positions[ticket] = msgspec.structs.replace(mine, **other)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030, mine.ticket)
        await stays(kit)
        assert (stop(kit, 50), stop(kit, 51)) == (STOP, STOP)


# --- persons, other signals


@simulated
async def test_a_nearer_stop_of_a_person_stays_even_when_set_in_the_same_moment(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)

        async def a_hand_in_between(name: str) -> None:
            if name == "order_send":
                change(kit, stop_loss=1.1040, take_profit=1.13)

        kit.terminal.step = a_hand_in_between
        rise(kit, 1.1050)
        await eventually(lambda: moves(kit))
        kit.terminal.step = None
        await kit.idle()
        assert (stop(kit), moves(kit)[0].stop_loss) == (1.1040, 1.1030)
        assert (await kit.journal.intents("s1"))[-1].state == "modified"
        assert not [r for r in await kit.results() if r["signal_id"] is None], "nothing was moved"
        rise(kit, 1.1080)
        await until_stop(kit, 1.1060)
        assert next(iter(kit.terminal.positions.values())).take_profit == 1.13


@simulated
async def test_a_looser_stop_of_a_person_is_where_the_plan_goes_on_from(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        rise(kit, 1.1015)
        change(kit, stop_loss=1.0900)
        await stays(kit)
        rise(kit, 1.1022)
        await until_stop(kit, 1.1002)


@simulated
async def test_break_even_is_not_repeated_against_a_person_not_even_after_a_crash(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **EVEN)
        rise(kit, 1.1015)
        await until_stop(kit, 1.1001)
        await until_ended(kit)
        change(kit, stop_loss=1.0900)
        await stays(kit)
        await kit.crash()
    async with kit_in(tmp_path, terminal=kit.terminal) as kit:
        await stays(kit)
        assert stop(kit) == 1.0900


@simulated
async def test_a_modify_brings_changes_and_ends_a_plan(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit))["position"]
        await kit.send("MODIFY", signal_id="m1", position=ticket, **TRAIL)
        assert (await kit.result("m1"))["status"] == "modified"
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        assert [i.leg for i in await kit.journal.intents("m1")] == [0, FIRST_MOVE]
        await kit.send("MODIFY", signal_id="m2", target_signal_id="s1", trailing_stop_points=100, stop_loss=1.1031)
        assert (await kit.result("m2"))["status"] == "modified"
        await until_stop(kit, 1.1040)
        assert [m.key for m in await plans(kit)] == ["m2"]
        await kit.send("MODIFY", signal_id="m3", position=ticket, **EVEN)
        await kit.result("m3")
        await asyncio.sleep(5)
        (left,) = await plans(kit)
        assert (left.key, left.plan.trailing_points, left.plan.break_even_points) == ("m3", 100, 0)
        await kit.send("MODIFY", signal_id="m4", position=ticket, trailing_stop_points=0)
        await kit.result("m4")
        await until_ended(kit)
        rise(kit, 1.1200)
        await stays(kit)


@simulated
async def test_a_modify_that_is_refused_leaves_the_plan_as_it_was(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit, **TRAIL))["position"]
        kit.terminal.script(Refused(10016))
        await kit.send("MODIFY", signal_id="m1", position=ticket, trailing_stop_points=50)
        assert (await kit.result("m1"))["status"] == "rejected"
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        assert [m.key for m in await plans(kit)] == ["s1"]


@simulated
async def test_a_persons_position_and_a_pending_order_get_no_plan_later(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit))["position"]
        change(kit, magic=0)
        await kit.send("MODIFY", signal_id="m1", position=ticket, **TRAIL)
        denied = await kit.result("m1")
        assert (denied["status"], denied["reason"]) == ("denied", "unsupported")
        assert "not opened by this bridge" in denied["detail"]
        order = (await opened(kit, "p1", action="BUY_LIMIT", price=1.09, stop_loss=1.08))["order"]
        await kit.send("MODIFY", signal_id="m2", order=order, **TRAIL)
        assert (await kit.result("m2"))["reason"] == "unsupported"
        assert await plans(kit) == []


@simulated
async def test_an_exit_does_not_wait_for_a_move_of_unknown_outcome(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.terminal.script(Silent(-10005))
        rise(kit, 1.1050)
        await eventually(lambda: kit.desk.unresolved)
        await kit.send("CLOSE", signal_id="c1", target_signal_id="s1")
        began = kit.clock.now_ms()
        assert (await kit.result("c1"))["status"] == "closed"
        assert kit.clock.now_ms() - began < 1000
        await kit.idle()


@pytest.mark.parametrize("pause", [0.0, 0.003, 0.02, 0.1])
@simulated
async def test_a_modify_of_the_target_at_any_moment_brings_no_stop_back(tmp_path: Path, pause: float) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit, **TRAIL))["position"]
        seen: list[float] = []

        async def slow(name: str) -> None:
            seen.extend(position.stop_loss for position in kit.terminal.positions.values())
            await asyncio.sleep(pause)

        kit.terminal.step = slow
        for number in range(20):
            rise(kit, round(1.1050 + number * 0.0005, 5))
            await kit.send("MODIFY", signal_id=f"m{number}", position=ticket, take_profit=1.2 + number / 1000)
            await asyncio.sleep(0.37)
        await until_stop(kit, round(1.1050 + 19 * 0.0005 - 0.002, 5))
        kit.terminal.step = None
        assert seen == sorted(seen)
        assert len(moves(kit)) > 3


# --- halt, readiness


@simulated
async def test_while_halted_a_stop_waits_and_goes_on_after_the_resume(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.halt()
        rise(kit, 1.1050)
        await stays(kit, 30.0)
        assert stop(kit) == STOP
        assert "halted" not in kit.judge.denials, "waiting is no denial a second"
        await kit.commands.resume("go on", "ops", force=True, origin=kit.latch.halt.origin)
        await until_stop(kit, 1.1030)


@simulated
async def test_while_halted_the_terminal_is_left_to_the_stops_own_work(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("trailing")
        await opened(kit, **TRAIL)
        await until_bound(kit)
        kit.halt()
        rise(kit, 1.1050)
        await kit.book.refresh()
        before = len(kit.terminal.calls)
        await asyncio.sleep(30)
        assert len(kit.terminal.calls) == before


@simulated
async def test_while_reducing_a_stop_is_moved(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.halt(HaltState.REDUCING)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


@simulated
async def test_a_latch_between_decision_and_send_holds_the_move(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)

        async def stop_while_it_is_written(name: str) -> None:
            if name.startswith("committed IntentOpened"):
                kit.halt()

        kit.journal.step = stop_while_it_is_written
        rise(kit, 1.1050)

        async def denied() -> list[dict[str, Any]]:
            return [r for r in await kit.results() if r["signal_id"] is None]

        (told,) = await eventually(denied)
        kit.journal.step = None
        assert (told["status"], told["reason"]) == ("denied", "halted")
        assert moves(kit) == []
        assert [i.state for i in await kit.journal.intents("s1")] == ["filled", "rejected"]


@simulated
async def test_nothing_is_moved_while_trading_is_off_or_the_terminal_is_not_ready(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.limit(trading_enabled=False)
        rise(kit, 1.1050)
        await stays(kit)
        kit.limit(trading_enabled=True)
        ready = kit.terminal.terminal
        kit.terminal.terminal = msgspec.structs.replace(ready, trade_allowed=False)
        await asyncio.sleep(1)
        await stays(kit)
        kit.terminal.terminal = ready
        kit.terminal.failures["get_price"] = MT5DataError("no price")
        await stays(kit)
        kit.terminal.failures.clear()
        await until_stop(kit, 1.1030)


@simulated
async def test_a_read_that_fails_after_a_move_is_made_up_for(tmp_path: Path) -> None:
    """What the bridge believes of the stop is old then: the next move is held against the real one."""
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await asyncio.sleep(1)
        rise(kit, 1.1050)
        await eventually(lambda: moves(kit))
        kit.terminal.failures["snapshot"] = MT5DataError("None")
        await until_stop(kit, 1.1030)
        rise(kit, 1.1040)
        await asyncio.sleep(5)
        assert stop(kit) == 1.1030
        kit.terminal.failures.clear()
        rise(kit, 1.1080)
        await until_stop(kit, 1.1060)


@simulated
async def test_a_symbol_without_price_holds_up_no_other(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        kit.terminal.tick("GBPUSD", 1.3, 1.3001)
        first = (await opened(kit, symbol="GBPUSD", stop_loss=1.2950, **TRAIL))["position"]
        second = (await opened(kit, "s2", **TRAIL))["position"]
        await asyncio.sleep(1)
        kit.terminal.tick("GBPUSD", 1.305, 1.3051)
        kit.terminal.quotes.pop("GBPUSD")
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030, second)
        assert stop(kit, first) == 1.2950
        assert kit.terminal.calls.count("get_price") < 10


@simulated
async def test_another_account_behind_the_terminal_is_not_touched(tmp_path: Path) -> None:
    async with kit_in(tmp_path, limits={"require_account": True}) as kit:
        await opened(kit, account=1001, **TRAIL)
        own = kit.terminal.account
        kit.terminal.account = msgspec.structs.replace(own, login=2002)
        await asyncio.sleep(1)
        rise(kit, 1.1050)
        await stays(kit)
        kit.terminal.account = own
        await until_stop(kit, 1.1030)


@simulated
async def test_the_stop_of_a_fill_is_looked_after_first(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.script(Executed(), Refused(10016), Refused(10016))
        await kit.send(**BUY, **TRAIL, signal_id="s1")
        await kit.result("s1")
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        stops = [r.stop_loss for r in kit.terminal.sent if r.deed is Deed.SLTP]
        assert stops == [STOP] * 3 + [1.1030]


@simulated
async def test_while_the_stop_of_a_fill_is_being_set_nothing_else_moves_it(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        drops_stops(kit)
        refuse = asyncio.Event()
        kit.terminal.script(Executed(), Refused(10016, after=refuse))
        await kit.send(**BUY, **TRAIL, signal_id="s1")
        await kit.result("s1")
        rise(kit, 1.1050)
        await asyncio.sleep(3)
        assert moves(kit) == []
        refuse.set()
        await until_stop(kit, 1.1030)
        assert [r.stop_loss for r in kit.terminal.sent if r.deed is Deed.SLTP] == [STOP, STOP, 1.1030]


@simulated
async def test_neither_does_it_in_the_next_life(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.failures["snapshot"] = MT5DataError("None")
        await kit.send(**BUY, **TRAIL, signal_id="s1")
        await kit.result("s1")
        await kit.crash()
    kit.terminal.failures.clear()
    rise(kit, 1.1050)
    async with FlowKit.open(tmp_path, terminal=kit.terminal, ready=False) as kit:
        slow: list[str] = []

        async def slow_at_first(name: str) -> None:
            if "<function intents " in name and not slow and kit.book.reconciled.is_set():
                slow.append(name)
                await asyncio.sleep(3)

        kit.journal.step = slow_at_first
        kit.run(*FLOWS)
        await until_stop(kit, 1.1030)
        assert slow
        assert [r.stop_loss for r in kit.terminal.sent if r.deed is Deed.SLTP] == [STOP, 1.1030]


def drops_stops(kit: FlowKit) -> None:
    execute = kit.terminal.execute

    def open_bare(request: OrderRequest) -> TradeResult:
        bare = msgspec.structs.replace(request, stop_loss=0.0)
        return execute(bare if request.deed is Deed.DEAL else request)

    kit.terminal.execute = open_bare  # type: ignore[method-assign]  # a broker with this fault


# --- refusals, unknown outcomes, a full disk


@simulated
async def test_refusals_are_met_with_more_and_more_patience(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.terminal.script(*[Refused(code) for code in (10016, 10004, 10024, 10029, 10018, 10006, 10013, 10016)])
        rise(kit, 1.1050)
        times: list[int] = []

        def eight() -> bool:
            if len(moves(kit)) > len(times):
                times.append(kit.clock.now_ms())
            return len(times) == 8

        await eventually(eight, 400.0, "eight tries")
        gaps = [round((b - a) / 1000) for a, b in itertools.pairwise(times)]
        assert gaps == [1, 2, 4, 8, 16, 32, 60]
        await until_stop(kit, 1.1030)
        told = [r for r in await kit.results() if r["signal_id"] is None]
        assert [r["status"] for r in told] == ["rejected"] * 8 + ["modified"]
        assert (told[0]["reason"], told[0]["retcode"]) == ("stops_level", 10016)
        kit.terminal.script(Refused(10016))
        rise(kit, 1.1080)
        began = kit.clock.now_ms()
        await until_stop(kit, 1.1060)
        assert kit.clock.now_ms() - began < 5000, "patience is forgotten once it works"


@pytest.mark.parametrize("other", [{}, {"break_even_points": 300}])
@simulated
async def test_no_plan_moves_a_stop_while_it_is_unknown_what_came_of_the_last_move(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    """Whoever sent that: it may still arrive, and would put the stop back to where it wanted it."""
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit, **TRAIL))["position"]
        kit.terminal.script(Late(10031))
        rise(kit, 1.1050)
        await eventually(lambda: kit.terminal.late)
        if other:
            await kit.send("MODIFY", signal_id="m1", position=ticket, **other)
            assert (await kit.result("m1"))["status"] == "modified"
        rise(kit, 1.1080)
        await asyncio.sleep(3)
        assert len(moves(kit)) == 1
        kit.terminal.fill_late()
        await until_stop(kit, 1.1060)
        assert "denied" not in {r["status"] for r in await kit.results()}


@simulated
async def test_neither_while_that_of_a_modify_is(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit, **TRAIL))["position"]
        kit.terminal.script(Late(10031))
        await kit.send("MODIFY", signal_id="m1", position=ticket, stop_loss=1.0960)
        await eventually(lambda: kit.terminal.late)
        rise(kit, 1.1050)
        await asyncio.sleep(3)
        assert [request.stop_loss for request in moves(kit)] == [1.0960]
        kit.terminal.fill_late()
        await until_stop(kit, 1.1030)


@simulated
async def test_after_a_refusal_the_symbols_rules_are_read_anew(tmp_path: Path) -> None:
    """Brokers widen their levels at news; what was known of them would be refused for ever."""
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        known = kit.terminal.symbols["EURUSD"]
        kit.terminal.symbols["EURUSD"] = msgspec.structs.replace(known, stops_level=250)
        kit.terminal.script(Refused(10016))
        rise(kit, 1.1050)
        await until_stop(kit, 1.1025)
        assert len(moves(kit)) == 2
        kit.terminal.symbols["EURUSD"] = known
        await until_stop(kit, 1.1030)


@simulated
async def test_a_terminal_that_answers_again_is_not_kept_waiting(tmp_path: Path) -> None:
    """Patience is for a broker that refuses; where nothing was sent, the next try floods nobody."""
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.terminal.failures["get_price"] = MT5DataError("no price")
        rise(kit, 1.1050)
        await stays(kit, 100.0)
        kit.terminal.failures.clear()
        began = kit.clock.now_ms()
        await until_stop(kit, 1.1030)
        assert kit.clock.now_ms() - began < 5000


@pytest.mark.parametrize(
    "answer",
    [
        Silent(-10005, executed=True),
        Silent(-10005),
        Lost(MT5ConnectionError("broken", sent=True), executed=True),
        Lost(MT5ConnectionError("not there")),
        Refused(10011),
        Hangs(),
        Hangs(executed=True),
        Late(),
    ],
)
@simulated
async def test_an_unknown_move_is_looked_up_before_the_next(tmp_path: Path, answer: Any) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.terminal.script(answer)
        rise(kit, 1.1050)
        await eventually(lambda: moves(kit))
        rise(kit, 1.1080)
        while kit.desk.unresolved:
            assert len(moves(kit)) == 1
            await asyncio.sleep(0.1)
        await until_stop(kit, 1.1060)
        assert not kit.desk.unresolved
        states = [i.state for i in await kit.journal.intents("s1") if i.leg]
        assert set(states) <= {"modified", "rejected"}, states


@simulated
async def test_without_a_journal_no_stop_is_moved(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)
        kit.journal.break_down()
        rise(kit, 1.1050)
        await stays(kit, 10.0)
        kit.journal.mend()
        await until_stop(kit, 1.1030)
        assert [i.leg for i in await kit.journal.intents("s1")] == [0, FIRST_MOVE]


@simulated
async def test_a_plan_that_could_not_be_noted_is_noted_later(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit, **EVEN))["position"]
        await until_bound(kit)
        kit.journal.break_down()
        change(kit, ticket, stop_loss=1.1010)
        await asyncio.sleep(5)
        kit.journal.mend()
        await until_ended(kit)


# --- how it ends


@simulated
async def test_a_partly_closed_position_is_followed_and_a_closed_one_is_not(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, volume=0.3, **TRAIL)
        await kit.send("CLOSE", signal_id="c1", volume=0.1)
        await kit.result("c1")
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)
        assert len(await plans(kit)) == 1
        await kit.send("CLOSE", signal_id="c2")
        await kit.result("c2")
        await until_ended(kit)


@simulated
async def test_an_empty_list_is_no_end(tmp_path: Path) -> None:
    """After an outage a terminal may show no positions for a while."""
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)
        held = dict(kit.terminal.positions)
        kit.terminal.positions.clear()
        await asyncio.sleep(GONE_S / 2)
        kit.terminal.positions.update(held)
        await asyncio.sleep(GONE_S)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


@simulated
async def test_without_reads_nothing_ends(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        # Without the account's own polls: how many there were would be the clock's affair.
        kit.run("trailing")
        await opened(kit, **TRAIL)
        await kit.book.refresh()
        await until_bound(kit)
        held = dict(kit.terminal.positions)
        kit.terminal.positions.clear()
        await kit.book.refresh()
        kit.terminal.failures["snapshot"] = MT5DataError("None")
        await asyncio.sleep(10 * GONE_S)
        kit.terminal.positions.update(held)
        kit.terminal.failures.clear()
        rise(kit, 1.1050)
        await kit.book.refresh()
        await until_stop(kit, 1.1030)


@simulated
async def test_a_stop_that_was_hit_ends_it(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.terminal.positions.clear()
        await until_ended(kit)


@pytest.mark.parametrize("answers", [[Refused(10019)], [Refused(10006)], [Lost(MT5ConnectionError("not there"))]])
@simulated
async def test_an_opening_that_is_refused_leaves_nothing(tmp_path: Path, answers: list[Any]) -> None:
    async with kit_in(tmp_path) as kit:
        kit.terminal.script(*answers)
        assert (await opened(kit, **TRAIL))["status"] == "rejected"
        await until_ended(kit, 5.0)
        assert not kit.desk.plans.open


@simulated
async def test_an_opening_that_cannot_be_journalled_leaves_nothing(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:

        async def full(name: str) -> None:
            if name.startswith("commit IntentOpened"):
                kit.journal.step = None
                kit.journal.break_down()

        kit.journal.step = full
        await kit.send(**BUY, **TRAIL, signal_id="s1")
        await eventually(lambda: kit.journal.broken)
        assert not kit.desk.plans.open
        kit.journal.mend()
        assert (await kit.result("s1"))["reason"] == "journal_unavailable"
        await kit.idle()


@simulated
async def test_an_unwritable_modify_leaves_nothing(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        ticket = (await opened(kit))["position"]

        async def full(name: str) -> None:
            if name.startswith("commit IntentOpened"):
                kit.journal.step = None
                kit.journal.break_down()

        kit.journal.step = full
        await kit.send("MODIFY", signal_id="m1", position=ticket, **TRAIL)
        await eventually(lambda: kit.journal.broken)
        kit.journal.mend()
        assert (await kit.result("m1"))["reason"] == "journal_unavailable"
        assert not kit.desk.plans.open
        await kit.idle()


@simulated
async def test_simulation_moves_nothing(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)
        terminal = kit.terminal
    async with kit_in(tmp_path, terminal=terminal, simulate=True) as kit:
        rise(kit, 1.1050)
        await stays(kit, 30.0)
        told = [r for r in await kit.results() if r["signal_id"] is None]
        assert {(r["status"], r["reason"]) for r in told} == {("simulated", "trailing_stop")}
        assert len(told) <= 6
        assert (await opened(kit, "s2", **TRAIL))["status"] == "simulated"
        await asyncio.sleep(1)
        assert [m.key for m in await plans(kit)] == ["s1"]


# --- pendings, late truths


@simulated
async def test_a_pending_orders_plan_begins_with_its_fill(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        other = (await opened(kit, "other"))["position"]
        order = (await opened(kit, action="BUY_LIMIT", price=1.0990, stop_loss=1.0900, **TRAIL))["order"]
        rise(kit, 1.1050)
        await stays(kit, 2 * WAITS_S / 3600)
        kit.terminal.fill_pending(order)
        rise(kit, 1.1060)
        await until_stop(kit, 1.1040, order)
        assert stop(kit, other) == STOP


@simulated
async def test_the_stop_of_a_pendings_fill_is_looked_after_first(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("trailing", "account-poll")
        order = (await opened(kit, action="BUY_LIMIT", price=1.0990, stop_loss=1.0900, **TRAIL))["order"]
        kit.terminal.fill_pending(order)
        rise(kit, 1.1060)
        await stays(kit)
        kit.run("corrections")
        await until_stop(kit, 1.1040)


@simulated
async def test_a_pending_order_that_is_cancelled_takes_its_plan_along(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, action="BUY_LIMIT", price=1.0990, stop_loss=1.0900, **TRAIL)
        await asyncio.sleep(GONE_S)
        assert len(await plans(kit)) == 1
        await kit.send("CANCEL", signal_id="c1", target_signal_id="s1")
        await kit.result("c1")
        await until_ended(kit, 30.0)


@simulated
async def test_a_fill_found_after_it_was_given_up_is_followed(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        kit.terminal.script(Late(10031))
        assert (await opened(kit, **TRAIL))["status"] == "abandoned"
        await asyncio.sleep(2 * GONE_S)
        kit.terminal.fill_late()
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


# --- netting


@simulated
async def test_on_netting_the_newest_plan_counts_for_the_whole_position(tmp_path: Path) -> None:
    async with net_kit(tmp_path) as kit:
        await opened(kit, **TRAIL, **EVEN)
        await until_bound(kit)
        await opened(kit, "s2", trailing_stop_points=300)
        await until_bound(kit)
        assert [(m.key, m.plan.trailing_points, m.plan.break_even_points) for m in await plans(kit)] == [("s2", 300, 0)]
        await opened(kit, "s3")
        rise(kit, 1.1050)
        await until_stop(kit, 1.1020)
        (position,) = kit.terminal.positions.values()
        assert position.volume == 0.3


@simulated
async def test_on_netting_a_fill_whose_deals_cannot_be_read_finds_its_position(tmp_path: Path) -> None:
    async with net_kit(tmp_path) as kit:
        await opened(kit)
        kit.terminal.failures["get_history_deals"] = MT5DataError("None")
        await kit.send(**BUY, **TRAIL, signal_id="s2")
        await kit.result("s2")
        kit.terminal.failures.clear()
        assert (await kit.journal.intents("s2"))[0].position is None
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


@simulated
async def test_on_netting_a_reversal_ends_it_and_begins_the_new_ones(tmp_path: Path) -> None:
    async with net_kit(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)
        await kit.send(**{**SELL, "volume": 0.3, "signal_id": "s2"}, trailing_stop_points=100)
        await kit.result("s2")
        await kit.idle()
        await eventually(lambda: [m.key for m in kit.desk.plans.open.values() if m.position] == ["s2"], 2 * GONE_S)
        kit.terminal.tick("EURUSD", 1.0949, 1.0950)
        await until_stop(kit, 1.0960)


@simulated
async def test_on_netting_a_position_that_turned_round_under_its_number_is_another(tmp_path: Path) -> None:
    async with net_kit(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)
        kit.terminal.tick("EURUSD", 1.0900, 1.0901)
        change(kit, side=Side.SELL, price_open=1.1, stop_loss=1.11)
        await until_ended(kit, 5.0)
        await stays(kit)


@simulated
async def test_a_move_worked_out_for_a_long_is_not_sent_to_the_short_it_has_become(tmp_path: Path) -> None:
    async with net_kit(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)

        async def turned_round(name: str) -> None:
            if name == "order_send":
                kit.terminal.step = None
                change(kit, side=Side.SELL, price_open=1.1020, stop_loss=1.11)

        kit.terminal.step = turned_round
        rise(kit, 1.1050)
        await eventually(lambda: moves(kit))
        await kit.idle()
        assert stop(kit) == 1.11
        await until_ended(kit)


@simulated
async def test_on_netting_a_rest_that_is_a_persons_is_left_alone(tmp_path: Path) -> None:
    async with net_kit(tmp_path) as kit:
        ticket = (await opened(kit, volume=0.2, **TRAIL))["position"]
        await until_bound(kit)
        manual = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1)
        kit.terminal.execute(manual)
        await asyncio.sleep(1)
        assert len(await plans(kit)) == 1
        await kit.send("CLOSE", signal_id="c1", target_signal_id="s1")
        assert (await kit.result("c1"))["volume_filled"] == 0.2
        rise(kit, 1.1050)
        await until_ended(kit)
        assert stop(kit, ticket) == STOP
        assert moves(kit) == []


@simulated
async def test_on_netting_an_order_that_only_reduced_brings_no_plan(tmp_path: Path) -> None:
    async with net_kit(tmp_path) as kit:
        await opened(kit, volume=0.3)
        await kit.send(**{**SELL, "signal_id": "s2"}, **TRAIL)
        await kit.result("s2")
        await until_ended(kit)
        kit.terminal.tick("EURUSD", 1.1050, 1.1051)
        await stays(kit)
        assert stop(kit) == STOP


# --- lives


@simulated
async def test_plans_survive_an_outage_of_the_terminal_and_a_restart(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)
        kit.terminal.become(TerminalState.DISCONNECTED)
        rise(kit, 1.1050)
        await stays(kit, 2 * GONE_S)
        kit.terminal.become(TerminalState.CONNECTED)
        await until_stop(kit, 1.1030)
        terminal = kit.terminal
    async with kit_in(tmp_path, terminal=terminal) as kit:
        rise(kit, 1.1080)
        await until_stop(kit, 1.1060)
        legs = [i.leg for i in await kit.journal.intents("s1")]
        assert legs == [0, FIRST_MOVE, FIRST_MOVE + 1]


@simulated
async def test_a_move_of_an_earlier_life_is_looked_up_before_the_next(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        kit.terminal.script(Hangs())
        rise(kit, 1.1050)
        await eventually(lambda: moves(kit))
        await kit.crash()
    async with kit_in(tmp_path, terminal=kit.terminal) as kit:
        while kit.desk.unresolved:
            assert len(moves(kit)) == 1
            await asyncio.sleep(0.1)
        await until_stop(kit, 1.1030)
        assert [i.state for i in await kit.journal.intents("s1")] == ["filled", "rejected", "modified"]


@simulated
async def test_while_the_terminal_is_away_it_is_not_asked(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("trailing")
        await opened(kit, **TRAIL)
        await until_bound(kit)
        rise(kit, 1.1050)
        kit.terminal.become(TerminalState.DISCONNECTED)
        kit.book.positions.update(kit.terminal.positions)
        before = len(kit.terminal.calls)
        await asyncio.sleep(5)
        assert len(kit.terminal.calls) == before


@simulated
async def test_what_a_former_journal_executed_is_followed_by_this_one(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path / "lost") as kit:
        record = await kit.send(**BUY, **TRAIL, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
    async with kit_in(tmp_path / "new", terminal=kit.terminal) as kit:
        await kit.intake.position_lost("trading_signals", 0, 0, "no stored offset")
        await kit.take([record])
        assert (await kit.result("s1"))["detail"] == "executed before this journal began"
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


def test_moves_are_no_follow_ups_of_a_fill() -> None:
    def leg(number: int, action: str) -> StoredIntent:
        request = {"magic": number, "key": "s1", "symbol": "EURUSD", "request": b"", "state": "modified"}
        facts = {**request, "leg": number, "action": action, "opened_msc": 0, "moved_msc": 0, "volume": 0.0}
        return msgspec.convert({**dict.fromkeys(StoredIntent.__struct_fields__), **facts}, StoredIntent)

    assert follow_ups([leg(0, "BUY"), leg(2, "MODIFY"), leg(1000, "trailing_stop"), leg(1001, "break_even")]) == 2


@simulated
async def test_a_note_that_cannot_be_read_is_done_without(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.journal.commit(Memo(name=PLANS_MEMO, value=b"{"))
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        rise(kit, 1.1050)
        await until_stop(kit, 1.1030)


@simulated
async def test_a_symbol_that_is_gone_moves_nothing(tmp_path: Path) -> None:
    async with kit_in(tmp_path) as kit:
        await opened(kit, **TRAIL)
        await until_bound(kit)
        kit.book.symbols.clear()
        known = kit.terminal.symbols.pop("EURUSD")
        rise(kit, 1.1050)
        kit.terminal.symbols.pop("EURUSD")
        await stays(kit)
        kit.terminal.symbols["EURUSD"] = msgspec.structs.replace(known, stops_level=250)
        await until_stop(kit, 1.1025)

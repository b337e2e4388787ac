import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import (
    Answer,
    Executed,
    FakeTerminal,
    Hangs,
    Late,
    Lost,
    Refused,
    Silent,
    symbol_info,
)
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.errors import JournalError, MT5ConnectionError, MT5DataError, MT5TimeoutError
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.model import Deed, Order, OrderRequest, OrderState, OrderType
from mt5_bridge.journal import changes
from mt5_bridge.terminal import retcodes
from mt5_bridge.terminal.port import TerminalState

BUY: dict[str, Any] = {"action": "BUY", "volume": 0.1, "stop_loss": 1.09}


async def told(kit: FlowKit, key: str) -> list[str]:
    return [r["status"] for r in await kit.results(key)]


# --- the straight way


@simulated
async def test_a_buy_is_filled_and_told(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send(**BUY, signal_id="s1", take_profit=1.12, comment="hello", strategy="trend")
        result = await kit.result("s1")
        (position,) = kit.terminal.positions.values()
        assert result["status"] == "filled"
        assert (result["position"], result["magic"]) == (position.ticket, position.magic)
        assert (result["volume_requested"], result["volume_filled"], result["price"]) == (0.1, 0.1, 1.1001)
        assert (result["comment"], result["strategy"], result["attempts"]) == ("hello", "trend", 1)
        assert result["deal"] == kit.terminal.deals[0].ticket
        assert result["sent_at"] is not None
        assert (position.stop_loss, position.take_profit) == (1.09, 1.12)
        assert position.magic >> 32 == 235
        await kit.idle()
        assert not kit.book.in_flight()


@simulated
async def test_volume_comes_from_risk(tmp_path: Path) -> None:
    """2 % of 10,000 with 100 points at a dollar a lot-point: 200 / 1010 = 0.198, down to 0.19."""
    async with FlowKit.open(tmp_path) as kit:
        await kit.send("BUY", signal_id="s1", stop_loss=1.09)
        assert (await kit.result("s1"))["volume_filled"] == 0.19
        await kit.send("SELL", signal_id="s2", stop_loss=1.1051, risk_percent=1.0)
        result = await kit.result("s2")
        assert result["volume_filled"] == 0.19  # 100 / 510
        await kit.send("BUY", signal_id="s3", stop_loss=1.09, risk_percent=2.5)
        result = await kit.result("s3")
        assert (result["status"], result["reason"]) == ("denied", "risk")


@simulated
async def test_a_pending_is_placed(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send("BUY_LIMIT", signal_id="s1", volume=0.1, price=1.050004, stop_loss=1.04, deviation_points=7)
        result = await kit.result("s1")
        (order,) = kit.terminal.orders.values()
        assert (result["status"], result["order"], result["volume_filled"]) == ("placed", order.ticket, None)
        assert order.price == 1.05
        assert kit.terminal.sent[0].deviation_points == 7
        assert [e.magic for e in kit.book.in_flight()] == [order.magic]
        await kit.book.refresh()
        assert not kit.book.in_flight()


@simulated
async def test_an_answer_without_figures_is_confirmed_by_the_deals(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Executed(bare=True))
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["price"], result["volume_filled"]) == (1.1001, 0.1)
        assert result["deal"]


@simulated
async def test_history_that_lags_does_not_shrink_a_fill(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Executed(volume=0.04))
        kit.terminal.lag_ms = 100
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["volume_filled"]) == ("partial", 0.04)
        kit.terminal.lag_ms = 10_000
        await kit.send(**BUY, signal_id="s2")
        result = await kit.result("s2")
        assert (result["status"], result["volume_filled"], result["price"]) == ("filled", 0.1, 1.1001)


@simulated
async def test_a_fill_counts_whole_though_history_shows_half_of_it(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        half = asyncio.Event()
        kit.terminal.script(Executed(after=half))
        await kit.send(**BUY, signal_id="s1")
        half.set()
        await eventually(lambda: kit.terminal.deals)
        kit.terminal.deals[0] = msgspec.structs.replace(kit.terminal.deals[0], volume=0.06)
        result = await kit.result("s1")
        assert (result["status"], result["volume_filled"]) == ("filled", 0.1)


@simulated
async def test_a_fill_that_cannot_be_confirmed_is_a_fill(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.failures["get_history_deals"] = MT5DataError("None", code=-10001)
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["volume_filled"]) == ("filled", 0.1)
        del kit.terminal.failures["get_history_deals"]


@simulated
async def test_a_fill_that_neither_answer_nor_history_describe(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Executed(bare=True))
        kit.terminal.lag_ms = 60_000
        execute = kit.terminal.execute

        def bare(request: OrderRequest) -> Any:
            return msgspec.structs.replace(execute(request), volume=0.0)

        kit.terminal.execute = bare  # type: ignore[method-assign]  # a broker that says no more than "done"
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["volume_filled"], result["price"]) == ("filled", 0.1, None)


# --- once


@simulated
async def test_a_signal_repeated_by_every_way_is_executed_once(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        record = kit.record(kit.value(**BUY, signal_id="s1"))
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(kit.take([record, record]))
                group.create_task(kit.send_frame(**BUY, signal_id="s1", request_id=7))
        await eventually(lambda: kit.terminal.sent)
        await kit.take([record])
        go.set()
        await kit.result("s1")
        await kit.take([record])
        assert len(kit.terminal.sent) == 1
        assert await told(kit, "s1") == ["filled"]
        assert not kit.channel.of("order_result")
        await kit.send_frame(**BUY, signal_id="s1")
        (first,) = await kit.events()
        (again,) = kit.channel.of("order_result")
        assert again["event_id"] == first["event_id"]


@simulated
async def test_signals_of_one_symbol_are_sent_in_order_and_symbols_side_by_side(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        records = [kit.record(kit.value(**BUY, signal_id=f"s{n}")) for n in range(3)]
        records.append(kit.record(kit.value("BUY", symbol="USDJPY", volume=0.01, stop_loss=149.9, signal_id="other")))
        await kit.take(records)
        assert (await kit.result("other"))["status"] == "filled"
        assert len(kit.terminal.sent) == 2
        go.set()
        await kit.idle()
        assert [r.comment for r in kit.terminal.sent] == ["s0", "other", "s1", "s2"]


# --- limits count what is in flight


@simulated
async def test_two_symbols_cannot_take_the_same_room(tmp_path: Path) -> None:
    names = [f"EUR{c}" for c in ("USD", "JPY", "GBP", "CHF", "AUD", "CAD")]
    async with FlowKit.open(
        tmp_path, limits={"max_simultaneous_trades": 2, "max_daily_trades": 3, "max_orders_per_second": None}
    ) as kit:
        for name in names:
            kit.terminal.tick(name, 1.1000, 1.1001)
        records = [kit.record(kit.value(**BUY, symbol=name, signal_id=name)) for name in names]
        await kit.take(records)
        await kit.idle()
        assert len(kit.terminal.sent) == 2
        denied = [(await kit.result(name))["reason"] for name in names]
        assert denied.count("positions") == 4


@simulated
async def test_a_pending_order_accepted_without_a_ticket_keeps_its_room_until_it_is_found(tmp_path: Path) -> None:
    limits = {"max_simultaneous_trades": 1, "max_orders_per_second": None}
    async with FlowKit.open(tmp_path, limits=limits) as kit:
        kit.terminal.tick("EURGBP", 1.1000, 1.1001)
        kit.terminal.script(Late(10008))
        await kit.send("BUY_LIMIT", signal_id="p1", volume=0.1, price=1.05, stop_loss=1.04)
        await asyncio.sleep(8)
        await kit.book.refresh()
        await kit.send("BUY_LIMIT", symbol="EURGBP", signal_id="p2", volume=0.1, price=1.05, stop_loss=1.04)
        assert (await kit.result("p2"))["reason"] == "positions"
        kit.terminal.fill_late()
        assert (await kit.result("p1", 10.0))["status"] == "placed"
        assert await told(kit, "p1") == ["unknown", "placed"]


@simulated
async def test_the_days_trades_count_in_flight_and_pending_ones_once(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_trades": 3}) as kit:
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1))  # by hand
        await kit.book.refresh()
        assert kit.book.day is not None
        assert kit.book.day.trades == 1
        await kit.send("BUY_LIMIT", signal_id="p1", volume=0.1, price=1.05, stop_loss=1.04)
        await kit.result("p1")
        await kit.book.refresh()
        kit.terminal.fill_pending(next(iter(kit.terminal.orders)))
        await kit.send(**BUY, signal_id="s1")
        assert (await kit.result("s1"))["status"] == "filled"
        await kit.send(**BUY, signal_id="s2")
        result = await kit.result("s2")
        assert (result["status"], result["reason"]) == ("denied", "daily_trades")


@simulated
async def test_a_fill_seen_early_does_not_count_twice(tmp_path: Path) -> None:
    """Another read shows the deal while the answer is still under way: one trade, not two."""
    async with FlowKit.open(tmp_path, limits={"max_daily_trades": 2}) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        kit.terminal.script(Hangs(executed=True))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.positions)
        await kit.book.refresh()
        await kit.send("BUY", symbol="USDJPY", volume=0.01, stop_loss=149.9, signal_id="s2")
        assert (await kit.result("s2"))["status"] == "filled"
        kit.terminal.kill_host("test")
        assert (await kit.result("s1"))["status"] == "filled"
        assert await told(kit, "s1") == ["unknown", "filled"]


# --- the rate


@simulated
async def test_a_flood_is_sent_at_the_rate_and_the_rest_told_quickly(tmp_path: Path) -> None:
    limits = {"throttle_latch": 200, "max_risk_percent": None, "max_daily_loss_pct": None}
    async with FlowKit.open(tmp_path, limits=limits) as kit:
        began = kit.clock.now_ms()
        flood = [kit.record(kit.value("BUY", volume=0.01, stop_loss=1.09, signal_id=f"s{n}")) for n in range(100)]
        await kit.take(flood)
        await eventually(lambda: kit.desk.stats.denied >= 60)
        assert kit.clock.now_ms() - began < 1500
        await kit.idle()
        sent = [(await kit.result(f"s{n}")) for n in range(100)]
        filled = [r for r in sent if r["status"] == "filled"]
        assert 20 <= len(filled) <= 30
        assert {r["reason"] for r in sent if r["status"] == "denied"} == {"throttled"}
        stamps = sorted(d.time_msc for d in kit.terminal.deals)
        assert all(later - sooner >= 1000 for sooner, later in zip(stamps, stamps[5:], strict=False))
        assert [r["signal_id"] for r in filled] == [f"s{n}" for n in range(len(filled))]


@simulated
async def test_the_rate_holds_across_symbols(tmp_path: Path) -> None:
    names = [f"EUR{c}" for c in ("USD", "JPY", "GBP", "CHF", "AUD", "CAD", "NZD", "SEK")]
    async with FlowKit.open(tmp_path) as kit:
        for name in names:
            kit.terminal.tick(name, 1.1000, 1.1001)
        await kit.take([kit.record(kit.value(**BUY, symbol=n, signal_id=n)) for n in names])
        await kit.idle()
        stamps = sorted(d.time_msc for d in kit.terminal.deals)
        assert len(stamps) == len(names)
        assert stamps[5] - stamps[0] >= 1000


@simulated
async def test_twenty_throttled_signals_latch_reducing(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"throttle_latch": 20, "max_risk_percent": None}) as kit:
        flood = [kit.record(kit.value("BUY", volume=0.01, stop_loss=1.09, signal_id=f"s{n}")) for n in range(100)]
        flood.insert(50, kit.record(kit.value("CLOSE", signal_id="between")))
        await kit.take(flood)
        await kit.idle()
        assert (await kit.result("between"))["status"] == "closed"
        assert kit.latch.halt.state is HaltState.REDUCING
        assert kit.latch.halt.by == "throttle"
        reasons = {(await kit.result(f"s{n}"))["reason"] for n in range(100)}
        assert reasons == {None, "throttled", "reducing"}
        assert len([r for r in kit.terminal.sent if not r.position]) <= 6
        await kit.send("CLOSE", signal_id="c")
        assert (await kit.result("c"))["status"] in ("closed", "denied")


@simulated
async def test_one_signal_with_little_time_is_throttled(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_orders_per_second": 0.5}) as kit:
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        await kit.send(**BUY, signal_id="s2", ttl_ms=500)
        assert (await kit.result("s2"))["reason"] == "throttled"
        await kit.send(**BUY, signal_id="s3", ttl_ms=4000)
        assert (await kit.result("s3"))["status"] == "filled"


# --- halt and age right before the send


@simulated
async def test_a_stop_between_decision_and_send_stops_the_order(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.holds["place_order"] = asyncio.Event()  # waits behind other calls
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: "place_order" in kit.terminal.calls)
        kit.halt()
        kit.terminal.holds["place_order"].set()
        result = await kit.result("s1")
        assert (result["status"], result["reason"], result["sent_at"]) == ("denied", "halted", None)
        assert not kit.terminal.sent
        assert not kit.book.in_flight()


@simulated
async def test_a_stop_takes_back_what_the_terminal_has_not_begun(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.holds["order_send"] = asyncio.Event()  # handed over, behind a call that takes its time
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: bool(kit.terminal._handed))
        await asyncio.sleep(6)  # beyond its age, which is not why it is taken back
        kit.halt()
        result = await kit.result("s1")
        assert (result["status"], result["reason"], result["sent_at"]) == ("denied", "halted", None)
        assert not kit.terminal.sent
        assert not kit.book.in_flight()


@simulated
async def test_what_grew_too_old_behind_other_calls_is_not_sent(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.holds["place_order"] = asyncio.Event()
        await kit.send(**BUY, signal_id="s1", ttl_ms=300)
        await asyncio.sleep(0.4)
        kit.terminal.holds["place_order"].set()
        assert (await kit.result("s1"))["reason"] == "stale"
        assert not kit.terminal.sent


@simulated
async def test_a_latch_during_the_commit_of_the_intent_stops_the_order(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def latch(name: str) -> None:
            if name == "committed IntentOpened":
                kit.halt()

        kit.journal.step = latch
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["reason"], result["attempts"]) == ("denied", "halted", 0)
        assert not kit.terminal.sent
        ((stored),) = await kit.journal.intents("s1")
        assert stored.state == "rejected"


# --- readiness and settings


@simulated
async def test_an_order_decided_before_the_terminal_went_is_not_sent_when_it_is_back(tmp_path: Path) -> None:
    """It came back while the intent was being written; nobody has looked yet at what it holds now."""
    async with FlowKit.open(tmp_path) as kit:

        async def comes_back(name: str) -> None:
            if name == "committed IntentOpened":
                kit.terminal.become(TerminalState.DISCONNECTED)
                kit.terminal.become(TerminalState.CONNECTED)

        kit.journal.step = comes_back
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["reason"]) == ("denied", "not_ready")
        assert not kit.terminal.sent


@simulated
async def test_trading_disabled_is_answered_while_the_terminal_is_away(tmp_path: Path) -> None:
    terminal = FakeTerminal(connected=False)
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False, limits={"trading_enabled": False}) as kit:
        began = kit.clock.now_ms()
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["reason"]) == ("denied", "trading_disabled")
        assert kit.clock.now_ms() - began < 100


@simulated
async def test_signals_wait_for_the_terminal_within_their_time(tmp_path: Path) -> None:
    terminal = FakeTerminal(connected=False)
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False) as kit:
        terminal.tick("EURUSD", 1.1, 1.1001)
        await kit.send(**BUY, signal_id="soon")
        await kit.send(**BUY, signal_id="late", symbol="EURUSD ", ttl_ms=500)
        await asyncio.sleep(1.0)
        result = await kit.result("late")
        assert result["reason"] in ("not_ready", "stale")
        terminal.become(TerminalState.CONNECTED)
        assert (await kit.result("soon"))["status"] == "filled"


@simulated
async def test_a_signal_whose_time_ends_before_the_terminal_comes_is_denied(tmp_path: Path) -> None:
    terminal = FakeTerminal(connected=False)
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False) as kit:
        await kit.send(**BUY, signal_id="s1", ttl_ms=500)
        result = await kit.result("s1")
        assert (result["status"], result["reason"]) == ("denied", "not_ready")


@simulated
async def test_what_was_too_old_when_it_came_is_stale_not_unready(tmp_path: Path) -> None:
    terminal = FakeTerminal(connected=False)
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False) as kit:
        await kit.send(**BUY, signal_id="s1", created_at=kit.clock.now_ms() - 4990)
        await asyncio.sleep(0.1)
        assert (await kit.result("s1"))["reason"] in ("stale", "not_ready")


@simulated
async def test_a_simulation_sends_nothing(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, simulate=True) as kit:
        await kit.send(**BUY, signal_id="s1")
        assert (await kit.result("s1"))["status"] == "simulated"
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, magic=235 << 32))
        await kit.send("CLOSE", signal_id="c1")
        assert (await kit.result("c1"))["status"] == "simulated"
        assert not kit.terminal.sent
        assert not kit.book.in_flight()
        assert kit.desk.stats.simulated == 2


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (MT5DataError("no such symbol", code=-4), "unknown_symbol"),
        (MT5DataError("None", code=-10001), "not_ready"),
        (MT5ConnectionError("pipe"), "not_ready"),
    ],
)
@simulated
async def test_a_symbol_that_cannot_be_read_denies(tmp_path: Path, failure: Any, reason: str) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.failures["get_symbol"] = failure
        await kit.send(**BUY, signal_id="s1")
        assert (await kit.result("s1"))["reason"] == reason


@simulated
async def test_symbols_are_resolved_or_refused(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for name in ("GBPUSD.m", "XAUUSD.a", "XAUUSD.b"):
            kit.terminal.symbols[name] = symbol_info(name)
        kit.terminal.tick("GBPUSD.m", 1.2, 1.2001)
        await kit.send("BUY", symbol="GBPUSD", volume=0.1, stop_loss=1.19, signal_id="s1")
        assert (await kit.result("s1"))["symbol"] == "GBPUSD.m"
        await kit.send("BUY", symbol="XAUUSD", volume=0.1, stop_loss=1.19, signal_id="s2")
        assert (await kit.result("s2"))["reason"] == "ambiguous_symbol"
        await kit.send("BUY", symbol="NOPE", volume=0.1, stop_loss=1.19, signal_id="s3")
        assert (await kit.result("s3"))["reason"] == "unknown_symbol"
        kit.terminal.symbols["NEW"] = symbol_info("NEW")
        await kit.send("BUY", symbol="NEW", volume=0.1, stop_loss=1.19, signal_id="s4")
        assert (await kit.result("s4"))["reason"] == "no_quote"


@pytest.mark.parametrize("call", ["quote_for_order", "calc_profit"])
@simulated
async def test_a_terminal_that_cannot_be_asked_denies(tmp_path: Path, call: str) -> None:
    async with FlowKit.open(tmp_path, limits={"max_open_risk_pct": 50.0}) as kit:
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
        kit.terminal.failures[call] = MT5TimeoutError("late")
        await kit.send(**BUY, signal_id="s2")
        result = await kit.result("s2")
        assert (result["status"], result["reason"]) == ("denied", "not_ready")


# --- unknown outcomes


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("kind", ["silent", "hang", "kill", "lost", 10011, 10012, 10031, 99999])
@simulated
async def test_an_unknown_outcome_is_looked_up_and_ends_in_one_final(
    tmp_path: Path, kind: str | int, executed: bool
) -> None:
    async with FlowKit.open(tmp_path, send_timeout_s=5.0) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        if isinstance(kind, int):
            kit.terminal.script(Late(kind))
        else:
            error = MT5ConnectionError("broken pipe", sent=True)
            answers: dict[str, Answer] = {"silent": Silent(-10005, executed), "lost": Lost(error, executed)}
            kit.terminal.script(answers.get(kind, Hangs(executed)))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        if kind == "kill":
            kit.terminal.kill_host("test")
        interim = await eventually(lambda: told(kit, "s1"))
        assert interim[0] == "unknown"
        if not executed:
            assert kit.desk.unresolved
            assert "EURUSD" in kit.book.blocked
            await kit.send(**BUY, signal_id="blocked")
            assert (await kit.result("blocked"))["reason"] in ("unknown_outcome", "symbol_blocked")
            await kit.send("BUY", symbol="USDJPY", volume=0.01, stop_loss=149.9, signal_id="other")
            assert (await kit.result("other"))["status"] == "filled"
        elif isinstance(kind, int):
            kit.terminal.fill_late()
        final = await kit.result("s1", 10.0)
        assert final["status"] == ("filled" if executed else "abandoned")
        assert await told(kit, "s1") == ["unknown", final["status"]]
        assert len([r for r in kit.terminal.sent if r.symbol == "EURUSD"]) == 1
        await kit.idle()
        await kit.book.refresh()
        assert not kit.book.blocked
        assert not kit.desk.unresolved


@simulated
async def test_an_accepted_market_order_is_waited_for_as_long_as_it_lives(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Late(10008))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        (request,) = kit.terminal.sent
        kit.terminal.orders[5] = Order(
            ticket=5, symbol="EURUSD", type=OrderType.BUY, state=OrderState.STARTED, volume_initial=0.1,
            volume_current=0.1, price=0.0, stop_limit_price=0.0, stop_loss=0.0, take_profit=0.0,
            time_setup_msc=kit.clock.now_ms(), time_done_msc=0, expiration_msc=0, magic=request.magic, comment="",
        )  # fmt: skip
        await asyncio.sleep(60)
        assert await told(kit, "s1") == ["unknown"]
        del kit.terminal.orders[5]
        kit.terminal.fill_late()
        assert (await kit.result("s1"))["status"] == "filled"


@pytest.mark.parametrize("error", [-2, -8, -10003, -10004])
@simulated
async def test_what_was_not_sent_is_rejected_at_once(tmp_path: Path, error: int) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Silent(error))
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["reason"], result["detail"]) == ("rejected", "terminal_refused", "IPC")
        assert not kit.book.in_flight()
        kit.terminal.script(Lost(MT5TimeoutError("waited in the queue")))
        await kit.send(**BUY, signal_id="s2")
        assert (await kit.result("s2"))["reason"] == "terminal_unavailable"


# --- answers


@pytest.mark.parametrize("code", [10004, 10020, 10021, 10024, 10028])
@simulated
async def test_certain_refusals_are_tried_again_twice_on_fresh_prices(tmp_path: Path, code: int) -> None:
    async with FlowKit.open(tmp_path) as kit:
        go = asyncio.Event()
        kit.terminal.script(Refused(code), Refused(code, after=go))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: len(kit.terminal.sent) == 2)
        go.set()
        kit.terminal.tick("EURUSD", 1.1010, 1.1011)
        result = await kit.result("s1")
        assert (result["status"], result["attempts"], result["price"]) == ("filled", 3, 1.1011)
        assert [r.price for r in kit.terminal.sent][-1] == 1.1011
        kit.terminal.script(*[Refused(code)] * 5)
        await kit.send(**BUY, signal_id="s2")
        result = await kit.result("s2")
        assert (result["status"], result["attempts"], result["retcode"]) == ("rejected", 3, code)
        assert result["reason"] == retcodes.reason(code).value


@simulated
async def test_a_retry_meets_the_guards_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Refused(10024))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        kit.limit(max_spread_points=1.0)
        kit.terminal.tick("EURUSD", 1.1000, 1.1010)
        result = await kit.result("s1")
        assert (result["status"], result["reason"], result["retcode"]) == ("denied", "spread", 10024)
        kit.limit(max_spread_points=None)
        kit.terminal.script(Refused(10024))
        await kit.send(**BUY, signal_id="s2")
        await eventually(lambda: len(kit.terminal.sent) == 2)
        kit.terminal.failures["quote_for_order"] = MT5ConnectionError("gone")
        assert (await kit.result("s2"))["reason"] == "not_ready"


@simulated
async def test_a_stop_during_the_pause_before_a_retry_stops_it(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Refused(10028))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        kit.halt()
        assert (await kit.result("s1"))["reason"] == "halted"
        assert len(kit.terminal.sent) == 1


@pytest.mark.parametrize("code", [10006, 10013, 10016, 10018, 10019, 10036])
@simulated
async def test_a_final_refusal_is_told(tmp_path: Path, code: int) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Refused(code))
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["reason"], result["retcode"]) == (
            "rejected",
            retcodes.reason(code).value,
            code,
        )
        assert result["retcode_text"]
        assert len(kit.terminal.sent) == 1


@simulated
async def test_10017_blocks_the_symbol_until_the_terminal_connects_anew(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Refused(10017))
        await kit.send(**BUY, signal_id="s1")
        assert (await kit.result("s1"))["status"] == "rejected"
        await kit.send(**BUY, signal_id="s2")
        assert (await kit.result("s2"))["reason"] == "symbol_blocked"
        kit.terminal.become(TerminalState.CONNECTING)
        kit.terminal.become(TerminalState.CONNECTED)
        await kit.book.reconciled.wait()
        await kit.send(**BUY, signal_id="s3")
        assert (await kit.result("s3"))["status"] == "filled"


@pytest.mark.parametrize("code", [10026, 10027])
@simulated
async def test_autotrading_off_alarms_and_is_not_ready_until_the_flag_says_so(tmp_path: Path, code: int) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Refused(code))
        await kit.send(**BUY, signal_id="s1")
        assert (await kit.result("s1"))["status"] == "rejected"
        assert len(kit.alarms) == 1
        assert kit.book.readiness.why_not
        assert kit.latch.halt.state is HaltState.ACTIVE
        await kit.book.refresh()
        assert kit.book.readiness.why_not is None


@simulated
async def test_10032_halts(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Refused(10032))
        await kit.send(**BUY, signal_id="s1")
        assert (await kit.result("s1"))["status"] == "rejected"
        assert (kit.latch.halt.state, kit.latch.halt.by) == (HaltState.HALTED, "retcode_10032")


# --- the journal


@simulated
async def test_nothing_that_raises_risk_is_sent_without_a_journal(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def fill_the_disk(name: str) -> None:
            if name == "commit IntentOpened":
                kit.journal.break_down()

        kit.journal.step = fill_the_disk
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.journal.broken)
        await asyncio.sleep(3)
        assert not kit.terminal.sent
        assert not kit.book.in_flight()
        waiting = asyncio.create_task(kit.send(**BUY, signal_id="s2"))
        await asyncio.sleep(3)
        assert not kit.terminal.sent
        kit.journal.step = None
        kit.journal.mend()
        await waiting
        first = await kit.result("s1")
        assert (first["status"], first["reason"]) == ("denied", "journal_unavailable")
        assert (await kit.result("s2"))["status"] in ("filled", "denied")


@simulated
async def test_a_fill_whose_result_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        kit.journal.break_down()
        go.set()
        await asyncio.sleep(5)
        assert not await kit.results("s1")
        kit.journal.mend()
        assert (await kit.result("s1"))["status"] == "filled"


@simulated
async def test_a_signal_the_inbox_refuses_is_not_sent(tmp_path: Path) -> None:
    """Somebody else entered the same key in between: the journal is the last to know."""
    async with FlowKit.open(tmp_path) as kit:

        async def intrude(name: str) -> None:
            if name.startswith("commit SignalReceived"):
                kit.journal.step = None
                await kit.journal.commit(
                    changes.SignalReceived(
                        key="s1", signal_id="s1", source="redpanda", account="", symbol="EURUSD", action="BUY",
                        payload=b"{}", received_msc=1,
                    )
                )  # fmt: skip

        kit.journal.step = intrude
        await kit.send_frame(**BUY, signal_id="s1")
        await kit.idle()
        assert not kit.terminal.sent
        assert not kit.book.in_flight()


@simulated
async def test_an_intent_is_written_behind_its_signals_row_without_waiting_for_it(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        steps = list[str]()
        answered = asyncio.Event()

        async def step(name: str) -> None:
            if "SignalReceived" in name or "IntentOpened" in name:
                steps.append(name.split()[0])
            if name.startswith("committed ") and "SignalReceived" in name:
                await answered.wait()

        kit.journal.step = step
        sending = asyncio.create_task(kit.send(**BUY, signal_id="s1"))
        await eventually(lambda: kit.terminal.sent)
        assert steps[:2] == ["commit", "commit"]
        answered.set()
        await sending
        assert (await kit.result("s1"))["status"] == "filled"


@pytest.mark.parametrize(("asked", "status"), [(BUY, "filled"), ({"action": "CLOSE"}, "closed")])
@simulated
async def test_an_intent_whose_signals_row_comes_late_waits_for_it(
    tmp_path: Path, asked: dict[str, Any], status: str
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send(**BUY, signal_id="s0")
        await kit.result("s0")
        tried, go_on = list[str](), asyncio.Event()

        async def slow_inbox(name: str) -> None:
            if name.startswith("commit ") and "SignalReceived" in name:
                await go_on.wait()
            elif name.startswith("commit IntentOpened"):
                tried.append(name)

        kit.journal.step = slow_inbox
        sending = asyncio.create_task(kit.send(**asked, signal_id="s1"))
        await eventually(lambda: tried)
        await asyncio.sleep(0.2)
        assert len(kit.terminal.sent) == 1
        go_on.set()
        await sending
        assert (await kit.result("s1"))["status"] == status
        assert len(tried) == 2


@simulated
async def test_a_magic_the_journal_refuses_is_not_sent(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def intrude(name: str) -> None:
            if name == "commit IntentOpened":
                kit.journal.step = None
                await kit.journal.commit(
                    changes.IntentOpened(
                        magic=1, key="s1", leg=0, symbol="EURUSD", action="BUY", request=b"{}", opened_msc=1, volume=0.1
                    )
                )

        kit.journal.step = intrude
        await kit.send(**BUY, signal_id="s1")
        await kit.idle()
        assert not kit.terminal.sent


@simulated
async def test_denials_that_cannot_be_read_or_written_leave_the_lane_free(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for name in ("s1", "s2"):
            await kit.send(**BUY, signal_id=name)
            await kit.result(name)

        async def break_reads(name: str) -> None:
            if "our_magics_among" in name:  # asked for the second leg
                raise JournalError("the journal cannot be read")

        kit.journal.step = break_reads
        await kit.send("CLOSE", signal_id="c1")
        result = await kit.result("c1")
        assert (result["status"], result["reason"]) == ("denied", "journal_unavailable")
        await kit.send(**BUY, signal_id="s3")
        assert (await kit.result("s3"))["status"] == "filled"


@simulated
async def test_a_signal_that_a_stop_takes_the_terminal_from_is_denied_for_the_stop(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.holds["quote_for_order"] = asyncio.Event()
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: "quote_for_order" in kit.terminal.calls)
        kit.halt()
        kit.terminal.failures["quote_for_order"] = MT5ConnectionError("the terminal host is gone")
        kit.terminal.holds.pop("quote_for_order").set()
        result = await kit.result("s1")
        assert (result["status"], result["reason"]) == ("denied", "halted")


# --- signals that a former journal may have executed


@pytest.mark.parametrize("magic", [235, 500])
@simulated
async def test_a_suspect_signal_is_looked_up_before_it_is_sent(tmp_path: Path, magic: int) -> None:
    async with FlowKit.open(tmp_path / "lost", magic=magic) as kit:
        record = await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
    terminal = kit.terminal
    async with FlowKit.open(tmp_path / "new", terminal=terminal) as kit:
        await kit.intake.position_lost("trading_signals", 0, 0, "no stored offset")
        await kit.take([record])
        result = await kit.result("s1")
        assert (result["status"], result["detail"]) == ("filled", "executed before this journal began")
        assert len(terminal.sent) == 1
        await kit.send(**BUY, signal_id="s2", record={"timestamp_ms": kit.clock.now_ms()})
        assert (await kit.result("s2"))["status"] == "filled"
        assert len(terminal.sent) == 2


@simulated
async def test_a_suspect_order_still_being_executed_is_waited_for(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.intake.position_lost("trading_signals", 0, 0, "the topic is new")
        magic = kit.desk.natural_magic("s1", 0)
        request = OrderRequest(deed=Deed.PENDING, symbol="EURUSD", volume=0.1, magic=magic)
        ticket = kit.terminal.execute(request).order
        await kit.send(**BUY, signal_id="s1")
        await asyncio.sleep(1)
        assert not await kit.results("s1")
        kit.terminal.fill_pending(ticket)
        assert (await kit.result("s1"))["status"] == "filled"
        assert not kit.terminal.sent


@simulated
async def test_a_suspect_pending_is_found(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.intake.position_lost("trading_signals", 0, 0, "the topic is new")
        magic = kit.desk.natural_magic("s1", 0)
        kit.terminal.execute(OrderRequest(deed=Deed.PENDING, symbol="EURUSD", volume=0.1, magic=magic))
        await kit.send("BUY_LIMIT", signal_id="s1", volume=0.1, price=1.05, stop_loss=1.04)
        assert (await kit.result("s1"))["status"] == "placed"
        assert not kit.terminal.sent


@simulated
async def test_a_suspect_that_cannot_be_looked_up_is_not_sent(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.intake.position_lost("trading_signals", 0, 0, "the topic is new")
        kit.terminal.failures["get_history_orders"] = MT5DataError("None")
        await kit.send(**BUY, signal_id="s1")
        result = await kit.result("s1")
        assert (result["status"], result["reason"]) == ("denied", "not_ready")
        assert not kit.terminal.sent


@simulated
async def test_results_carry_the_request_of_their_frame(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send_frame(**BUY, request_id="r-1")
        result = await kit.result("req-r-1")
        assert result["request_id"] == "r-1"
        row = (await kit.journal.outbox("websocket"))[0]
        assert json.loads(row.payload)["request_id"] == "r-1"

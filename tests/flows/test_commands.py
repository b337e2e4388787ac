import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.facts import a_deal
from support.fake_terminal import Executed, FakeTerminal, Hangs, Lost, Refused, symbol_info
from support.flow_kit import FlowKit
from support.simulated import leap, simulated

from mt5_bridge.core.errors import JournalError, MT5ConnectionError, MT5StateError, MT5TimeoutError
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.core.intent import magic_for
from mt5_bridge.core.model import Bar, Deed, OrderRequest, OrderType
from mt5_bridge.core.times import DAY, HOUR, MINUTE
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.commands import _inbox_name
from mt5_bridge.flows.emergency import StopOptions
from mt5_bridge.terminal.port import TerminalState


async def ask(kit: FlowKit, name: str, *, request_id: str | None = None, **params: Any) -> dict[str, Any]:
    """The `data` of the answer to a command."""
    if "commands" not in kit.tasks:
        kit.run("commands")
    request_id = request_id or f"r{len(kit.channel.frames)}-{name}"
    before = len(kit.channel.of("command_result"))
    kit.control.on_frame(json.dumps({"type": name, "data": params, "request_id": request_id}).encode())

    def answers() -> list[dict[str, Any]]:
        return [told for told in kit.channel.of("command_result")[before:] if told["request_id"] == request_id]

    await eventually(answers, 8, name)
    data: dict[str, Any] = answers()[0]["data"]
    return data


async def told(kit: FlowKit, name: str, **params: Any) -> Any:
    """What a command that succeeds answers."""
    answer = await ask(kit, name, **params)
    assert answer["success"], answer
    return answer["data"]


async def refused(kit: FlowKit, name: str, **params: Any) -> str:
    """The code of a command that fails."""
    answer = await ask(kit, name, **params)
    assert not answer["success"], answer
    assert answer["error"]["message"]
    code: str = answer["error"]["code"]
    return code


def held(kit: FlowKit, magic: int = 0, volume: float = 0.1, symbol: str = "EURUSD") -> int:
    kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol=symbol, volume=volume, magic=magic))
    return next(reversed(kit.terminal.positions))


def waits(kit: FlowKit, symbol: str = "EURUSD") -> int:
    request = OrderRequest(
        deed=Deed.PENDING, symbol=symbol, volume=0.1, price=1.05, stop_loss=1.03, type=OrderType.BUY_LIMIT
    )
    return kit.terminal.execute(request).order


# --- what trades


@simulated
async def test_closes_modifies_and_cancels(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket, order = held(kit, volume=0.3), waits(kit)
        kit.halt()
        moved = await told(kit, "modify_position", ticket=ticket, stop_loss=1.09)
        assert moved["status"] == "modified"
        part = await told(kit, "close_position", ticket=ticket, volume=0.1)
        assert (part["status"], part["volume_filled"], part["signal_id"]) == ("closed", 0.1, None)
        assert kit.terminal.positions[ticket].volume == 0.2
        assert (await told(kit, "close_position", ticket=ticket))["status"] == "closed"
        assert (await told(kit, "cancel_order", ticket=order))["status"] == "cancelled"
        assert not kit.terminal.positions
        assert not kit.terminal.orders


@simulated
async def test_modifies_a_pending_order(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        order = waits(kit)
        assert (await told(kit, "modify_order", ticket=order, price=1.04))["status"] == "modified"
        assert kit.terminal.orders[order].price == 1.04


@simulated
async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for name, params in {
            "close_position": {},
            "modify_position": {"stop_loss": 1.0},
            "cancel_order": {},
            "modify_order": {"price": 1.0},
        }.items():
            assert await refused(kit, name, ticket=99, **params) == "not_found"
        kit.terminal.failures["snapshot"] = MT5ConnectionError("pipe")
        assert await refused(kit, "close_position", ticket=99) == "terminal_unavailable"


@simulated
async def test_a_refusal_of_the_terminal_is_the_answers_error(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = held(kit)
        kit.terminal.script(Refused(10018))
        assert await refused(kit, "close_position", ticket=ticket) == "market_closed"


@simulated
async def test_an_unknown_outcome_is_told_as_such(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = held(kit)
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        assert await refused(kit, "close_position", ticket=ticket) == "unknown_outcome"
        await kit.idle()


@simulated
async def test_a_journal_that_cannot_be_read_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = held(kit)

        async def broken(keys: object) -> None:
            raise JournalError("unreadable")

        monkeypatch.setattr(kit.journal, "seen", broken)
        assert await refused(kit, "close_position", ticket=ticket) == "journal_unavailable"


@simulated
async def test_close_all_takes_all_or_a_symbol_or_ours(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        manual, yen = held(kit), held(kit, symbol="USDJPY")
        mine = held(kit, magic=magic_for(235, "x", 0))
        assert await told(kit, "close_all", scope="mine") == {"closed": [mine]}
        assert await told(kit, "close_all", symbol="USDJPY") == {"closed": [yen]}
        assert await told(kit, "close_all") == {"closed": [manual]}
        assert await told(kit, "close_all") == {"closed": []}


@simulated
async def test_close_all_of_ours_on_netting_closes_our_share(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        ticket = held(kit, volume=0.3)
        held(kit, volume=0.2, magic=magic_for(235, "x", 0))
        assert await told(kit, "close_all", scope="mine") == {"closed": [ticket]}
        assert kit.terminal.positions[ticket].volume == 0.3


@simulated
async def test_close_all_says_what_is_left(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        first, second = held(kit), held(kit)
        kit.terminal.script(Executed(), Refused(10018))
        answer = await ask(kit, "close_all")
        assert answer["error"]["code"] == "not_all_closed"
        assert f"closed [{first}]" in answer["error"]["message"]
        assert f"{second} market_closed" in answer["error"]["message"]
        kit.terminal.failures["snapshot"] = MT5ConnectionError("pipe")
        assert await refused(kit, "close_all") == "terminal_unavailable"


@simulated
async def test_close_all_does_not_miss_what_went_by_itself(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        first, second = held(kit), held(kit)

        async def stopped_out(name: str) -> None:
            if name == "order_sent":
                kit.terminal.positions.pop(second, None)

        kit.terminal.step = stopped_out
        assert await told(kit, "close_all") == {"closed": [first]}


# --- once, across a crash (P11)


@simulated
async def test_a_close_that_a_crash_left_unanswered_is_not_done_twice(tmp_path: Path) -> None:
    """The order went out, the process died before the answer could be remembered, and the backend asks again."""
    async with FlowKit.open(tmp_path) as kit:
        ticket = held(kit, volume=0.3)
        terminal = kit.terminal
        gone = asyncio.Event()

        async def die(name: str) -> None:
            if name == "commit CommandAnswered":
                gone.set()
                await asyncio.get_running_loop().create_future()

        kit.journal.step = die
        kit.run("commands")
        await kit.command("close_position", request_id="c1", ticket=ticket, volume=0.1)
        await gone.wait()
        assert terminal.positions[ticket].volume == pytest.approx(0.2)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        answer = await told(kit, "close_position", request_id="c1", ticket=ticket, volume=0.1)
        assert (answer["status"], answer["volume_filled"]) == ("closed", 0.1)
        assert terminal.positions[ticket].volume == pytest.approx(0.2)
        leap(DAY / 1000 + 60)
        again = await told(kit, "close_position", request_id="c1", ticket=ticket, volume=0.1)
        assert again["status"] == "closed"
        assert terminal.positions[ticket].volume == pytest.approx(0.1), "ids are remembered for a day"


@simulated
async def test_a_close_all_repeated_after_a_crash_closes_nothing_newer(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        tickets = [held(kit), held(kit)]
        terminal = kit.terminal
        gone = asyncio.Event()

        async def die(name: str) -> None:
            if name == "commit CommandAnswered" and not terminal.positions:
                gone.set()
                await asyncio.get_running_loop().create_future()

        kit.journal.step = die
        kit.run("commands")
        await kit.command("close_all", request_id="c1")
        await gone.wait()
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        newer = held(kit)
        assert await told(kit, "close_all", request_id="c1") == {"closed": tickets}
        assert list(terminal.positions) == [newer]
        leap(DAY / 1000 + 60)
        assert await told(kit, "close_all", request_id="c1") == {"closed": [newer]}, "ids are remembered for a day"


@simulated
async def test_a_close_all_that_cannot_be_noted_closes_nothing(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = held(kit)
        kit.journal.break_down()
        assert (await ask(kit, "close_all", request_id="c1"))["error"]["code"] == "journal_unavailable"
        assert ticket in kit.terminal.positions


@simulated
async def test_a_close_whose_order_was_on_its_way_at_the_crash_is_answered_when_it_is_known(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = held(kit)
        terminal = kit.terminal
        terminal.script(Hangs(executed=True))
        kit.run("commands")
        await kit.command("close_position", request_id="c1", ticket=ticket)
        await eventually(lambda: kit.desk.flying, 5)
        await asyncio.sleep(1)
        await kit.crash()
    terminal.become(TerminalState.DISCONNECTED)
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False) as kit:
        assert await refused(kit, "close_position", request_id="c1", ticket=ticket) == "in_progress"
        terminal.become(TerminalState.CONNECTED)
        answer = await told(kit, "close_position", ticket=ticket, request_id="c2") if terminal.positions else None
        assert answer is None
        await kit.idle()
        row = next(iter((await kit.journal.seen([f"cmd-{_inbox_name('c1', '')}"])).values()))
        assert row.status == "closed"
        assert len(terminal.sent) == 1


# --- the halt


@simulated
async def test_reduce_only_and_resume(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        reducing = await told(kit, "reduce_only", reason="news", by="ann")
        assert (reducing["state"], reducing["reason"], reducing["by"]) == ("reducing", "news", "ann")
        assert (await told(kit, "reduce_only"))["reason"] == "news", "as first latched"
        resumed = await told(kit, "resume_trading", reason="over", by="ann")
        assert resumed["state"] == "active"
        assert [(a.who, a.what, a.detail) for a in await kit.journal.audit()] == [("ann", "resume_trading", "over")]
        assert [e["state"] for e in await kit.events("halt_changed")] == ["reducing", "active"]


@simulated
async def test_resume_needs_a_person_and_a_reason(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for params in ({}, {"reason": "x"}, {"by": "x"}, {"reason": "", "by": "x"}, {"reason": "x", "by": ""}):
            assert await refused(kit, "resume_trading", **params) == "invalid_params"


@simulated
async def test_resume_is_refused_before_the_account_is_flat_unless_forced(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        held(kit)
        kit.terminal.script(*[Refused(10018)] * 1000)
        await kit.emergency._helper(asyncio.sleep(0))
        kit.emergency.stop(reason="r", by="b", origin=Origin.REMOTE, options=StopOptions())
        assert await refused(kit, "resume_trading", reason="x", by="ann") == "survivors", "before the first read"
        await asyncio.sleep(5)
        assert await refused(kit, "resume_trading", reason="x", by="ann") == "survivors"
        assert kit.latch.halt.state is HaltState.HALTED
        assert (await told(kit, "resume_trading", reason="x", by="ann", force=True))["state"] == "active"
        sent = len(kit.terminal.sent)
        await asyncio.sleep(60)
        assert len(kit.terminal.sent) == sent


@simulated
async def test_resume_is_refused_while_an_outcome_is_unknown_unless_forced(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.unresolved, 5)
        kit.halt()
        assert await refused(kit, "resume_trading", reason="x", by="ann") == "unknown_intents"
        assert (await told(kit, "resume_trading", reason="x", by="ann", force=True))["state"] == "active"
        await kit.idle()


@simulated
async def test_resume_is_refused_while_an_order_is_in_flight(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        answer = asyncio.Event()
        kit.terminal.script(Executed(after=answer))
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.flying, 5)
        kit.halt()
        assert await refused(kit, "resume_trading", reason="x", by="ann") == "unknown_intents"
        answer.set()
        await kit.idle()
        assert (await told(kit, "resume_trading", reason="x", by="ann"))["state"] == "active"


@pytest.mark.parametrize("allowed", [False, True])
def test_a_local_stop_is_lifted_locally_unless_settings_say_otherwise(tmp_path: Path, allowed: bool) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path, remote_resume=allowed) as kit:
            kit.halt(origin=Origin.LOCAL)
            await asyncio.sleep(0.1)
            answer = await ask(kit, "resume_trading", reason="x", by="ann", force=True)
            assert answer["success"] is allowed
            if not allowed:
                assert answer["error"]["code"] == "local_only"
                resumed = await kit.commands.resume("x", "ann", force=False, origin=Origin.LOCAL)
                assert resumed["state"] == "active"

    run()


@simulated
async def test_resume_without_a_journal_leaves_the_halt(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.halt()
        await asyncio.sleep(0.1)
        kit.journal.break_down()
        with pytest.raises(Refusal, match="stays halted"):
            await kit.commands.resume("x", "ann", force=True, origin=Origin.REMOTE)
        assert kit.latch.halt.state is HaltState.HALTED
        kit.journal.mend()


@simulated
async def test_a_stop_during_a_resume_is_said_to_have_won(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.halt(HaltState.REDUCING)
        await asyncio.sleep(0.1)

        async def stop_now(name: str) -> None:
            if name.startswith("committed HaltChanged"):
                kit.journal.step = None
                kit.halt()

        kit.journal.step = stop_now
        with pytest.raises(Refusal, match="stays halted"):
            await kit.commands.resume("x", "ann", force=False, origin=Origin.REMOTE)


@simulated
async def test_a_close_done_on_a_full_disk_is_not_done_again_and_leaves_nothing_undecided(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = held(kit, volume=0.3)
        await kit.book.refresh()
        kit.journal.break_down()
        first = await ask(kit, "close_position", request_id="c1", ticket=ticket, volume=0.1)
        assert first["success"]
        assert await ask(kit, "close_position", request_id="c1", ticket=ticket, volume=0.1) == first
        kit.journal.mend()
        await kit.idle()
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        again = await ask(kit, "close_position", request_id="c1", ticket=ticket, volume=0.1)
        assert again["error"]["code"] == "journal_unavailable"
        assert kit.terminal.positions[ticket].volume == 0.2
        assert not await kit.journal.waiting()


@simulated
async def test_a_close_done_on_a_full_disk_that_a_crash_forgot_is_not_done_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = held(kit, volume=0.3)
        await kit.book.refresh()
        kit.journal.break_down()
        assert (await ask(kit, "close_position", request_id="c1", ticket=ticket, volume=0.1))["success"]
        await kit.crash()
    leap(400)
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        again = await told(kit, "close_position", request_id="c1", ticket=ticket, volume=0.1)
        assert (again["status"], again["volume_filled"]) == ("closed", 0.1)
        assert kit.terminal.positions[ticket].volume == pytest.approx(0.2)


@pytest.mark.parametrize("repeated", [True, False])
def test_a_resume_lifts_nothing_that_was_latched_after_it_came(tmp_path: Path, repeated: bool) -> None:
    """The journal is slow to say whether the resume is a repetition; meanwhile somebody stops."""

    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.halt()
            await asyncio.sleep(0.1)

            async def stop_now(name: str) -> None:
                if name.startswith("read"):
                    kit.journal.step = None
                    if not repeated:
                        assert await kit.commands.resume("x", "bob", force=False, origin=Origin.LOCAL)
                    await kit.command("emergency_stop", request_id="s1")

            kit.journal.step = stop_now
            answer = await ask(kit, "resume_trading", request_id="r1", reason="x", by="ann", force=True)
            assert answer["error"]["code"] == "halted"
            assert kit.latch.halt.state is HaltState.HALTED

    run()


@pytest.mark.parametrize("when", ["read", "commit HaltChanged", "committed HaltChanged"])
def test_a_stop_said_again_while_its_resume_is_under_way_wins(tmp_path: Path, when: str) -> None:
    """It is answered `halted`, with the first answer: then it must stay halted."""

    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            await ask(kit, "emergency_stop", request_id="s1")
            await asyncio.sleep(10)

            async def stop_again(name: str) -> None:
                if name.startswith(when):
                    kit.journal.step = None
                    await kit.command("emergency_stop", request_id="s1")

            kit.journal.step = stop_again
            answer = await ask(kit, "resume_trading", request_id="r1", reason="x", by="ann", force=True)
            assert kit.journal.step is None
            assert answer["error"]["code"] == "halted"
            assert kit.latch.halt.state is HaltState.HALTED

    run()


@simulated
async def test_a_resume_repeated_after_a_crash_does_not_lift_a_later_stop(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.halt()
        await asyncio.sleep(0.1)

        async def die(name: str) -> None:
            if name == "commit CommandAnswered":
                await asyncio.get_running_loop().create_future()

        kit.journal.step = die
        await kit.command("resume_trading", request_id="r1", reason="x", by="ann")
        await eventually(lambda: kit.latch.halt.state is HaltState.ACTIVE, 5)
        await kit.crash()
    async with FlowKit.open(tmp_path) as kit:
        kit.halt()
        await asyncio.sleep(0.1)
        answer = await ask(kit, "resume_trading", request_id="r1", reason="x", by="ann")
        assert answer["data"]["state"] == "active", "the first answer again"
        assert kit.latch.halt.state is HaltState.HALTED


# --- what reads


@simulated
async def test_reads_account_positions_orders_and_symbols(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        ticket, order = held(kit), waits(kit)
        held(kit, symbol="USDJPY")
        account = await told(kit, "get_account")
        assert (account["login"], account["margin_mode"]) == (1001, "hedging")
        positions = await told(kit, "get_positions", symbol="EURUSD")
        assert [(p["ticket"], p["type"], p["side"]) for p in positions] == [(ticket, 0, "buy")]
        assert len(await told(kit, "get_positions")) == 2
        (pending,) = await told(kit, "get_orders")
        assert (pending["ticket"], pending["order_type"], pending["state"]) == (order, "BUY_LIMIT", "placed")
        assert await told(kit, "get_orders", symbol="USDJPY") == []
        assert {s["name"] for s in await told(kit, "get_symbols")} == {"EURUSD", "USDJPY"}
        assert (await told(kit, "get_status"))["status"] == "ok"
        assert (await told(kit, "heartbeat"))["time"].endswith("Z")


@simulated
async def test_a_terminal_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for call in ("get_account_info", "snapshot", "get_symbols", "resolve_symbol", "get_history_deals"):
            kit.terminal.failures[call] = MT5StateError("away")
        asked: dict[str, dict[str, Any]] = {
            "get_account": {},
            "get_positions": {},
            "get_orders": {},
            "get_symbols": {},
            "get_rates": {"symbol": "X", "timeframe": "M1"},
            "get_ticks": {"symbol": "X"},
            "get_history": {},
            "subscribe": {"symbols": ["X"]},
        }
        for name, params in asked.items():
            assert await refused(kit, name, **params) == "terminal_unavailable", name


@simulated
async def test_a_symbol_is_found_by_the_name_a_backend_has_for_it(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.symbols["GBPUSD.m"] = symbol_info("GBPUSD.m")
        kit.terminal.tick("GBPUSD.m", 1.3, 1.3001)
        held(kit)
        ticket, order = held(kit, symbol="GBPUSD.m"), waits(kit, symbol="GBPUSD.m")
        assert [p["ticket"] for p in await told(kit, "get_positions", symbol="GBPUSD")] == [ticket]
        assert [o["ticket"] for o in await told(kit, "get_orders", symbol="GBPUSD")] == [order]
        assert await told(kit, "close_all", symbol="GBPUSD") == {"closed": [ticket]}
        for name in ("get_positions", "get_orders", "close_all"):
            assert await refused(kit, name, symbol="NONE") == "unknown_symbol", name


@simulated
async def test_names_that_mean_nothing_or_too_much(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.symbols |= {name: symbol_info(name) for name in ("GBPUSD.a", "GBPUSD.b")}
        assert await refused(kit, "get_ticks", symbol="NONE") == "unknown_symbol"
        assert await refused(kit, "get_ticks", symbol="GBPUSD") == "ambiguous_symbol"
        assert await refused(kit, "subscribe", symbols=["NONE"]) == "unknown_symbol"
        kit.book._names["GONE"] = "GONE"
        for name in ("get_ticks", "get_positions", "get_orders", "close_all"):
            assert await refused(kit, name, symbol="GONE") == "unknown_symbol", name


@simulated
async def test_reads_history(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        now = kit.clock.now_ms()
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        held(kit)
        held(kit, symbol="USDJPY")
        kit.terminal.deals.append(a_deal(7, time_msc=now - 2 * DAY))
        leap(1)
        deals = await told(kit, "get_history")
        assert [d["symbol"] for d in deals] == ["EURUSD", "USDJPY"]
        assert deals[0]["entry"] == "in"
        assert len(await told(kit, "get_history", symbol="USDJPY")) == 1
        old = await told(kit, "get_history", **{"from": now - 3 * DAY, "to": now - DAY})
        assert [d["ticket"] for d in old] == [7]
        orders = await told(kit, "get_history", kind="orders", symbol="EURUSD")
        assert [(o["state"], o["order_type"]) for o in orders] == [("filled", "BUY")]
        assert orders[0]["time_done"]


@simulated
async def test_subscribes_and_unsubscribes(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, symbols=()) as kit:
        kit.terminal.symbols["GBPUSD.m"] = symbol_info("GBPUSD.m")
        answer = await told(kit, "subscribe", symbols=["EURUSD", "GBPUSD", "NONE"])
        assert (answer["added"], list(answer["failed"])) == (["EURUSD", "GBPUSD.m"], ["NONE"])
        answer = await told(kit, "unsubscribe", symbols=["GBPUSD", "NONE"])
        assert (answer["removed"], answer["symbols"]) == (["GBPUSD"], ["EURUSD"])


# --- the past


class PastTerminal(FakeTerminal):
    """Ticks and bars of the past, as the terminal gives them: from whole seconds on, bars counted back."""

    bars: list[Bar]
    asked: list[tuple[int, int | None, int | None]]

    async def get_ticks(
        self, symbol: str, from_msc: int, to_msc: int | None = None, count: int | None = None, *, timeout: float = 60.0
    ) -> Any:
        self.asked.append((from_msc, to_msc, count))
        return await super().get_ticks(symbol, from_msc // 1000 * 1000 - 1, to_msc, count, timeout=timeout)

    async def get_rates(
        self, symbol: str, timeframe: str, count: int, from_msc: int | None = None, *, timeout: float = 60.0
    ) -> list[Bar]:
        found = [bar for bar in self.bars if from_msc is None or bar.time_msc <= from_msc]
        return found[-count:]


def past(kit: FlowKit) -> PastTerminal:
    assert isinstance(kit.terminal, PastTerminal)
    kit.terminal.asked = []
    kit.terminal.bars = []
    kit.terminal.keep_time(kit.clock.now_ms)
    return kit.terminal


@simulated
async def test_reads_ticks_from_a_time(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, terminal=PastTerminal(login=1001)) as kit:
        terminal = past(kit)
        for n in range(1500):
            terminal.tick("EURUSD", 1.1 + n / 1e5, 1.2, after_ms=0 if n % 3 else 1)
        start = kit.clock.now_ms()
        leap(10)
        terminal.keep_time(kit.clock.now_ms)
        rows = await told(kit, "get_ticks", symbol="EURUSD", from_msc=start + 3, count=4)
        assert [(r["time_msc"] - start, r["seq"]) for r in rows] == [(3, 0), (3, 1), (3, 2), (4, 0)]
        assert rows[0]["symbol"] == "EURUSD"
        rows = await told(kit, "get_ticks", symbol="EURUSD", from_msc=start + 400, to_msc=start + 401, count=100)
        assert [r["time_msc"] - start for r in rows] == [400] * 3 + [401] * 3
        assert len(await told(kit, "get_ticks", symbol="EURUSD", from_msc=start + 1, count=1400)) == 1400
        assert len(await told(kit, "get_ticks", symbol="EURUSD", from_msc=start + 499, count=900)) == 6


@simulated
async def test_reads_the_newest_ticks_looking_back_no_further_than_needed(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, terminal=PastTerminal(login=1001)) as kit:
        terminal = past(kit)
        for n in range(10):
            terminal.tick("EURUSD", 1.1 + n / 1e5, 1.2, after_ms=0 if n % 3 else 5)
        start = kit.clock.now_ms()
        leap(5)
        terminal.keep_time(kit.clock.now_ms)
        rows = await told(kit, "get_ticks", symbol="EURUSD", count=2)
        assert [(r["time_msc"] - start, r["seq"]) for r in rows] == [(15, 2), (20, 0)]
        assert len(terminal.asked) == 1
        rows = await told(kit, "get_ticks", symbol="EURUSD", to_msc=start + 12, count=2)
        assert [(r["time_msc"] - start, r["seq"]) for r in rows] == [(10, 1), (10, 2)]
        assert len(await told(kit, "get_ticks", symbol="EURUSD", count=100)) == 10
        assert terminal.asked[-1][0] <= kit.clock.now_ms() - DAY
        terminal.ticks["EURUSD"] = b""
        assert await told(kit, "get_ticks", symbol="EURUSD") == []


@simulated
async def test_reads_bars_back_or_from_a_time(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, terminal=PastTerminal(login=1001)) as kit:
        terminal = past(kit)
        now = kit.clock.now_ms()
        hours = [now - (200 - n) * HOUR for n in range(200) if not 50 <= n < 100]  # a weekend
        prices = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5}
        rest: dict[str, Any] = {**prices, "tick_volume": 3, "spread": 4, "real_volume": 5}
        terminal.bars = [Bar(symbol="EURUSD", timeframe="H1", time_msc=t, **rest) for t in hours]
        newest = await told(kit, "get_rates", symbol="EURUSD", timeframe="H1", count=3)
        assert [b["open"] for b in newest] == [1.0] * 3
        assert newest[-1]["time"].endswith("Z")
        for first, count in ((0, 10), (48, 10), (190, 100)):
            since = now - (200 - first) * HOUR
            answer = await told(kit, "get_rates", symbol="EURUSD", timeframe="H1", count=count, **{"from": since})
            wanted = [t for t in hours if t >= since][:count]
            assert len(answer) == len(wanted)
        assert await told(kit, "get_rates", symbol="EURUSD", timeframe="MN1", **{"from": now + MINUTE}) == []
        assert await refused(kit, "get_rates", symbol="EURUSD", timeframe="M7") == "invalid_params"

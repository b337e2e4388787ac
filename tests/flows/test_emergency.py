import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import Executed, FakeTerminal, Hangs, Late, Lost, Refused, symbol_info
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.errors import MT5ConnectionError, MT5DataError, MT5TimeoutError
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.core.intent import IntentState, magic_for
from mt5_bridge.core.model import Deed, OrderRequest, OrderType, TradeResult
from mt5_bridge.flows.assembly import LATCH_FILE
from mt5_bridge.flows.emergency import FLATTEN_MEMO, WATCH_MEMO, StopOptions
from mt5_bridge.flows.latch import ONLY_IN_FILE
from mt5_bridge.flows.orders import Intent, Sent
from mt5_bridge.journal import changes
from mt5_bridge.terminal.port import CallInfo, Priority, Snapshot, TerminalState

OLD_MAGIC = magic_for(77, "of an earlier MT5_MAGIC", 0)


def position(
    kit: FlowKit, *, magic: int = 0, volume: float = 0.1, symbol: str = "EURUSD", type: OrderType = OrderType.BUY
) -> int:
    """A position that is simply there; its ticket."""
    kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol=symbol, volume=volume, magic=magic, type=type))
    return next(reversed(kit.terminal.positions))


def pending(kit: FlowKit, *, magic: int = 0) -> int:
    """A pending order that is simply there; its ticket."""
    request = OrderRequest(
        deed=Deed.PENDING, symbol="EURUSD", volume=0.1, price=1.05, type=OrderType.BUY_LIMIT, magic=magic
    )
    return kit.terminal.execute(request).order


def ours(name: str = "x") -> int:
    return magic_for(235, name, 0)


def stop(kit: FlowKit, **options: Any) -> None:
    kit.emergency.stop(reason="test", by="ops", origin=Origin.REMOTE, options=StopOptions(**options))


async def lost_and_stopped(kit: FlowKit) -> None:
    """An opening of unknown outcome, then a stop that is done: what is left is the watch for its late fill."""
    kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
    await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
    await eventually(lambda: kit.desk.unresolved, 5)
    stop(kit)
    await done(kit)


async def phases(kit: FlowKit, phase: str) -> list[dict[str, Any]]:
    return [e for e in await kit.events("halt_changed") if e["phase"] == phase]


async def done(kit: FlowKit, count: int = 1) -> dict[str, Any]:
    """The report of the end."""

    async def told() -> dict[str, Any] | None:
        found = await phases(kit, "done")
        return found[count - 1] if len(found) >= count else None

    return await eventually(told, 200)


def sent_more_than(terminal: FakeTerminal, count: int) -> Callable[[], bool]:
    return lambda: len(terminal.sent) > count


def closes(kit: FlowKit) -> list[int]:
    return [r.position for r in kit.terminal.sent if r.deed is Deed.DEAL and r.position]


# --- what goes, in which order


@simulated
async def test_cancels_then_closes_the_largest_risk_first_then_reports_after_three_reads(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.tick("XAUUSD", 2000.0, 2000.5)
        kit.terminal.symbols["XAUUSD"] = symbol_info("XAUUSD", contract_size=100.0, tick_size=0.01, tick_value=1.0)
        await kit.book.symbol("XAUUSD")
        await kit.book.symbol("EURUSD")
        small, gold, large = position(kit), position(kit, symbol="XAUUSD"), position(kit, volume=5.0)
        order = pending(kit)
        before = len(kit.terminal.calls)
        stop(kit)
        end = await done(kit)
        assert [r.order or r.position for r in kit.terminal.sent] == [order, large, gold, small]
        assert (end["cancelled"], sorted(end["closed"]), end["survivors"]) == ([order], [small, gold, large], [])
        assert (end["state"], end["reason"], end["by"], end["detail"]) == ("halted", "test", "ops", None)
        # One read that showed them, and three that showed nothing.
        assert kit.terminal.calls[before:].count("snapshot") >= 4
        assert not kit.emergency.unfinished
        assert await kit.journal.memo(FLATTEN_MEMO) == b""
        intents = await kit.journal.intents_by_magic([r.magic for r in kit.terminal.sent])
        assert {i.state for i in intents.values()} == {"cancelled", "closed"}
        assert [a.what for a in await kit.journal.audit()] == ["emergency_stop"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"cancel_orders": False}, (1, 0)),
        ({"close_positions": False}, (0, 1)),
        ({"cancel_orders": False, "close_positions": False}, (1, 1)),
    ],
)
def test_does_what_its_options_say(tmp_path: Path, options: dict[str, bool], left: tuple[int, int]) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            position(kit)
            pending(kit)
            stop(kit, **options)
            assert (await done(kit))["survivors"] == []
            assert (len(kit.terminal.orders), len(kit.terminal.positions)) == left

    run()


@simulated
async def test_scope_mine_takes_what_is_ours_now_and_of_earlier_magics(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, magic=77) as kit:
        await kit.send("BUY", signal_id="old", volume=0.1, stop_loss=1.09)
        assert (await kit.result("old"))["status"] == "filled"
        terminal = kit.terminal
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        manual, other_ea = position(kit), position(kit, magic=magic_for(5, "x", 0))
        position(kit, magic=ours())
        mine, theirs = pending(kit, magic=ours("p")), pending(kit)
        stop(kit, scope="mine")
        end = await done(kit)
        assert (end["cancelled"], len(end["closed"])) == ([mine], 2)
        assert (list(kit.terminal.positions), list(kit.terminal.orders)) == ([manual, other_ea], [theirs])


@simulated
async def test_scope_mine_without_a_journal_takes_what_its_magic_tells(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        unknown = position(kit, magic=OLD_MAGIC)
        position(kit, magic=ours())
        request = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, magic=OLD_MAGIC)
        await kit.journal.commit(kit.desk.opened(Intent(key="old", leg=0, request=request, action="BUY"), 1))
        hang = asyncio.Event()

        async def hung(name: str) -> None:
            if "our_magics" in name:
                await hang.wait()

        kit.journal.step = hung
        stop(kit, scope="mine")
        await eventually(lambda: len(kit.terminal.positions) == 1, 60)
        assert list(kit.terminal.positions) == [unknown]
        await done(kit)
        hang.set()
        stop(kit, scope="mine")
        await eventually(lambda: not kit.terminal.positions, 60)


@simulated
async def test_scope_mine_on_netting_closes_our_share_only(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        await kit.book.refresh()
        ticket = position(kit, volume=0.3)
        position(kit, magic=ours(), volume=0.2)
        assert kit.terminal.positions[ticket].volume == 0.5
        stop(kit, scope="mine")
        end = await done(kit)
        assert end["closed"] == [ticket]
        assert kit.terminal.positions[ticket].volume == 0.3


@simulated
async def test_netting_deals_that_cannot_be_read_are_no_read(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        await kit.book.refresh()
        position(kit, magic=ours(), volume=0.2)
        kit.terminal.failures["get_history_deals"] = MT5DataError("history")
        stop(kit, scope="mine")
        await asyncio.sleep(5)
        assert kit.terminal.positions
        del kit.terminal.failures["get_history_deals"]
        await done(kit)
        assert not kit.terminal.positions


@simulated
async def test_what_exceeds_the_largest_order_goes_in_parts(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.symbols["EURUSD"] = symbol_info(volume_max=1.0)
        await kit.book.symbol("EURUSD")
        ticket = position(kit, volume=2.5)
        stop(kit)
        end = await done(kit)
        assert end["closed"] == [ticket]
        assert [r.volume for r in kit.terminal.sent] == [1.0, 1.0, 0.5]


@simulated
async def test_closes_at_the_price_just_read_and_asks_for_another_when_that_is_refused(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        price = kit.terminal.positions[ticket].price_current
        kit.terminal.quotes["EURUSD"] = msgspec.structs.replace(kit.terminal.quotes["EURUSD"], bid=1.05)
        kit.terminal.script(Refused(10004))
        stop(kit)
        await done(kit)
        assert [r.price for r in kit.terminal.sent] == [price, 1.05]


@simulated
async def test_closes_without_a_quote_at_the_positions_own_price(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        price = kit.terminal.positions[ticket].price_current
        kit.terminal.failures["get_price"] = MT5DataError("no price")
        kit.terminal.script(Refused(10004))
        stop(kit)
        await done(kit)
        assert [r.price for r in kit.terminal.sent] == [price, price]


# --- survivors, retries


@simulated
async def test_reports_survivors_and_why_after_thirty_seconds_and_goes_on(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        kit.terminal.script(*[Refused(10018)] * 200)
        began = kit.clock.monotonic()
        stop(kit)
        first = await done(kit)
        assert kit.clock.monotonic() - began == pytest.approx(30, abs=2.5)
        assert first["survivors"] == [ticket]
        assert "closed" in first["detail"].lower()
        assert str(ticket) in first["detail"]
        assert kit.emergency.survivors == (ticket,)
        tries = len(kit.terminal.sent)
        assert tries < 30, "with back-off"
        await asyncio.sleep(600)
        assert 15 < len(kit.terminal.sent) - tries < 25, "about every 30 s"
        assert len(await phases(kit, "progress")) == 1, "nothing new is not told again"
        kit.terminal._answers.clear()
        last = await done(kit, 2)
        assert (last["survivors"], last["closed"]) == ([], [ticket])
        assert not kit.emergency.survivors


@simulated
async def test_goes_on_over_a_weekend(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        kit.terminal.script(Refused(10018), Refused(10018))
        stop(kit)
        await eventually(lambda: kit.terminal.sent, 5)
        work = kit.emergency._work
        assert work is not None
        work._tickets[False, ticket].tries = 5000  # after two days; the pause used to double without end
        assert (await done(kit, 2))["closed"] == [ticket]


@simulated
async def test_what_a_terminal_without_its_server_shows_is_not_flat(tmp_path: Path) -> None:
    """One that has just started knows its account only when its server has told it."""
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        known = dict(kit.terminal.positions)
        kit.terminal.positions.clear()
        kit.terminal.terminal = msgspec.structs.replace(kit.terminal.terminal, connected=False)
        stop(kit)
        await asyncio.sleep(60.0)
        assert [report["detail"] for report in await phases(kit, "progress")] == [
            "the account cannot be read: the terminal has no connection to its trade server"
        ]
        assert not await phases(kit, "done"), "no survivors to name is not the same as flat"
        assert kit.emergency.unfinished
        kit.terminal.positions.update(known)
        kit.terminal.terminal = msgspec.structs.replace(kit.terminal.terminal, connected=True)
        assert (await done(kit))["closed"] == [ticket]


@simulated
async def test_an_account_that_cannot_be_read_is_not_flat(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        await kit.book.refresh()
        kit.terminal.failures["snapshot"] = MT5ConnectionError("pipe broken")
        stop(kit)
        report = await done(kit)
        assert report["survivors"] == [ticket]
        assert "pipe broken" in report["detail"]
        assert kit.emergency.unfinished
        del kit.terminal.failures["snapshot"]
        assert (await done(kit, 2))["closed"] == [ticket]


@simulated
async def test_a_read_that_fails_between_starts_the_three_anew(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        position(kit)
        reads = 0

        async def every_third_fails(name: str) -> None:
            nonlocal reads
            if name == "snapshot":
                reads += 1
                if reads == 3:
                    raise MT5ConnectionError("once")

        kit.terminal.step = every_third_fails
        stop(kit)
        await done(kit)
        assert reads == 6


@simulated
async def test_a_defect_in_a_round_does_not_end_the_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FlowKit.open(tmp_path) as kit:
        position(kit)
        monkeypatch.setattr(kit.book, "symbols", None)
        stop(kit)
        await asyncio.sleep(1)
        assert kit.terminal.positions
        monkeypatch.setattr(kit.book, "symbols", {})
        await done(kit)
        assert not kit.terminal.positions


@simulated
async def test_simulation_mode_says_that_it_closes_nothing(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, simulate=True) as kit:
        ticket = position(kit)
        stop(kit)
        report = await done(kit)
        assert report["survivors"] == [ticket]
        assert "SIMULATION_MODE" in report["detail"]


# --- unknown outcomes (P2)


@simulated
async def test_an_unknown_close_is_sent_again_after_a_read_and_500_ms(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        position(kit)
        times: list[float] = []

        async def note(name: str) -> None:
            if name == "place_order":
                times.append(kit.clock.monotonic())

        kit.terminal.step = note
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        stop(kit)
        await done(kit)
        assert len(times) == 2
        assert times[1] - times[0] >= 0.5
        first, second = kit.terminal.sent
        assert first.magic != second.magic
        states = {i.magic: i.state for i in (await kit.journal.intents_by_magic([first.magic, second.magic])).values()}
        assert states[second.magic] == "closed"


@simulated
async def test_an_unknown_close_that_was_done_is_not_sent_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True), executed=True))
        stop(kit)
        end = await done(kit)
        assert end["closed"] == [ticket]
        assert len(kit.terminal.sent) == 1
        await asyncio.sleep(15)
        intent = (await kit.journal.intents_by_magic([kit.terminal.sent[0].magic]))[kit.terminal.sent[0].magic]
        assert intent.state == "closed"


@simulated
async def test_an_unknown_close_with_a_live_order_is_waited_for(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        position(kit)
        kit.terminal.script(Late())
        stop(kit)
        await eventually(lambda: kit.terminal.late, 10)
        closing = kit.terminal.late[0]
        live = pending(kit, magic=closing.magic)
        kit.emergency._goal = StopOptions(cancel_orders=False)  # or the stop itself would cancel it
        await asyncio.sleep(5)
        assert len(closes(kit)) == 1
        del kit.terminal.orders[live]
        kit.terminal.late.clear()
        await done(kit)
        assert len(closes(kit)) == 2


@simulated
async def test_an_unknown_close_that_did_a_part_is_completed_once_that_stands(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit, volume=1.0)
        kit.terminal.script(Late())
        stop(kit)
        await eventually(lambda: kit.terminal.late, 10)
        kit.terminal.execute(msgspec.structs.replace(kit.terminal.late.pop(), volume=0.4))
        end = await done(kit)
        assert end["closed"] == [ticket]
        assert [r.volume for r in kit.terminal.sent] == [1.0, 0.6]


@simulated
async def test_a_close_that_lists_do_not_show_yet_is_not_sent_twice(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        held = kit.terminal.positions[ticket]
        real = kit.terminal.execute

        def lagging(request: OrderRequest) -> TradeResult:
            answer = real(request)
            kit.terminal.positions[ticket] = held  # the list lags behind the answer
            asyncio.get_running_loop().call_later(0.3, kit.terminal.positions.pop, ticket, None)
            return answer

        kit.terminal.execute = lagging  # type: ignore[method-assign]  # a terminal whose lists lag
        stop(kit)
        await done(kit)
        assert closes(kit) == [ticket]


@simulated
async def test_a_part_done_for_certain_is_completed_at_once(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        position(kit, volume=1.0)
        kit.terminal.script(Executed(volume=0.3))
        began = kit.clock.monotonic()
        stop(kit)
        await done(kit)
        assert [r.volume for r in kit.terminal.sent] == [1.0, 0.7]
        assert kit.clock.monotonic() - began < 0.5


@simulated
async def test_an_order_that_fills_while_it_is_cancelled_is_closed_and_not_called_cancelled(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        order = pending(kit)
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        stop(kit)
        await eventually(lambda: kit.terminal.sent, 10)
        kit.terminal.fill_pending(order)
        end = await done(kit)
        assert (end["cancelled"], end["closed"]) == ([], [order])


# --- what was in flight (P4)


@simulated
async def test_an_order_in_flight_gets_its_grace_then_the_host_is_killed_and_the_late_fill_closed(
    tmp_path: Path,
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Hangs())
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.flying, 5)
        began = kit.clock.monotonic()
        stop(kit)
        await eventually(lambda: kit.terminal.killed, 10)
        assert kit.clock.monotonic() - began == pytest.approx(2.1, abs=0.15)
        assert "STOP" in kit.terminal.killed[0].upper()
        assert (await done(kit))["survivors"] == []
        await asyncio.sleep(5)
        late = kit.terminal.execute(kit.terminal.sent[0])
        await eventually(lambda: not kit.terminal.positions, 5)
        assert closes(kit) == [late.order]
        assert (await kit.result("s1", 30))["status"] == "filled"
        await asyncio.sleep(70)
        assert not kit.emergency.busy
        progress = (await phases(kit, "progress"))[-1]
        assert progress["closed"] == [late.order]


@simulated
async def test_a_call_that_comes_back_within_the_grace_is_not_killed(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        answer = asyncio.Event()
        kit.terminal.script(Executed(after=answer))
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.flying, 5)
        stop(kit)
        await asyncio.sleep(1)
        answer.set()
        await done(kit)
        assert not kit.terminal.killed
        assert not kit.terminal.positions


@simulated
async def test_late_fills_are_watched_for_sixty_seconds_and_only_journalled_ones_closed(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.unresolved, 5)
        stop(kit)
        await done(kit)
        await asyncio.sleep(20)
        manual = position(kit)
        await asyncio.sleep(35)
        kit.terminal.execute(kit.terminal.sent[0])
        await eventually(lambda: list(kit.terminal.positions) == [manual], 5)
        await asyncio.sleep(30)
        assert not kit.emergency.busy
        assert list(kit.terminal.positions) == [manual]


@pytest.mark.parametrize("order", [{"action": "BUY"}, {"action": "BUY_LIMIT", "price": 1.095}])
@simulated
async def test_what_was_answered_and_is_not_listed_yet_is_watched_for(tmp_path: Path, order: dict[str, Any]) -> None:
    """The lists lag behind the answer: all reads of the stop show nothing."""
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.list_lag_ms = 4000
        await kit.send(signal_id="s1", volume=0.1, stop_loss=1.09, **order)
        await kit.result("s1")
        stop(kit)
        assert (await done(kit))["survivors"] == []
        assert kit.terminal.positions or kit.terminal.orders
        await eventually(lambda: not kit.terminal.positions and not kit.terminal.orders, 10)


@simulated
async def test_a_late_fill_that_cannot_be_closed_stays_a_survivor_until_it_can(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.unresolved, 5)
        stop(kit)
        await done(kit)
        kit.terminal.script(*[Refused(10018)] * 300)
        late = kit.terminal.execute(kit.terminal.sent[0]).order
        await asyncio.sleep(100)
        assert kit.emergency.busy
        assert kit.emergency.survivors == (late,)
        kit.terminal._answers.clear()
        await eventually(lambda: not kit.emergency.busy, 90)
        assert not kit.emergency.survivors
        assert not kit.terminal.positions


@simulated
async def test_a_stop_during_the_watch_flattens_anew(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.unresolved, 5)
        stop(kit)
        await done(kit)
        await asyncio.sleep(3)
        manual = position(kit)
        stop(kit)
        assert (await done(kit, 2))["closed"] == [manual]


@simulated
async def test_a_watch_survives_reads_that_fail(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.unresolved, 5)
        stop(kit)
        await done(kit)
        kit.terminal.failures["snapshot"] = MT5ConnectionError("gone")
        await asyncio.sleep(3)
        del kit.terminal.failures["snapshot"]
        kit.terminal.execute(kit.terminal.sent[0])
        await eventually(lambda: not kit.terminal.positions, 10)


@pytest.mark.parametrize("late", [True, False])
def test_a_signals_close_of_unknown_outcome_is_not_doubled(tmp_path: Path, late: bool) -> None:
    """On netting the second of two closes would open the other side."""

    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            ticket = position(kit, magic=ours())
            kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
            await kit.send("CLOSE", signal_id="c1", position=ticket)
            await eventually(lambda: kit.desk.unresolved, 5)
            stop(kit)
            await asyncio.sleep(0.3)
            assert len(kit.terminal.sent) == 1
            if late:
                kit.terminal.execute(kit.terminal.sent[0])
            assert (await done(kit))["survivors"] == []
            assert not kit.terminal.positions
            assert len(kit.terminal.sent) == (1 if late else 2)

    run()


@simulated
async def test_a_change_of_a_stop_of_unknown_outcome_holds_up_no_close(tmp_path: Path) -> None:
    """Whatever becomes of it, it closes nothing."""
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit, magic=ours())
        kit.terminal.script(Lost(MT5TimeoutError("late", sent=True)))
        await kit.send("MODIFY", signal_id="m1", position=ticket, stop_loss=1.05)
        await eventually(lambda: kit.desk.unresolved, 5)
        stop(kit)
        await asyncio.sleep(0.3)
        assert [request.deed for request in kit.terminal.sent] == [Deed.SLTP, Deed.DEAL]
        assert (await done(kit))["survivors"] == []


@simulated
async def test_a_defect_in_the_watch_does_not_end_it(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await lost_and_stopped(kit)
        snapshot, broken = kit.terminal.snapshot, True

        async def lying(*, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> Snapshot:
            if broken and priority is Priority.CRITICAL:
                raise KeyError("what no terminal answers")
            return await snapshot(priority=priority, timeout=timeout)

        kit.terminal.snapshot = lying  # type: ignore[method-assign]  # a defect of a moment
        await asyncio.sleep(3)
        broken = False
        kit.terminal.execute(kit.terminal.sent[0])
        await eventually(lambda: not kit.terminal.positions, 10)


@simulated
async def test_the_watch_goes_on_as_long_as_an_outcome_is_unknown(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.failures["get_history_deals"] = MT5DataError("history is not there yet")
        await lost_and_stopped(kit)
        await asyncio.sleep(300)
        assert kit.emergency.busy
        kit.terminal.execute(kit.terminal.sent[0])
        await eventually(lambda: not kit.terminal.positions, 10)
        del kit.terminal.failures["get_history_deals"]
        await eventually(lambda: not kit.emergency.busy, 90)
        assert await kit.journal.memo(WATCH_MEMO) == b""


@pytest.mark.parametrize("moment", ["flattening", "watching", "before the stop"])
def test_a_late_fill_is_closed_though_the_process_died_meanwhile(tmp_path: Path, moment: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            terminal = kit.terminal
            if moment == "watching":
                await lost_and_stopped(kit)
                await asyncio.sleep(15)  # given up by now: only the watch still knows of it
                assert not kit.desk.unresolved
            else:
                terminal.script(Lost(MT5TimeoutError("late", sent=True)))
                await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
                await eventually(lambda: kit.desk.unresolved, 5)
            if moment == "flattening":
                terminal.failures["snapshot"] = MT5ConnectionError("gone")
                stop(kit)
                await eventually(lambda: kit.emergency.journalled, 5)
            await kit.crash()
        terminal.failures.clear()
        async with FlowKit.open(tmp_path, terminal=terminal) as kit:
            if moment == "before the stop":
                stop(kit)
            manual = position(kit) if moment == "watching" else None
            await asyncio.sleep(5)
            assert kit.emergency.busy
            terminal.execute(terminal.sent[0])
            await eventually(lambda: list(terminal.positions) == ([] if manual is None else [manual]), 10)
            await eventually(lambda: not kit.emergency.busy, 90)
            assert await kit.journal.memo(WATCH_MEMO) == b""

    run()


@simulated
async def test_a_resume_ends_the_watch_of_a_later_life_too(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        terminal = kit.terminal
        await lost_and_stopped(kit)
        kit.emergency.resumed()
        await eventually(lambda: kit.emergency.journalled, 5)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert not kit.emergency.busy


@simulated
async def test_each_call_has_its_own_grace(tmp_path: Path) -> None:
    """A call that hangs is killed, and not one that began just before the grace was over."""
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.in_flight = CallInfo("poll", Priority.NORMAL, 0.0)
        stop(kit)
        await asyncio.sleep(1.5)
        kit.terminal.in_flight = CallInfo("poll", Priority.NORMAL, 1.5)
        await asyncio.sleep(1.5)
        assert not kit.terminal.killed
        kit.terminal.in_flight = None


@simulated
async def test_any_hanging_call_is_killed_not_only_orders(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.in_flight = CallInfo("poll", Priority.NORMAL, 0.0)
        stop(kit)
        await eventually(lambda: kit.terminal.killed, 10)
        kit.terminal.in_flight = None


# --- again and again


@simulated
async def test_stops_repeated_while_flattening_cut_nothing_off_and_add_what_they_want(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket, order = position(kit), pending(kit)
        answer = asyncio.Event()
        kit.terminal.script(Executed(after=answer))
        stop(kit, close_positions=False)
        await eventually(lambda: kit.desk.flying, 5)
        for _ in range(10):
            stop(kit, cancel_orders=False)
            await asyncio.sleep(0.01)
        assert len(kit.terminal.sent) == 1
        answer.set()
        end = await done(kit)
        assert (end["cancelled"], end["closed"]) == ([order], [ticket])
        assert len(kit.terminal.sent) == 2
        assert len(await phases(kit, "latched")) == 1


@simulated
async def test_a_repeated_stop_tries_at_once_and_reports_anew(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        position(kit)
        kit.terminal.script(*[Refused(10018)] * 60)
        stop(kit)
        await done(kit)
        await asyncio.sleep(300)
        kit.terminal._answers.clear()
        began = kit.clock.monotonic()
        stop(kit)
        await done(kit, 2)
        assert kit.clock.monotonic() - began < 1


@simulated
async def test_a_rules_stop_only_latches(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        halt, durable = kit.emergency.stop(reason="r", by="rule", origin=Origin.RULE, options=None)
        assert halt.state is HaltState.HALTED
        assert durable is not None
        await asyncio.sleep(60)
        assert list(kit.terminal.positions) == [ticket]
        assert not kit.emergency.unfinished


@simulated
async def test_a_stop_that_wants_more_than_the_one_before_is_durable_when_that_is(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        position(kit)
        kit.terminal.script(*[Refused(10018)] * 60)

        def again(*, close: bool) -> "asyncio.Task[None] | None":
            options = StopOptions(cancel_orders=True, close_positions=close)
            return kit.emergency.stop(reason="r", by="ops", origin=Origin.REMOTE, options=options)[1]

        assert await kit.latch.durable_within(again(close=False))
        await eventually(lambda: kit.emergency.journalled and not kit.emergency.unfinished)
        kit.journal.break_down()
        durable = again(close=True)
        assert not await kit.latch.durable_within(durable)
        kit.journal.mend()
        assert durable is not None
        await durable
        assert b'"close_positions":true' in (await kit.journal.memo(FLATTEN_MEMO) or b"")


@simulated
async def test_a_resume_ends_it_and_nothing_is_closed_any_more(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        kit.terminal.script(*[Refused(10018)] * 60)
        stop(kit)
        await asyncio.sleep(10)
        kit.emergency.resumed()
        kit.terminal._answers.clear()
        sent = len(kit.terminal.sent)
        await asyncio.sleep(120)
        assert list(kit.terminal.positions) == [ticket]
        assert len(kit.terminal.sent) == sent
        assert not kit.emergency.unfinished
        assert await kit.journal.memo(FLATTEN_MEMO) == b""
        assert not kit.emergency.busy
        kit.emergency.resumed()


# --- the journal


@simulated
async def test_flattens_without_a_journal_and_tells_it_in_order_when_it_is_back(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        kit.journal.break_down()
        stop(kit)
        await eventually(lambda: not kit.terminal.positions, 10)
        await asyncio.sleep(2)
        kit.journal.mend()
        assert (await done(kit))["closed"] == [ticket]
        magic = kit.terminal.sent[0].magic
        assert (await kit.journal.intents_by_magic([magic]))[magic].state == "closed"
        assert await kit.journal.memo(FLATTEN_MEMO) == b""


@simulated
async def test_what_contradicts_the_journal_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        sent = Sent(state=IntentState.CLOSED, request=OrderRequest(deed=Deed.REMOVE, symbol="EURUSD"))
        kit.emergency._write(kit.desk.moved(4711, sent, 1))
        kit.emergency._write(kit.outbox.event("halt_changed", {}))
        await eventually(lambda: not kit.emergency._to_write, 5)
        assert len(await kit.events("halt_changed")) == 1


@simulated
async def test_a_stop_that_a_crash_cut_off_is_gone_on_with_under_new_magics(tmp_path: Path) -> None:
    terminal: FakeTerminal | None = None
    for life in range(3):
        if terminal is not None:
            terminal.script(*[Refused(10018)] * 5 * (2 - life))
        async with FlowKit.open(tmp_path, terminal=terminal) as kit:
            terminal = kit.terminal
            if life == 0:
                position(kit)
                terminal.script(Refused(10018))
                stop(kit)
            else:
                assert kit.latch.halt.state is HaltState.HALTED
                assert life == 2 or kit.emergency.unfinished
            if life < 2:
                await eventually(sent_more_than(terminal, life), 5)
                await kit.crash()
            else:
                await done(kit)
    assert terminal is not None
    magics = [r.magic for r in terminal.sent]
    assert len(magics) == len(set(magics)) >= 3


@simulated
async def test_a_latch_is_never_durable_without_what_is_to_be_flattened(tmp_path: Path) -> None:
    """The process dies the moment the latch is in the journal, before the stop could do or write anything else."""
    async with FlowKit.open(tmp_path) as kit:
        terminal, ticket = kit.terminal, position(kit)
        latched = asyncio.Event()

        async def dies(name: str) -> None:
            if name.startswith("committed") and "HaltChanged" in name:
                latched.set()
            if latched.is_set() or not name.startswith("commit") or "HaltChanged" not in name:
                await asyncio.get_running_loop().create_future()

        kit.journal.step = terminal.step = dies
        stop(kit)
        await latched.wait()
        await kit.crash()
    assert list(terminal.positions) == [ticket]
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert (await done(kit))["closed"] == [ticket]


@simulated
async def test_what_was_lifted_for_good_closes_nothing_though_the_latch_file_still_halts(tmp_path: Path) -> None:
    """The process died between the resume in the journal and the resume in the file."""
    async with FlowKit.open(tmp_path) as kit:
        terminal, ticket = kit.terminal, position(kit)
        terminal.script(*[Refused(10018)] * 60)
        stop(kit)
        await eventually(lambda: kit.file.read() is not None)
        written = (tmp_path / LATCH_FILE).read_bytes()
        await asyncio.sleep(1)
        await kit.commands.resume("over", "person", force=True, origin=Origin.LOCAL)
        await eventually(lambda: not kit.latch._to_file)
        await kit.crash()
    terminal._answers.clear()
    (tmp_path / LATCH_FILE).write_bytes(written)
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        await asyncio.sleep(60)
        assert kit.latch.halt.state is HaltState.HALTED
        assert list(terminal.positions) == [ticket]
        told = (await kit.events("halt_changed"))[-1]
        assert (told["phase"], told["detail"]) == ("latched", ONLY_IN_FILE)


@simulated
async def test_a_latch_that_the_disk_took_late_is_not_durable_alone_either(tmp_path: Path) -> None:
    """The disk was full for a moment, and the process dies when the latch has gone in at last, before all else."""
    async with FlowKit.open(tmp_path) as kit:
        terminal, ticket = kit.terminal, position(kit)
        kit.journal.break_down()

        async def hangs(name: str) -> None:
            await asyncio.get_running_loop().create_future()

        terminal.step = hangs
        stop(kit)
        await asyncio.sleep(0.1)
        kit.journal.mend()
        await eventually(lambda: kit.latch.durable)
        assert not kit.emergency.journalled
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert (await done(kit))["closed"] == [ticket]


@simulated
async def test_a_stop_that_no_journal_took_is_held_and_told_what_to_do(tmp_path: Path) -> None:
    """The disk was full until the process died: the latch file knows of the halt, nobody of what was to be closed."""
    async with FlowKit.open(tmp_path) as kit:
        terminal, ticket = kit.terminal, position(kit)
        terminal.script(*[Refused(10018)] * 60)
        kit.journal.break_down()
        stop(kit)
        await eventually(lambda: kit.file.read() is not None)
        await kit.crash()
    terminal._answers.clear()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        await asyncio.sleep(5)
        told = (await kit.events("halt_changed"))[-1]
        assert (told["state"], told["phase"], told["detail"]) == ("halted", "latched", ONLY_IN_FILE)
        stop(kit)
        assert (await done(kit))["closed"] == [ticket]


@simulated
async def test_an_unreadable_note_of_a_stop_flattens_by_the_settings(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.halt()
        await asyncio.sleep(0.1)
        await kit.journal.commit(changes.Memo(name=FLATTEN_MEMO, value=b"{broken"))
        terminal = kit.terminal
        ticket, order = position(kit), pending(kit)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal, stop=StopOptions(close_positions=False)) as kit:
        end = await done(kit)
        assert end["cancelled"] == [order]
        assert list(terminal.positions) == [ticket]


@simulated
async def test_nothing_is_taken_up_once_trading_was_resumed(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.journal.commit(changes.Memo(name=FLATTEN_MEMO, value=json.dumps({"scope": "all"}).encode()))
        terminal, ticket = kit.terminal, position(kit)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        await asyncio.sleep(60)
        assert list(terminal.positions) == [ticket]


@simulated
async def test_takes_up_when_the_terminal_comes(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        terminal = kit.terminal
        ticket = position(kit)
        terminal.script(Refused(10018))
        stop(kit)
        await asyncio.sleep(0.05)
        await kit.crash()
    terminal.become(TerminalState.DISCONNECTED)
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False) as kit:
        await asyncio.sleep(45)
        assert kit.emergency.unfinished
        assert "cannot be read" in (await phases(kit, "progress"))[-1]["detail"]
        assert not await phases(kit, "done")
        terminal.become(TerminalState.CONNECTED)
        assert (await done(kit))["closed"] == [ticket]


@simulated
async def test_a_shutdown_lets_the_order_on_its_way_end(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        position(kit)
        answer = asyncio.Event()
        kit.terminal.script(Executed(after=answer))
        stop(kit)
        await eventually(lambda: kit.desk.flying, 5)
        asyncio.get_running_loop().call_later(1.0, answer.set)
        magic = kit.terminal.sent[0].magic
        terminal = kit.terminal
    assert not terminal.positions
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert (await kit.journal.intents_by_magic([magic]))[magic].state == "closed"
        await done(kit)


@simulated
async def test_answers_within_20_ms_whatever_the_journal_does(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        forever = asyncio.Event()

        async def hang(name: str) -> None:
            if name.startswith("commit"):
                await forever.wait()

        kit.journal.step = hang
        began = kit.clock.monotonic()
        kit.control.on_frame(b'{"type": "emergency_stop", "data": {}}')
        assert kit.latch.halt.state is HaltState.HALTED
        answer = await eventually(lambda: kit.channel.of("command_result"), 1)
        assert answer[0]["data"]["data"]["durable"] is False
        assert kit.clock.monotonic() - began <= 0.020 + 0.005
        assert kit.channel.urgent
        forever.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        stored = await kit.journal.halt()
        assert stored is not None
        assert stored.state == "halted"


@simulated
async def test_a_stop_that_asks_for_more_during_the_last_read_is_served(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ticket = position(kit)
        await kit.book.refresh()
        reads = 0

        async def step(name: str) -> None:
            nonlocal reads
            reads += name == "snapshot"
            if name == "snapshot" and reads == 3:
                stop(kit)

        kit.terminal.step = step
        stop(kit, close_positions=False)
        told = await done(kit)
        assert (told["closed"], kit.terminal.positions) == ([ticket], {})


@simulated
async def test_a_crash_right_behind_a_resume_closes_nothing(tmp_path: Path) -> None:
    """The latch file still halts; what the lifted stop wanted went with the resume's own commit."""
    async with FlowKit.open(tmp_path) as kit:
        terminal, ticket = kit.terminal, position(kit)
        terminal.script(*[Refused(10018)] * 60)
        stop(kit)
        await asyncio.sleep(1)
        gone = asyncio.Event()

        async def dies(name: str) -> None:
            if gone.is_set() or name.startswith("committed HaltChanged"):
                gone.set()
                await asyncio.Event().wait()

        kit.journal.step = dies
        resuming = asyncio.create_task(kit.commands.resume("over", "person", force=True, origin=Origin.LOCAL))
        await gone.wait()
        await kit.crash()
        resuming.cancel()
    terminal._answers.clear()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert kit.latch.halt.state is HaltState.HALTED
        await asyncio.sleep(60)
        assert list(terminal.positions) == [ticket]


@simulated
async def test_what_was_lifted_is_not_gone_on_with_at_a_later_halt(tmp_path: Path) -> None:
    """The disk fills right behind the resume, the process dies, and much later a rule halts, which closes nothing."""
    async with FlowKit.open(tmp_path) as kit:
        terminal, ticket = kit.terminal, position(kit)
        terminal.script(*[Refused(10018)] * 60)
        stop(kit)
        await asyncio.sleep(1)

        async def fills(name: str) -> None:
            if name.startswith("committed HaltChanged"):
                kit.journal.broken = "full"

        kit.journal.step = fills
        await kit.commands.resume("over", "person", force=True, origin=Origin.LOCAL)
        await asyncio.sleep(5)
        await kit.crash()
    terminal._answers.clear()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert kit.latch.halt.state is HaltState.ACTIVE
        await asyncio.sleep(60)
        kit.emergency.stop(reason="drawdown", by="drawdown", origin=Origin.RULE, options=None)
        await asyncio.sleep(5)
        assert not kit.emergency.busy
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        await asyncio.sleep(60)
        assert kit.latch.halt.state is HaltState.HALTED
        assert list(terminal.positions) == [ticket]


@simulated
async def test_a_resume_that_a_stop_overtook_forgets_no_late_fill(tmp_path: Path) -> None:
    """Its own commit took what was watched for out of the journal; the stop's puts it back."""
    async with FlowKit.open(tmp_path) as kit:
        terminal = kit.terminal
        await lost_and_stopped(kit)
        await asyncio.sleep(15)  # given up by now: only the watch still knows of it
        go_on, held, written = asyncio.Event(), asyncio.Event(), list[str]()

        async def slow(name: str) -> None:
            if name.startswith("commit HaltChanged") and not held.is_set():
                held.set()
                await go_on.wait()
            elif name.startswith("committed HaltChanged"):
                written.append(name)

        kit.journal.step = slow
        resuming = asyncio.create_task(kit.commands.resume("over", "person", force=True, origin=Origin.LOCAL))
        await held.wait()
        stop(kit)
        go_on.set()
        await eventually(lambda: len(written) >= 2, 10)
        await kit.crash()
        resuming.cancel()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert kit.latch.halt.state is HaltState.HALTED
        await asyncio.sleep(5)
        terminal.execute(terminal.sent[0])
        await eventually(lambda: not terminal.positions, 30)


@simulated
async def test_what_a_stop_wants_is_not_written_back_to_what_an_earlier_one_wanted(tmp_path: Path) -> None:
    """Both wait for a full disk; the process dies when only the earlier one's batch has followed the latch."""
    async with FlowKit.open(tmp_path) as kit:
        terminal = kit.terminal
        position(kit)
        terminal.script(*[Refused(10018)] * 600)
        kit.journal.break_down()
        stop(kit, close_positions=False)
        await asyncio.sleep(0.01)
        stop(kit)
        await asyncio.sleep(1)
        gone = asyncio.Event()

        async def dies(name: str) -> None:
            if gone.is_set() or name.startswith("committed Audited"):
                gone.set()
                await asyncio.Event().wait()

        kit.journal.step = dies
        kit.journal.mend()
        await gone.wait()
        await kit.crash()
    terminal._answers.clear()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert kit.latch.halt.state is HaltState.HALTED
        await eventually(lambda: not terminal.positions, 60)

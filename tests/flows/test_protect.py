import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import Executed, Hangs, Lost, Refused, Silent
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.errors import JournalError, MT5ConnectionError, MT5DataError
from mt5_bridge.core.model import Deed, OrderRequest, TradeResult
from mt5_bridge.flows.protect import GUARDED_MEMO
from mt5_bridge.terminal.port import TerminalState

BUY: dict[str, Any] = {"action": "BUY", "volume": 0.1, "stop_loss": 1.095, "take_profit": 1.12}


def drops_stops(kit: FlowKit, *, stop: float = 0.0, target: float = 0.0) -> None:
    """The broker opens without the stop and target it was given."""
    execute = kit.terminal.execute

    def open_bare(request: OrderRequest) -> TradeResult:
        if request.deed is Deed.DEAL and not request.position:
            request = msgspec.structs.replace(request, stop_loss=stop, take_profit=target)
        return execute(request)

    kit.terminal.execute = open_bare  # type: ignore[method-assign]  # a broker with this fault


def modifies(kit: FlowKit) -> list[OrderRequest]:
    return [r for r in kit.terminal.sent if r.deed is Deed.SLTP]


async def guarded(kit: FlowKit) -> list[int]:
    memo = await kit.journal.memo(GUARDED_MEMO)
    return [] if memo is None else msgspec.json.decode(memo, type=list[int])


@simulated
async def test_a_missing_stop_is_set_at_once(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        await kit.send(**BUY, signal_id="s1")
        assert (await kit.result("s1"))["status"] == "filled"
        await kit.idle()
        (position,) = kit.terminal.positions.values()
        assert (position.stop_loss, position.take_profit) == (1.095, 1.12)
        (request,) = modifies(kit)
        assert request.magic not in (0, position.magic)
        (opening, repair) = await kit.journal.intents("s1")
        assert (opening.leg, repair.leg, repair.state, repair.magic) == (0, 1, "modified", request.magic)
        assert [r["status"] for r in await kit.results("s1")] == ["filled"]
        assert await guarded(kit) == []


@pytest.mark.parametrize(("stop", "target", "repairs"), [(1.09, 1.12, 1), (1.096, 1.12, 0), (1.095, 0.0, 1)])
@simulated
async def test_a_looser_stop_is_tightened_and_a_nearer_one_left(
    tmp_path: Path, stop: float, target: float, repairs: int
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit, stop=stop, target=target)
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
        assert len(modifies(kit)) == repairs


@simulated
async def test_what_is_set_after_a_fill_brings_no_nearer_stop_back(tmp_path: Path) -> None:
    """Only the target is missing, and somebody moves the stop in the same moment."""
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit, stop=1.095)

        async def somebody(name: str) -> None:
            for ticket, held in kit.terminal.positions.items():
                if name == "order_send":
                    kit.terminal.positions[ticket] = msgspec.structs.replace(held, stop_loss=1.099)

        kit.terminal.step = somebody
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
        kit.terminal.step = None
        (position,) = kit.terminal.positions.values()
        assert (position.stop_loss, position.take_profit) == (1.099, 1.12)


@simulated
async def test_shorts_and_fills_without_stop(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"require_stop_loss": False}) as kit:
        drops_stops(kit, stop=1.2)
        await kit.send("SELL", signal_id="s1", volume=0.1, stop_loss=1.11)
        await kit.send("SELL", signal_id="s2", volume=0.1)
        await kit.send("SELL", signal_id="s3", volume=0.1, take_profit=1.0)
        await kit.result("s3")
        await kit.idle()
        assert [p.stop_loss for p in kit.terminal.positions.values()] == [1.11, 1.2, 1.2]
        assert len(modifies(kit)) == 2


@simulated
async def test_after_three_failures_the_position_is_closed_and_told(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.script(Executed(), Refused(10016), Refused(10016), Refused(10016))
        await kit.send(**BUY, signal_id="s1")
        await kit.idle()
        assert not kit.terminal.positions
        assert len(modifies(kit)) == 3
        first, second = await kit.events()
        assert (first["data"]["status"], second["data"]["status"]) == ("filled", "closed")
        assert second["data"]["reason"] == "stop_not_set"
        assert second["data"]["supersedes"] == first["event_id"]
        assert len({r.magic for r in kit.terminal.sent}) == 5
        story = await kit.journal.signal("s1")
        assert story is not None
        assert [c.supersedes for c in story.corrections] == [first["event_id"]]


@simulated
async def test_five_seconds_are_enough(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.script(Executed(), Hangs())
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        began = kit.clock.now_ms()
        await eventually(lambda: not kit.terminal.positions)
        assert kit.clock.now_ms() - began < 7000
        await kit.idle()
        assert len(modifies(kit)) == 1
        assert (await kit.journal.intents("s1"))[1].state == "rejected"


@simulated
async def test_a_stop_set_by_a_lost_answer_is_enough(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.script(Executed(), Silent(-10005, executed=True))
        await kit.send(**BUY, signal_id="s1")
        await kit.idle()
        assert [p.stop_loss for p in kit.terminal.positions.values()] == [1.095]
        assert len(modifies(kit)) == 1
        assert [i.state for i in await kit.journal.intents("s1")] == ["filled", "modified"]


@simulated
async def test_closing_goes_on_until_it_works(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.script(Executed(), *[Refused(10018)] * 6)
        kit.terminal.failures["get_price"] = MT5DataError("no price")
        await kit.send(**BUY, signal_id="s1")
        await kit.idle()
        assert not kit.terminal.positions
        results = await kit.results("s1")
        assert [(r["status"], r["reason"]) for r in results] == [
            ("filled", None),
            ("filled", "stop_not_set"),
            ("closed", "stop_not_set"),
        ]
        assert "could not be closed yet" in results[1]["detail"]


@pytest.mark.parametrize("executed", [True, False])
@simulated
async def test_an_unknown_close_is_looked_up_before_it_is_sent_again(tmp_path: Path, executed: bool) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        lost = Lost(MT5ConnectionError("broken", sent=True), executed)
        kit.terminal.script(Executed(), *[Refused(10016)] * 3, lost)
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        await eventually(lambda: not kit.desk._tasks, 10.0)
        assert not kit.terminal.positions
        assert len([r for r in kit.terminal.sent if r.position and r.deed is Deed.DEAL]) == (1 if executed else 2)


@pytest.mark.parametrize("how", ["closed", "protected"])
@simulated
async def test_a_person_who_helps_ends_the_closing(tmp_path: Path, how: str) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.script(Executed(), *[Refused(10018)] * 60)
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: len(kit.terminal.sent) > 5)
        (position,) = kit.terminal.positions.values()
        if how == "closed":
            del kit.terminal.positions[position.ticket]
        else:
            helped = msgspec.structs.replace(position, stop_loss=1.095, take_profit=1.12)
            kit.terminal.positions[position.ticket] = helped
        await kit.idle()
        last = (await kit.results("s1"))[-1]
        assert last["status"] == ("closed" if how == "closed" else "filled")
        assert last["reason"] == "stop_not_set"


@simulated
async def test_neither_a_full_disk_nor_a_halt_keeps_a_position_unprotected(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go), *[Refused(10016)] * 3)
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        kit.journal.break_down()

        async def unreadable(name: str) -> None:
            if "our_magics_among" in name:
                raise JournalError("unreadable")

        kit.journal.step = unreadable
        kit.halt()
        go.set()
        await eventually(lambda: len(kit.terminal.sent) == 5)
        await eventually(lambda: not kit.terminal.positions)
        kit.journal.step = None
        kit.journal.mend()
        await kit.idle()
        assert sorted(r["status"] for r in await kit.results("s1")) == ["closed", "filled"]


@simulated
async def test_what_is_not_listed_yet_is_not_gone(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.list_lag_ms = 2000
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        assert not modifies(kit)
        await kit.idle()
        assert [p.stop_loss for p in kit.terminal.positions.values()] == [1.095]


@simulated
async def test_what_cannot_be_read_is_not_gone(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        kit.terminal.failures["snapshot"] = MT5DataError("None")
        go.set()
        await kit.result("s1")
        await asyncio.sleep(60)
        del kit.terminal.failures["snapshot"]
        await kit.idle()
        # Its five seconds begin with the first read that shows it.
        assert [p.stop_loss for p in kit.terminal.positions.values()] == [1.095]


@simulated
async def test_a_position_that_is_closed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        kit.terminal.list_lag_ms = 60_000
        go.set()
        await kit.result("s1")
        kit.terminal.positions.clear()
        await kit.idle()
        assert len(kit.terminal.sent) == 1


@simulated
async def test_on_netting_the_symbols_position_must_have_the_stop(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        await kit.book.refresh()
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1))
        await kit.send(**BUY, signal_id="s1")
        await kit.idle()
        (position,) = kit.terminal.positions.values()
        assert (position.volume, position.stop_loss) == (0.2, 1.095)


@simulated
async def test_on_netting_an_order_that_only_reduces_has_no_stop_to_look_after(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        await kit.book.refresh()
        await kit.send(**BUY | {"volume": 0.3}, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
        await kit.send("SELL", signal_id="s2", volume=0.1, stop_loss=1.11)
        assert (await kit.result("s2"))["status"] == "filled"
        await kit.idle()
        (position,) = kit.terminal.positions.values()
        assert (position.volume, position.stop_loss) == (0.2, 1.095)
        assert [r.deed for r in kit.terminal.sent] == [Deed.DEAL, Deed.DEAL]


@simulated
async def test_on_netting_no_more_is_closed_than_was_opened(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        await kit.book.refresh()
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.5))
        drops_stops(kit)
        kit.terminal.script(Executed(), *[Refused(10016)] * 3)
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: len(kit.terminal.sent) == 5)
        await kit.idle()
        (position,) = kit.terminal.positions.values()
        assert position.volume == 0.5
        assert [r["status"] for r in await kit.results("s1")] == ["filled", "closed"]


@simulated
async def test_on_netting_a_part_that_filled_and_was_closed_in_parts_takes_nothing_else_along(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.netting()
        await kit.book.refresh()
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.5))
        drops_stops(kit)
        kit.terminal.script(Executed(volume=0.1), *[Refused(10016)] * 3, Executed(volume=0.04))
        await kit.send(**BUY | {"volume": 0.2}, signal_id="s1")
        await eventually(lambda: len(kit.terminal.sent) == 6)
        await kit.idle()
        (position,) = kit.terminal.positions.values()
        assert position.volume == 0.5
        assert [request.volume for request in kit.terminal.sent[4:]] == [0.1, 0.06]


@pytest.mark.parametrize(("answer", "left"), [(Executed(volume=0.2), 1.1), (Silent(-10005, executed=True), 1.0)])
@simulated
async def test_on_netting_what_an_earlier_life_closed_is_not_closed_again(
    tmp_path: Path, answer: Executed | Silent, left: float
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        terminal = kit.terminal
        terminal.netting()
        terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=1.0))
        execute = terminal.execute

        def sets_no_stops(request: OrderRequest) -> TradeResult:
            return TradeResult(retcode=10016) if request.deed is Deed.SLTP else execute(request)

        terminal.execute = sets_no_stops  # type: ignore[method-assign]  # a broker with this fault
        terminal.script(*[Executed()] * 4, answer)
        await kit.send("BUY", signal_id="s1", volume=0.3, stop_loss=1.095)
        await eventually(lambda: len(terminal.sent) == 5, 20.0)
        await eventually(lambda: [p.volume for p in terminal.positions.values()] == [left], 20.0)
        await asyncio.sleep(0.1)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:

        async def fails_at_first(name: str) -> None:
            if "intents" in name and not failed and kit.book.reconciled.is_set():
                failed.append(name)
                raise JournalError("busy")

        failed: list[str] = []
        kit.journal.step = fails_at_first
        await eventually(lambda: [p.volume for p in terminal.positions.values()] == [1.0], 20.0)
        await asyncio.sleep(10)
        assert [p.volume for p in terminal.positions.values()] == [1.0]
        await kit.idle()
        assert await guarded(kit) == []


@pytest.mark.parametrize("moved", [0.0, 1.08])
@simulated
async def test_a_crash_before_the_look_leaves_no_position_without_stop(tmp_path: Path, moved: float) -> None:
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit, stop=moved)
        kit.terminal.failures["snapshot"] = MT5DataError("None")
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.positions)
        await kit.result("s1")
        assert len(await guarded(kit)) == 1
        await kit.crash()
    del kit.terminal.failures["snapshot"]
    if moved:
        (position,) = kit.terminal.positions.values()
        kit.terminal.positions[position.ticket] = msgspec.structs.replace(position, take_profit=1.2)
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        await kit.idle()
        (position,) = kit.terminal.positions.values()
        # A stop that somebody moved in the meantime stays where it is.
        assert position.stop_loss == (moved or 1.095)
        assert await guarded(kit) == []


@simulated
async def test_an_unsettled_fill_is_guarded_by_its_own_result(tmp_path: Path) -> None:
    terminal_away = MT5DataError("None")
    async with FlowKit.open(tmp_path) as kit:
        drops_stops(kit)
        kit.terminal.script(Silent(-10005, executed=True))
        kit.terminal.failures["snapshot"] = terminal_away
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.desk.unresolved)
        await kit.crash()
    del kit.terminal.failures["snapshot"]
    kit.terminal.become(TerminalState.CONNECTED)
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        assert (await kit.result("s1"))["status"] == "filled"
        await kit.idle()
        assert [p.stop_loss for p in kit.terminal.positions.values()] == [1.095]

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.facts import a_position
from support.fake_terminal import FakeTerminal, symbol_info
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core import wire
from mt5_bridge.core.errors import MT5ConnectionError
from mt5_bridge.core.halt import Origin
from mt5_bridge.core.messages import TradingSignal, position_message
from mt5_bridge.core.model import Action, Deed, OrderRequest, OrderState, OrderType
from mt5_bridge.flows import account
from mt5_bridge.flows.account import KNOWN_MEMO
from mt5_bridge.flows.emergency import StopOptions
from mt5_bridge.journal import changes
from mt5_bridge.journal.rows import StoredIntent
from mt5_bridge.terminal.port import TerminalState

FLOWS = ("account-poll", "account-events")
MONEY = {"login", "server", "currency", "leverage", "balance", "equity", "margin", "free_margin", "margin_level"} | {
    "profit",
    "margin_mode",
    "trade_allowed",
}


def held(terminal: FakeTerminal, volume: float = 0.1, symbol: str = "EURUSD") -> int:
    terminal.execute(OrderRequest(deed=Deed.DEAL, symbol=symbol, volume=volume))
    return next(reversed(terminal.positions))


def waits(terminal: FakeTerminal) -> int:
    request = OrderRequest(deed=Deed.PENDING, symbol="EURUSD", volume=0.1, price=1.05, type=OrderType.BUY_LIMIT)
    return terminal.execute(request).order


def close(terminal: FakeTerminal, ticket: int, reason: int = 3) -> None:
    position = terminal.positions[ticket]
    terminal.execute(
        OrderRequest(
            deed=Deed.DEAL, symbol=position.symbol, volume=position.volume, position=ticket, type=OrderType.SELL
        )
    )
    terminal.deals[-1] = msgspec.structs.replace(
        terminal.deals[-1], reason=reason, commission=-0.5, swap=-0.2, fee=-0.1
    )


async def one(kit: FlowKit, type: str, count: int = 1) -> dict[str, Any]:
    """The newest event of a type, once there are so many."""

    async def found() -> dict[str, Any] | None:
        events = await kit.events(type)
        return events[-1] if len(events) >= count else None

    return await eventually(found, 10, type)


# --- positions


@simulated
async def test_positions_are_told_when_they_come_and_go(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        await kit.send(signal_id="s1", volume=0.1, stop_loss=1.09)
        assert (await kit.result("s1"))["status"] == "filled"
        opened = await one(kit, "position_opened")
        assert (opened["signal_id"], opened["type"], opened["side"], opened["volume"]) == ("s1", 0, "buy", 0.1)
        ticket = opened["ticket"]
        held_now = kit.terminal.positions[ticket]
        kit.terminal.positions[ticket] = msgspec.structs.replace(held_now, stop_loss=1.0995)
        await eventually(lambda: kit.book.positions[ticket].stop_loss == 1.0995)
        close(kit.terminal, ticket)
        closed = await one(kit, "position_closed")
        assert (closed["ticket"], closed["stop_loss"]) == (ticket, 1.0995), "as it was last"
        assert closed["signal_id"] == "s1"
        assert closed["reason"] == "manual"
        assert closed["price_close"] == 1.1
        assert (closed["commission"], closed["swap"]) == (-0.6, -0.2)
        assert closed["profit"] == pytest.approx(-1.0)
        frames = kit.channel.of("positions")
        assert [len(f["data"]) for f in frames][-2:] == [1, 0]


@pytest.mark.parametrize(
    ("code", "reason"), [(4, "stop"), (5, "target"), (6, "stop_out"), (0, "manual"), (3, "manual")]
)
def test_why_a_position_closed_by_its_deal(tmp_path: Path, code: int, reason: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.run(*FLOWS)
            ticket = held(kit.terminal)
            await one(kit, "position_opened")
            close(kit.terminal, ticket, code)
            assert (await one(kit, "position_closed"))["reason"] == reason

    run()


@pytest.mark.parametrize(("by", "reason"), [("signal", "signal"), ("command", "command"), ("stop", "command")])
def test_why_a_position_closed_by_whose_order_it_was(tmp_path: Path, by: str, reason: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.run(*FLOWS)
            ticket = held(kit.terminal)
            await one(kit, "position_opened")
            if by == "signal":
                await kit.send("CLOSE", signal_id="stop-1", position=ticket)
            elif by == "command":
                signal = TradingSignal(symbol="EURUSD", action=Action.CLOSE, position=ticket)
                await kit.intake.command(signal, None)
            else:
                kit.emergency.stop(reason="r", by="b", origin=Origin.REMOTE, options=StopOptions())
            assert (await one(kit, "position_closed"))["reason"] == reason

    run()


@simulated
async def test_a_stop_is_named_also_when_it_closed_before_that_was_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        held(kit.terminal)
        await one(kit, "position_opened")
        known, asked = kit.journal.intents_by_magic, 0

        async def late(magics: Iterable[int]) -> dict[int, StoredIntent]:
            nonlocal asked
            asked += 1
            return await known(magics) if asked > 3 else {}

        monkeypatch.setattr(kit.journal, "intents_by_magic", late)
        kit.emergency.stop(reason="r", by="b", origin=Origin.REMOTE, options=StopOptions())
        assert (await one(kit, "position_closed"))["reason"] == "command"


@simulated
async def test_history_that_lags_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        first, second = held(kit.terminal), held(kit.terminal)
        await one(kit, "position_opened", 2)
        close(kit.terminal, first)
        late = kit.terminal.deals.pop()
        asyncio.get_running_loop().call_later(0.9, kit.terminal.deals.append, late)
        assert (await one(kit, "position_closed"))["price_close"] == 1.1
        close(kit.terminal, second)
        kit.terminal.deals.pop()
        closed = await one(kit, "position_closed", 2)
        assert (closed["ticket"], closed["price_close"], closed["reason"]) == (second, None, "manual")


@simulated
async def test_changes_of_a_position_are_told_as_the_whole_list(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        ticket = held(kit.terminal)
        await one(kit, "position_opened")
        count = len(kit.channel.of("positions"))
        position = kit.terminal.positions[ticket]
        kit.terminal.positions[ticket] = msgspec.structs.replace(position, profit=5.0, price_current=1.2)
        await asyncio.sleep(2)
        assert len(kit.channel.of("positions")) == count, "running profit is no change"
        kit.terminal.positions[ticket] = msgspec.structs.replace(position, stop_loss=1.05)
        await asyncio.sleep(2)
        assert kit.channel.of("positions")[-1]["data"][0]["stop_loss"] == 1.05
        assert len(await kit.events("position_opened")) == 1


@simulated
async def test_of_very_many_positions_a_frame_has_as_many_as_libraries_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "MOST_TOLD", 2)
    async with FlowKit.open(tmp_path) as kit:
        whole = list[dict[str, Any]]()
        kit.fanout.listen(lambda channel, slot, frame: whole.extend([json.loads(frame)] * (slot == "positions")))
        kit.run(*FLOWS)
        tickets = sorted(held(kit.terminal) for _ in range(3))
        await one(kit, "position_opened", 3)
        frame = kit.channel.of("positions")[-1]
        assert [position["ticket"] for position in frame["data"]] == tickets[:2]
        assert frame["next"] == str(tickets[1])
        assert [position["ticket"] for position in whole[-1]["data"]] == tickets, "others are told them all"
        close(kit.terminal, tickets[0])
        await one(kit, "position_closed")
        frame = kit.channel.of("positions")[-1]
        assert [position["ticket"] for position in frame["data"]] == tickets[1:]
        assert "next" not in frame


def test_even_the_longest_positions_make_a_frame_below_a_mebibyte() -> None:
    longest = position_message(
        a_position(
            2**63,
            symbol="S" * 31,
            volume=123456.78,
            price_open=123456.12345,
            price_current=123456.12345,
            stop_loss=123456.12345,
            take_profit=123456.12345,
            swap=-123456789.12,
            profit=-123456789.12,
            magic=2**53,
            comment="\x01" * 31,
        )
    )
    frame = wire.encode("positions", [longest] * account.MOST_TOLD, now_msc=0, next="9" * 20)
    assert len(frame) < 1 << 20


@simulated
async def test_many_that_close_at_once_leave_room_for_orders_in_the_terminals_queue(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        tickets = [held(kit.terminal, volume=0.01) for _ in range(30)]
        await one(kit, "position_opened", 30)
        asked = kit.terminal.calls.count("get_history_deals")
        for ticket in tickets:
            close(kit.terminal, ticket)
        await one(kit, "position_closed", 30)
        assert kit.terminal.calls.count("get_history_deals") - asked < 30, "the day's deals told it all"
        assert {event["price_close"] for event in await kit.events("position_closed")} == {1.1}


@simulated
async def test_what_comes_and_goes_while_others_are_announced_is_told_too(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("account-events")
        slow = held(kit.terminal)
        await kit.book.refresh()
        await one(kit, "position_opened")
        close(kit.terminal, slow)
        kit.terminal.deals.pop()  # its history lags, for a second
        await kit.book.refresh()
        await asyncio.sleep(0.1)
        brief, order = held(kit.terminal), waits(kit.terminal)
        await kit.book.refresh()
        close(kit.terminal, brief, 4)
        kit.terminal.execute(OrderRequest(deed=Deed.REMOVE, symbol="EURUSD", order=order))
        await kit.book.refresh()
        await one(kit, "position_closed", 2)
        assert [e["ticket"] for e in await kit.events("position_opened")] == [slow, brief]
        closed = await kit.events("position_closed")
        assert [(e["ticket"], e["reason"]) for e in closed] == [(slow, "manual"), (brief, "stop")]
        pendings = [(e["ticket"], e["state"]) for e in await kit.events("pending_changed")]
        assert pendings == [(order, "placed"), (order, "cancelled")]
        await asyncio.sleep(3)
        assert len(await kit.events()) == 6


# --- pendings


@simulated
async def test_pendings_are_told_from_placed_to_their_end(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        await kit.send("BUY_LIMIT", signal_id="p", volume=0.1, price=1.05, stop_loss=1.04)
        assert (await kit.result("p"))["status"] == "placed"
        placed = await one(kit, "pending_changed")
        assert (placed["state"], placed["signal_id"], placed["symbol"]) == ("placed", "p", "EURUSD")
        kit.terminal.fill_pending(placed["ticket"])
        assert (await one(kit, "pending_changed", 2))["state"] == "filled"
        assert (await one(kit, "position_opened"))["signal_id"] == "p"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (OrderState.CANCELED, "cancelled"),
        (OrderState.EXPIRED, "expired"),
        (OrderState.REJECTED, "rejected"),
        (OrderState.FILLED, "filled"),
    ],
)
def test_how_a_pending_ended(tmp_path: Path, state: OrderState, told: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.run(*FLOWS)
            ticket = waits(kit.terminal)
            await one(kit, "pending_changed")
            order = kit.terminal.orders.pop(ticket)
            late = msgspec.structs.replace(order, state=state, time_done_msc=kit.terminal.now_msc)
            asyncio.get_running_loop().call_later(0.8, kit.terminal.past_orders.append, late)
            assert (await one(kit, "pending_changed", 2))["state"] == told

    run()


@pytest.mark.parametrize(("trace", "told"), [("none", "cancelled"), ("deal", "filled"), ("position", "filled")])
def test_how_a_pending_ended_of_which_history_tells_nothing(tmp_path: Path, trace: str, told: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.run(*FLOWS)
            ticket = waits(kit.terminal)
            await one(kit, "pending_changed")
            if trace == "none":
                del kit.terminal.orders[ticket]
            else:
                kit.terminal.fill_pending(ticket)
                kit.terminal.past_orders.clear()
            if trace == "deal":
                kit.terminal.positions.clear()
            assert (await one(kit, "pending_changed", 2))["state"] == told

    run()


# --- restarts and faults


@simulated
async def test_what_changed_while_the_bridge_was_off_is_told_at_the_start(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        gone, stays, pending = held(kit.terminal), held(kit.terminal), waits(kit.terminal)
        await one(kit, "position_opened", 2)
        await one(kit, "pending_changed")
        terminal = kit.terminal
        await kit.crash()
    close(terminal, gone, 4)
    terminal.fill_pending(pending)
    new = held(terminal)
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        kit.run(*FLOWS)
        assert (await one(kit, "position_closed"))["reason"] == "stop"
        assert (await one(kit, "pending_changed", 2))["state"] == "filled"
        await one(kit, "position_opened", 4)
        assert {e["ticket"] for e in await kit.events("position_opened")} == {gone, stays, pending, new}
        await asyncio.sleep(2)
        assert len(await kit.events("position_opened")) == 4


@simulated
async def test_a_note_that_cannot_be_read_begins_afresh(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.journal.commit(changes.Memo(name=KNOWN_MEMO, value=b"?"))
        await kit.account.restore()
        kit.run(*FLOWS)
        ticket = held(kit.terminal)
        assert (await one(kit, "position_opened"))["ticket"] == ticket


@simulated
async def test_what_cannot_be_announced_waits(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        ticket = held(kit.terminal)
        kit.journal.break_down()
        await asyncio.sleep(3)
        kit.journal.mend()
        await one(kit, "position_opened")
        kit.terminal.failures["get_history_deals"] = MT5ConnectionError("pipe")
        close(kit.terminal, ticket)
        await asyncio.sleep(3)
        assert not await kit.events("position_closed")
        assert kit.account.refresh_failures > 0
        del kit.terminal.failures["get_history_deals"]
        assert (await one(kit, "position_closed"))["ticket"] == ticket


@simulated
async def test_nothing_is_read_while_the_terminal_is_away(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*FLOWS)
        await asyncio.sleep(1)
        kit.terminal.become(TerminalState.DISCONNECTED)
        calls = len(kit.terminal.calls)
        await asyncio.sleep(5)
        assert len(kit.terminal.calls) == calls


@simulated
async def test_the_rules_of_what_is_held_are_learnt(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.tick("XAUUSD", 2000.0, 2000.5)
        held(kit.terminal, symbol="XAUUSD")
        lost = held(kit.terminal)
        kit.terminal.positions[lost] = msgspec.structs.replace(kit.terminal.positions[lost], symbol="GONE")
        kit.run(*FLOWS)
        await asyncio.sleep(3)
        assert kit.book.symbols["XAUUSD"] == symbol_info("XAUUSD")
        assert kit.terminal.calls.count("get_symbol") == 2, "once each"


# --- the account


@simulated
async def test_the_account_is_told_in_its_interval_and_on_change(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, account_interval_s=5.0) as kit:
        kit.run("account", "account-poll", "states")
        await asyncio.sleep(0.1)
        frames = len(kit.channel.of("account_info"))
        await asyncio.sleep(20)
        told = kit.channel.of("account_info")[frames:]
        assert len(told) == 4
        assert set(told[0]["data"]) == MONEY
        assert len(kit.producer.of("mt5_events", "account_info")) == 5
        kit.terminal.account = msgspec.structs.replace(kit.terminal.account, equity=9_000.0)
        await asyncio.sleep(1.5)
        assert kit.channel.of("account_info")[-1]["data"]["equity"] == 9_000.0


@simulated
async def test_greets_with_the_picture_as_far_as_it_is_known(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, ready=False) as kit:
        kit.channel.frames.clear()
        kit.terminal.become(TerminalState.DISCONNECTED)
        kit.book.account = None
        kit.account.greet()
        assert not kit.channel.frames
        kit.terminal.become(TerminalState.CONNECTED)
        await kit.book.reconciled.wait()
        await asyncio.sleep(1)
        assert {f for f in ("account_info", "positions") if kit.channel.of(f)} == {"account_info", "positions"}


@simulated
async def test_without_a_backend_there_is_nobody_to_tell(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, channels=("redpanda",)) as kit:
        kit.account._control = None
        kit.channel.frames.clear()
        kit.run(*FLOWS, "account")
        held(kit.terminal)
        await one(kit, "position_opened")
        kit.account.greet()
        assert not kit.channel.frames

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import FakeTerminal, Hangs, Silent
from support.flow_kit import FlowKit, KitJournal
from support.simulated import simulated

from mt5_bridge.core.errors import JournalError, MT5DataError
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action, Deed, OrderRequest
from mt5_bridge.flows.job import payload_of
from mt5_bridge.journal import changes
from mt5_bridge.terminal.port import TerminalState

BUY: dict[str, Any] = {"action": "BUY", "volume": 0.1, "stop_loss": 1.095}


async def received(kit: FlowKit, key: str, **fields: Any) -> None:
    """A signal that an earlier life had in its inbox."""
    base: dict[str, Any] = {"symbol": "EURUSD", "signal_id": key}
    signal = TradingSignal(**(base | fields))
    await kit.journal.commit(
        changes.SignalReceived(
            key=key, signal_id=key, source="redpanda", account="", symbol="EURUSD", action=signal.action.value,
            payload=payload_of(signal), received_msc=kit.clock.now_ms(),
        )
    )  # fmt: skip


async def intent(kit: FlowKit, key: str, magic: int, *, leg: int = 0, action: str = "BUY", **fields: Any) -> None:
    base: dict[str, Any] = {"deed": Deed.DEAL, "symbol": "EURUSD", "volume": 0.1, "magic": magic}
    request = OrderRequest(**(base | fields))
    await kit.journal.commit(
        changes.IntentOpened(
            magic=magic, key=key, leg=leg, symbol="EURUSD", action=action, request=msgspec.json.encode(request),
            opened_msc=kit.clock.now_ms(), volume=request.volume,
        )
    )  # fmt: skip


@simulated
async def test_nothing_trades_before_the_first_complete_read(tmp_path: Path) -> None:
    terminal = FakeTerminal()
    terminal.failures["snapshot"] = MT5DataError("positions_get: None", code=-10001)
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False) as kit:
        terminal.tick("EURUSD", 1.1, 1.1001)
        await kit.send(**BUY, signal_id="s1")
        await asyncio.sleep(2)
        assert not terminal.sent
        assert not kit.book.reconciled.is_set()
        assert kit.book.readiness.why_not
        del terminal.failures["snapshot"]
        assert (await kit.result("s1"))["status"] == "filled"
        assert kit.reconciler.rounds == 1


@simulated
async def test_every_return_of_the_terminal_is_reconciled(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.become(TerminalState.CONNECTING, "lost")
        assert not kit.book.reconciled.is_set()
        await kit.send(**BUY, signal_id="s1")
        await asyncio.sleep(1)
        assert not kit.terminal.sent
        kit.terminal.become(TerminalState.CONNECTED)
        assert (await kit.result("s1"))["status"] == "filled"
        assert kit.reconciler.rounds == 2


@simulated
async def test_a_terminal_that_goes_while_it_is_read_is_not_reconciled(tmp_path: Path) -> None:
    terminal = FakeTerminal()
    terminal.holds["snapshot"] = asyncio.Event()
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False) as kit:
        await eventually(lambda: "snapshot" in terminal.calls)
        kit.reconciler.state_changed(TerminalState.CONNECTING)
        terminal.holds["snapshot"].set()
        await asyncio.sleep(1)
        assert not kit.book.reconciled.is_set()
        kit.reconciler.state_changed(TerminalState.CONNECTED)
        await kit.book.reconciled.wait()


@simulated
async def test_signals_received_and_never_decided_are_decided(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await received(kit, "s1", action=Action.BUY, volume=0.1, stop_loss=1.095)
        await received(kit, "old", action=Action.BUY, volume=0.1, stop_loss=1.095, created_at=1)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        assert (await kit.result("s1"))["status"] == "filled"
        assert (await kit.result("old"))["reason"] == "stale"


@simulated
async def test_taken_up_signals_are_answered_before_the_terminal_comes(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await received(kit, "s1", action=Action.BUY, volume=0.1, stop_loss=1.095)
        await kit.crash()
    terminal = FakeTerminal(connected=False)
    async with FlowKit.open(tmp_path, terminal=terminal, ready=False, limits={"trading_enabled": False}) as kit:
        assert (await kit.result("s1"))["reason"] == "trading_disabled"


@pytest.mark.parametrize("executed", [True, False])
@simulated
async def test_an_order_lost_with_the_process_is_looked_up_and_blocks_its_symbol(
    tmp_path: Path, executed: bool
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Hangs(executed))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent and (kit.terminal.positions or not executed))
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        if not executed:
            assert kit.book.blocked == {"EURUSD"}
            assert [e.unknown for e in kit.book.in_flight()] == [True]
            await kit.send(**BUY, signal_id="s2")
            assert (await kit.result("s2"))["reason"] == "unknown_outcome"
        assert (await kit.result("s1", 10.0))["status"] == ("filled" if executed else "abandoned")
        assert len(kit.terminal.sent) == 1


@simulated
async def test_a_full_disk_keeps_nothing_from_being_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Hangs(True))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.positions)
        await intent(kit, "stop-1", 22, action="EMERGENCY")
        await kit.crash()
    monkeypatch.setattr(KitJournal, "broken", "database or disk is full")
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        await asyncio.sleep(20)
        kit.journal.mend()
        assert (await kit.result("s1"))["status"] == "filled"
        await kit.idle()
        assert not await kit.journal.open_intents()


@simulated
async def test_not_found_counts_only_a_window_after_the_terminal_came_back(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Silent(-10005))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        kit.terminal.become(TerminalState.CONNECTING)
        await asyncio.sleep(60)
        kit.terminal.lag_ms = kit.terminal.list_lag_ms = 5000
        kit.terminal.execute(kit.terminal.sent[0])
        kit.terminal.become(TerminalState.CONNECTED)
        assert (await kit.result("s1"))["status"] == "filled"


@simulated
async def test_legs_with_an_outcome_end_in_the_result_that_was_not_written(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await received(kit, "c1", action=Action.CLOSE)
        for leg, (magic, state) in enumerate([(11, "closed"), (12, "rejected")]):
            await intent(kit, "c1", magic, leg=leg, action="CLOSE", position=magic)
            moved = changes.IntentMoved(magic=magic, state=state, at_msc=1, volume=0.1, order=5, deal=6, price=1.1)
            await kit.journal.commit(moved)
        await received(kit, "s1", action=Action.BUY, volume=0.1, stop_loss=1.095)
        await intent(kit, "s1", 13)
        await kit.journal.commit(changes.IntentMoved(magic=13, state="rejected", at_msc=1, retcode=10019))
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        result = await kit.result("c1")
        assert (result["status"], result["volume_filled"]) == ("partial", 0.1)
        assert [leg["status"] for leg in result["legs"]] == ["closed", "rejected"]
        assert (await kit.result("s1"))["status"] == "rejected"
        assert not kit.terminal.sent


@simulated
async def test_orders_nobody_waits_for_are_noted(tmp_path: Path) -> None:
    """As soon as they can be: the disk is full when their outcome is known."""
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, magic=21))
        await intent(kit, "stop-1", 21, action="EMERGENCY")
        await intent(kit, "stop-1", 22, leg=1, action="EMERGENCY")
        await kit.journal.commit(changes.IntentMoved(magic=22, state="unknown", at_msc=1))
        await received(kit, "s1", action=Action.BUY, volume=0.1, stop_loss=1.095)
        await intent(kit, "s1", 23)
        await intent(kit, "s1", 24, leg=1, action="MODIFY", deed=Deed.SLTP, position=1000, stop_loss=1.0)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        kit.journal.break_down()
        await asyncio.sleep(20)
        kit.journal.mend()
        await kit.idle()
        states = {m: i.state for m, i in (await kit.journal.intents_by_magic([21, 22, 23, 24])).items()}
        assert states == {21: "filled", 22: "abandoned", 23: "abandoned", 24: "rejected"}
        assert [r["status"] for r in await kit.results()] == ["abandoned"]


@simulated
async def test_an_order_nobody_waits_for_is_noted_when_the_journal_can_be_written_again(tmp_path: Path) -> None:
    """Left open it would hold up what comes after it in this life, such as the next move of a managed stop."""
    async with FlowKit.open(tmp_path) as kit:
        await intent(kit, "stop-1", 21, action="EMERGENCY")
        await kit.crash()
    tries: list[str] = []

    async def full_twice(name: str) -> None:
        if name == "commit IntentMoved":
            tries.append(name)
            if len(tries) in (1, 3):
                raise JournalError("the disk is full")

    async with FlowKit.open(tmp_path, terminal=kit.terminal, step=full_twice) as kit:

        async def noted() -> bool:
            return (await kit.journal.intents("stop-1"))[0].state == "abandoned"

        await eventually(noted, 60.0)
        kit.journal.step = None
        assert len(tries) == 4


@simulated
async def test_a_memo_of_stops_without_their_signal_is_left(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await intent(kit, "gone", 31)
        await kit.journal.commit(
            changes.IntentMoved(magic=31, state="filled", at_msc=1),
            changes.Memo(name="guarded", value=msgspec.json.encode([31, 32])),
        )
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        await kit.idle()
        assert not kit.terminal.sent

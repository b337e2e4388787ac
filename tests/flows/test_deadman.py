"""What a host did while its daemon was dead, met by the next one."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import START_MS, FakeTerminal
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.deadman import Act, Report, report_name
from mt5_bridge.core.model import Deed, OrderRequest, OrderType, TradeResult
from mt5_bridge.flows import deadman as module
from mt5_bridge.terminal.port import TerminalState

EVENTS = ("outbox-redpanda", "account-events", "account-poll")
MAGIC = 235 << 32 | 99


def act(leg: int = 1, **fields: Any) -> Act:
    request = OrderRequest(
        deed=Deed.DEAL, symbol="EURUSD", type=OrderType.SELL, volume=0.1, magic=MAGIC + leg, position=500
    )
    known: dict[str, Any] = {
        "magic": MAGIC + leg, "leg": leg, "request": request, "at_msc": START_MS, "volume_before": 0.1,
    }  # fmt: skip
    return Act(**(known | fields))


def left(folder: Path, *acts: Act, id: str = "r1", **fields: Any) -> Path:
    """A report that an earlier host left."""
    known: dict[str, Any] = {
        "id": id, "action": "flatten", "why": "the daemon was silent", "login": 1001, "server": "Fake-Demo",
        "began_msc": START_MS, "ended_msc": START_MS + 1, "acts": list(acts),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    path = folder / report_name(id)
    path.write_bytes(msgspec.json.encode(Report(**(known | fields))))
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("deadman-*")]


def halts(kit: FlowKit) -> list[dict[str, Any]]:
    return [f["data"] for f in kit.producer.of("mt5_events", "halt_changed") if f["data"]["by"] == "deadman"]


@simulated
async def test_it_is_journalled_announced_and_removed(tmp_path: Path) -> None:
    done = act(answer=TradeResult(retcode=10009, deal=3, order=4, volume=0.1, price=1.1))
    refused = act(2, answer=TradeResult(retcode=10018, comment="Market closed"))
    path = left(tmp_path, done, refused, cancelled=[11], closed=[500], left={12: "Market is closed (10018)"})
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*EVENTS)
        await eventually(lambda: halts(kit))
        assert halts(kit) == [
            {
                "state": "active",
                "phase": "done",
                "reason": "dead-man's switch, flatten: the daemon was silent",
                "by": "deadman",
                "at": halts(kit)[0]["at"],
                "cancelled": [11],
                "closed": [500],
                "survivors": [12],
                "detail": "12: Market is closed (10018)",
            }
        ]
        intents = await kit.journal.intents_by_magic([MAGIC + 1, MAGIC + 2])
        states = [(i.key, i.leg, i.state, i.order, i.deal) for i in sorted(intents.values(), key=lambda i: i.leg)]
        assert states == [("deadman-r1", 1, "closed", 4, 3), ("deadman-r1", 2, "rejected", 0, 0)]
        assert not path.exists()
        kit.terminal.become(TerminalState.CONNECTING)
        kit.terminal.become(TerminalState.CONNECTED)
        await eventually(lambda: kit.reconciler.rounds == 2)
        assert len(halts(kit)) == 1


@simulated
async def test_it_explains_what_closed_a_position(tmp_path: Path) -> None:
    terminal = FakeTerminal()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        kit.run(*EVENTS)
        terminal.tick("EURUSD", 1.1, 1.1001)
        await kit.send(action="BUY", volume=0.1, stop_loss=1.095, signal_id="s1")
        position = (await kit.result("s1"))["position"]
        await eventually(lambda: kit.producer.of("mt5_events", "position_opened"))
        await kit.crash()
    close = OrderRequest(
        deed=Deed.DEAL, symbol="EURUSD", type=OrderType.SELL, volume=0.1, magic=MAGIC + 1, position=position
    )
    answer = terminal.execute(close)
    left(tmp_path, act(request=close, answer=answer), closed=[position])
    async with FlowKit.open(tmp_path, terminal=terminal, producer=kit.producer) as kit:
        kit.run(*EVENTS)
        await eventually(lambda: kit.producer.of("mt5_events", "position_closed"))
        (closed,) = kit.producer.of("mt5_events", "position_closed")
        assert (closed["data"]["ticket"], closed["data"]["reason"]) == (position, "command")


@simulated
async def test_an_order_of_unknown_outcome_is_looked_up(tmp_path: Path) -> None:
    """The host was killed before it had an answer: nothing is sent, and what the terminal tells is journalled."""
    left(tmp_path, act(), ended_msc=None)
    async with FlowKit.open(tmp_path) as kit:
        kit.run(*EVENTS)
        await eventually(lambda: kit.desk.unresolved == {MAGIC + 1})
        await eventually(lambda: not kit.desk.unresolved, 30)
        (intent,) = (await kit.journal.intents_by_magic([MAGIC + 1])).values()
        assert intent.state == "abandoned"
        assert kit.terminal.sent == []
        assert halts(kit)[0]["detail"] == "it was cut off before its end"


@pytest.mark.parametrize(("sent", "state"), [(True, "unknown"), (False, "rejected")])
@simulated
async def test_without_an_answer_it_matters_whether_it_was_sent(tmp_path: Path, sent: bool, state: str) -> None:
    left(tmp_path, act(sent=sent, detail="no pipe"))
    async with FlowKit.open(tmp_path) as kit:
        (intent,) = (await kit.journal.intents_by_magic([MAGIC + 1])).values()
        assert (intent.state, intent.detail) == (state, "no pipe")


@simulated
async def test_a_crash_between_journal_and_removal_announces_once(tmp_path: Path) -> None:
    path = left(tmp_path, act(answer=TradeResult(retcode=10009)))
    content = path.read_bytes()
    async with FlowKit.open(tmp_path) as kit:
        await kit.crash()
    path.write_bytes(content)
    async with FlowKit.open(tmp_path, terminal=kit.terminal, producer=kit.producer) as kit:
        kit.run(*EVENTS)
        await eventually(lambda: halts(kit))
        assert len(halts(kit)) == 1
        assert not path.exists()


@simulated
async def test_it_waits_for_a_journal_that_cannot_write(tmp_path: Path) -> None:
    path = left(tmp_path, act(answer=TradeResult(retcode=10009)))
    async with FlowKit.open(tmp_path, terminal=FakeTerminal(connected=False), ready=False) as kit:
        kit.run(*EVENTS)
        kit.journal.break_down()
        kit.terminal.become(TerminalState.CONNECTED)
        await kit.book.reconciled.wait()
        assert path.exists()
        kit.journal.mend()
        kit.terminal.become(TerminalState.CONNECTING)
        kit.terminal.become(TerminalState.CONNECTED)
        await eventually(lambda: halts(kit))
        assert not path.exists()


@simulated
async def test_a_magic_that_the_journal_has_already_is_not_entered_again(tmp_path: Path) -> None:
    left(tmp_path, act(answer=TradeResult(retcode=10009)))
    left(tmp_path, act(), id="r2")
    async with FlowKit.open(tmp_path) as kit:
        (intent,) = (await kit.journal.intents_by_magic([MAGIC + 1])).values()
        assert (intent.key, intent.state) == ("deadman-r1", "closed")
        assert names(tmp_path) == []


@simulated
async def test_what_cannot_be_read_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / report_name("x")).write_bytes(b'{"id": 7')
    async with FlowKit.open(tmp_path):
        assert names(tmp_path) == ["deadman-x.unreadable"]


@simulated
async def test_a_disk_that_hangs_does_not_keep_the_account_from_being_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_read", lambda folder: time.sleep(0.3))
    monkeypatch.setattr(module, "_DISK_S", 0.0)
    async with FlowKit.open(tmp_path) as kit:
        assert kit.reconciler.rounds == 1


@simulated
async def test_a_file_that_cannot_be_removed_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = left(tmp_path, act(answer=TradeResult(retcode=10009)))

    def held(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        async with FlowKit.open(tmp_path) as kit:
            kit.run(*EVENTS)
            await eventually(lambda: halts(kit))
            for _ in range(2):
                kit.terminal.become(TerminalState.CONNECTING)
                kit.terminal.become(TerminalState.CONNECTED)
            await eventually(lambda: kit.reconciler.rounds >= 2)
            assert len(halts(kit)) == 1
    assert path.exists()


@simulated
async def test_signals_trade_as_before(tmp_path: Path) -> None:
    """The switch latches nothing: who wants a halt has stopped."""
    left(tmp_path)
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.tick("EURUSD", 1.1, 1.1001)
        await kit.send(action="BUY", volume=0.1, stop_loss=1.095, signal_id="s1")
        assert (await kit.result("s1"))["status"] == "filled"

"""Connecting and disconnecting on a person's word: never under an order, never to another account without leave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.fake_terminal import Hangs, Refused
from support.flow_kit import LOGIN, FlowKit
from support.simulated import simulated

from mt5_bridge.core.errors import JournalError, MT5AuthError, MT5ConnectionError, MT5Error, MT5InitError
from mt5_bridge.core.halt import Origin
from mt5_bridge.core.model import Deed, OrderRequest, OrderType
from mt5_bridge.flows import session as module
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.emergency import StopOptions
from mt5_bridge.flows.session import Credentials, Rules, Session, _same
from mt5_bridge.terminal.port import TerminalState

NOBODY = Credentials(None, None, None)
OURS = Credentials(LOGIN, "Fake-Demo", "geheim")
OTHER = Credentials(LOGIN + 1, "Fake-Demo", "else")


class Switch:
    """Goes over to another account, or fails."""

    def __init__(self) -> None:
        self.to: list[Credentials] = []
        self.fault: MT5Error | None = None

    async def __call__(self, wanted: Credentials) -> None:
        self.to.append(wanted)
        if self.fault is not None:
            raise self.fault


@asynccontextmanager
async def opened(
    folder: Path, *, other_account: bool = False, **options: Any
) -> AsyncIterator[tuple[FlowKit, Session, Switch]]:
    """A kit, its session, and what goes over to another account."""
    async with FlowKit.open(folder, **options) as kit:
        switch = Switch()
        rules = Rules(
            lambda: OURS, other_account=other_account, last_words=kit.account.announce_the_last, switch=switch
        )
        session = Session(
            kit.terminal, kit.journal, kit.book, kit.desk, kit.trader.lanes, kit.guard, kit.emergency, rules
        )
        try:
            yield kit, session, switch
        finally:
            await session.close()


async def code_of(work: Any) -> str:
    """With which code something is refused."""
    with pytest.raises(Refusal) as refused:
        await work
    assert str(refused.value)
    return refused.value.code


@simulated
async def test_it_ends_and_begins(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        told = await session.connect(OURS)
        assert (told["connected"], told["detail"]) == (True, "it was connected already")
        assert (await session.disconnect())["connected"] is False
        assert not kit.book.reconciled.is_set()
        assert kit.terminal.state is TerminalState.DISCONNECTED
        assert (await session.disconnect())["detail"] == "it was disconnected already"
        told = await session.connect(NOBODY)
        assert (told["connected"], told["account"]) == (True, LOGIN)
        assert kit.book.reconciled.is_set()


@simulated
async def test_what_comes_while_it_is_ended_waits_for_nobody_and_is_denied(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        await session.disconnect()
        await kit.send("BUY", signal_id="s", volume=0.1, stop_loss=1.09)
        assert (await kit.result("s", 30.0))["reason"] in ("not_ready", "stale")
        assert kit.terminal.sent == []


@simulated
async def test_not_while_an_order_is_on_its_way(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        kit.terminal.script(Hangs())
        await kit.send("BUY", signal_id="s", volume=0.1, stop_loss=1.09)
        await eventually(lambda: kit.desk.flying, 5.0, "the order is on its way")
        assert await code_of(session.disconnect()) == "open_intents"
        assert kit.terminal.state is TerminalState.CONNECTED


@simulated
async def test_an_order_that_is_filled_just_now_is_waited_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        await kit.send("BUY", signal_id="s", volume=0.1, stop_loss=1.09)
        assert (await session.disconnect())["connected"] is False
        assert (await kit.result("s"))["status"] == "filled"


@simulated
async def test_not_while_a_stop_has_something_to_close(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        kit.terminal.failures["place_order"] = MT5ConnectionError("no", sent=False)
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1))
        await kit.book.refresh()
        kit.emergency.stop(reason="r", by="b", origin=Origin.REMOTE, options=StopOptions())
        assert await code_of(session.disconnect()) == "open_intents"


@simulated
async def test_a_journal_that_cannot_be_read_knows_of_no_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):

        async def fail(name: str) -> None:
            raise JournalError("gone")

        kit.journal.step = fail
        assert await code_of(session.disconnect()) == "journal_unavailable"
        kit.journal.step = None


@simulated
async def test_what_is_not_connected_is_not_disconnected(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        kit.terminal.become(TerminalState.CONNECTING, "on its way")
        assert await code_of(session.disconnect()) == "not_connected"
        assert await code_of(session.connect(NOBODY)) == "in_progress"


@simulated
async def test_one_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        await session.disconnect()
        kit.terminal.holds["connect"] = gate = asyncio.Event()
        connecting = asyncio.create_task(session.connect(NOBODY))
        await eventually(lambda: "connect" in kit.terminal.calls, 5.0, "it connects")
        assert await code_of(session.connect(NOBODY)) == "in_progress"
        assert await code_of(session.disconnect()) == "in_progress"
        gate.set()
        assert (await connecting)["connected"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (MT5AuthError("no", code=-6), "login_refused"),
        (MT5InitError("no", code=-10003), "login_refused"),
        (MT5ConnectionError("no"), "terminal_unavailable"),
    ],
)
@simulated
async def test_why_it_cannot_be_connected(tmp_path: Path, fault: MT5Error, code: str) -> None:
    async with opened(tmp_path) as (kit, session, _):
        await session.disconnect()
        kit.terminal.failures["connect"] = fault
        assert await code_of(session.connect(NOBODY)) == code
        del kit.terminal.failures["connect"]
        assert (await session.connect(NOBODY))["connected"]


@simulated
async def test_who_connects_waits_for_it_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as (kit, session, _):
        await session.disconnect()
        kit.terminal.holds["connect"] = asyncio.Event()
        assert await code_of(session.connect(NOBODY)) == "terminal_unavailable"
        kit.terminal.holds["connect"].set()
        await eventually(lambda: kit.terminal.state is TerminalState.CONNECTED, 5.0, "it was gone on with")


@simulated
async def test_what_does_not_agree_in_time_is_connected_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        await session.disconnect()
        kit.terminal.failures["snapshot"] = MT5ConnectionError("no", sent=False)
        assert (await session.connect(NOBODY))["connected"]
        assert not kit.book.reconciled.is_set()
        del kit.terminal.failures["snapshot"]


@simulated
async def test_a_stop_connects_what_it_needs(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, _):
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1))
        await kit.book.refresh()
        await session.disconnect()
        kit.emergency.stop(reason="r", by="b", origin=Origin.REMOTE, options=None)
        await asyncio.sleep(1.0)
        assert kit.terminal.state is TerminalState.DISCONNECTED, "nothing is to be closed"
        kit.emergency.stop(reason="r", by="b", origin=Origin.REMOTE, options=StopOptions())
        await eventually(lambda: not kit.terminal.positions, 30.0, "closed")


@simulated
async def test_another_account_needs_leave(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, session, switch):
        for wanted in (OTHER, OURS._replace(server="Other"), OURS._replace(password="another")):
            assert await code_of(session.connect(wanted)) == "other_account"
        assert switch.to == []
        assert kit.terminal.state is TerminalState.CONNECTED


@simulated
async def test_another_account_with_leave(tmp_path: Path) -> None:
    async with opened(tmp_path, other_account=True) as (kit, session, switch):
        told = await session.connect(OTHER)
        assert (switch.to, told["begins_anew"]) == ([OTHER], True)
        assert not kit.book.reconciled.is_set()


@simulated
async def test_what_changed_on_an_account_is_told_before_the_bridge_goes_over(tmp_path: Path) -> None:
    async with opened(tmp_path, other_account=True) as (kit, session, _):
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, type=OrderType.BUY))
        await session.connect(OTHER)
        assert len(await kit.events("position_opened")) == 1


@simulated
async def test_a_stop_during_the_last_words_keeps_the_bridge_here(tmp_path: Path) -> None:
    async with opened(tmp_path, other_account=True) as (kit, session, switch):
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, type=OrderType.BUY))
        await kit.book.refresh()
        kit.terminal.script(*[Refused(10018)] * 60)
        words = session._rules.last_words

        async def slow() -> None:
            await words()
            kit.emergency.stop(reason="now", by="ops", origin=Origin.REMOTE, options=StopOptions())

        session._rules = replace(session._rules, last_words=slow)
        assert await code_of(session.connect(OTHER)) == "open_intents"
        assert switch.to == []


@simulated
async def test_another_account_needs_its_login_and_no_order_under_way(tmp_path: Path) -> None:
    async with opened(tmp_path, other_account=True) as (kit, session, switch):
        assert await code_of(session.connect(Credentials(None, "Other", None))) == "invalid_params"
        kit.terminal.script(Hangs())
        await kit.send("BUY", signal_id="s", volume=0.1, stop_loss=1.09)
        assert await code_of(session.connect(OTHER)) == "open_intents"
        assert switch.to == []


@simulated
async def test_an_account_that_cannot_be_had_leaves_ours(tmp_path: Path) -> None:
    async with opened(tmp_path, other_account=True) as (kit, session, switch):
        switch.fault = MT5AuthError("wrong password", code=-6)
        assert await code_of(session.connect(OTHER)) == "login_refused"
        assert kit.terminal.state is TerminalState.CONNECTED
        assert kit.book.reconciled.is_set()


@pytest.mark.parametrize(
    ("wanted", "ours", "same"),
    [
        (NOBODY, OURS, True),
        (NOBODY, NOBODY, True),
        (OURS, OURS, True),
        (OURS._replace(password=None), OURS, True),
        (OURS, OURS._replace(password=None), True),
        (OURS, OURS._replace(server=None), True),
        (OURS, NOBODY, False),
        (OTHER, OURS, False),
        (OURS._replace(server="Other"), OURS, False),
        (OURS._replace(password="ä"), OURS, False),
    ],
)
def test_whether_it_is_our_account(wanted: Credentials, ours: Credentials, same: bool) -> None:
    assert _same(wanted, ours) is same


def test_who_connects_gets_an_answer_before_usual_clients_give_up() -> None:
    assert module.CONNECT_S + module.RECONCILE_S + module.QUIET_S < 60

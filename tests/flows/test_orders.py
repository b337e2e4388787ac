import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import Executed, Hangs, Lost, Refused, Silent
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.decision import Denial
from mt5_bridge.core.errors import JournalError, MT5ConnectionError
from mt5_bridge.core.intent import IntentState, Verdict
from mt5_bridge.core.messages import Reason, Status, TradingSignal
from mt5_bridge.core.model import Action, Deed, OrderRequest, TradeResult
from mt5_bridge.flows import orders
from mt5_bridge.flows.job import Job, result
from mt5_bridge.flows.orders import Intent, Sent, state_of
from mt5_bridge.journal import changes

BUY: dict[str, Any] = {"action": "BUY", "volume": 0.1, "stop_loss": 1.095}
S = IntentState


def an_intent(magic: int = 7, **fields: Any) -> Intent:
    base: dict[str, Any] = {"deed": Deed.DEAL, "symbol": "EURUSD", "volume": 0.1, "magic": magic}
    request = OrderRequest(**(base | fields))
    return Intent(key="k", leg=0, request=request, action="BUY")


def a_job(key: str = "k") -> Job:
    return Job(key, TradingSignal(symbol="EURUSD", action=Action.BUY), 0, 0, "redpanda")


# --- pure


@pytest.mark.parametrize(
    ("verdict", "fields", "expected"),
    [
        (Verdict.DONE, {}, S.FILLED),
        (Verdict.DONE, {"position": 5}, S.CLOSED),
        (Verdict.DONE, {"deed": Deed.PENDING}, S.PLACED),
        (Verdict.DONE, {"deed": Deed.SLTP, "position": 5}, S.MODIFIED),
        (Verdict.NO_CHANGES, {"deed": Deed.MODIFY}, S.MODIFIED),
        (Verdict.DONE, {"deed": Deed.REMOVE}, S.CANCELLED),
        (Verdict.DONE, {"deed": Deed.CLOSE_BY, "position": 5}, S.CLOSED),
        (Verdict.PLACED, {}, S.UNKNOWN),
        (Verdict.PLACED, {"position": 5}, S.UNKNOWN),
        (Verdict.PLACED, {"deed": Deed.PENDING}, S.PLACED),
        (Verdict.PARTIAL, {}, S.PARTIAL),
        (Verdict.PARTIAL, {"deed": Deed.PENDING}, S.PLACED),
        (Verdict.UNKNOWN, {}, S.UNKNOWN),
        (Verdict.FINAL, {}, None),
        (Verdict.RETRY, {}, None),
        (Verdict.NOT_SENT, {}, None),
    ],
)
def test_what_an_answer_makes_of_an_intent(verdict: Verdict, fields: dict[str, Any], expected: S | None) -> None:
    assert state_of(verdict, an_intent(**fields).request, order=7) is expected


@pytest.mark.parametrize("verdict", [Verdict.PLACED, Verdict.DONE, Verdict.PARTIAL])
def test_a_pending_order_that_was_accepted_without_a_ticket_is_not_known_to_stand(verdict: Verdict) -> None:
    assert state_of(verdict, an_intent(deed=Deed.PENDING).request, order=0) is S.UNKNOWN


def test_no_answer_has_no_text() -> None:
    assert Sent(state=S.UNKNOWN, request=an_intent().request).retcode_text is None


# --- magics


@simulated
async def test_a_magic_nobody_has(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        natural = kit.desk.natural_magic("s1", 0)
        await kit.journal.commit(kit.desk.opened(an_intent(natural), 1))
        one, two = await asyncio.gather(kit.desk.magic("s1", 0), kit.desk.magic("s1", 0))
        assert {one, two} == {natural + 1, natural + 2}
        kit.desk.give_back(one, two)
        assert await kit.desk.magic("s1", 0) == natural + 1
        assert natural < 2**53


@simulated
async def test_two_asking_at_once_get_two(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        magics = await asyncio.gather(*(kit.desk.magic("s1", 0) for _ in range(5)))
        assert len(set(magics)) == 5


# --- sending


@simulated
async def test_the_check_stands_before_every_send(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        denial = Denial(code=Reason.HALTED, detail="stopped")
        sent = await kit.desk.send(None, an_intent(), check=lambda: denial)
        assert (sent.state, sent.denial) == (S.REJECTED, denial)
        assert not kit.terminal.sent
        assert not kit.desk.flying


@simulated
async def test_without_again_nothing_is_tried_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Refused(10004))
        sent = await kit.desk.send(None, an_intent(), check=lambda: None)
        assert (sent.state, sent.reason) == (S.REJECTED, Reason.REQUOTES)


@simulated
async def test_what_is_lost_is_watched_from_that_moment(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for answer in (Lost(MT5ConnectionError("gone", sent=True)), Silent(-10005)):
            kit.terminal.script(answer)
            sent = await kit.desk.send(a_job(), an_intent(7), check=lambda: None)
            assert sent.state is S.UNKNOWN
            assert kit.desk.unresolved == {7}
            kit.desk.unresolved.clear()
        kit.terminal.script(Silent(-10005))
        await kit.desk.send(None, an_intent(8), check=lambda: None)
        assert not kit.desk.unresolved


# --- results


@simulated
async def test_a_result_that_contradicts_the_journal_is_dropped(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        job = a_job("nobody")
        await kit.desk.conclude(job, result(job, Status.DENIED, now_msc=1))
        assert job.first is not None
        assert not await kit.results()


@simulated
async def test_a_correction_is_written_when_it_can_be(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send(**BUY, signal_id="s1")
        await kit.result("s1")
        await kit.idle()
        kit.journal.break_down()
        job = a_job("s1")
        better = result(job, Status.FILLED, now_msc=2, supersedes="x")
        task = asyncio.create_task(kit.desk.correct(job, better))
        await asyncio.sleep(2)
        kit.journal.mend()
        await task
        story = await kit.journal.signal("s1")
        assert story is not None
        assert [c.supersedes for c in story.corrections] == ["x"]


@simulated
async def test_what_breaks_in_the_background_is_told(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def breaks() -> None:
            raise JournalError("a fault")

        with pytest.raises(JournalError):
            await kit.desk.protect(breaks())


# --- the end


@simulated
async def test_an_order_in_flight_is_waited_for_at_the_end(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        await kit.trader.lanes.close()
        closing = asyncio.create_task(kit.desk.close())
        await asyncio.sleep(1)
        assert not closing.done()
        go.set()
        await closing
        assert (await kit.result("s1"))["status"] == "filled"
        assert not kit.terminal.killed


@pytest.mark.parametrize("executed", [True, False])
@simulated
async def test_one_that_hangs_is_journalled_unknown_and_its_host_killed(tmp_path: Path, executed: bool) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Hangs(executed))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        kit.terminal.failures["snapshot"] = MT5ConnectionError("the host was killed")
        began = kit.clock.now_ms()
        await kit.trader.lanes.close()
        await kit.desk.close()
        assert 4000 <= kit.clock.now_ms() - began <= 5500
        assert kit.terminal.killed == ["shutdown with an order in flight"]
        ((stored),) = await kit.journal.open_intents()
        assert stored.state == "unknown"
        assert not kit.desk._tasks
    del kit.terminal.failures["snapshot"]
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        assert (await kit.result("s1", 10.0))["status"] == ("filled" if executed else "abandoned")


@simulated
async def test_the_end_waits_for_no_look_up(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Silent(-10005))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.desk.stats.unknown)
        began = kit.clock.now_ms()
        await kit.trader.lanes.close()
        await kit.desk.close()
        assert kit.clock.now_ms() - began <= 1500
        await kit.desk.close()


@simulated
async def test_a_signal_waiting_at_the_end_waits_for_the_next_start(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send(**BUY, signal_id="s1")
        await kit.send(**BUY, signal_id="s2")
        await eventually(lambda: kit.terminal.sent)
        asyncio.get_running_loop().call_later(1.0, go.set)
    async with FlowKit.open(tmp_path, terminal=kit.terminal) as kit:
        assert (await kit.result("s1"))["status"] == "filled"
        assert (await kit.result("s2"))["status"] == "filled"
        assert len(kit.terminal.sent) == 2


def test_a_magic_is_given_back_when_its_intent_is_journalled() -> None:
    opened = changes.IntentOpened(magic=1, key="k", symbol="S", action="BUY", request=b"", opened_msc=1, volume=1.0)
    assert opened.leg == 0


@simulated
async def test_an_order_that_leaves_while_the_end_has_begun_gets_its_time(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        held, go = asyncio.Event(), asyncio.Event()

        async def hold(name: str) -> None:
            if name == "commit IntentOpened":
                await held.wait()

        kit.journal.step = hold
        kit.terminal.script(Executed(after=go))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: "quote_for_order" in kit.terminal.calls)
        await kit.trader.lanes.close()
        closing = asyncio.create_task(kit.desk.close())
        await asyncio.sleep(0.5)
        held.set()
        await eventually(lambda: kit.terminal.sent)
        await asyncio.sleep(2)
        assert not closing.done()
        go.set()
        await closing
        assert (await kit.result("s1"))["status"] == "filled"
        assert not kit.terminal.killed


@simulated
async def test_nothing_is_tried_again_at_the_end(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        go = asyncio.Event()
        kit.terminal.script(Refused(10004, after=go))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        await kit.trader.lanes.close()
        closing = asyncio.create_task(kit.desk.close())
        await asyncio.sleep(0.1)
        go.set()
        await closing
        assert (await kit.result("s1"))["reason"] == "requotes"
        assert len(kit.terminal.sent) == 1


@simulated
async def test_a_pause_before_another_try_ends_with_the_bridge(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.script(Refused(10024), Refused(10024))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: len(kit.terminal.sent) == 2)
        began = kit.clock.now_ms()
        await kit.trader.lanes.close()
        await kit.desk.close()
        assert kit.clock.now_ms() - began < 1000
        assert len(kit.terminal.sent) == 2
        assert (await kit.result("s1"))["status"] == "rejected"
        assert not await kit.journal.open_intents()


@simulated
async def test_after_the_host_is_killed_no_other_leg_is_sent(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for key in ("a", "b"):
            await kit.send(**BUY, signal_id=key)
            await kit.result(key)
        kit.terminal.script(Hangs())
        before = len(kit.terminal.sent)
        await kit.send("CLOSE", signal_id="c")
        await eventually(lambda: len(kit.terminal.sent) == before + 1)
        await kit.trader.lanes.close()
        await kit.desk.close()
        assert kit.terminal.killed
        assert len(kit.terminal.sent) == before + 1


@simulated
async def test_a_fill_at_the_end_still_gets_its_stop(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        execute = kit.terminal.execute

        def without_stop(request: OrderRequest) -> TradeResult:
            opens = request.deed is Deed.DEAL and not request.position
            return execute(msgspec.structs.replace(request, stop_loss=0.0) if opens else request)

        kit.terminal.execute = without_stop  # type: ignore[method-assign]  # a broker with this fault
        go = asyncio.Event()
        kit.terminal.script(Executed(after=go))
        await kit.send(**BUY, signal_id="s1")
        await eventually(lambda: kit.terminal.sent)
        await kit.trader.lanes.close()
        closing = asyncio.create_task(kit.desk.close())
        await asyncio.sleep(0.1)
        go.set()
        await closing
        assert [position.stop_loss for position in kit.terminal.positions.values()] == [1.095]


@simulated
async def test_a_defect_in_work_nobody_awaits_is_told(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def breaks() -> None:
            raise ZeroDivisionError

        kit.desk.spawn(breaks())
        await eventually(lambda: kit.defects)
        assert isinstance(kit.defects.pop(), ZeroDivisionError)


def test_nobody_but_the_desk_can_send() -> None:
    """`order_send` has one door in the daemon: who else named it could go around the halt check."""
    package = Path(orders.__file__).parents[1]
    doors = {
        str(path.relative_to(package).as_posix())
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "place_order"
    }
    assert doors == {"flows/orders.py"}
    senders = {
        str(path.relative_to(package).as_posix())
        for path in package.rglob("*.py")
        if re.search(r"\.order_send\(", path.read_text(encoding="utf-8"))
    }
    assert {name for name in senders if not name.startswith("simulator/")} == {"terminal/host_ops.py"}

import asyncio
import gc
import json
import time
from asyncio.base_subprocess import BaseSubprocessTransport
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from support.backend import Backend
from support.broker import MockBroker
from support.eventually import eventually
from support.fake_terminal import FakeTerminal

from mt5_bridge.app import bridge as module
from mt5_bridge.app.bridge import CLOCK_MEMO, JOURNAL_FILE, Bridge
from mt5_bridge.cli import offline
from mt5_bridge.core.bars import Ledger
from mt5_bridge.core.errors import InstanceError, JournalError, MT5AuthError, MT5ConnectionError
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.times import MINUTE, from_iso
from mt5_bridge.flows.assembly import LATCH_FILE
from mt5_bridge.flows.watch import DAY_MEMO, STOP_FILE
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.settings import load

QUICK = {
    "TERMINAL": "paper",
    "TRADING_ENABLED": "true",
    "SYMBOLS": "EURUSD",
    "PAPER_SEED": "7",
    "PAPER_SPEED": "5",
    "MAX_RISK_PERCENT": "100",
    "BRIDGE_ID": "in-process",
    "MT5_HISTORY_HOST": "false",
}
UNKNOWN_TOPIC = 3
NO_BROKER = {"REDPANDA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}


def made(folder: Path, **env: str) -> Bridge:
    return Bridge(load(env={"DATA_DIR": str(folder), **QUICK, **env}, cwd=folder).settings)


@asynccontextmanager
async def running(bridge: Bridge) -> AsyncIterator[Bridge]:
    """A bridge that runs, and ends in order."""
    task = asyncio.create_task(bridge.run())
    try:
        await eventually(lambda: bridge.opened or task.done(), 10, "an open bridge")
        if task.done():
            await task
        yield bridge
    finally:
        bridge.request_stop()
        began = time.monotonic()
        await asyncio.wait({task}, timeout=20)
        assert time.monotonic() - began < 10
    await task


def standard(folder: Path, backend: Backend, **env: str) -> Bridge:
    return made(folder, MODE="standard", BACKEND_WS_URL=backend.url, **env)


async def noted(folder: Path, *items: changes.Change) -> None:
    """What an earlier life left in the journal."""
    journal = await Journal.open(folder / JOURNAL_FILE, lock=False)
    await journal.commit(*items)
    await journal.close()


# --- a life


async def test_the_first_heartbeat_of_a_connection_is_made_for_it(tmp_path: Path, backend: Backend) -> None:
    async with running(standard(tmp_path, backend, HEARTBEAT_INTERVAL="600")):
        for life in range(2):
            mark = len(backend.frames)
            if life:
                backend.cut()
            hello = await backend.frame("hello", after=mark if life else 0)
            beat = await backend.frame("heartbeat", after=backend.frames.index(hello))
            assert beat["timestamp"] >= hello["timestamp"]
            assert beat["data"]["channels"]["backend"] == "connected"


async def test_a_life_on_the_socket(tmp_path: Path, backend: Backend) -> None:
    async with running(standard(tmp_path, backend)) as bridge:
        hello = await backend.frame("hello")
        assert backend.frames[0] is hello
        data = hello["data"]
        assert (data["bridge_id"], data["mode"], data["account"]) == ("in-process", "standard", 5000001)
        assert (data["symbols"], data["halt"]["state"]) == (["EURUSD"], "active")
        assert "emergency_stop" in data["capabilities"]
        for type in ("account_info", "positions", "heartbeat", "tick_data"):
            await backend.frame(type, timeout=10)
        signal = {"symbol": "EURUSD", "action": "BUY", "volume": 0.01, "stop_loss": 0.5, "signal_id": "s"}
        await backend.send("trading_signal", signal)
        result = (await backend.frame("order_result"))["data"]
        assert (result["signal_id"], result["status"]) == ("s", "filled")
        await backend.send("trading_signal", signal)
        again = await backend.frame("order_result", after=1 + backend.frames.index(await backend.frame("order_result")))
        assert again["data"] == result
        await eventually(lambda: bridge.flows.book.positions, 5, "a read of the account after the fill")
        status = (await backend.command("get_status", request_id="g"))["data"]["data"]
        assert (status["status"], status["positions"], status["account"]) == ("ok", 1, "5000001")
        assert status["counters"]["signals"]["frames"] == 2
        assert status["channels"] == {"terminal": "connected", "backend": "connected"}
        stopped = (await backend.command("emergency_stop", {"reason": "drill"}, request_id="e"))["data"]["data"]
        assert stopped["state"] == "halted"
        done = await backend.frame("halt_changed", where=lambda f: f["data"]["phase"] == "done", timeout=10)
        assert len(done["data"]["closed"]) == 1
        assert bridge.status()["halt"] == "halted"
    mark = len(backend.frames)
    async with running(standard(tmp_path, backend)):
        hello = await backend.frame("hello", after=mark)
        halt = hello["data"]["halt"]
        assert (halt["state"], halt["reason"]) == ("halted", "drill")


async def test_a_life_on_the_topics(tmp_path: Path, bootstrap: str) -> None:
    topics = {f"REDPANDA_{kind}_TOPIC": f"app-{kind.lower()}-{time.time_ns()}" for kind in ("TICK", "EVENT", "SIGNAL")}
    async with running(made(tmp_path, REDPANDA_BOOTSTRAP_SERVERS=bootstrap, **topics)) as bridge:
        assert bridge.broker is not None
        await eventually(lambda: bridge.flows.ticks.stats.published > 3, 15, "ticks")
        value = {"symbol": "EURUSD", "action": "BUY", "volume": 0.01, "stop_loss": 0.5, "signal_id": "k"}
        record = json.dumps({"type": "trading_signal", "data": value}).encode()
        await eventually(lambda: bridge.flows.intake.login_known.is_set(), 5)
        await bridge.broker.producer.publish_one(topics["REDPANDA_SIGNAL_TOPIC"], b"EURUSD", record)

        async def settled() -> bool:
            return (await bridge.journal.seen(["k"])).get("k") is not None and bridge.flows.desk.stats.filled == 1

        await eventually(settled, 15, "the signal's fill")

        async def gone() -> bool:
            return not await bridge.journal.outbox_depth()

        await eventually(gone, 10, "the outbox to drain")
        assert await bridge.journal.offsets(topics["REDPANDA_SIGNAL_TOPIC"])


async def test_bars_begin_where_an_earlier_life_stopped(tmp_path: Path, backend: Backend) -> None:
    told = (int(time.time() * 1000) // MINUTE - 5) * MINUTE
    note = msgspec.msgpack.encode(Ledger(told))
    await noted(tmp_path, changes.Memo(name="bars/EURUSD/M1", value=note))
    async with running(standard(tmp_path, backend, BARS="M1")) as bridge:
        data = (await backend.frame("bar_data", timeout=10))["data"]
        assert (data["symbol"], data["timeframe"], data["corrected"]) == ("EURUSD", "M1", False)
        assert from_iso(data["time"]) == told + MINUTE
        await eventually(lambda: bridge.status()["bars"]["published"] >= 4, 10)
        assert bridge.status()["bars"]["series"] == 1
    async with running(standard(tmp_path, backend)) as bridge:
        assert bridge.status()["bars"] is None


async def test_runs_and_ends_without_any_broker(tmp_path: Path) -> None:
    async with running(made(tmp_path, **NO_BROKER)) as bridge:
        await eventually(lambda: bridge.flows.book.reconciled.is_set(), 10)
        assert bridge.status()["status"] == "degraded"
        assert bridge.login() == "5000001"


async def test_topics_that_are_not_there_are_said(tmp_path: Path, mock_broker: MockBroker) -> None:
    names = ("tick_data", "trading_signals")
    for name in names:
        mock_broker.topic_error(name, UNKNOWN_TOPIC)
    settings = {"REDPANDA_CREATE_TOPICS": "false", "REDPANDA_BOOTSTRAP_SERVERS": mock_broker.bootstrap}
    async with running(made(tmp_path, **settings)) as bridge:

        def detail() -> str:
            status = bridge.status()
            return str(status["detail"]) if status["status"] == "degraded" else status["status"]

        expected = "topic tick_data takes nothing; signals connecting: there is no topic trading_signals"
        await eventually(lambda: detail() == expected, 20, "what is missing")
        for name in names:
            mock_broker.topic_error(name, 0)
        await eventually(lambda: detail() == "ok", 20, "an end of it")


async def test_topics_that_are_gone_are_made_again(
    tmp_path: Path, mock_broker: MockBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mt5_bridge.app.broker._TOPICS_LOOKED_AT_S", 0.05)
    made_at: list[int] = []

    async def ensure(*args: Any) -> None:
        made_at.append(1)
        mock_broker.topic_error("trading_signals", 0)

    monkeypatch.setattr("mt5_bridge.redpanda.topics.ensure_topics", ensure)
    async with running(made(tmp_path, REDPANDA_BOOTSTRAP_SERVERS=mock_broker.bootstrap)) as bridge:
        await eventually(lambda: bridge.status()["status"] == "ok", 20, "a start in which all is well")
        before = len(made_at)
        mock_broker.topic_error("trading_signals", UNKNOWN_TOPIC)
        await eventually(lambda: len(made_at) > before, 20, "the topic made again")
        await eventually(lambda: bridge.status()["status"] == "ok", 20, "an end of it")


# --- what an earlier life left


async def test_the_latch_file_is_believed_where_it_is_stricter_and_journalled(tmp_path: Path, backend: Backend) -> None:
    file = LatchFile(tmp_path / LATCH_FILE)
    file.write("halted", "before the crash", "ops", 1_700_000_000_000)
    file.close()
    await noted(tmp_path, changes.HaltChanged(state="reducing", reason="r", by="b", at_msc=1, origin="remote"))
    async with running(standard(tmp_path, backend)) as bridge:
        assert bridge.flows.latch.halt.state is HaltState.HALTED
        await backend.frame("hello")
        assert (await backend.frame("halt_changed"))["data"]["reason"] == "before the crash"
        stored = await bridge.journal.halt()
        assert stored is not None
        assert (stored.state, stored.reason, stored.origin) == ("halted", "before the crash", "local")
        refused = await backend.command("resume_trading", {"reason": "x", "by": "y"}, request_id="r")
        assert refused["data"]["error"]["code"] == "local_only"


async def test_what_was_latched_while_no_bridge_ran_is_told_once(tmp_path: Path, backend: Backend) -> None:
    settings = load(env={"DATA_DIR": str(tmp_path), **QUICK, "BACKEND_WS_URL": backend.url}, cwd=tmp_path).settings
    await offline.stop(settings, reason="fire", by="me")
    async with running(standard(tmp_path, backend)):
        told = (await backend.frame("halt_changed"))["data"]
        assert (told["state"], told["phase"], told["reason"], told["by"]) == ("halted", "latched", "fire", "me")
    await offline.resume(settings, reason="it is out", by="me", force=False)
    mark = len(backend.frames)
    async with running(standard(tmp_path, backend)):
        told = (await backend.frame("halt_changed", after=mark))["data"]
        assert (told["state"], told["reason"]) == ("active", "it is out")
    mark = len(backend.frames)
    async with running(standard(tmp_path, backend)):
        await backend.frame("positions", after=mark, timeout=10)
        assert all(frame["type"] != "halt_changed" for frame in backend.frames[mark:])


async def test_a_journal_stricter_than_the_file_holds(tmp_path: Path, backend: Backend) -> None:
    file = LatchFile(tmp_path / LATCH_FILE)
    file.write("active", "", "", 5)
    file.close()
    await noted(tmp_path, changes.HaltChanged(state="halted", reason="r", by="b", at_msc=9, origin="remote"))
    async with running(standard(tmp_path, backend)) as bridge:
        assert (bridge.flows.latch.halt.state, bridge.flows.latch.halt.reason) == (HaltState.HALTED, "r")
        answer = await eventually(lambda: backend.sockets, 5)
        assert answer
        resumed = await backend.command("resume_trading", {"reason": "x", "by": "y"}, request_id="r")
        assert resumed["data"]["success"]


async def test_the_setting_halts_at_the_start(tmp_path: Path, backend: Backend) -> None:
    async with running(standard(tmp_path, backend, EMERGENCY_STOP="true")) as bridge:
        assert (bridge.flows.latch.halt.state, bridge.flows.latch.halt.by) == (HaltState.HALTED, "settings")
        assert not bridge.flows.emergency.unfinished, "the state only"


async def test_the_file_halts_at_the_start_before_anything_is_taken_up(tmp_path: Path, backend: Backend) -> None:
    (tmp_path / STOP_FILE).touch()
    async with running(standard(tmp_path, backend)) as bridge:
        assert (bridge.flows.latch.halt.state, bridge.flows.latch.halt.by) == (HaltState.HALTED, "file")


async def test_a_break_before_the_rooms_are_open_is_the_first_thing_done(tmp_path: Path, backend: Backend) -> None:
    bridge = standard(tmp_path, backend)
    bridge.emergency_break()
    async with running(bridge):
        assert (bridge.flows.latch.halt.state, bridge.flows.latch.halt.by) == (HaltState.HALTED, "console")
        bridge.emergency_break()
        assert bridge.flows.emergency.stops == 2


async def test_notes_that_cannot_be_read_are_done_without(tmp_path: Path, backend: Backend) -> None:
    await noted(tmp_path, changes.Memo(name=DAY_MEMO, value=b"?"), changes.Memo(name=CLOCK_MEMO, value=b"[1]"))
    async with running(standard(tmp_path, backend)) as bridge:
        await eventually(lambda: bridge.flows.book.day, 10)


async def test_notes_are_taken_up(tmp_path: Path, backend: Backend) -> None:
    async with running(standard(tmp_path, backend)) as bridge:
        await eventually(lambda: bridge.flows.book.day, 10)
        day = bridge.flows.book.day
        bridge._timeline_changed(bridge.terminal.clock.timeline)
        bridge.journal._writer.healthy = True
    assert day is not None
    higher = msgspec.structs.replace(day, peak_equity=123_456.0)
    await noted(tmp_path, changes.Memo(name=DAY_MEMO, value=msgspec.json.encode(higher)))
    async with running(standard(tmp_path, backend)) as bridge:
        await eventually(lambda: bridge.flows.book.reconciled.is_set(), 10)
        assert bridge.flows.book.day is not None
        assert bridge.flows.book.day.peak_equity == 123_456.0


# --- how it ends


async def test_a_defect_ends_it_loudly(tmp_path: Path, backend: Backend) -> None:
    bridge = standard(tmp_path, backend)
    task = asyncio.create_task(bridge.run())
    await eventually(lambda: bridge.opened, 10)
    bridge._on_defect(ZeroDivisionError("first"))
    bridge._on_defect(KeyError("second"))
    with pytest.raises(ZeroDivisionError, match="first"):
        await task


async def test_a_flow_that_raises_ends_it_in_order(tmp_path: Path, backend: Backend) -> None:
    bridge = standard(tmp_path, backend)
    works = bridge._works

    async def broken() -> None:
        await bridge.flows.book.reconciled.wait()
        raise ZeroDivisionError

    bridge._works = lambda: [*works(), ("broken", broken())]  # type: ignore[method-assign]  # a defect in a flow
    with pytest.raises(BaseExceptionGroup) as caught:
        async with asyncio.timeout(20):
            await bridge.run()
    assert caught.group_contains(ZeroDivisionError)


async def test_a_wrong_password_ends_it(tmp_path: Path, backend: Backend) -> None:
    account = {"MT5_LOGIN": "9", "MT5_SERVER": "Paper"}
    async with running(standard(tmp_path, backend, MT5_PASSWORD="right", **account)) as bridge:
        await eventually(lambda: bridge.flows.book.reconciled.is_set(), 10)
    bridge = standard(tmp_path, backend, MT5_PASSWORD="wrong", **account)
    with pytest.raises(BaseExceptionGroup) as caught:
        await bridge.run()
    assert caught.group_contains(MT5AuthError)


async def test_two_on_one_folder_are_refused(tmp_path: Path, backend: Backend) -> None:
    async with running(standard(tmp_path, backend)):
        with pytest.raises(InstanceError):
            await standard(tmp_path, backend).run()


async def test_an_account_known_late_is_locked_then(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real terminal whose account the settings do not name: known once it answers, which may take a second try."""
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0.01)
    locked: list[str] = []

    def lock_path(account: str, folder: Path | None) -> Path:
        locked.append(account)
        return tmp_path / "account.lock"

    monkeypatch.setattr(module, "account_lock_path", lock_path)
    bridge = standard(tmp_path, backend)
    bridge.settings = msgspec.structs.replace(bridge.settings, terminal="mt5")
    terminal = FakeTerminal(login=4711, connected=False)
    monkeypatch.setattr(bridge, "terminal", terminal, raising=False)
    terminal.failures["get_account_info"] = MT5ConnectionError("just now")
    asyncio.get_running_loop().call_later(0.1, terminal.failures.clear)
    async with bridge._stack:
        await bridge._connect_terminal()
    assert locked == ["4711@Fake-Demo"]


async def test_a_disk_that_hangs_does_not_keep_it(tmp_path: Path, backend: Backend) -> None:
    async with running(standard(tmp_path, backend)) as bridge:
        await eventually(lambda: bridge.flows.book.reconciled.is_set(), 10)

        async def hang(*items: object) -> None:
            await asyncio.get_running_loop().create_future()

        bridge.journal.commit = hang  # type: ignore[method-assign]  # a disk that hangs
        bridge.flows.ticks._feeds.clear()
        bridge._timeline_changed(bridge.terminal.clock.timeline)
        for feed in bridge.flows.ticks._feeds.values():
            feed.dirty = True
        bridge.flows.latch.write_down()


async def test_a_terminal_that_does_not_end_is_killed(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STOP_TERMINAL_S", 0.05)
    bridge = standard(tmp_path, backend)
    terminal = FakeTerminal()

    async def hang(**options: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(terminal, "disconnect", hang)
    monkeypatch.setattr(bridge, "terminal", terminal, raising=False)
    await bridge._end_terminal(None, None, None)
    assert terminal.killed == ["shutdown"]


async def test_a_host_that_hangs_is_seen_off(tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, and its pipes closed: nothing of it is left to whatever comes after."""
    monkeypatch.setattr(module, "_STOP_TERMINAL_S", 0.2)
    bridge = standard(tmp_path, backend)
    end, left = bridge._end_terminal, list[object]()

    async def ended(*why: Any) -> None:
        await end(*why)
        some = (each for each in gc.get_objects() if issubclass(type(each), BaseSubprocessTransport))
        left.extend(each for each in some if not each._closed)

    monkeypatch.setattr(bridge, "_end_terminal", ended)
    async with running(bridge):
        await eventually(lambda: bridge.flows.book.reconciled.is_set(), 10)
        hosts = [child for child in psutil.Process().children() if "mt5_bridge.terminal.host" in child.cmdline()]
        for host in hosts:
            host.suspend()
    assert hosts
    assert left == []


@pytest.mark.parametrize(
    ("error", "bye"),
    [
        (None, True),
        (InstanceError("another bridge has the account"), True),
        (ExceptionGroup("", [MT5AuthError("wrong password")]), True),
        (ExceptionGroup("", [ExceptionGroup("", [KeyError("x")])]), False),
        (ExceptionGroup("", [MT5AuthError("wrong password"), KeyError("x")]), False),
        (JournalError("the disk is gone"), False),
    ],
)
async def test_only_an_end_in_order_is_said_to_the_host(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, error: Exception | None, bye: bool
) -> None:
    """After a defect the dead-man's switch has its time: whoever crashes says no bye."""
    bridge = standard(tmp_path, backend, DEADMAN_ACTION="flatten")
    terminal, told = FakeTerminal(), []

    async def disconnect(**options: object) -> None:
        told.append(options)

    monkeypatch.setattr(terminal, "disconnect", disconnect)
    monkeypatch.setattr(bridge, "terminal", terminal, raising=False)
    await bridge._end_terminal(None, error, None)
    bridge._defect = KeyError("in a flow")
    await bridge._end_terminal(None, None, None)
    assert told == [{"bye": bye, "timeout": 2.0 if bye else 75.0}, {"bye": False, "timeout": 75.0}]


async def test_a_clock_that_cannot_be_saved_harms_nothing(tmp_path: Path, backend: Backend) -> None:
    async with running(standard(tmp_path, backend)) as bridge:
        await bridge.journal.close()
        bridge._timeline_changed(bridge.terminal.clock.timeline)
        saving = tuple(bridge._memos)
        assert len(saving) == 1
        await asyncio.gather(*saving)
        assert [task.exception() for task in saving] == [None]


async def test_alarms_and_the_journals_health_are_passed_on(tmp_path: Path, backend: Backend) -> None:
    async with running(standard(tmp_path, backend)) as bridge:
        bridge._alarm("AutoTrading is off")
        bridge.flows._journal_health(False, "full")
        assert not bridge.flows.book.journal_healthy
        bridge.flows._journal_health(True, "")
        assert bridge._reachable() == [] or bridge._states["backend"] == "connected"

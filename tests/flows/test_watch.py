import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from support.eventually import eventually
from support.facts import a_deal
from support.fake_terminal import FakeTerminal
from support.flow_kit import LOGIN, FlowKit, clock_of_loop
from support.simulated import leap, simulated

from mt5_bridge.core.errors import JournalError, MT5ConnectionError, MT5DataError
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.core.model import Deed, OrderRequest
from mt5_bridge.core.times import DAY, HOUR
from mt5_bridge.flows import watch as module
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.watch import DAY_MEMO, STOP_FILE, TOLD_MEMO
from mt5_bridge.journal import changes
from mt5_bridge.terminal.port import TerminalState


async def equity(kit: FlowKit, value: float, balance: float | None = None) -> None:
    """The account as the next read shows it."""
    changed = {"equity": value} | ({} if balance is None else {"balance": balance})
    kit.terminal.account = msgspec.structs.replace(kit.terminal.account, **changed)
    await kit.book.refresh()
    await asyncio.sleep(1)


def state(kit: FlowKit) -> str:
    """The latch's, as a word: a test looks at it again and again."""
    return kit.latch.halt.state.value


def held(kit: FlowKit) -> int:
    kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1))
    return next(reversed(kit.terminal.positions))


# --- the daily loss


@simulated
async def test_a_daily_loss_reduces_until_the_next_day(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0}) as kit:
        ticket = held(kit)
        kit.run("rules", "account-poll")
        await equity(kit, 9_501.0)
        assert state(kit) == "active"
        await equity(kit, 9_499.0)
        halt = kit.latch.halt
        assert (halt.state, halt.by, halt.until_day) == (HaltState.REDUCING, "daily_loss", "2023-11-14")
        assert "5" in halt.reason
        assert list(kit.terminal.positions) == [ticket], "rules change the state only"
        await kit.send(signal_id="s", volume=0.1, stop_loss=1.09)
        assert (await kit.result("s"))["reason"] == "reducing"
        leap(3 * HOUR / 1000)
        await asyncio.sleep(2)
        assert state(kit) == "active"
        stored = await kit.journal.halt()
        assert stored is not None
        assert stored.state == "active"


@simulated
async def test_a_daily_latch_outlives_a_restart_and_ends_with_its_day(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0}) as kit:
        kit.run("rules", "day")
        await equity(kit, 9_000.0)
        assert state(kit) == "reducing"
        terminal = kit.terminal
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal, limits={"max_daily_loss_pct": 5.0}) as kit:
        kit.run("rules")
        await asyncio.sleep(2)
        assert kit.latch.halt.until_day == "2023-11-14"
        await kit.crash()
    leap(3 * HOUR / 1000)
    async with FlowKit.open(tmp_path, terminal=terminal, limits={"max_daily_loss_pct": 5.0}) as kit:
        kit.run("rules")
        await asyncio.sleep(2)
        assert state(kit) == "active", "a new day is judged by its own start"


@simulated
async def test_a_person_is_not_overruled_by_the_same_breach_nor_by_a_restart(tmp_path: Path) -> None:
    limits = {"max_daily_loss_pct": 5.0, "max_drawdown_pct": 8.0}
    async with FlowKit.open(tmp_path, limits=limits) as kit:
        kit.run("rules", "day")
        await equity(kit, 9_000.0)
        assert state(kit) == "halted", "the drawdown goes further than the day's loss"
        await kit.commands.resume("I know", "ann", force=False, origin=Origin.LOCAL)
        await equity(kit, 8_900.0)
        assert state(kit) == "active"
        await asyncio.sleep(6)
        terminal = kit.terminal
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal, limits=limits) as kit:
        kit.run("rules")
        await asyncio.sleep(2)
        assert state(kit) == "active"


@simulated
async def test_after_a_persons_word_the_limit_counts_anew(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0}) as kit:
        kit.run("rules", "account-poll")
        await equity(kit, 9_400.0)
        assert state(kit) == "reducing"
        await kit.commands.resume("I know", "ann", force=False, origin=Origin.LOCAL)
        await kit.send(signal_id="s1", volume=0.1, stop_loss=1.095)
        assert (await kit.result("s1"))["status"] == "filled"
        terminal = kit.terminal
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal, limits={"max_daily_loss_pct": 5.0}) as kit:
        kit.run("rules", "account-poll")
        await kit.send(signal_id="s2", volume=0.1, stop_loss=1.095)
        assert (await kit.result("s2"))["status"] == "filled"
        await equity(kit, 8_900.0)
        assert state(kit) == "reducing"


@simulated
async def test_losses_are_accepted_on_figures_that_are_settled_only(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0}) as kit:
        kit.run("rules", "account-poll")
        await equity(kit, 9_000.0)
        assert state(kit) == "reducing"
        # A withdrawal that history does not show yet.
        kit.terminal.account = msgspec.structs.replace(kit.terminal.account, equity=3_000.0, balance=4_000.0)
        await kit.book.refresh()
        with pytest.raises(Refusal, match="to be read") as refusal:
            await kit.commands.resume("I know", "ann", force=False, origin=Origin.LOCAL)
        assert refusal.value.code == "unsettled"
        assert state(kit) == "reducing"
        assert kit.book.day is not None
        assert kit.book.day.accepted == 0
        kit.terminal.deals.append(a_deal(99, type=2, time_msc=kit.clock.now_ms(), volume=0.0, profit=-6_000.0))
        await equity(kit, 3_000.0)
        await kit.commands.resume("I know", "ann", force=False, origin=Origin.LOCAL)
        assert (kit.book.day.accepted, kit.book.day.start_equity) == (1, 3_000.0)
        await equity(kit, 2_800.0)
        assert state(kit) == "reducing"


@simulated
async def test_what_is_lost_while_a_resume_is_written_is_another_loss(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0}) as kit:
        kit.run("rules", "account-poll")
        await equity(kit, 9_400.0)

        async def loses(name: str) -> None:
            if name.startswith("commit") and "Halt" in name:
                kit.terminal.account = msgspec.structs.replace(kit.terminal.account, equity=8_000.0)
                await kit.book.refresh()

        kit.journal.step = loses
        await kit.commands.resume("I know", "ann", force=False, origin=Origin.LOCAL)
        kit.journal.step = None
        assert kit.book.day is not None
        assert (kit.book.day.start_equity, kit.book.day.accepted) == (9_400.0, 1)
        await asyncio.sleep(1)
        assert state(kit) == "reducing"


@simulated
async def test_breaches_that_cannot_be_remembered_or_read_harm_nothing(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0}) as kit:
        await kit.journal.commit(changes.Memo(name=TOLD_MEMO, value=b"?"))
        await kit.watch.restore()
        kit.journal.break_down()
        kit.run("rules")
        await equity(kit, 9_000.0)
        assert state(kit) == "reducing"
        assert await kit.journal.memo(TOLD_MEMO) == b"?"
        kit.journal.mend()
        await asyncio.sleep(1)
        assert b"daily_loss" in (await kit.journal.memo(TOLD_MEMO) or b"")


@simulated
async def test_a_day_that_cannot_be_written_off_stays_latched(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0}) as kit:
        kit.run("rules", "account-poll")
        await equity(kit, 9_000.0)
        kit.journal.break_down()
        leap(3 * HOUR / 1000)
        await asyncio.sleep(3)
        assert state(kit) == "reducing"
        kit.journal.mend()
        await asyncio.sleep(3)
        assert state(kit) == "active"


@simulated
async def test_money_taken_out_is_no_loss(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0, "max_drawdown_pct": 5.0}) as kit:
        kit.run("rules")
        kit.terminal.deals.append(a_deal(9, type=2, profit=-4_000.0, time_msc=kit.clock.now_ms()))
        await equity(kit, 6_000.0, 6_000.0)
        await equity(kit, 6_000.0, 6_000.0)
        assert state(kit) == "active"
        await equity(kit, 5_000.0, 6_000.0)
        assert state(kit) == "halted"


@simulated
async def test_money_taken_out_is_no_loss_either_before_its_deal_is_read(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_daily_loss_pct": 5.0, "max_drawdown_pct": 5.0}) as kit:
        kit.run("rules")
        kit.terminal.failures["get_history_deals"] = MT5DataError("history is not there yet")
        # An order's facts bring the account alone.
        taken = msgspec.structs.replace(kit.terminal.account, balance=6_000.0, equity=6_000.0)
        kit.terminal.account = taken
        kit.book.note(taken, kit.terminal.terminal)
        await asyncio.sleep(2)
        assert state(kit) == "active"


@simulated
async def test_an_account_of_nothing_without_a_server_is_no_loss_and_begins_no_day(tmp_path: Path) -> None:
    """A terminal shows zeros until its server has told it."""
    limits = {"max_daily_loss_pct": 5.0, "max_drawdown_pct": 5.0}
    terminal = FakeTerminal(login=LOGIN)
    terminal.keep_time(clock_of_loop().now_ms)
    whole, nothing = terminal.account, msgspec.structs.replace(terminal.account, balance=0.0, equity=0.0)
    online, offline = terminal.terminal, msgspec.structs.replace(terminal.terminal, connected=False)
    terminal.account, terminal.terminal = nothing, offline
    async with FlowKit.open(tmp_path, terminal=terminal, limits=limits, ready=False) as kit:
        kit.run("rules")
        await asyncio.sleep(5)
        assert kit.book.day is None
        assert not kit.book.reconciled.is_set()
        terminal.account, terminal.terminal = whole, online
        await asyncio.wait_for(kit.book.reconciled.wait(), 10)
        assert kit.book.day is not None
        assert kit.book.day.start_equity == pytest.approx(whole.equity)
        for shown in (nothing, msgspec.structs.replace(whole, equity=0.0)):
            terminal.account, terminal.terminal = shown, offline
            for _ in range(4):
                await asyncio.sleep(1)
                await kit.book.refresh()
            assert state(kit) == "active"
        terminal.account, terminal.terminal = whole, online
        await equity(kit, 9_400.0)
        assert state(kit) == "halted"


@simulated
async def test_money_taken_out_while_the_bridge_was_off_is_no_drawdown(tmp_path: Path) -> None:
    limits = {"max_drawdown_pct": 5.0}
    async with FlowKit.open(tmp_path, limits=limits) as kit:
        kit.run("day")
        await asyncio.sleep(6)
        terminal = kit.terminal
        await kit.crash()
    leap(2 * DAY / 1000)
    terminal.keep_time(lambda: kit.clock.now_ms())
    terminal.deals.append(a_deal(9, type=2, profit=-4_000.0, time_msc=kit.clock.now_ms() - DAY))
    terminal.account = msgspec.structs.replace(terminal.account, balance=6_000.0, equity=6_000.0)
    async with FlowKit.open(tmp_path, terminal=terminal, limits=limits) as kit:
        kit.run("rules")
        await asyncio.sleep(2)
        assert state(kit) == "active"
        assert kit.book.day is not None
        assert kit.book.day.peak_equity == pytest.approx(6_000.0)
        await equity(kit, 5_600.0)
        assert state(kit) == "halted"


# --- the drawdown


@pytest.mark.parametrize("flatten", [False, True])
def test_a_drawdown_halts_and_flattens_only_where_that_is_set(tmp_path: Path, flatten: bool) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path, limits={"max_drawdown_pct": 10.0}, drawdown_flattens=flatten) as kit:
            held(kit)
            kit.run("rules", "account-poll")
            await equity(kit, 8_900.0)
            assert (kit.latch.halt.state, kit.latch.halt.by) == (HaltState.HALTED, "drawdown")
            await asyncio.sleep(5)
            assert bool(kit.terminal.positions) is not flatten
            assert kit.latch.halt.origin is Origin.RULE

    run()


@simulated
async def test_nothing_is_judged_before_the_account_is_known(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_drawdown_pct": 1.0}, ready=False) as kit:
        kit.terminal.become(TerminalState.DISCONNECTED)
        kit.run("rules", "day")
        await asyncio.sleep(7)
        assert state(kit) == "active"


# --- the backend


@pytest.mark.parametrize(("action", "latched"), [("reduce", "reducing"), ("halt", "halted"), ("flatten", "halted")])
def test_a_dead_backend_does_what_its_setting_says(tmp_path: Path, action: str, latched: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path, backend_dead_after_s=10.0, backend_dead_action=action) as kit:
            held(kit)
            kit.run("rules")
            kit.channel.last_seen_msc = kit.clock.now_ms()
            await asyncio.sleep(9)
            assert state(kit) == "active"
            await asyncio.sleep(2)
            assert (state(kit), kit.latch.halt.by) == (latched, "backend_dead")
            await asyncio.sleep(5)
            assert bool(kit.terminal.positions) is (action != "flatten")

    run()


@simulated
async def test_any_sign_of_life_counts_and_each_death_latches_once(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, backend_dead_after_s=10.0) as kit:
        kit.run("rules")
        for n in range(10):
            kit.channel.last_seen_msc = n
            await asyncio.sleep(5)
        assert state(kit) == "active"
        await asyncio.sleep(10)
        assert state(kit) == "reducing"
        await kit.commands.resume("x", "ann", force=False, origin=Origin.LOCAL)
        await asyncio.sleep(30)
        assert state(kit) == "active", "the same death"
        kit.channel.last_seen_msc = 99
        await asyncio.sleep(11)
        assert state(kit) == "reducing", "another one"


@simulated
async def test_a_sleep_of_the_pc_is_no_death_of_the_backend(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, backend_dead_after_s=10.0, backend_dead_action="flatten") as kit:
        kit.run("rules")
        kit.channel.last_seen_msc = kit.clock.now_ms()
        await asyncio.sleep(1)
        leap(3600)
        await asyncio.sleep(9)
        assert state(kit) == "active"
        await asyncio.sleep(2)
        assert state(kit) == "halted"


# --- the stop file


@simulated
async def test_a_stop_file_stops_flattens_and_is_renamed(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        held(kit)
        kit.run("rules")
        (tmp_path / STOP_FILE).touch()
        await asyncio.sleep(2)
        assert state(kit) == "halted"
        assert (kit.latch.halt.by, kit.latch.halt.origin) == ("file", Origin.LOCAL)
        names = [name for name in os.listdir(tmp_path) if name.startswith(STOP_FILE)]
        assert len(names) == 1
        assert names[0].startswith(f"{STOP_FILE}.")
        await eventually(lambda: not kit.terminal.positions, 5)
        assert kit.emergency.stops == 1


@simulated
async def test_a_stop_file_stays_until_the_stop_is_durable(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("rules")
        kit.journal.break_down()
        (tmp_path / STOP_FILE).touch()
        await asyncio.sleep(5)
        assert state(kit) == "halted"
        assert STOP_FILE in os.listdir(tmp_path), "a crash would leave nothing of the stop"
        kit.journal.mend()
        await eventually(lambda: STOP_FILE not in os.listdir(tmp_path), 5)
        assert kit.emergency.stops == 1


@simulated
async def test_a_stop_file_that_stays_stops_once_and_again_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FlowKit.open(tmp_path) as kit:

        def refuse(*args: object) -> None:
            raise PermissionError("open elsewhere")

        monkeypatch.setattr(Path, "replace", refuse)
        kit.run("rules")
        (tmp_path / STOP_FILE).touch()
        await asyncio.sleep(5)
        assert kit.emergency.stops == 1
        await kit.commands.resume("x", "ann", force=True, origin=Origin.LOCAL)
        await asyncio.sleep(2)
        assert state(kit) == "halted"
        assert kit.emergency.stops == 2
        os.unlink(tmp_path / STOP_FILE)
        await asyncio.sleep(1)
        await kit.commands.resume("x", "ann", force=True, origin=Origin.LOCAL)
        await asyncio.sleep(2)
        assert state(kit) == "active"


# --- health


@simulated
async def test_the_heartbeat_says_how_it_is(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, heartbeat_s=5.0) as kit:
        kit.run("heartbeat")
        await asyncio.sleep(11)
        beats = kit.channel.of("heartbeat")
        assert len(beats) == 3
        data = beats[-1]["data"]
        named = {"status", "halt", "channels", "tick_age_ms", "clock_skew_ms", "rss_mb", "loop_stall_ms", "uptime_s"}
        assert named <= set(data)
        assert (data["status"], data["halt"], data["detail"]) == ("ok", "active", None)
        assert data["rss_mb"] > 1
        assert data["uptime_s"] >= 10

        def status() -> tuple[str, str]:
            health = kit.watch.health()
            return health["status"], health["detail"] or ""

        kit.states["redpanda"] = "disconnected"
        assert status() == ("degraded", "redpanda is down")
        kit.states["redpanda"] = "connected"
        kit.terminal.clock.skew_ms = 3_600_000
        assert status() == ("degraded", "the terminal's ticks are +3600 s from this PC's clock")
        kit.terminal.clock.skew_ms = 0
        kit.watch._stall_ms = 900.0
        assert status()[0] == "degraded"
        kit.watch._stall_ms = 0.0
        kit.terminal.terminal = msgspec.structs.replace(kit.terminal.terminal, trade_allowed=False)
        await kit.book.refresh()
        assert status()[0] == "not_ready"
        assert "trad" in status()[1].lower()
        kit.halt()
        assert kit.watch.health()["halt"] == "halted"


@simulated
async def test_without_a_backend_the_heart_beats_silently(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.watch._control = None
        kit.run("heartbeat")
        await asyncio.sleep(6)
        assert not kit.channel.of("heartbeat")


@simulated
async def test_stalls_of_the_loop_are_noticed_and_told_once(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("stalls", "heartbeat")
        await asyncio.sleep(1)
        leap(0.3)
        await asyncio.sleep(5)
        assert kit.watch.stats.stalls == 1
        assert kit.watch.stats.worst_stall_ms == pytest.approx(300, abs=60)
        told = [f["data"]["loop_stall_ms"] for f in kit.channel.of("heartbeat")]
        assert max(told) == pytest.approx(300, abs=60)
        await asyncio.sleep(5)
        assert kit.channel.of("heartbeat")[-1]["data"]["loop_stall_ms"] < 50


@simulated
async def test_probes_the_terminal(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("probe")
        await asyncio.sleep(31)
        assert kit.watch.stats.probes_failed == 0
        kit.terminal.failures["get_account_info"] = MT5ConnectionError("pipe")
        await asyncio.sleep(31)
        assert kit.watch.stats.probes_failed == 1


@simulated
async def test_keeps_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PRUNE_S", 5.0)
    async with FlowKit.open(tmp_path, limits={"trading_enabled": False}) as kit:
        await kit.send(signal_id="old", volume=0.1)
        await kit.result("old")
        leap(31 * DAY / 1000)
        kit.run("housekeeping")
        kit.journal.break_down()
        real = kit.journal.prune

        async def broken(before: int) -> int:
            raise JournalError("full")

        monkeypatch.setattr(kit.journal, "prune", broken)
        await asyncio.sleep(6)
        monkeypatch.setattr(kit.journal, "prune", real)
        kit.journal.mend()
        await asyncio.sleep(6)
        assert kit.watch.stats.pruned >= 1
        assert not await kit.journal.seen(["old"])


@simulated
async def test_the_days_figures_are_kept_when_they_change(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("day")
        await asyncio.sleep(6)
        first = await kit.journal.memo(DAY_MEMO)
        assert first is not None
        writes = kit.journal.stats.calls
        await asyncio.sleep(20)
        assert kit.journal.stats.calls == writes
        kit.journal.break_down()
        await equity(kit, 12_000.0)
        await asyncio.sleep(6)
        assert await kit.journal.memo(DAY_MEMO) == first
        kit.journal.mend()
        await asyncio.sleep(6)
        assert await kit.journal.memo(DAY_MEMO) != first


@simulated
async def test_rules_go_on_while_the_disk_hangs(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_drawdown_pct": 10.0, "max_daily_loss_pct": 5.0}) as kit:
        hang = asyncio.Event()

        async def hung(name: str) -> None:
            if name.startswith("commit"):
                await hang.wait()

        kit.journal.step = hung
        kit.run("rules")
        await equity(kit, 9_400.0)
        assert state(kit) == "reducing"
        await equity(kit, 8_900.0)
        assert state(kit) == "halted"
        hang.set()
        await asyncio.sleep(1)

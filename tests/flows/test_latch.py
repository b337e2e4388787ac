import asyncio
import threading
from pathlib import Path

import pytest
from support.eventually import eventually
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core import halt as machine
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.flows.disk import DaemonExecutor
from mt5_bridge.journal.latchfile import LatchFile


def halted(kit: FlowKit, reason: str = "test") -> Halt:
    return machine.stop(kit.latch.halt, reason=reason, by="tester", at_msc=kit.clock.now_ms(), origin=Origin.REMOTE)


def reduced(kit: FlowKit, until_day: str | None = None) -> Halt:
    return machine.reduce(
        kit.latch.halt, reason="test", by="t", at_msc=kit.clock.now_ms(), origin=Origin.RULE, until_day=until_day
    )


def active(kit: FlowKit) -> Halt:
    return Halt(reason="over", by="tester", at_msc=kit.clock.now_ms())


@simulated
async def test_latches_at_once_and_is_durable_soon(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        told: list[HaltState] = []
        kit.latch.on_change(lambda halt: told.append(halt.state))
        durable = kit.latch.tighten(halted(kit))
        assert kit.latch.halt.state is HaltState.HALTED
        assert told == [HaltState.HALTED]
        assert await kit.latch.durable_within(durable)
        stored = await kit.journal.halt()
        assert stored is not None
        assert (stored.state, stored.by, stored.origin) == ("halted", "tester", "remote")
        assert kit.latch.tighten(kit.latch.halt) is None
        assert await kit.latch.durable_within(None)
        assert [e["phase"] for e in await kit.events("halt_changed")] == ["latched"]


@simulated
async def test_a_defect_of_who_hears_of_it_keeps_no_stop_from_being_written(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        told: list[HaltState] = []

        def broken(halt: Halt) -> None:
            raise ValueError("a defect")

        kit.latch.on_change(broken)
        kit.latch.on_change(lambda halt: told.append(halt.state))
        assert await kit.latch.durable_within(kit.latch.tighten(halted(kit)))
        assert told == [HaltState.HALTED]
        stored = await kit.journal.halt()
        assert stored is not None
        assert stored.state == "halted"


@simulated
async def test_is_told_as_not_durable_while_the_journal_fails_and_written_when_it_can(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        durable = kit.latch.tighten(halted(kit))
        assert durable is not None
        assert not await kit.latch.durable_within(durable)
        assert not await kit.latch.durable_within(None)
        await asyncio.sleep(5)
        assert await kit.journal.halt() is None
        kit.journal.mend()
        await durable
        stored = await kit.journal.halt()
        assert stored is not None
        assert stored.state == "halted"


@simulated
async def test_a_pending_write_that_ends_cancelled_was_not_durable(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        durable = kit.latch.tighten(halted(kit))
        assert durable is not None
        durable.cancel()
        await asyncio.wait({durable})
        assert not await kit.latch.durable_within(durable)


@simulated
async def test_the_journals_last_word_is_the_last_that_was_latched(tmp_path: Path) -> None:
    """A weaker state whose write failed first must not be written behind the stop."""
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        kit.latch.tighten(reduced(kit))
        await asyncio.sleep(0.05)
        durable = kit.latch.tighten(halted(kit))
        kit.journal.mend()
        assert durable is not None
        await durable
        await asyncio.sleep(1)
        assert [h.state for h in await kit.journal.halts()] == ["halted", "reducing"]


@simulated
async def test_the_file_has_it_though_the_journal_never_did(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        kit.latch.tighten(halted(kit))
        await eventually(lambda: not kit.latch._to_file)
        await kit.crash()
    async with FlowKit.open(tmp_path) as kit:
        assert kit.latch.halt.state is HaltState.HALTED
        assert kit.latch.halt.origin is Origin.LOCAL, "who stopped is not in the file: lifted on the spot only"


@simulated
async def test_resumes_durable_first(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.latch.tighten(halted(kit))
        assert await kit.latch.loosen(active(kit))
        assert kit.latch.halt.state is HaltState.ACTIVE
        await eventually(lambda: not kit.latch._to_file)
        record = kit.file.read()
        assert record is not None
        assert record.state == "active"
        stored = await kit.journal.halt()
        assert stored is not None
        assert stored.state == "active"


@simulated
async def test_a_resume_that_cannot_be_written_leaves_the_latch_there_and_here(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.latch.tighten(halted(kit))
        await asyncio.sleep(0.1)
        kit.journal.break_down()
        with pytest.raises(JournalError):
            await kit.latch.loosen(active(kit))
        assert kit.latch.halt.state is HaltState.HALTED
        kit.journal.mend()
        await asyncio.sleep(1)
        # After a failed fsync the resume might turn up at the next start: the latch is behind it.
        assert [h.state for h in await kit.journal.halts()] == ["halted", "halted"]
        assert len(await kit.events("halt_changed")) == 1


@simulated
async def test_no_resume_before_the_halt_itself_is_journalled(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        kit.latch.tighten(halted(kit))
        with pytest.raises(JournalError, match="not in the journal yet"):
            await kit.latch.loosen(active(kit))
        assert kit.latch.halt.state is HaltState.HALTED
        kit.journal.mend()


@pytest.mark.parametrize("when", ["commit HaltChanged+Announced", "committed HaltChanged+Announced"])
def test_a_stop_during_a_resume_wins(tmp_path: Path, when: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.latch.tighten(reduced(kit))
            await asyncio.sleep(0.1)

            async def stop_now(name: str) -> None:
                if name == when:
                    kit.journal.step = None
                    kit.latch.tighten(halted(kit, "at once"))

            kit.journal.step = stop_now
            assert not await kit.latch.loosen(active(kit))
            assert kit.latch.halt.state is HaltState.HALTED
            await asyncio.sleep(0.1)
            stored = await kit.journal.halt()
            assert stored is not None
            assert stored.reason == "at once"

    run()


@pytest.mark.parametrize("when", ["commit HaltChanged+Announced", "committed HaltChanged+Announced"])
def test_a_stop_repeated_while_its_resume_is_being_written_wins(tmp_path: Path, when: str) -> None:
    """It finds trading halted already, and says so: then it must stay halted."""

    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.halt()
            await asyncio.sleep(0.1)

            async def stop_again(name: str) -> None:
                if name == when:
                    kit.journal.step = None
                    again, _ = kit.emergency.stop(reason="again", by="b", origin=Origin.REMOTE, options=None)
                    assert again.state is HaltState.HALTED

            kit.journal.step = stop_again
            assert not await kit.latch.loosen(active(kit))
            assert kit.latch.halt.state is HaltState.HALTED
            await asyncio.sleep(0.1)
            stored, record = await kit.journal.halt(), kit.file.read()
            assert stored is not None
            assert record is not None
            assert stored.state == record.state == "halted"

    run()


@simulated
async def test_a_stop_before_a_resume_got_its_turn_wins(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.latch.tighten(reduced(kit))
        await asyncio.sleep(0.1)
        await kit.latch._order.acquire()
        resuming = asyncio.create_task(kit.latch.loosen(active(kit)))
        await asyncio.sleep(0)
        kit.latch.tighten(halted(kit))
        kit.latch._order.release()
        assert not await resuming
        assert kit.latch.halt.state is HaltState.HALTED


@simulated
async def test_a_daily_latch_ends_with_its_day(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.latch.tighten(reduced(kit, "2023-11-14"))
        assert kit.latch.day_changed("2023-11-14", 1) is None
        over = kit.latch.day_changed("2023-11-15", 1)
        assert over is not None
        assert over.state is HaltState.ACTIVE


async def test_a_hung_disk_delays_neither_the_latch_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, written = threading.Event(), threading.Event()

    def hang(*record: object) -> None:
        released.wait(50)
        written.set()

    async with FlowKit.open(tmp_path, reconcile=False) as kit:
        monkeypatch.setattr(kit.file, "write", hang)
        kit.latch.tighten(halted(kit))
        await asyncio.sleep(0)
        assert kit.latch.halt.state is HaltState.HALTED
        await kit.latch.close()
        assert not written.is_set(), "nobody waited for the disk"
        released.set()


@simulated
async def test_a_file_that_cannot_be_written_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FlowKit.open(tmp_path) as kit:

        def refuse(*record: object) -> None:
            raise JournalError("no")

        monkeypatch.setattr(kit.file, "write", refuse)
        kit.latch.tighten(halted(kit))
        await eventually(lambda: kit.latch.file_failures)
        assert (await kit.journal.halts())[0].state == "halted"


async def test_the_disk_thread_works_in_order_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.flows.disk.IDLE_S", 0.05)
    disk, done = DaemonExecutor("test-disk"), list[int]()
    loop = asyncio.get_running_loop()
    gate = threading.Event()
    first = loop.run_in_executor(disk, gate.wait, 5)
    second = loop.run_in_executor(disk, done.append, 1)
    withdrawn = loop.run_in_executor(disk, done.append, 2)
    withdrawn.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, second)
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(disk, lambda: 1 // 0)
    last = threading.Event()
    disk.finally_do(last.set)
    assert await asyncio.to_thread(last.wait, 5)
    assert done == [1]
    await eventually(lambda: disk._thread is None, 5, "the end of an idle thread")
    assert await loop.run_in_executor(disk, lambda: 7) == 7
    never_begun = DaemonExecutor("test-disk")
    never_begun.finally_do(lambda: done.append(3))
    assert done == [1, 3]


def test_latch_file_of_the_kit_is_the_bridges(tmp_path: Path) -> None:
    file = LatchFile(tmp_path / "halt.latch")
    file.write("halted", "r", "b", 5)
    file.close()

    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            assert kit.latch.halt.reason == "r"

    run()

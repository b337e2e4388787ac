"""Stop, resume and status on disk, without a daemon."""

from pathlib import Path

import pytest

from mt5_bridge.cli import offline
from mt5_bridge.core.errors import InstanceError, JournalError
from mt5_bridge.core.halt import HaltState
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.journal.lock import InstanceLock
from mt5_bridge.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


async def open_intent(settings: Settings) -> None:
    journal = await Journal.open(settings.journal_path)
    try:
        await journal.commit(
            changes.SignalReceived(
                key="k",
                signal_id="s1",
                source="redpanda",
                topic="t",
                partition=0,
                offset=1,
                account="",
                symbol="EURUSD",
                action="BUY",
                payload=b"{}",
                received_msc=1,
            ),
            changes.IntentOpened(
                magic=1,
                key="k",
                leg=0,
                symbol="EURUSD",
                action="BUY",
                request=b"{}",
                opened_msc=2,
                volume=0.1,
                risk=1.0,
            ),
        )
    finally:
        await journal.close()


async def test_stop_is_in_the_journal_and_in_the_latch_file(settings: Settings) -> None:
    stopped = await offline.stop(settings, reason="fire", by="me")
    assert (stopped.halt.state, stopped.halt.reason, stopped.problem) == (HaltState.HALTED, "fire", None)
    latch = LatchFile(settings.latch_path)
    record = latch.read()
    latch.close()
    assert record is not None
    assert (record.state, record.by) == ("halted", "me")
    found = await offline.read(settings)
    assert found is not None
    assert found.halt == stopped.halt
    journal = await Journal.open(settings.journal_path)
    assert [(row.who, row.what, row.detail) for row in await journal.audit()] == [("me", "local halted", "fire")]
    await journal.close()


async def test_the_stricter_of_both_holds(settings: Settings) -> None:
    await offline.stop(settings, reason="fire", by="me")
    resumed = await offline.resume(settings, reason="out", by="me", force=False)
    assert resumed.halt.state is HaltState.ACTIVE
    latch = LatchFile(settings.latch_path)
    latch.write("halted", "written while the journal could not be", "daemon", 5)
    latch.close()
    found = await offline.read(settings)
    assert found is not None
    assert (found.halt.state, found.halt.by) == (HaltState.HALTED, "daemon")


async def test_a_new_folder_says_nothing_and_a_latch_alone_counts(settings: Settings) -> None:
    assert await offline.read(settings) is None
    settings.data_dir.mkdir()
    latch = LatchFile(settings.latch_path)
    latch.write("halted", "r", "b", 5)
    latch.close()
    found = await offline.read(settings)
    assert found is not None
    assert found.halt.state is HaltState.HALTED


async def test_resume_waits_for_unknown_outcomes_unless_forced(settings: Settings) -> None:
    settings.data_dir.mkdir()
    await open_intent(settings)
    stopped = await offline.stop(settings, reason="fire", by="me")
    assert stopped.open_intents == 1
    refused = await offline.resume(settings, reason="out", by="me", force=False)
    assert (refused.halt.state, refused.problem) == (HaltState.HALTED, "unknown_intents")
    resumed = await offline.resume(settings, reason="out", by="me", force=True)
    assert (resumed.halt.state, resumed.problem) == (HaltState.ACTIVE, None)


async def test_stop_holds_when_the_journal_cannot_be_opened(settings: Settings) -> None:
    settings.data_dir.mkdir()
    settings.journal_path.write_bytes(b"this is no database at all" * 100)
    stopped = await offline.stop(settings, reason="fire", by="me")
    assert stopped.halt.state is HaltState.HALTED
    assert "the latch file holds it, the journal does not" in (stopped.problem or "")
    latch = LatchFile(settings.latch_path)
    record = latch.read()
    latch.close()
    assert record is not None
    assert record.state == "halted"


async def test_a_daemon_keeps_its_folder_to_itself(settings: Settings) -> None:
    settings.data_dir.mkdir()
    with InstanceLock(settings.journal_path.with_name(settings.journal_path.name + ".lock")):
        with pytest.raises(InstanceError):
            await offline.stop(settings, reason="fire", by="me")
        with pytest.raises(InstanceError):
            await offline.resume(settings, reason="out", by="me", force=True)


async def test_the_story_needs_a_journal(settings: Settings) -> None:
    with pytest.raises(JournalError, match="set DATA_DIR"):
        await offline.story(settings, "s1")
    settings.data_dir.mkdir()
    await open_intent(settings)
    found = await offline.story(settings, "s1")
    assert found is not None
    assert found.signal.symbol == "EURUSD"
    assert await offline.story(settings, "s2") is None


async def test_what_the_journal_remembers_of_a_day_is_kept(settings: Settings) -> None:
    settings.data_dir.mkdir()
    journal = await Journal.open(settings.journal_path)
    await journal.commit(
        changes.HaltChanged(
            state="reducing", reason="daily loss", by="rule", at_msc=1, origin="rule", until_day="2026-01-02"
        )
    )
    await journal.close()
    found = await offline.read(settings)
    assert found is not None
    assert (found.halt.state, found.halt.until_day) == (HaltState.REDUCING, "2026-01-02")

"""What stop, resume and status do while no daemon runs: they use the latch file and the journal themselves."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager

import msgspec

from mt5_bridge.core import halt as machine
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.flows.latch import as_stored, in_file, journalled
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.journal.lock import InstanceLock
from mt5_bridge.journal.rows import AuditRow, SignalStory
from mt5_bridge.settings import Settings, prepare_data_dir


class Latched(msgspec.Struct, frozen=True):
    """The state found or made.

    Attributes:
        halt: the state as the next start will find it.
        open_intents: orders whose outcome is not known.
        problem: why it is not as asked: a refusal, or a journal that could not be written.
    """

    halt: Halt
    open_intents: int = 0
    problem: str | None = None


async def read(settings: Settings) -> Latched | None:
    """The latched state on disk, None when the bridge never ran on this folder.

    Raises:
        JournalError: it cannot be read.
    """
    if not settings.journal_path.exists() and not settings.latch_path.exists():
        return None
    journal = await Journal.open(settings.journal_path, lock=False)
    try:
        with closing(LatchFile(settings.latch_path)) as latch:
            return Latched(await _now(journal, latch), len(await journal.open_intents()))
    finally:
        await journal.close()


async def stop(settings: Settings, *, reason: str, by: str) -> Latched:
    """Latches HALTED for the next start. The latch file comes first: it takes the state even on a full disk.

    Raises:
        InstanceError: a daemon runs on the folder after all.
        JournalError: not even the latch file could be written.
    """
    with _alone(settings) as latch:
        at_msc = _now_msc()
        latch.write(HaltState.HALTED.value, reason, by, at_msc)
        try:
            journal = await Journal.open(settings.journal_path, lock=False)
        except JournalError as error:
            halt = Halt(state=HaltState.HALTED, reason=reason, by=by, at_msc=at_msc)
            return Latched(halt, problem=f"the latch file holds it, the journal does not: {error}")
        try:
            before = as_stored(await journal.halt())
            halt = machine.stop(before, reason=reason, by=by, at_msc=at_msc, origin=Origin.LOCAL)
            await _journal(journal, halt)
            return Latched(halt, len(await journal.open_intents()))
        finally:
            await journal.close()


async def resume(settings: Settings, *, reason: str, by: str, force: bool) -> Latched:
    """Goes back to ACTIVE for the next start, unless outcomes of orders are unknown and it is not forced.

    Positions that survived a stop cannot be seen without the terminal.

    Raises:
        InstanceError: a daemon runs on the folder after all.
        JournalError: it could not be written; the latch holds.
    """
    with _alone(settings) as latch:
        journal = await Journal.open(settings.journal_path, lock=False)
        try:
            now = await _now(journal, latch)
            unknown = len(await journal.open_intents())
            outcome = machine.resume(
                now,
                reason=reason,
                by=by,
                at_msc=_now_msc(),
                origin=Origin.LOCAL,
                survivors=False,
                unknown_intents=unknown > 0,
                force=force,
            )
            if not isinstance(outcome, Halt):
                return Latched(now, unknown, outcome.value)
            # Journal first: a crash in between leaves the stricter of the two.
            await _journal(journal, outcome)
            latch.write(outcome.state.value, outcome.reason, outcome.by, outcome.at_msc)
            return Latched(outcome, unknown)
        finally:
            await journal.close()


async def story(settings: Settings, signal_id: str) -> SignalStory | None:
    """All the journal knows of a signal; a running daemon is not disturbed.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """
    async with _reading(settings) as journal:
        return await journal.signal(signal_id)


async def audit(settings: Settings, limit: int) -> list[AuditRow]:
    """Who did what, the last of it, oldest first; a running daemon is not disturbed.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """
    async with _reading(settings) as journal:
        return (await journal.audit(limit))[::-1]


@asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[Journal]:
    if not settings.journal_path.exists():
        raise JournalError(f"no journal in {settings.data_dir}; set DATA_DIR to the bridge's folder")
    journal = await Journal.open(settings.journal_path, lock=False)
    try:
        yield journal
    finally:
        await journal.close()


@contextmanager
def _alone(settings: Settings) -> Iterator[LatchFile]:
    prepare_data_dir(settings.data_dir)
    lock = settings.journal_path.with_name(settings.journal_path.name + ".lock")
    with InstanceLock(lock), closing(LatchFile(settings.latch_path)) as latch:
        yield latch


async def _now(journal: Journal, latch: LatchFile) -> Halt:
    """The stricter of journal and latch file, as the daemon's start has it."""
    record, stored = latch.read(), as_stored(await journal.halt())
    return stored if record is None else machine.stricter(stored, in_file(record))


async def _journal(journal: Journal, halt: Halt) -> None:
    await journal.commit(
        journalled(halt),
        changes.Memo(name=changes.HALT_UNTOLD, value=b"1"),
        changes.Audited(at_msc=_now_msc(), who=halt.by, what=f"local {halt.state.value}", detail=halt.reason),
    )


def _now_msc() -> int:
    return time.time_ns() // 1_000_000

"""The writing thread: groups, refusals, a disk that fails and comes back."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from support.eventually import eventually

from mt5_bridge.core.errors import JournalError
from mt5_bridge.journal import Journal, JournalConflict, NotEntered
from mt5_bridge.journal.changes import IntentOpened, Memo, SignalReceived
from mt5_bridge.journal.checkpoint import Checkpointer
from mt5_bridge.journal.schema import connect, open_database
from mt5_bridge.journal.writer import Writer


def received(key: str, payload: bytes = b"") -> SignalReceived:
    return SignalReceived(
        key=key, signal_id=key, source="x", account="", symbol="", action="", payload=payload, received_msc=0
    )


async def test_calls_that_wait_share_a_transaction(journal: Journal) -> None:
    await asyncio.gather(*[journal.commit(Memo(name=str(i), value=b"x")) for i in range(500)])
    assert journal.stats.calls == 500
    assert journal.stats.groups < 250
    assert journal.stats.largest_group > 1
    assert journal.pending == 0


async def test_a_refused_call_takes_nobody_with_it(journal: Journal) -> None:
    await journal.commit(received("twice"))
    answers = await asyncio.gather(
        *[journal.commit(received("twice" if i == 50 else f"k{i}")) for i in range(100)], return_exceptions=True
    )
    assert [i for i, answer in enumerate(answers) if answer is not None] == [50]
    assert isinstance(answers[50], JournalConflict)
    assert len(await journal.waiting()) == 100
    assert journal.stats.refused == 1
    assert journal.healthy


@pytest.mark.parametrize(
    "change",
    [
        Memo(name="\ud800", value=b""),  # no UTF-8
        Memo(name="x", value=None),  # type: ignore[arg-type]
        Memo(name="x", value={}),  # type: ignore[arg-type]
        received("k"),
    ],
)
async def test_what_the_database_cannot_hold_is_that_calls_own_fault(journal: Journal, change: Memo) -> None:
    if isinstance(change, SignalReceived):
        change = SignalReceived(
            **{name: getattr(change, name) for name in change.__struct_fields__} | {"offset": 1 << 70}
        )  # type: ignore[assignment]
    with pytest.raises(JournalError):
        await journal.commit(Memo(name="beside", value=b""), change)
    assert await journal.memo("beside") is None
    assert journal.healthy
    await journal.commit(Memo(name="x", value=b"1"))


async def test_a_full_disk_fails_the_call_and_heals(journal: Journal) -> None:
    changes: list[bool] = []
    journal.on_health(lambda healthy, _: changes.append(healthy))
    pages = int(await journal._writer.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0]))
    await journal._writer.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    big = b"x" * 100_000
    answers = await asyncio.gather(*[journal.commit(received(f"k{i}", big)) for i in range(5)], return_exceptions=True)
    assert all(isinstance(answer, JournalError) and "full" in str(answer) for answer in answers)
    await eventually(lambda: changes == [False])
    assert not journal.healthy
    assert await journal.waiting() == []  # reading goes on
    await journal._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
    await eventually(lambda: journal.healthy and changes == [False, True])
    await journal.commit(received("k0", big))
    assert len(await journal.waiting()) == 1


async def test_a_refused_call_does_not_tell_that_a_full_disk_is_well(journal: Journal) -> None:
    """Of a signal's row and its intent the row finds the disk full, and the intent finds no row."""
    changes: list[bool] = []
    journal.on_health(lambda healthy, _: changes.append(healthy))
    pages = int(await journal._writer.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0]))
    await journal._writer.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    entered, opened = await asyncio.gather(
        journal.commit(received("k", b"x" * 100_000)),
        journal.commit(
            IntentOpened(
                magic=7, key="k", symbol="S", action="BUY", request=b"", opened_msc=0, volume=0.1, received_msc=0
            )
        ),
        return_exceptions=True,
    )
    assert "full" in str(entered)
    assert isinstance(opened, NotEntered)
    await eventually(lambda: changes)
    await eventually(lambda: journal.stats.probes)
    assert changes == [False]


async def test_a_failed_disk_is_probed_until_it_works(path: Path) -> None:
    changes: list[bool] = []
    holder = open_database(path)
    writer = Writer(
        connect(path, busy_seconds=0.01),
        Checkpointer(path),
        lambda healthy, _: changes.append(healthy),
        probe_seconds=0.01,
    )
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="locked"):
        await writer.run(lambda db: db.execute("INSERT INTO memos VALUES ('a', x'00')"))
    await eventually(lambda: changes == [False])
    await eventually(lambda: writer.stats.probes >= 2)
    assert not writer.healthy
    holder.execute("ROLLBACK")
    await eventually(lambda: changes == [False, True] and writer.healthy)
    assert writer.stats.failed == 1
    assert holder.execute("SELECT COUNT(*) FROM memos").fetchone() == (0,)
    holder.close()
    assert await writer.close(5.0)


async def test_a_small_call_survives_in_the_group_of_one_too_large_for_the_disk(journal: Journal) -> None:
    pages = int(await journal._writer.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0]))
    await journal._writer.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
    small, large = await asyncio.gather(
        journal.commit(Memo(name="small", value=b"1")),
        journal.commit(received("large", b"x" * 100_000)),
        return_exceptions=True,
    )
    assert small is None
    assert isinstance(large, JournalError)
    assert await journal.memo("small") == b"1"
    await journal._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())


async def test_too_many_waiting_calls_are_refused(path: Path) -> None:
    writer = Writer(open_database(path), Checkpointer(path), lambda *_: None, max_waiting=3)
    begun, go_on = threading.Event(), threading.Event()

    def hang(_: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)

    blocked = asyncio.ensure_future(writer.run(hang))
    await eventually(begun.is_set)
    rest = [asyncio.ensure_future(writer.run(lambda _: None)) for _ in range(3)]
    await eventually(lambda: writer.waiting == 3)
    with pytest.raises(JournalError, match="behind"):
        await writer.run(lambda _: None)
    go_on.set()
    await asyncio.gather(blocked, *rest)
    assert await writer.close(5.0)


async def test_a_disk_that_hangs_does_not_hold_up_the_loop_or_the_close(path: Path) -> None:
    writer = Writer(open_database(path), Checkpointer(path), lambda *_: None)
    begun, go_on = threading.Event(), threading.Event()

    def hang(_: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)

    blocked = asyncio.ensure_future(writer.run(hang))
    await eventually(begun.is_set)
    assert await writer.close(0.05) is False
    go_on.set()
    await blocked
    assert await writer.close(5.0)


async def test_the_log_is_moved_into_the_database_beside_the_writer(path: Path) -> None:
    checkpointer = Checkpointer(path, every_changes=50)
    writer = Writer(open_database(path), checkpointer, lambda *_: None)
    for i in range(60):
        await writer.run(lambda db, i=i: db.execute("INSERT INTO memos VALUES (?, x'00')", (str(i),)))  # type: ignore[misc]
    await eventually(lambda: checkpointer.runs > 0)
    assert checkpointer.failures == 0
    assert await writer.close(5.0)


async def test_a_failing_checkpoint_is_only_counted(path: Path) -> None:
    db = open_database(path)
    checkpointer = Checkpointer(path)
    broken = sqlite3.connect(":memory:")
    broken.close()
    checkpointer._checkpoint(broken)
    assert checkpointer.failures == 1
    checkpointer.stop()
    db.close()

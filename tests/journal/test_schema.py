"""Which files are opened, brought forward, or refused untouched."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mt5_bridge.core.errors import JournalError
from mt5_bridge.journal import Journal, JournalUnusable
from mt5_bridge.journal.schema import APPLICATION_ID, VERSION, connect, open_database


def test_a_new_file_is_ours_and_durable(path: Path) -> None:
    db = open_database(path)
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    db.close()


def test_a_later_version_is_refused(path: Path) -> None:
    db = open_database(path)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalUnusable, match="later version") as refused:
        open_database(path)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    with pytest.raises(JournalUnusable, match="DATA_DIR"):
        open_database(path)


def test_a_file_that_is_no_database_is_refused_and_kept(path: Path) -> None:
    path.write_bytes(b"not a database, but something dear to someone " * 100)
    before = path.read_bytes()
    with pytest.raises(JournalUnusable, match="recover") as refused:
        asyncio.run(Journal.open(path))
    assert refused.value.path == path
    assert not refused.value.retriable
    assert path.read_bytes() == before


def test_damage_inside_is_found(path: Path) -> None:
    db = open_database(path)
    db.executemany("INSERT INTO memos VALUES (?, ?)", [(str(i), bytes(200)) for i in range(2_000)])
    db.close()
    content = bytearray(path.read_bytes())
    for page in range(30, 60):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(JournalUnusable, match="damaged"):
        open_database(path)
    assert path.read_bytes() == bytes(content)


def test_an_older_journal_is_brought_forward(path: Path) -> None:
    open_database(path).close()

    def add_a_column(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE memos ADD COLUMN extra TEXT")

    db = open_database(path, migrations={VERSION: add_a_column}, version=VERSION + 1)
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
    db.execute("INSERT INTO memos VALUES ('a', x'', 'b')")
    db.close()


def test_a_failed_step_forward_changes_nothing(path: Path) -> None:
    open_database(path).close()

    def fails(db: sqlite3.Connection) -> None:
        db.execute("DROP TABLE memos")
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(JournalError, match="disk I/O error"):
        open_database(path, migrations={VERSION: fails}, version=VERSION + 1)
    db = open_database(path)
    assert db.execute("SELECT COUNT(*) FROM memos").fetchone() == (0,)
    db.close()


class Impatient(threading.Thread):
    """A timer that goes off at once, and again until it is cancelled: a check never takes that long here."""

    interrupted = 0

    def __init__(self, seconds: float, interrupt: Callable[[], None]) -> None:
        super().__init__()
        self._interrupt = interrupt
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            self._interrupt()
            Impatient.interrupted += 1

    def cancel(self) -> None:
        self._over.set()


def test_a_large_journal_does_not_delay_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = open_database(path)
    db.executemany("INSERT INTO memos VALUES (?, ?)", [(str(i), bytes(200)) for i in range(5_000)])
    db.close()
    monkeypatch.setattr("mt5_bridge.journal.schema.threading.Timer", Impatient)
    opened = open_database(path)
    assert Impatient.interrupted > 0
    assert opened.execute("SELECT COUNT(*) FROM memos").fetchone() == (5_000,), "nothing after the check is interrupted"
    opened.close()


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file"):
        open_database(tmp_path / "file" / "journal.db")
    with pytest.raises(JournalError):
        open_database(tmp_path)


def test_a_locked_database_is_a_retriable_error(path: Path) -> None:
    holder = open_database(path)
    holder.execute("BEGIN EXCLUSIVE")
    other = connect(path, busy_seconds=0.01)
    with pytest.raises(sqlite3.OperationalError):
        other.execute("BEGIN IMMEDIATE")
    other.close()
    holder.execute("ROLLBACK")
    holder.close()


VERSION_1 = """
CREATE TABLE signals (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, signal_id TEXT NOT NULL, source TEXT NOT NULL,
    topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, account TEXT NOT NULL,
    symbol TEXT NOT NULL, action TEXT NOT NULL, payload BLOB NOT NULL, received_msc INTEGER NOT NULL, status TEXT,
    reason TEXT, event_id TEXT, result BLOB, settled_msc INTEGER
);
INSERT INTO signals VALUES
    (1, 'k', 's', 'redpanda', 't', 0, 7, '', 'EURUSD', 'BUY', x'7b7d', 5, NULL, NULL, NULL, NULL, NULL);
"""


def test_a_journal_of_the_first_version_keeps_its_signals(path: Path) -> None:
    """Its columns are those of today but for who sent a signal, in the same order."""
    open_database(path).close()
    with sqlite3.connect(path) as db:
        db.executescript(f"DROP TABLE signals; DROP TRIGGER audit_is_append_only; {VERSION_1} PRAGMA user_version = 1;")
    db.close()
    db = open_database(path)
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert db.execute("SELECT key, received_msc, sender, correlation FROM signals").fetchall() == [("k", 5, None, None)]
    columns = [row[1] for row in db.execute("PRAGMA table_info(signals)")]
    indexes = {row[1] for row in db.execute("PRAGMA index_list(signals)")}
    db.close()
    path.unlink()
    db = open_database(path)
    assert columns == [row[1] for row in db.execute("PRAGMA table_info(signals)")]
    assert {"signals_by_request", "signals_by_correlation"} < indexes
    db.close()


def test_what_the_audit_says_is_not_changed(path: Path) -> None:
    db = open_database(path)
    db.execute("INSERT INTO audit (at_msc, who, what, detail) VALUES (1, 'ann', 'POST /order', '200')")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("UPDATE audit SET who = 'bob'")
    db.execute("DELETE FROM audit WHERE at_msc < 2")  # they leave by age
    db.close()

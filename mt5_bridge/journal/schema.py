"""Opening the database file: what it must be, bringing an older one forward, refusing what is not ours."""

import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from mt5_bridge.core.errors import JournalError
from mt5_bridge.journal.errors import JournalUnusable

VERSION = 2
APPLICATION_ID = 0x4D543542  # "MT5B": tells our file from any other SQLite database

Migration = Callable[[sqlite3.Connection], None]


def _who_sent(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE signals ADD COLUMN request_id")
    db.execute("ALTER TABLE signals ADD COLUMN sender TEXT")
    db.execute("ALTER TABLE signals ADD COLUMN correlation TEXT")
    db.execute("CREATE INDEX signals_by_request ON signals (request_id) WHERE request_id IS NOT NULL")
    db.execute("CREATE INDEX signals_by_correlation ON signals (correlation) WHERE correlation IS NOT NULL")
    db.execute(
        "CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )


MIGRATIONS: Mapping[int, Migration] = {1: _who_sent}
"""From each older version, the step to the next one."""

_CHECK_SECONDS = 0.25
_RESTORE = "stop the bridge, keep a copy, and run `sqlite3 {name} .recover` on it or move it away to start anew"


def connect(path: Path, *, busy_seconds: float = 2.0) -> sqlite3.Connection:
    """Opens the file for writing, in autocommit mode; whoever writes says BEGIN."""
    # check_same_thread: opened by one thread, handed to another, never used by two.
    db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -1024")
        db.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """Opens a second connection that can only read."""
    db = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA cache_size = -1024")
    return db


def open_database(
    path: Path, *, migrations: Mapping[int, Migration] = MIGRATIONS, version: int = VERSION
) -> sqlite3.Connection:
    """Opens the journal for writing, creates it when absent, brings an older one forward.

    Raises:
        JournalUnusable: the file is damaged, is no journal, or was written by a later version.
        JournalError: the folder or file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = connect(path)
    except (OSError, sqlite3.OperationalError) as error:
        raise JournalError(f"journal {path}: cannot be opened for writing: {error}") from error
    except sqlite3.DatabaseError as error:
        raise JournalUnusable(path, f"damaged ({error})", _RESTORE.format(name=path.name)) from error
    try:
        _prepare(db, path, migrations, version)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.OperationalError):
            raise JournalError(f"journal {path}: cannot be written: {error}") from error
        if isinstance(error, sqlite3.DatabaseError):
            raise JournalUnusable(path, f"damaged ({error})", _RESTORE.format(name=path.name)) from error
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path, migrations: Mapping[int, Migration], version: int) -> None:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    owner = int(db.execute("PRAGMA application_id").fetchone()[0])
    tables = int(db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])
    if tables and owner != APPLICATION_ID:
        raise JournalUnusable(path, "another program's database", "choose another DATA_DIR")
    if found > version:
        remedy = "run that version, or choose another DATA_DIR"
        raise JournalUnusable(path, f"written by a later version of the bridge (schema {found} > {version})", remedy)
    if not tables:
        _create(db, version)
        return
    _check(db, path)
    for step in range(found, version):
        _migrate(db, migrations[step], step + 1)


def _create(db: sqlite3.Connection, version: int) -> None:
    script = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
    # One transaction: a crash in between leaves an empty file, never half a schema.
    db.executescript(
        f"BEGIN IMMEDIATE;\n{script}\n"
        f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {version};\nCOMMIT;"
    )


def _migrate(db: sqlite3.Connection, step: Migration, to: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        step(db)
        db.execute(f"PRAGMA user_version = {to}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Looks for damage, for a moment only: a large journal must not delay the start."""
    # Not a progress handler: the walk through a table's pages is one step, in which none is called.
    alarm = threading.Timer(_CHECK_SECONDS, db.interrupt)
    alarm.start()
    try:
        answer = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        answer = "ok"
    finally:
        alarm.cancel()
        alarm.join()  # an interrupt that comes late must not hit the next statement
    if answer != "ok":
        raise JournalUnusable(path, f"damaged ({answer})", _RESTORE.format(name=path.name))

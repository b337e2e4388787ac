"""An account file's tables, and whether what they hold can be true."""

import sqlite3
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.books import rows

VERSION = 1
_LOG = 4 << 20
"""Bytes of log after which its pages are moved to the file itself."""
_TABLES = {table: kind.__struct_fields__ for table, kind in rows.KINDS.items()}
COLUMNS = {table: ", ".join(f'"{name}"' for name in fields) for table, fields in _TABLES.items()}


def _typed(columns: str) -> str:
    return columns.replace('"ticket"', '"ticket" INTEGER PRIMARY KEY')


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS late (number INTEGER PRIMARY KEY, due_msc, request)",
    *(f"CREATE TABLE IF NOT EXISTS {table} ({_typed(columns)})" for table, columns in COLUMNS.items()),
    "CREATE INDEX IF NOT EXISTS deals_time ON deals (time_msc)",
    "CREATE INDEX IF NOT EXISTS deals_position ON deals (position_id)",
    'CREATE INDEX IF NOT EXISTS deals_order ON deals ("order")',
    "CREATE INDEX IF NOT EXISTS history_time ON history (time_done_msc)",
    "CREATE INDEX IF NOT EXISTS history_position ON history (position_id)",
)
_STORED = {int: "'integer'", float: "'real', 'integer'", str: "'text', 'blob'"}
_STRANGE = {
    table: f"SELECT ticket FROM {table} WHERE "  # noqa: S608 - all names are this package's
    + " OR ".join(f'typeof("{field.name}") NOT IN ({_STORED[field.type]})' for field in msgspec.structs.fields(kind))
    for table, kind in rows.KINDS.items()
}
"""Rows of which a value is not of its field's type."""
_AMOUNTS = "SELECT type = ?, profit, swap, commission, fee FROM deals"


def furnish(db: sqlite3.Connection) -> None:
    """Brings a file to the present schema: new columns of records get their defaults."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {_LOG // db.execute('PRAGMA page_size').fetchone()[0]}")
    if db.execute("PRAGMA user_version").fetchone()[0] == VERSION and not any(_missing(db)):
        return
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        db.execute(statement)
    for table, name in list(_missing(db)):
        db.execute(f'ALTER TABLE {table} ADD COLUMN "{name}" DEFAULT {_default(table, name)}')
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _missing(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Tables and the columns they lack; files of before there were late orders lack their table."""
    for table, fields in {"late": ("number",), **_TABLES}.items():
        there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        yield from ((table, name) for name in fields if name not in there)


def _default(table: str, name: str) -> str:
    """What a record written before it had this field holds there, in SQL."""
    record = rows.KINDS[table]
    value = {field.name: field.default for field in msgspec.structs.fields(record)}[name]
    assert isinstance(value, int | float | str), f"{record.__name__}.{name} needs a default: older files lack it"
    return repr(value) if isinstance(value, int | float) else f"'{value}'"


def audit(db: sqlite3.Connection) -> str:
    """What is wrong with the books, empty if nothing: records are of their types, and deals add up to the balance.

    A file that is not furnished is none of one who only reads.
    """
    if any(_missing(db)):
        return ""
    db.execute("BEGIN")  # another process may be writing
    try:
        for table, strange in _STRANGE.items():
            found = db.execute(strange).fetchone()
            if found is not None:
                return f"{table}: {found[0]} holds what none can hold"
        books = db.execute("SELECT value FROM meta WHERE name = 'books'").fetchone()
        return "" if books is None else _unaccounted(db, str(books[0]))
    finally:
        db.execute("COMMIT")


def _unaccounted(db: sqlite3.Connection, text: str) -> str:
    """What balance and credit have that no deals made."""
    sums = [Decimal(0), Decimal(0)]
    for lent, *amounts in db.execute(_AMOUNTS, (c.DEAL_TYPE_CREDIT,)):
        for amount in amounts:
            if amount:
                sums[lent] += Decimal(repr(amount))
    try:
        balance, credit, _, _ = rows.books(text)
    except ValueError as error:
        return str(error)
    if [balance, credit] == sums:
        return ""
    return f"balance {balance} and credit {credit} are not the {sums[0]} and {sums[1]} of the deals"

"""What outlives the process: the market's start, and one SQLite file per account.

The account's file is in WAL mode with `synchronous=OFF`: a commit survives the death of the process at any point
(the system holds the data), not that of the machine. A power cut can cost the last trades of a paper account.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mt5_bridge.core.errors import BridgeError
from mt5_bridge.simulator.ledger import FIRST_TICKET, Ledger
from mt5_bridge.simulator.records import Change, Deal, Order, Position

_VERSION = 1
_WORD = 1 << 64
_SIGNED = 1 << 63


def _typed(columns: str) -> str:
    return columns.replace('"ticket"', '"ticket" INTEGER PRIMARY KEY')


_Kept = TypeVar("_Kept", Position, Order, Deal)

_TABLES: dict[str, tuple[str, ...]] = {
    "positions": Position.__struct_fields__,
    "orders": Order.__struct_fields__,
    "history": Order.__struct_fields__,
    "deals": Deal.__struct_fields__,
}
_COLUMNS = {table: ", ".join(f'"{name}"' for name in fields) for table, fields in _TABLES.items()}
_INSERT = {
    table: f"INSERT OR REPLACE INTO {table} ({_COLUMNS[table]}) VALUES ({', '.join('?' * len(fields))})"  # noqa: S608 - all names are this module's
    for table, fields in _TABLES.items()
}
_DELETE = {table: f"DELETE FROM {table} WHERE ticket = ?" for table in ("positions", "orders")}  # noqa: S608 - as above
_SELECT = {table: f"SELECT {columns} FROM {table}" for table, columns in _COLUMNS.items()}  # noqa: S608 - as above
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    *(f"CREATE TABLE IF NOT EXISTS {table} ({_typed(columns)})" for table, columns in _COLUMNS.items()),
    "CREATE INDEX IF NOT EXISTS deals_time ON deals (time_msc)",
    "CREATE INDEX IF NOT EXISTS deals_position ON deals (position_id)",
    'CREATE INDEX IF NOT EXISTS deals_order ON deals ("order")',
    "CREATE INDEX IF NOT EXISTS history_time ON history (time_done_msc)",
    "CREATE INDEX IF NOT EXISTS history_position ON history (position_id)",
)


class By(Enum):
    """How the past is asked for."""

    PERIOD = "time"
    TICKET = "ticket"
    """Of an order: for deals, the order they execute."""
    POSITION = "position"


_DEALS_BY = {By.PERIOD: "time_msc BETWEEN ? AND ?", By.TICKET: '"order" = ?', By.POSITION: "position_id = ?"}
_HISTORY_BY = {By.PERIOD: "time_done_msc BETWEEN ? AND ?", By.TICKET: "ticket = ?", By.POSITION: "position_id = ?"}
_DEALS = {by: f"{_SELECT['deals']} WHERE {where} ORDER BY time_msc, ticket" for by, where in _DEALS_BY.items()}
_HISTORY = {
    by: f"{_SELECT['history']} WHERE {where} ORDER BY time_done_msc, ticket" for by, where in _HISTORY_BY.items()
}


class PaperStateError(BridgeError):
    """The stored state cannot be used; the message says which file, and what to do."""


class MarketState(msgspec.Struct):
    """When the market began, UTC in ms."""

    anchor_msc: int
    version: int = _VERSION


def market_anchor(folder: Path, now_msc: int) -> int:
    """The moment the folder's market began: now, if it is new. Two processes that start together agree.

    Raises:
        PaperStateError: the file is there but cannot be read.
    """
    path = folder / "market.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"market.{os.getpid()}.tmp"
        draft.write_bytes(msgspec.json.encode(MarketState(now_msc)))
        _publish(draft, path)
    try:
        return msgspec.json.decode(path.read_bytes(), type=MarketState).anchor_msc
    except (OSError, msgspec.DecodeError) as error:
        raise PaperStateError(f"{path} is damaged ({error}); move the folder away to start a new market") from error


def _publish(draft: Path, path: Path) -> None:
    """Gives the draft its name unless another process was first: a link, unlike a rename, never replaces."""
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # the other process's start is as good as ours
    except OSError:
        # The file system knows no hard links.
        draft.replace(path)
    draft.unlink(missing_ok=True)


def account_file(folder: Path, login: int, server: str, currency: str, mode: str) -> Path:
    """Where an account is kept: another currency or margin mode is another account."""
    plain = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in server)
    return folder / f"{login}@{plain}-{currency}-{mode}.sqlite"


class Store:
    """One account's books on disk, or in memory where there is no path."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(
                path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=64
            )
            self._open()
        except sqlite3.Error as error:
            raise PaperStateError(
                f"{path} cannot be used ({error}); move it away to start a new paper account"
            ) from error

    def close(self) -> None:
        """Ends the store; what has no file is gone."""
        self._db.close()

    def release(self) -> None:
        """Closes the file, if there is one."""
        if self._path is not None:
            self.close()

    @property
    def is_new(self) -> bool:
        """No account has been opened here yet."""
        return self.get("login") is None

    def get(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, values: Iterable[tuple[str, str]]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values)

    def foreign_writes(self) -> int:
        """Changes whenever another process wrote to the file."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def load(self, ledger: Ledger) -> int:
        """Fills the ledger; returns up to when the market's ticks are accounted for (UTC, ms)."""
        db = self._db
        balance, next_ticket, processed_msc, *credit = (self.get("books") or f"0 {FIRST_TICKET} 0").split()
        ledger.balance, ledger.next_ticket = Decimal(balance), int(next_ticket)
        ledger.credit = Decimal(credit[0]) if credit else Decimal(0)
        rows = db.execute(_SELECT["positions"] + " ORDER BY ticket")
        ledger.positions, ledger.by_symbol, ledger.touched = {}, {}, []
        for row in rows:
            ledger.adopt(_record(Position, row))
        rows = db.execute(_SELECT["orders"] + " ORDER BY ticket")
        ledger.orders = {row[0]: _record(Order, row) for row in rows}
        return int(processed_msc)

    def commit(self, change: Change, ledger: Ledger, processed_msc: int) -> None:
        """Writes one step as a whole.

        Raises:
            sqlite3.Error: nothing was written.
        """
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            for table, records in (("positions", change.positions), ("orders", change.orders)):
                for ticket, record in records.items():
                    if record is None:
                        db.execute(_DELETE[table], (ticket,))
                    else:
                        db.execute(_INSERT[table], _row(record))
            db.executemany(_INSERT["history"], map(_row, change.history))
            db.executemany(_INSERT["deals"], map(_row, change.deals))
            books = f"{ledger.balance} {ledger.next_ticket} {processed_msc} {ledger.credit}"
            db.execute("INSERT OR REPLACE INTO meta VALUES ('books', ?)", (books,))
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def deals(self, by: By, values: Sequence[int]) -> list[Deal]:
        """Deals in order of time. A period is two server times in ms, both included."""
        return [_record(Deal, row) for row in self._db.execute(_DEALS[by], values)]

    def history(self, by: By, values: Sequence[int]) -> list[Order]:
        """Finished orders in order of the time they ended."""
        return [_record(Order, row) for row in self._db.execute(_HISTORY[by], values)]

    def count_deals(self, from_msc: int, to_msc: int) -> int:
        """How many deals the period holds."""
        return self._count("SELECT COUNT(*) FROM deals WHERE time_msc BETWEEN ? AND ?", from_msc, to_msc)

    def count_history(self, from_msc: int, to_msc: int) -> int:
        """How many orders ended in the period."""
        return self._count("SELECT COUNT(*) FROM history WHERE time_done_msc BETWEEN ? AND ?", from_msc, to_msc)

    def _count(self, query: str, *values: int) -> int:
        return int(self._db.execute(query, values).fetchone()[0])

    def _open(self) -> None:
        db = self._db
        if db.execute("PRAGMA user_version").fetchone()[0] not in (0, _VERSION):
            raise sqlite3.DatabaseError("written by another version of the bridge")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -512")
        if self._read_only:
            return
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")


def _row(record: Position | Order | Deal) -> tuple[Any, ...]:
    """SQLite's integers are signed: a magic above 2^63 is stored as its two's complement."""
    values = msgspec.structs.astuple(record)
    if record.magic < _SIGNED:
        return values
    place = record.__struct_fields__.index("magic")
    return (*values[:place], record.magic - _WORD, *values[place + 1 :])


def _record(kind: type[_Kept], row: Sequence[Any]) -> _Kept:
    record = kind(*row)
    if record.magic < 0:
        record = msgspec.structs.replace(record, magic=record.magic + _WORD)
    return record

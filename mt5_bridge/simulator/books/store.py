"""An account's books on disk: one SQLite file.

It is in WAL mode with `synchronous=OFF`: a commit survives the death of the process at any point (the system holds the
data), not that of the machine. A power cut can cost the last trades of a paper account.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from mt5_bridge.simulator.books import rows
from mt5_bridge.simulator.books.folder import PaperStateError, draft, refusal
from mt5_bridge.simulator.books.schema import COLUMNS, VERSION, audit, furnish
from mt5_bridge.simulator.core.ledger import FIRST_TICKET, Ledger
from mt5_bridge.simulator.core.records import Change, Deal, Order, Position
from mt5_bridge.simulator.core.rules import LateOrder, Request

_PAGE = 1024
"""Bytes: a commit touches ten pages or so, and writes each as a whole."""
_CHECKED = 64 << 20
"""Up to so many bytes are checked when opened; what is wrong in a larger file is found when it is read."""
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_INSERT = {
    table: f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({', '.join('?' * (columns.count(',') + 1))})"  # noqa: S608 - all names are this package's
    for table, columns in COLUMNS.items()
}
_DELETE = {table: f"DELETE FROM {table} WHERE ticket = ?" for table in ("positions", "orders")}  # noqa: S608 - as above
_SELECT = {table: f"SELECT {columns} FROM {table}" for table, columns in COLUMNS.items()}  # noqa: S608 - as above
_OPEN = {table: f"{_SELECT[table]} ORDER BY ticket" for table in _DELETE}
_PUT = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_LATE = "SELECT number, due_msc, request FROM late ORDER BY number"
_DELAY = "INSERT INTO late (due_msc, request) VALUES (?, ?)"
_TAKE = "DELETE FROM late WHERE number = ?"


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


class BooksChangedError(sqlite3.OperationalError):
    """Another process wrote to the account since it was read: nothing was written, and all is to be judged again."""


class Store:
    """One account's books on disk."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self.seen = 0
        """What `foreign_writes` said when the books were last read."""
        try:
            if not path.exists():
                _create(path)
            # An empty file is a valid database, and no account that was ever written.
            if not path.stat().st_size:
                raise _damage("it is empty")
            self._db = _connect(path)
            with self._guarded():
                self._open()
        except (sqlite3.Error, OSError) as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """Ends the store; what has no file is gone."""
        self._db.close()

    def release(self) -> None:
        """Closes the file."""
        self.close()

    @property
    def is_new(self) -> bool:
        """No account has been opened here yet."""
        return self.get("login") is None

    def get(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, values: Iterable[tuple[str, str]]) -> None:
        """Keeps something about the account beside its books.

        Raises:
            sqlite3.Error: nothing was written.
        """
        self._db.executemany(_PUT, values)

    def refuse(self, what: str) -> PaperStateError:
        """Closes the file and sets it aside: `what` was found in it."""
        return self._refusal(_damage(what))

    def foreign_writes(self) -> int:
        """Changes whenever another process wrote to the file."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def load(self, ledger: Ledger) -> int:
        """Fills the ledger; returns up to when the market's ticks are accounted for (UTC, ms).

        Raises:
            PaperStateError: what is there makes no sense; the file was set aside.
            sqlite3.Error: it cannot be read now.
        """
        db = self._db
        try:
            db.execute("BEGIN")
            try:
                self.seen = self.foreign_writes()
                books = self.get("books") or f"0 {FIRST_TICKET} 0"
                positions = [rows.record(Position, row) for row in db.execute(_OPEN["positions"])]
                orders = [rows.record(Order, row) for row in db.execute(_OPEN["orders"])]
                # One who only reads executes none, and may read a file of before there were any.
                late = [] if self._read_only else [rows.late_order(*row) for row in db.execute(_LATE)]
            finally:
                db.execute("COMMIT")
            ledger.balance, ledger.credit, ledger.next_ticket, processed_msc = rows.books(books)
        except (ValueError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.Error) and not _damaged(error):
                raise
            raise self.refuse(str(error)) from error
        ledger.positions, ledger.by_symbol, ledger.touched = {}, {}, []
        for position in positions:
            ledger.adopt(position)
        ledger.orders = {order.ticket: order for order in orders}
        ledger.late = {order.number: order for order in late}
        return processed_msc

    def commit(
        self, change: Change, ledger: Ledger, processed_msc: int, values: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Writes one step as a whole, with `values` about the account.

        Raises:
            BooksChangedError: another process wrote meanwhile; nothing was written.
            sqlite3.Error: nothing was written, on a full disk say, or because SQLite cannot hold it.
        """
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            self._require_seen()
            self._write(change)
            books = f"{ledger.balance} {ledger.next_ticket} {processed_msc} {ledger.credit}"
            db.execute(_PUT, ("books", books))
            for value in values:
                db.execute(_PUT, value)
            db.execute("COMMIT")
        except BaseException as error:
            # On a full disk SQLite may already have rolled back by itself.
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, ValueError | OverflowError):
                raise sqlite3.DataError(str(error)) from error
            raise

    def _write(self, change: Change) -> None:
        db = self._db
        for table, records in (("positions", change.positions), ("orders", change.orders)):
            for ticket, record in records.items():
                if record is None:
                    db.execute(_DELETE[table], (ticket,))
                else:
                    db.execute(_INSERT[table], rows.row(record))
        for order in change.history:
            db.execute(_INSERT["history"], rows.row(order))
        for deal in change.deals:
            db.execute(_INSERT["deals"], rows.row(deal))
        for number in change.late:
            db.execute(_TAKE, (number,))

    def _require_seen(self) -> None:
        if self.foreign_writes() != self.seen:
            raise BooksChangedError("another process changed the account")

    def delay(self, due_msc: int, request: Request) -> LateOrder:
        """Puts a request on its way, to be found by all who work on the account.

        Raises:
            sqlite3.Error: nothing was written.
        """
        number = self._db.execute(_DELAY, (due_msc, rows.pack(request))).lastrowid
        assert number is not None, "a row was inserted"
        return LateOrder(number, due_msc, request)

    def recall(self) -> None:
        """Takes back all that is on its way.

        Raises:
            sqlite3.Error: nothing was written.
        """
        self._db.execute("DELETE FROM late")

    def deals(self, by: By, values: Sequence[int]) -> list[Deal]:
        """Deals in order of time. A period is two server times in ms, both included.

        Raises:
            PaperStateError: they cannot be read.
        """
        return self._past(Deal, _DEALS[by], values)

    def history(self, by: By, values: Sequence[int]) -> list[Order]:
        """Finished orders in order of the time they ended.

        Raises:
            PaperStateError: they cannot be read.
        """
        return self._past(Order, _HISTORY[by], values)

    def count_deals(self, from_msc: int, to_msc: int) -> int:
        """How many deals the period holds."""
        return self._count("SELECT COUNT(*) FROM deals WHERE time_msc BETWEEN ? AND ?", from_msc, to_msc)

    def count_history(self, from_msc: int, to_msc: int) -> int:
        """How many orders ended in the period."""
        return self._count("SELECT COUNT(*) FROM history WHERE time_done_msc BETWEEN ? AND ?", from_msc, to_msc)

    def _past(self, kind: type[rows.Kept], query: str, values: Sequence[int]) -> list[rows.Kept]:
        found = self._rows(query, values)
        try:
            return [rows.record(kind, row) for row in found]
        except ValueError as error:
            raise PaperStateError(f"{self.path} is damaged ({error})") from error

    def _count(self, query: str, *values: int) -> int:
        return int(self._rows(query, values)[0][0])

    def _rows(self, query: str, values: Sequence[int]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise PaperStateError(f"{self.path}: {error}") from error

    def _open(self) -> None:
        db = self._db
        if db.execute("PRAGMA user_version").fetchone()[0] not in (0, VERSION):
            raise sqlite3.DatabaseError("written by another version of the bridge; move it away for a new account")
        small = self.path.stat().st_size <= _CHECKED
        if small:
            verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _damage(str(verdict))
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -512")
        if not self._read_only:
            furnish(db)
        wrong = audit(db) if small else ""
        if wrong:
            raise _damage(wrong)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Closes the file when it turns out to be of no use."""
        try:
            yield
        except BaseException:
            self._db.close()
            raise

    def _refusal(self, error: Exception) -> PaperStateError:
        damaged = isinstance(error, sqlite3.Error) and _damaged(error)
        if damaged and hasattr(self, "_db"):
            self._db.close()  # else Windows keeps its name
        return refusal(self.path, error, "begins a new account", damaged=damaged, aside=not self._read_only)


def _create(path: Path) -> None:
    """Makes an empty account file, whole from the moment it has its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft(path) as unnamed:
        db = _connect(unnamed)
        try:
            db.execute(f"PRAGMA page_size = {_PAGE}")
            furnish(db)
        finally:
            db.close()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=64)


def _damage(what: str) -> sqlite3.DatabaseError:
    """SQLite found nothing wrong, and yet it is."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _damaged(error: sqlite3.Error) -> bool:
    """Whether the file itself is wrong: not locked, full, forbidden or of another version."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE

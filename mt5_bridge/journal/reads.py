"""Look-ups, each a function of a reading connection. All of them are answered from an index."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mt5_bridge.core.model import Cursor
from mt5_bridge.journal.rows import (
    AuditRow,
    OutboxRow,
    SignalStory,
    StoredAnswer,
    StoredCorrection,
    StoredHalt,
    StoredIntent,
    StoredSignal,
)

_CHUNK = 500  # below every build's limit of bound variables
_SIGNAL = (
    'SELECT key, signal_id, source, topic, partition, "offset", account, symbol, action, payload, received_msc, '
    "status, reason, event_id, result, settled_msc, request_id, sender, correlation FROM signals "
)
_INTENT = (
    "SELECT magic, key, leg, symbol, action, request, state, opened_msc, moved_msc, volume, risk, retcode, "
    '"order", deal, position, filled_volume, price, detail FROM intents '
)
_OUTBOX = "SELECT id, event_id, type, key, payload, at_msc FROM outbox "


def seen(db: sqlite3.Connection, keys: Iterable[str]) -> dict[str, StoredSignal]:
    """The inbox rows of those keys that are in it."""
    found: dict[str, StoredSignal] = {}
    for some, marks in _chunks(list(keys)):
        for row in db.execute(f"{_SIGNAL}WHERE key IN ({marks})", some):
            found[row[0]] = StoredSignal(*row)
    return found


def signal(db: sqlite3.Connection, signal_id: str) -> SignalStory | None:
    """The latest signal of that id, of that key, or of the request of that id, with all that came of it."""
    row = (
        db.execute(f"{_SIGNAL}WHERE signal_id = ? ORDER BY id DESC LIMIT 1", (signal_id,)).fetchone()
        or db.execute(f"{_SIGNAL}WHERE key = ?", (signal_id,)).fetchone()
        or _of_request(db, signal_id)
    )
    if row is None:
        return None
    stored = StoredSignal(*row)
    corrections = [
        StoredCorrection(*each)
        for each in db.execute(
            "SELECT event_id, supersedes, status, reason, result, at_msc FROM corrections WHERE key = ? "
            "ORDER BY at_msc, rowid",
            (stored.key,),
        )
    ]
    ids = {stored.event_id, *(each.event_id for each in corrections)}
    events = [
        (str(each[0]), OutboxRow(*each[1:]))
        for each in db.execute("SELECT channel, id, event_id, type, key, payload, at_msc FROM outbox ORDER BY id")
        if each[2] in ids
    ]
    return SignalStory(stored, intents(db, stored.key), corrections, events)


def newest(
    db: sqlite3.Connection, before: int | None, symbol: str | None, limit: int
) -> list[tuple[int, StoredSignal]]:
    """The newest signals with their places in the inbox, newest first.

    Args:
        db: where to look.
        before: only those at places before this one.
        symbol: only those of a symbol; None: all.
        limit: at most so many.
    """
    sql = f"SELECT id, {_SIGNAL.removeprefix('SELECT ')}"
    rows = db.execute(
        f"{sql}WHERE id < coalesce(?, 9223372036854775807) AND symbol = coalesce(?, symbol) ORDER BY id DESC LIMIT ?",
        (before, symbol, limit),
    )
    return [(row[0], StoredSignal(*row[1:])) for row in rows]


def _of_request(db: sqlite3.Connection, asked: str) -> Sequence[Any] | None:
    """By the id of the HTTP request, else by the `request_id` that came with the signal."""
    newest = "ORDER BY id DESC LIMIT 1"
    row: Sequence[Any] | None = db.execute(f"{_SIGNAL}WHERE correlation = ? {newest}", (asked,)).fetchone()
    number = int(asked) if asked.isdecimal() and len(asked) < 19 else None  # as it may have been sent
    row = row or db.execute(f"{_SIGNAL}WHERE request_id IN (?, ?) {newest}", (asked, number)).fetchone()
    # An Idempotency-Key has its owner's name before it: a walk through the index, which holds requests only.
    ends = "request_id IS NOT NULL AND request_id IN (sender || '/' || ?1, sender || '/http:' || ?1)"
    return row or db.execute(f"{_SIGNAL}WHERE {ends} {newest}", (asked,)).fetchone()


def waiting(db: sqlite3.Connection) -> list[StoredSignal]:
    """Signals without a final result, oldest first."""
    return [StoredSignal(*row) for row in db.execute(f"{_SIGNAL}WHERE status IS NULL ORDER BY id")]


def open_intents(db: sqlite3.Connection) -> list[StoredIntent]:
    """Intents whose outcome is not known, oldest first."""
    sql = f"{_INTENT}WHERE state IN ('sending', 'unknown') ORDER BY opened_msc"
    return [StoredIntent(*row) for row in db.execute(sql)]


def intents(db: sqlite3.Connection, key: str) -> list[StoredIntent]:
    """A signal's intents by leg."""
    return [StoredIntent(*row) for row in db.execute(f"{_INTENT}WHERE key = ? ORDER BY leg", (key,))]


def intents_by_magic(db: sqlite3.Connection, magics: Iterable[int]) -> dict[int, StoredIntent]:
    """The intents of those magics that are ours."""
    found: dict[int, StoredIntent] = {}
    for some, marks in _chunks(list(magics)):
        for row in db.execute(f"{_INTENT}WHERE magic IN ({marks})", some):
            found[row[0]] = StoredIntent(*row)
    return found


def our_magics_among(db: sqlite3.Connection, magics: Iterable[int]) -> set[int]:
    """Those of the magics that are ours."""
    found: set[int] = set()
    for some, marks in _chunks(list(magics)):
        found.update(row[0] for row in db.execute(f"SELECT magic FROM intents WHERE magic IN ({marks})", some))  # noqa: S608
    return found


def magics_opened_since(db: sqlite3.Connection, since_msc: int) -> list[int]:
    """Magics of intents opened at or after that time, oldest first."""
    sql = "SELECT magic FROM intents WHERE opened_msc >= ? ORDER BY opened_msc"
    return [row[0] for row in db.execute(sql, (since_msc,))]


def offsets(db: sqlite3.Connection, topic: str) -> dict[int, int]:
    """The next offset of each partition ever read."""
    return dict(db.execute("SELECT partition, next_offset FROM offsets WHERE topic = ?", (topic,)).fetchall())


def cursors(db: sqlite3.Connection) -> dict[str, Cursor]:
    """How far each symbol's ticks were acknowledged."""
    rows = db.execute("SELECT symbol, time_msc, count, epoch FROM cursors")
    return {row[0]: Cursor(row[1], row[2], row[3]) for row in rows}


def halts(db: sqlite3.Connection, limit: int) -> list[StoredHalt]:
    """The last changes of the halt state, newest first."""
    sql = 'SELECT state, reason, "by", at_msc, origin, until_day FROM halts ORDER BY id DESC LIMIT ?'
    rows = db.execute(sql, (limit,))
    return [StoredHalt(*row) for row in rows]


def memo(db: sqlite3.Connection, name: str) -> bytes | None:
    """The value of that name."""
    row = db.execute("SELECT value FROM memos WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


def answer(db: sqlite3.Connection, request_id: str) -> StoredAnswer | None:
    """The first answer to that command."""
    sql = "SELECT request_id, command, answer, at_msc FROM commands WHERE request_id = ?"
    row = db.execute(sql, (request_id,)).fetchone()
    return None if row is None else StoredAnswer(*row)


def answers(db: sqlite3.Connection, command: str, since_msc: int) -> list[StoredAnswer]:
    """The remembered answers to one command since a time, oldest first."""
    sql = "SELECT request_id, command, answer, at_msc FROM commands WHERE at_msc >= ? AND command = ? ORDER BY at_msc"
    return [StoredAnswer(*row) for row in db.execute(sql, (since_msc, command))]


def outbox(db: sqlite3.Connection, channel: str, after_id: int, limit: int) -> list[OutboxRow]:
    """What the channel has not acknowledged beyond that id, oldest first."""
    sql = f"{_OUTBOX}WHERE channel = ? AND id > ? ORDER BY id LIMIT ?"
    return [OutboxRow(*row) for row in db.execute(sql, (channel, after_id, limit))]


def outbox_depth(db: sqlite3.Connection) -> dict[str, int]:
    """How many rows wait for each channel."""
    return dict(db.execute("SELECT channel, COUNT(*) FROM outbox GROUP BY channel").fetchall())


def audit(db: sqlite3.Connection, limit: int) -> list[AuditRow]:
    """The last entries of the audit trail, newest first."""
    rows = db.execute("SELECT at_msc, who, what, detail FROM audit ORDER BY id DESC LIMIT ?", (limit,))
    return [AuditRow(*row) for row in rows]


def _chunks(values: Sequence[str] | Sequence[int]) -> Iterator[tuple[Sequence[str] | Sequence[int], str]]:
    for start in range(0, len(values), _CHUNK):
        some = values[start : start + _CHUNK]
        yield some, ",".join("?" * len(some))

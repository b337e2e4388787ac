"""How each change is written: one function a change, run inside the savepoint of its call."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from mt5_bridge.core.errors import JournalError
from mt5_bridge.journal import changes as c
from mt5_bridge.journal.errors import JournalConflict, JournalRejected, NotEntered

_VARIABLES = 900  # below every build's limit of 999 in a statement
COMMAND_MEMORY_MS = 24 * 60 * 60 * 1000


def apply(db: sqlite3.Connection, items: Iterable[c.Change]) -> None:
    """Writes the changes in order.

    Raises:
        JournalRejected: a change contradicts what is journalled.
        sqlite3.Error: the database failed.
    """
    for kind, run in groupby(items, type):
        some = _APPLY_SOME.get(kind)
        if some is not None:
            some(db, list(run))
            continue
        one = _APPLY[kind]
        for change in run:
            one(db, change)


def _insert(db: sqlite3.Connection, into: str, rows: Sequence[tuple[object, ...]], but: str = "") -> int:
    """Inserts rows, many with a statement: each gives the interpreter away and has to wait until it gets it back.

    Returns:
        How many were written.
    """
    if not rows:
        return 0
    width = len(rows[0])
    marks = f"({','.join('?' * width)})"
    written = 0
    for start in range(0, len(rows), _VARIABLES // width):
        some = rows[start : start + _VARIABLES // width]
        values = [value for row in some for value in row]
        written += db.execute(f"{into} VALUES {','.join([marks] * len(some))} {but}", values).rowcount
    return written


def _signals_received(db: sqlite3.Connection, run: Sequence[c.SignalReceived]) -> None:
    one = len(run) == 1
    # Of many it has to be found out which one was there before.
    newest = 0 if one else db.execute("SELECT MAX(id) FROM signals").fetchone()[0] or 0
    written = _insert(
        db,
        'INSERT INTO signals (key, signal_id, source, topic, partition, "offset", account, symbol, action, payload, '
        "received_msc, status, reason, event_id, result, settled_msc, request_id, sender, "
        "correlation)",
        [_signal_row(x) for x in run],
        "ON CONFLICT (key) DO NOTHING",
    )
    if written < len(run):
        raise JournalConflict(run[0].key if one else _conflicting(db, run, newest))


def _conflicting(db: sqlite3.Connection, run: Sequence[c.SignalReceived], newest: int) -> str:
    """The first key of the run that was there before, or is in the run twice."""
    seen: set[str] = set()
    for x in run:
        there = db.execute("SELECT 1 FROM signals WHERE key = ? AND id <= ?", (x.key, newest)).fetchone()
        if x.key in seen or there is not None:
            return x.key
        seen.add(x.key)
    raise AssertionError("a row was not written although its key was free")


def _signal_row(x: c.SignalReceived) -> tuple[object, ...]:
    end = x.settled
    if end is not None and end.key != x.key:
        raise JournalRejected(f"signal {x.key!r} cannot enter with the result of {end.key!r}")
    return (
        x.key,
        x.signal_id,
        x.source,
        x.topic,
        x.partition,
        x.offset,
        x.account,
        x.symbol,
        x.action,
        x.payload,
        x.received_msc,
        *((None,) * 5 if end is None else (end.status, end.reason, end.event_id, end.result, end.at_msc)),
        _storable(x.request_id),
        x.sender,
        x.correlation,
    )


def _storable(request_id: str | int | None) -> str | int | None:
    """SQLite holds whole numbers of 64 bits; what is larger is kept as text."""
    fits = not isinstance(request_id, int) or -(2**63) <= request_id < 2**63
    return request_id if fits else str(request_id)


def _signal_settled(db: sqlite3.Connection, x: c.SignalSettled) -> None:
    done = db.execute(
        "UPDATE signals SET status = ?, reason = ?, event_id = ?, result = ?, settled_msc = ? "
        "WHERE key = ? AND status IS NULL",
        (x.status, x.reason, x.event_id, x.result, x.at_msc, x.key),
    )
    if done.rowcount == 0:
        raise JournalRejected(f"signal {x.key!r} is unknown or already settled")


def _result_corrected(db: sqlite3.Connection, x: c.ResultCorrected) -> None:
    if db.execute("SELECT 1 FROM signals WHERE key = ? AND status IS NOT NULL", (x.key,)).fetchone() is None:
        raise JournalRejected(f"signal {x.key!r} has no result to correct")
    done = db.execute(
        "INSERT INTO corrections (event_id, key, supersedes, status, reason, result, at_msc) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING",
        (x.event_id, x.key, x.supersedes, x.status, x.reason, x.result, x.at_msc),
    )
    if done.rowcount == 0:
        raise JournalRejected(f"event {x.event_id!r} is already a correction")


def _offset_moved(db: sqlite3.Connection, x: c.OffsetMoved) -> None:
    db.execute(
        "INSERT INTO offsets (topic, partition, next_offset) VALUES (?, ?, ?) ON CONFLICT (topic, partition) "
        "DO UPDATE SET next_offset = excluded.next_offset WHERE excluded.next_offset > next_offset",
        (x.topic, x.partition, x.next_offset),
    )


def _offset_reached(db: sqlite3.Connection, x: c.OffsetReached) -> None:
    row = db.execute(
        "SELECT next_offset FROM offsets WHERE topic = ? AND partition = ?", (x.topic, x.partition)
    ).fetchone()
    if row is None or row[0] < x.offset:
        raise NotEntered(f"what comes before {x.topic}/{x.partition}/{x.offset} is not in the journal")


def _topic_reset(db: sqlite3.Connection, x: c.TopicReset) -> None:
    db.execute(
        "INSERT INTO offsets (topic, partition, next_offset) VALUES (?, ?, ?) ON CONFLICT (topic, partition) "
        "DO UPDATE SET next_offset = excluded.next_offset",
        (x.topic, x.partition, x.next_offset),
    )


def _intent_opened(db: sqlite3.Connection, x: c.IntentOpened) -> None:
    # The last line of "at most once": a signal that has its result, or a leg that was opened, is never sent again.
    done = db.execute(
        "INSERT INTO intents (magic, key, leg, symbol, action, request, state, opened_msc, moved_msc, volume, risk) "
        "SELECT ?, ?, ?, ?, ?, ?, 'sending', ?, ?, ?, ? "
        "WHERE NOT EXISTS (SELECT 1 FROM intents WHERE key = ? AND leg = ?) "
        "AND (? > 0 OR NOT EXISTS (SELECT 1 FROM signals WHERE key = ? AND status IS NOT NULL)) "
        "AND (? IS NULL OR EXISTS (SELECT 1 FROM signals WHERE key = ? AND received_msc = ?)) "
        "ON CONFLICT (magic) DO NOTHING",
        (
            *(x.magic, x.key, x.leg, x.symbol, x.action, x.request),
            *(x.opened_msc, x.opened_msc, x.volume, x.risk),
            *(x.key, x.leg, x.leg, x.key, x.received_msc, x.key, x.received_msc),
        ),
    )
    if done.rowcount == 0:
        raise _not_opened(db, x)


def _not_opened(db: sqlite3.Connection, x: c.IntentOpened) -> JournalError:
    row = db.execute("SELECT status, received_msc FROM signals WHERE key = ?", (x.key,)).fetchone()
    if x.received_msc is not None and (row is None or row[1] != x.received_msc):
        return NotEntered(f"signal {x.key} is not in the inbox as it was received")
    return JournalRejected(_why_not_opened(db, x, None if row is None else row[0]))


def _why_not_opened(db: sqlite3.Connection, x: c.IntentOpened, status: str | None) -> str:
    if x.leg == 0 and status is not None:
        return f"signal {x.key} has its result already: {status}"
    if db.execute("SELECT 1 FROM intents WHERE key = ? AND leg = ?", (x.key, x.leg)).fetchone():
        return f"leg {x.leg} of {x.key} was opened before"
    return f"magic {x.magic} is already in use"


def _intent_moved(db: sqlite3.Connection, x: c.IntentMoved) -> None:
    done = db.execute(
        "UPDATE intents SET state = ?, moved_msc = ?, retcode = COALESCE(?, retcode), "
        '"order" = COALESCE(?, "order"), deal = COALESCE(?, deal), position = COALESCE(?, position), '
        "filled_volume = COALESCE(?, filled_volume), price = COALESCE(?, price), detail = COALESCE(?, detail) "
        "WHERE magic = ?",
        (x.state, x.at_msc, x.retcode, x.order, x.deal, x.position, x.volume, x.price, x.detail, x.magic),
    )
    if done.rowcount == 0:
        raise JournalRejected(f"magic {x.magic} has no intent")


def _announced(db: sqlite3.Connection, run: Sequence[c.Announced]) -> None:
    rows = [(channel, x.event_id, x.type, x.key, x.payload, x.at_msc) for x in run for channel in x.channels]
    _insert(db, "INSERT INTO outbox (channel, event_id, type, key, payload, at_msc)", rows)


def _outbox_done(db: sqlite3.Connection, x: c.OutboxDone) -> None:
    for start in range(0, len(x.ids), _VARIABLES):
        ids = x.ids[start : start + _VARIABLES]
        marks = ",".join("?" * len(ids))
        db.execute(f"DELETE FROM outbox WHERE id IN ({marks}) AND channel = ?", (*ids, x.channel))  # noqa: S608 - marks only


def _cursor_moved(db: sqlite3.Connection, x: c.CursorMoved) -> None:
    db.execute(
        "INSERT INTO cursors (symbol, epoch, time_msc, count) VALUES (?, ?, ?, ?) ON CONFLICT (symbol) "
        "DO UPDATE SET epoch = excluded.epoch, time_msc = excluded.time_msc, count = excluded.count "
        "WHERE (excluded.epoch, excluded.time_msc, excluded.count) > (epoch, time_msc, count)",
        (x.symbol, x.epoch, x.time_msc, x.count),
    )


def _halt_changed(db: sqlite3.Connection, x: c.HaltChanged) -> None:
    db.execute(
        'INSERT INTO halts (state, reason, "by", at_msc, origin, until_day) VALUES (?, ?, ?, ?, ?, ?)',
        (x.state, x.reason, x.by, x.at_msc, x.origin, x.until_day),
    )


def _command_answered(db: sqlite3.Connection, x: c.CommandAnswered) -> None:
    db.execute(
        "INSERT INTO commands (request_id, command, answer, at_msc) VALUES (?, ?, ?, ?) ON CONFLICT (request_id) "
        "DO UPDATE SET command = excluded.command, answer = excluded.answer, at_msc = excluded.at_msc "
        "WHERE excluded.at_msc - at_msc >= ?",
        (x.request_id, x.command, x.answer, x.at_msc, COMMAND_MEMORY_MS),
    )


def _memo(db: sqlite3.Connection, x: c.Memo) -> None:
    db.execute(
        "INSERT INTO memos (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (x.name, x.value),
    )


def _audited(db: sqlite3.Connection, x: c.Audited) -> None:
    db.execute("INSERT INTO audit (at_msc, who, what, detail) VALUES (?, ?, ?, ?)", (x.at_msc, x.who, x.what, x.detail))


_APPLY_SOME: dict[type, Callable[[sqlite3.Connection, Sequence[Any]], None]] = {
    c.SignalReceived: _signals_received,
    c.Announced: _announced,
}
"""Of these a flood brings hundreds in one call: neighbours of a kind are written together."""

# Any: a function takes its own change only, which the table's keys ensure and a dict's type cannot say.
_APPLY: dict[type, Callable[[sqlite3.Connection, Any], None]] = {
    c.SignalSettled: _signal_settled,
    c.ResultCorrected: _result_corrected,
    c.OffsetMoved: _offset_moved,
    c.OffsetReached: _offset_reached,
    c.TopicReset: _topic_reset,
    c.IntentOpened: _intent_opened,
    c.IntentMoved: _intent_moved,
    c.OutboxDone: _outbox_done,
    c.CursorMoved: _cursor_moved,
    c.HaltChanged: _halt_changed,
    c.CommandAnswered: _command_answered,
    c.Memo: _memo,
    c.Audited: _audited,
}

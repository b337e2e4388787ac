"""Forgetting: what is old and can no longer matter, in small transactions so that nobody waits behind it."""

import sqlite3

BATCH = 100
"""Rows of a kind in one transaction: whoever commits an order meanwhile waits for it."""
WALK = 500
"""Intents looked at in one transaction, most of which stay."""

Place = tuple[int, int]
"""How far intents were looked at: when one was opened, and its magic."""


def prune_batch(db: sqlite3.Connection, before_msc: int) -> int:
    """Deletes some settled rows older than `before_msc`. Returns how many; 0 means done.

    Waiting signals and the current halt are kept.
    """
    done = 0
    for sql in _PRUNE:
        done += db.execute(sql, (before_msc, BATCH)).rowcount
    return done


def prune_intents(db: sqlite3.Connection, before_msc: int, after: Place) -> tuple[int, Place | None]:
    """Deletes what can no longer matter of the next few intents older than `before_msc`.

    Open ones and every magic that may have reached the market are kept: a position can outlive any retention, and its
    magic must stay ours. Since they pile up, nobody looks at the same ones again and again.

    Args:
        db: the journal.
        before_msc: UTC ms.
        after: where to begin.

    Returns:
        How many were deleted, and where to go on; None: no more.
    """
    rows = db.execute(_WALK, (*after, before_msc, WALK)).fetchall()
    gone = [(magic,) for _, magic, forget in rows if forget]
    db.executemany("DELETE FROM intents WHERE magic = ?", gone)
    return len(gone), (rows[-1][0], rows[-1][1]) if len(rows) == WALK else None


def age_out_batch(db: sqlite3.Connection, channel: str, before_msc: int) -> int:
    """Deletes up to a few hundred undelivered rows of a channel older than `before_msc`. Returns how many."""
    return db.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE channel = ? AND at_msc < ? ORDER BY id LIMIT ?)",
        (channel, before_msc, BATCH),
    ).rowcount


_PRUNE = (
    # Corrections hang on their signal's key, so they go before it, and are old when it is.
    "DELETE FROM corrections WHERE key IN (SELECT key FROM signals WHERE received_msc < ? AND status IS NOT NULL "
    "ORDER BY received_msc LIMIT ?)",
    "DELETE FROM signals WHERE id IN (SELECT id FROM signals WHERE received_msc < ? AND status IS NOT NULL "
    "ORDER BY received_msc LIMIT ?)",
    "DELETE FROM commands WHERE request_id IN (SELECT request_id FROM commands WHERE at_msc < ? LIMIT ?)",
    "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at_msc < ? LIMIT ?)",
    "DELETE FROM halts WHERE id IN (SELECT id FROM halts WHERE at_msc < ? AND id < (SELECT MAX(id) FROM halts) "
    "LIMIT ?)",
)
_WALK = (
    "SELECT opened_msc, magic, state NOT IN ('sending', 'unknown', 'abandoned') "
    # What only changed or cancelled leaves its magic nowhere; a trailing stop makes thousands of them.
    "AND (action IN ('MODIFY', 'CANCEL', 'trailing_stop', 'break_even') "
    'OR COALESCE("order", 0) = 0 AND COALESCE(deal, 0) = 0 AND COALESCE(position, 0) = 0) FROM intents '
    "WHERE (opened_msc, magic) > (?, ?) AND opened_msc < ? ORDER BY opened_msc, magic LIMIT ?"
)

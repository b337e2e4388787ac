"""Forgetting: what is old and can no longer matter, in small transactions so that nobody waits behind it."""

import sqlite3

BATCH = 500


def prune_batch(db: sqlite3.Connection, before_msc: int) -> int:
    """Deletes up to a few hundred settled rows older than `before_msc`. Returns how many; 0 means done.

    Waiting signals, open intents, the current halt and every magic that may have reached the market are kept: a
    position can outlive any retention, and its magic must stay ours.
    """
    done = 0
    for sql in _PRUNE:
        done += db.execute(sql, (before_msc, BATCH)).rowcount
    return done


def age_out_batch(db: sqlite3.Connection, channel: str, before_msc: int) -> int:
    """Deletes up to a few hundred undelivered rows of a channel older than `before_msc`. Returns how many."""
    return db.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE channel = ? AND at_msc < ? ORDER BY id LIMIT ?)",
        (channel, before_msc, BATCH),
    ).rowcount


_PRUNE = (
    # Corrections and intents hang on their signal's key, so they go before it, and are old when it is.
    "DELETE FROM corrections WHERE key IN (SELECT key FROM signals WHERE received_msc < ? AND status IS NOT NULL "
    "ORDER BY received_msc LIMIT ?)",
    "DELETE FROM intents WHERE magic IN (SELECT magic FROM intents WHERE opened_msc < ? "
    "AND state NOT IN ('sending', 'unknown', 'abandoned') "
    # What only changed or cancelled leaves its magic nowhere; a trailing stop makes thousands of them.
    "AND (action IN ('MODIFY', 'CANCEL', 'trailing_stop', 'break_even') "
    'OR COALESCE("order", 0) = 0 AND COALESCE(deal, 0) = 0 AND COALESCE(position, 0) = 0) LIMIT ?)',
    "DELETE FROM signals WHERE id IN (SELECT id FROM signals WHERE received_msc < ? AND status IS NOT NULL "
    "ORDER BY received_msc LIMIT ?)",
    "DELETE FROM commands WHERE request_id IN (SELECT request_id FROM commands WHERE at_msc < ? LIMIT ?)",
    "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at_msc < ? LIMIT ?)",
    "DELETE FROM halts WHERE id IN (SELECT id FROM halts WHERE at_msc < ? AND id < (SELECT MAX(id) FROM halts) "
    "LIMIT ?)",
)

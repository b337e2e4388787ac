"""The bridge's memory: signals, intents, outcomes, halt, cursors and the outbox, in one SQLite file."""

from mt5_bridge.journal.errors import JournalConflict, JournalRejected, JournalUnusable, NotEntered
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.journal.lock import InstanceLock

__all__ = [
    "InstanceLock",
    "Journal",
    "JournalConflict",
    "JournalRejected",
    "JournalUnusable",
    "LatchFile",
    "NotEntered",
]

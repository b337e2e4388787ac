"""The life of an intent: what was decided, sent, and what became of it. Pure.

    sending → filled | partial | placed | modified | cancelled | closed | rejected | unknown
    unknown → any of those, or abandoned; abandoned → filled … when the truth turns up late

Promise P1 rests on the magic number (unique per intent), P2 on `unknown` having no way back to `sending`.
"""

from enum import StrEnum


class IntentState(StrEnum):
    """Where an intent stands. The words are those of `order_result.status`."""

    SENDING = "sending"
    FILLED = "filled"
    PARTIAL = "partial"
    PLACED = "placed"
    MODIFIED = "modified"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    ABANDONED = "abandoned"
    SIMULATED = "simulated"

    @property
    def open(self) -> bool:
        """True while the outcome is not known: it counts as filled in every limit."""
        return self in (IntentState.SENDING, IntentState.UNKNOWN)


DONE = frozenset(
    {
        IntentState.FILLED,
        IntentState.PARTIAL,
        IntentState.PLACED,
        IntentState.MODIFIED,
        IntentState.CANCELLED,
        IntentState.CLOSED,
    }
)
_NEXT: dict[IntentState, frozenset[IntentState]] = {
    IntentState.SENDING: DONE | {IntentState.REJECTED, IntentState.UNKNOWN, IntentState.SIMULATED},
    IntentState.UNKNOWN: DONE | {IntentState.REJECTED, IntentState.ABANDONED},
    IntentState.ABANDONED: DONE,
}


def may_move(now: IntentState, to: IntentState) -> bool:
    """Whether the life of an intent allows the step."""
    return to in _NEXT.get(now, frozenset())


class Verdict(StrEnum):
    """What an answer to `order_send` means for the intent (the map from retcodes is in `terminal.retcodes`)."""

    DONE = "done"
    PARTIAL = "partial"
    PLACED = "placed"
    NO_CHANGES = "no_changes"
    RETRY = "retry"
    """Certainly not executed; a fresh quote may help (requote, price changed, price off)."""
    BACK_OFF = "back_off"
    """Certainly not executed; the server wants a pause."""
    REQUERY = "requery"
    """Not executed as asked because the state was another: look, then decide."""
    FINAL = "final"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    SYMBOL_BLOCKED = "symbol_blocked"
    NOT_READY = "not_ready"
    """AutoTrading is off (10026, 10027): alarm, and clear when the flag does."""
    HALT = "halt"


MAGIC_LOW_BITS = 32
MAGIC_LOW_MASK = (1 << MAGIC_LOW_BITS) - 1
MAGIC_BASE_MAX = (1 << 20) - 1


def magic_for(base: int, signal_id: str, leg: int, taken: frozenset[int] | set[int] = frozenset()) -> int:
    """The magic of an intent: `base << 32 | hash`, below 2^53 so that JavaScript keeps it.

    Args:
        base: MT5_MAGIC, 1 … 2^20-1.
        signal_id: the signal's id.
        leg: number of the order within the signal, from 0.
        taken: magics already journalled; a collision takes the next free value.
    """
    if not 1 <= base <= MAGIC_BASE_MAX:
        raise ValueError(f"MT5_MAGIC must be 1 to {MAGIC_BASE_MAX}, not {base}")
    import hashlib  # OpenSSL's megabytes are not for the terminal's host, which shares this module

    digest = hashlib.blake2b(f"{signal_id}\0{leg}".encode(), digest_size=4).digest()
    low = int.from_bytes(digest, "big")
    while (magic := base << MAGIC_LOW_BITS | low) in taken:
        low = (low + 1) & MAGIC_LOW_MASK
    return magic


def magic_base(magic: int) -> int:
    """The MT5_MAGIC in a magic."""
    return magic >> MAGIC_LOW_BITS


def low_half(magic: int) -> int:
    """The half of a magic that tells the signal and its leg, whatever MT5_MAGIC is."""
    return magic & MAGIC_LOW_MASK


def comment_for(signal_id: str, wish: str | None = None) -> str:
    """The order comment: for people only, ASCII, at most 25 characters; brokers rewrite it."""
    text = wish or signal_id
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:25]

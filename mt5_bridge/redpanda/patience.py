"""How long a fetch may wait at the broker for the first record. Pure."""

_IDLE_SHARE = 20
_SHORTEST_MS = 1
_LONGEST_MS = 250
_TELLING_MS = 50
_PATIENT_MS = 1000
_AT_ONCE_MS = 5
"""A record that was there when it was asked for has come by then; one that arrives just then is a rare chance."""


class Patience:
    """Long waits where the broker answers a waiting fetch when a record arrives, short ones where it does not.

    Brokers do; librdkafka's mock cluster answers with nothing when the wait is over, and has the record for the next
    fetch. There a fetch waits a twentieth of the time since the last record: a record is late by 5 % of the silence
    before it, and an idle bridge still asks only four times a second. Elsewhere a long wait costs nothing, and spares
    hundreds of empty fetches a second; so while no record has shown which it is, the waits may become as long.

    Attributes:
        answers_early: whether the broker does; None until a record has shown it.
    """

    def __init__(self) -> None:
        self.answers_early: bool | None = None
        self._in_vain = False

    def wait_ms(self, idle_ms: float) -> int:
        """How long the next fetch may wait, given the time since the last record."""
        if self.answers_early:
            return _PATIENT_MS
        shortest, longest = (_TELLING_MS, _PATIENT_MS) if self.answers_early is None else (_SHORTEST_MS, _LONGEST_MS)
        return int(min(max(idle_ms / _IDLE_SHARE, shortest), longest))

    def fetched(self, wait_ms: int, took_ms: float, *, records: bool) -> None:
        """Learn from a fetch: what it might have waited, what it took, and whether it brought any records."""
        share = took_ms / wait_ms
        if records and wait_ms >= _TELLING_MS and 0.1 < share < 0.9:
            self.answers_early = True
        elif records and took_ms <= min(_AT_ONCE_MS, wait_ms / 10) and self._in_vain:
            self.answers_early = False
        self._in_vain = not records and wait_ms >= _TELLING_MS and share >= 0.9

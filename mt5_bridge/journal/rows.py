"""What the journal gives back. Times are UTC in milliseconds since the epoch, volumes in lots."""

import msgspec


class StoredSignal(msgspec.Struct, frozen=True):
    """An inbox row. `status` is None until the final result; the four fields behind it belong to that."""

    key: str
    signal_id: str
    source: str
    topic: str
    partition: int
    offset: int
    account: str
    symbol: str
    action: str
    payload: bytes
    received_msc: int
    status: str | None
    reason: str | None
    event_id: str | None
    result: bytes | None
    settled_msc: int | None
    request_id: str | int | None = None
    sender: str | None = None
    correlation: str | None = None


class StoredIntent(msgspec.Struct, frozen=True):
    """An order's intent and what became of it; None where nothing is known yet."""

    magic: int
    key: str
    leg: int
    symbol: str
    action: str
    request: bytes
    state: str
    opened_msc: int
    moved_msc: int
    volume: float
    risk: float | None
    retcode: int | None
    order: int | None
    deal: int | None
    position: int | None
    filled_volume: float | None
    price: float | None
    detail: str | None


class StoredCorrection(msgspec.Struct, frozen=True):
    """A result announced later in place of the one with event id `supersedes`."""

    event_id: str
    supersedes: str
    status: str
    reason: str
    result: bytes
    at_msc: int


class OutboxRow(msgspec.Struct, frozen=True):
    """An event that a channel has not acknowledged."""

    id: int
    event_id: str
    type: str
    key: str
    payload: bytes
    at_msc: int


class SignalStory(msgspec.Struct, frozen=True):
    """Everything known of one signal. `events` are its results still waiting for a channel, as (channel, row)."""

    signal: StoredSignal
    intents: list[StoredIntent]
    corrections: list[StoredCorrection]
    events: list[tuple[str, OutboxRow]]


class StoredHalt(msgspec.Struct, frozen=True):
    """The halt state and how it came about."""

    state: str
    reason: str
    by: str
    at_msc: int
    origin: str
    until_day: str | None


class StoredAnswer(msgspec.Struct, frozen=True):
    """The first answer to a command."""

    request_id: str
    command: str
    answer: bytes
    at_msc: int


class AuditRow(msgspec.Struct, frozen=True):
    """An entry of the audit trail."""

    at_msc: int
    who: str
    what: str
    detail: str

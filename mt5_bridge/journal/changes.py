"""What can be written to the journal. All changes of one `Journal.commit` become durable together, or none does.

Times are UTC in milliseconds since the epoch, volumes in lots.
"""

from typing import TypeAlias

import msgspec


class SignalReceived(msgspec.Struct, frozen=True, kw_only=True):
    """A signal enters the inbox. A second one with the same `key` raises `JournalConflict`.

    `topic`, `partition` and `offset` are where it was read, empty and -1 for signals over WebSocket or HTTP. `settled`
    is its final result where it has that at once, of the same `key`. `request_id`, `sender` and `correlation` tell of
    the request that brought it, None where there was none.
    """

    key: str
    signal_id: str
    source: str
    account: str
    symbol: str
    action: str
    payload: bytes
    received_msc: int
    topic: str = ""
    partition: int = -1
    offset: int = -1
    settled: "SignalSettled | None" = None
    request_id: str | int | None = None
    sender: str | None = None
    correlation: str | None = None


class SignalSettled(msgspec.Struct, frozen=True, kw_only=True):
    """A signal's final result, denials included. A signal settles once; later truths are `ResultCorrected`."""

    key: str
    status: str
    reason: str
    event_id: str
    result: bytes
    at_msc: int


class ResultCorrected(msgspec.Struct, frozen=True, kw_only=True):
    """A result that replaces an announced one (`supersedes` = its event id), as when an abandoned order filled."""

    key: str
    status: str
    reason: str
    event_id: str
    supersedes: str
    result: bytes
    at_msc: int


class OffsetMoved(msgspec.Struct, frozen=True, kw_only=True):
    """The next offset to read of a partition. It never moves back: a smaller one changes nothing."""

    topic: str
    partition: int
    next_offset: int


class OffsetReached(msgspec.Struct, frozen=True):
    """What stands before that offset is in the journal, if only since a call right before this one: `NotEntered` where
    it is not. Changes nothing.
    """

    topic: str
    partition: int
    offset: int


class TopicReset(msgspec.Struct, frozen=True, kw_only=True):
    """The topic was made anew: the offset is set, backwards too."""

    topic: str
    partition: int
    next_offset: int


class IntentOpened(msgspec.Struct, frozen=True, kw_only=True):
    """An order is about to be sent: state `sending`. `leg` counts the orders of one signal from 0.

    `risk` is what the order can lose at its stop, in account currency, None when unknown. With `received_msc` the inbox
    must hold the signal as received then, if only since a call right before this one: `NotEntered` where it does not.
    """

    magic: int
    key: str
    symbol: str
    action: str
    request: bytes
    opened_msc: int
    volume: float
    risk: float | None = None
    leg: int = 0
    received_msc: int | None = None


class IntentMoved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an intent. A field that is None keeps what is journalled."""

    magic: int
    state: str
    at_msc: int
    retcode: int | None = None
    order: int | None = None
    deal: int | None = None
    position: int | None = None
    volume: float | None = None
    price: float | None = None
    detail: str | None = None


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be delivered: one outbox row for each channel (`redpanda`, `websocket`)."""

    event_id: str
    type: str
    key: str
    payload: bytes
    channels: tuple[str, ...]
    at_msc: int


class OutboxDone(msgspec.Struct, frozen=True, kw_only=True):
    """Rows a channel has acknowledged; they are deleted. Unknown ids are ignored."""

    channel: str
    ids: tuple[int, ...]


class CursorMoved(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol's ticks are acknowledged up to here (raw broker ms). It never moves back within or across epochs."""

    symbol: str
    epoch: int
    time_msc: int
    count: int


HALT_UNTOLD = "halt_untold"
"""The memo, not empty, of a halt state that was changed on disk while no bridge ran: the next one announces it."""


class HaltChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The halt state changed. The last one is the current state, all of them the history.

    `until_day`: ISO date of the trading day a daily latch ends with; None: only a person ends it.
    """

    state: str
    reason: str
    by: str
    at_msc: int
    origin: str
    until_day: str | None = None


class CommandAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a command that acted. The first answer to a `request_id` stays for 24 hours."""

    request_id: str
    command: str
    answer: bytes
    at_msc: int


class Memo(msgspec.Struct, frozen=True, kw_only=True):
    """A small named value: day state, peak equity, clock timeline."""

    name: str
    value: bytes


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what: logins, resumes, settings changed at run time."""

    at_msc: int
    who: str
    what: str
    detail: str = ""


Change: TypeAlias = (
    SignalReceived
    | SignalSettled
    | ResultCorrected
    | OffsetMoved
    | OffsetReached
    | TopicReset
    | IntentOpened
    | IntentMoved
    | Announced
    | OutboxDone
    | CursorMoved
    | HaltChanged
    | CommandAnswered
    | Memo
    | Audited
)

"""What a broker's refusal of a record means, and any error in a few words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors as kafka

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.redpanda.causes import text


class InvalidRecord(kafka.BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """A topic's own rules do not admit the record: it wants a key, or a schema."""

    errno = 87
    message = "INVALID_RECORD"


# aiokafka does not know this answer and would tell it as the broker's unknown trouble, which passes.
kafka.kafka_errors.setdefault(InvalidRecord.errno, InvalidRecord)

_RIGHTS = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
)
_REFUSED = {
    kafka.MessageSizeTooLargeError: "too_large",
    kafka.RecordListTooLargeError: "too_large",
    kafka.InvalidTimestampError: "timestamp",
    kafka.TopicAuthorizationFailedError: "not_allowed",
    kafka.ClusterAuthorizationFailedError: "not_allowed",
    kafka.InvalidTopicError: "topic",
    kafka.UnknownTopicOrPartitionError: "topic",
    InvalidRecord: "invalid",
}
_MENDABLE = frozenset({"not_allowed", "topic"})


class RecordRefused(BrokerError):
    """The broker is there and does not take this record.

    Attributes:
        reason: `too_large`, `timestamp` or `invalid`: this record, for good. `not_allowed` or `topic`: nothing goes
            into that topic until a person grants the right or makes the topic, so the record can wait.
        retriable: whether it can.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.retriable = reason in _MENDABLE


def refusal(error: BaseException) -> RecordRefused | None:
    """The refusal that a broker's answer to a batch means; None when it is about something else."""
    reason = _REFUSED.get(type(error))
    return None if reason is None else RecordRefused(f"the broker refused the record: {describe(error)}", reason)


def given_up(error: BaseException, tries: int) -> BrokerError:
    """What to tell of a record that was tried so often, each time with this answer."""
    text = f"not published after {tries} tries: {describe(error)}"
    # Once it is damage on the way. Always: an old broker's way to say that its compacted topic wants a key.
    return RecordRefused(text, "invalid") if isinstance(error, kafka.CorruptRecordException) else BrokerError(text)


def describe(error: BaseException) -> str:
    """One line for a person; `inquiry.diagnose` finds more."""
    if isinstance(error, _RIGHTS):
        return f"these credentials may not do that: {text(error)}"
    if isinstance(error, TimeoutError | kafka.RequestTimedOutError):
        return "the broker does not answer"
    return text(error)


@contextmanager
def quiet_library(level: int = logging.CRITICAL) -> Iterator[None]:
    """Silences aiokafka's own log meanwhile: it writes dozens of lines a second about what we report anyway."""
    log = logging.getLogger("aiokafka")
    before = log.level
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)

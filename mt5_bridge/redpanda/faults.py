"""What went wrong with a broker, in words: which cause, and whether the credentials are to blame."""

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka import errors as kafka
from aiokafka.conn import create_conn

from mt5_bridge.core.errors import BrokerError


class InvalidRecord(kafka.BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """A topic's own rules do not admit the record: it wants a key, or a schema."""

    errno = 87
    message = "INVALID_RECORD"


# aiokafka does not know this answer and would tell it as the broker's unknown trouble, which passes.
kafka.kafka_errors.setdefault(InvalidRecord.errno, InvalidRecord)

_CREDENTIALS = (
    kafka.AuthenticationFailedError,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
)
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
CREDENTIALS = "the broker refused the credentials"
CREDENTIALS_PAUSE_S = 5.0
"""Until wrong credentials are tried again: they do not mend themselves in a second, and a server may count them."""

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
    """One line for a person."""
    if isinstance(error, _CREDENTIALS):
        return f"{CREDENTIALS}: {_text(error)}"
    if isinstance(error, _RIGHTS):
        return f"these credentials may not do that: {_text(error)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {_text(error)}"
    if isinstance(error, TimeoutError | kafka.RequestTimedOutError):
        return "the broker does not answer"
    return _text(error)


async def diagnose(error: BaseException, options: dict[str, Any], timeout: float) -> str:
    """One line for a person on why there is no connection.

    Args:
        options: those of `security.client_options`.
        timeout: seconds to find out more where the error itself says nothing.
    """
    if not isinstance(error, kafka.KafkaConnectionError):
        return describe(error)
    try:
        async with asyncio.timeout(timeout):
            return await why_unreachable(options)
    except TimeoutError:
        return describe(error)


async def why_unreachable(options: dict[str, Any]) -> str:
    """Connects once to each address to learn what aiokafka's own "unable to bootstrap" hides.

    Args:
        options: those of `security.client_options`.
    """
    reasons: list[str] = []
    for server in options["bootstrap_servers"]:
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), **_connection_options(options))
        except (OSError, kafka.KafkaError, ValueError) as error:
            reasons.append(f"{server}: {describe(error)}")
        else:
            connection.close()
            reasons.append(f"{server}: connected, but told no other address")
    return "; ".join(reasons) or "no address given"


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


def _connection_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "bootstrap_servers"}


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

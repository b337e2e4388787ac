"""What a refusal means, and any error in a few words."""

import logging

import pytest
from aiokafka import errors as kafka

from mt5_bridge.redpanda import quiet_library
from mt5_bridge.redpanda.faults import describe, refusal


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (kafka.TopicAuthorizationFailedError("t"), "credentials may not"),
        (TimeoutError(), "does not answer"),
        (kafka.RequestTimedOutError(), "does not answer"),
        (OSError("no route"), "no route"),
        (OSError(), "OSError"),
    ],
)
def test_the_cause_is_named(error: BaseException, words: str) -> None:
    assert words in describe(error)


def test_a_refusal_is_about_the_record() -> None:
    refused = refusal(kafka.MessageSizeTooLargeError())
    assert refused is not None
    assert (refused.reason, refused.retriable) == ("too_large", False)
    assert refusal(kafka.NotLeaderForPartitionError()) is None


@pytest.mark.parametrize(
    ("code", "reason", "retriable"),
    [
        (10, "too_large", False),
        (18, "too_large", False),
        (32, "timestamp", False),
        (87, "invalid", False),
        (29, "not_allowed", True),
        (31, "not_allowed", True),
        (17, "topic", True),
        (3, "topic", True),
    ],
)
def test_only_what_no_person_can_mend_is_refused_for_good(code: int, reason: str, retriable: bool) -> None:
    refused = refusal(kafka.for_code(code)())
    assert refused is not None
    assert (refused.reason, refused.retriable) == (reason, retriable)


def test_the_librarys_log_is_silenced_for_a_while_only() -> None:
    log = logging.getLogger("aiokafka")
    before = log.level
    with quiet_library():
        assert not log.isEnabledFor(logging.ERROR)
        with quiet_library():
            assert not log.isEnabledFor(logging.ERROR)
        assert not log.isEnabledFor(logging.ERROR)
    assert log.level == before

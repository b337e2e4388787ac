"""What a person is told."""

import logging
import ssl

import pytest
from aiokafka import errors as kafka
from support.broker import free_port

from mt5_bridge.redpanda import RedpandaConfig, quiet_library
from mt5_bridge.redpanda.faults import describe, diagnose, refusal, why_unreachable
from mt5_bridge.redpanda.security import client_options


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (kafka.SaslAuthenticationFailed("nope"), "credentials"),
        (kafka.AuthenticationFailedError("nope"), "credentials"),
        (kafka.UnsupportedSaslMechanismError("PLAIN"), "credentials"),
        (kafka.TopicAuthorizationFailedError("t"), "credentials may not"),
        (ssl.SSLCertVerificationError("x"), "certificate"),
        (ssl.SSLError("x"), "TLS"),
        (TimeoutError(), "does not answer"),
        (kafka.RequestTimedOutError(), "does not answer"),
        (OSError("no route"), "no route"),
        (OSError(), "OSError"),
    ],
)
def test_the_cause_is_named(error: BaseException, words: str) -> None:
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "self-signed"
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


async def test_what_the_error_says_itself_is_not_asked_for_again() -> None:
    options = client_options(RedpandaConfig(bootstrap=f"127.0.0.1:{free_port()}"))
    assert "may not" in await diagnose(kafka.ClusterAuthorizationFailedError(), options, 5.0)
    assert "ConnectionRefusedError" in await diagnose(kafka.KafkaConnectionError(), options, 5.0)
    assert "KafkaConnectionError" in await diagnose(kafka.KafkaConnectionError(), options, 0.0)


async def test_why_a_broker_cannot_be_reached(bootstrap: str) -> None:
    closed = f"127.0.0.1:{free_port()}"
    options = client_options(RedpandaConfig(bootstrap=f"{closed},{bootstrap},nonsense"))
    refused, reached, nonsense = (await why_unreachable(options)).split("; ")
    assert refused.startswith(f"{closed}: ConnectionRefusedError")
    assert reached.startswith(f"{bootstrap}: connected")
    assert nonsense.startswith("nonsense: ")
    assert await why_unreachable({"bootstrap_servers": []}) == "no address given"


def test_the_librarys_log_is_silenced_for_a_while_only() -> None:
    log = logging.getLogger("aiokafka")
    before = log.level
    with quiet_library():
        assert not log.isEnabledFor(logging.ERROR)
        with quiet_library():
            assert not log.isEnabledFor(logging.ERROR)
        assert not log.isEnabledFor(logging.ERROR)
    assert log.level == before

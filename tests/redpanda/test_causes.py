"""What a person is told: one line, what is wrong and what to do, without a secret."""

import socket
import ssl

import pytest
from aiokafka import errors as kafka
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.redpanda import causes
from mt5_bridge.redpanda.causes import Cause
from mt5_bridge.redpanda.config import RedpandaConfig

PASSWORD = "pass-word-of-mine"
SASL = RedpandaConfig(
    security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-256", username="bridge", password=PASSWORD, ca_file="ca.pem"
)
TLS = RedpandaConfig(security_protocol="SSL")
MUTUAL = RedpandaConfig(security_protocol="SSL", cert_file="mine.pem", key_file="mine.key", key_password=PASSWORD)


def verification(code: int, words: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code, error.verify_message = code, words
    return error


def alert(name: str) -> ssl.SSLError:
    error = ssl.SSLError("an alert")
    error.reason = name
    return error


@pytest.mark.parametrize(
    ("error", "words", "lasting"),
    [
        (socket.gaierror(-2, "unknown"), "the name is not known", False),
        (UnicodeError("label too long"), "the name is not known", False),
        (ConnectionRefusedError(), "nobody listens there; start the broker", False),
        (TimeoutError(), "no answer", False),
        (kafka.RequestTimedOutError(), "no answer", False),
    ],
)
def test_of_the_network(error: BaseException, words: str, lasting: bool) -> None:
    cause = causes.of_network(error)
    assert cause is not None
    assert words in str(cause)
    assert cause.lasting is lasting
    assert causes.of_network(OSError("other")) is None


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        (SASL, 10, "has expired; renew it on the broker"),
        (SASL, 9, "not valid yet"),
        (SASL, 62, "for another host (words); let REDPANDA_BOOTSTRAP_SERVERS"),
        (SASL, 64, "for another host"),
        (SASL, 19, "not signed by the CA in ca.pem (words); put the CA"),
        (TLS, 20, "a CA that this PC does not know (words); let REDPANDA_SSL_CA_FILE"),
        (TLS, 26, "not trusted (words)"),
    ],
)
def test_of_the_brokers_certificate(config: RedpandaConfig, code: int, words: str) -> None:
    cause = causes.of_certificate(verification(code, "words."[: 5 if code != 62 else 6]), config)
    assert words in str(cause)
    assert causes.of_certificate(alert("SSLV3_ALERT_BAD_CERTIFICATE"), config) is None


@pytest.mark.parametrize(
    ("config", "reason", "expired", "words"),
    [
        (TLS, "SSLV3_ALERT_BAD_CERTIFICATE", False, "wants a client certificate, and none is set; set REDPANDA_SSL"),
        (TLS, "TLSV13_ALERT_CERTIFICATE_REQUIRED", False, "wants a client certificate, and none is set"),
        (MUTUAL, "SSLV3_ALERT_CERTIFICATE_EXPIRED", False, "mine.pem has expired; renew it"),
        (MUTUAL, "SSLV3_ALERT_CERTIFICATE_UNKNOWN", True, "mine.pem has expired"),
        (MUTUAL, "TLSV1_ALERT_UNKNOWN_CA", False, "refuses the client certificate mine.pem (unknown ca); have it"),
        (TLS, "TLSV1_ALERT_PROTOCOL_VERSION", False, "another version of TLS"),
    ],
)
def test_of_what_the_broker_says_of_us(config: RedpandaConfig, reason: str, expired: bool, words: str) -> None:
    assert words in str(causes.of_alert(alert(reason), config, expired=expired))
    assert causes.of_alert(ssl.SSLError("no alert"), config, expired=expired) is None
    assert causes.of_alert(OSError(), config, expired=expired) is None


@pytest.mark.parametrize(
    ("error", "offered", "words"),
    [
        (kafka.SaslAuthenticationFailed("no"), [], "refused the credentials of user 'bridge' (SCRAM-SHA-256); check"),
        (kafka.AuthenticationFailedError("no"), [], "refused the credentials"),
        (kafka.IllegalSaslStateError("no"), [], "or set REDPANDA_SECURITY_PROTOCOL=SSL and take"),
        (kafka.UnsupportedSaslMechanismError("no"), ["PLAIN"], "does not take SCRAM-SHA-256; set REDPANDA_SASL_MECHA"),
        (kafka.UnsupportedSaslMechanismError("no"), ["GSSAPI"], "it takes GSSAPI, which the bridge does not speak"),
        (kafka.UnsupportedSaslMechanismError("no"), [], "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        (ValueError("Server sent wrong signature!"), [], "did not prove that it knows the password"),
    ],
)
def test_of_the_login(error: BaseException, offered: list[str], words: str) -> None:
    cause = causes.of_login(error, SASL, offered)
    assert words in str(cause)
    assert causes.of_login(ValueError("no port"), TLS, []) is None


def test_of_the_protocol() -> None:
    assert "set it to SSL" in str(causes.wants_tls(RedpandaConfig()))
    assert "set it to SASL_SSL" in str(causes.wants_tls(RedpandaConfig(security_protocol="SASL_PLAINTEXT")))
    assert "set it to PLAINTEXT where" in str(causes.wants_no_tls(TLS))
    assert "set it to SASL_PLAINTEXT where" in str(causes.wants_no_tls(SASL))
    assert "REDPANDA_SECURITY_PROTOCOL=SASL_SSL" in str(causes.wants_login(TLS, ["PLAIN"]))
    assert "REDPANDA_SECURITY_PROTOCOL=SASL_PLAINTEXT" in str(causes.wants_login(RedpandaConfig(), []))
    assert "client certificate" in str(causes.hung_up(TLS))
    assert "client certificate" not in str(causes.hung_up(MUTUAL))


@pytest.mark.parametrize(
    ("config", "who"),
    [(SASL, "User:bridge"), (MUTUAL, "the client certificate's name"), (TLS, "User:ANONYMOUS")],
)
def test_of_rights(config: RedpandaConfig, who: str) -> None:
    line = (
        f"WRITE on topic t is not granted; grant WRITE on topic t to {who} (kafka-acls, rpk security acl create), or so"
    )
    assert str(causes.denied(config, "WRITE", "topic t", "or so")) == line
    assert "IDEMPOTENT_WRITE on the cluster" in str(causes.denied_by(kafka.ClusterAuthorizationFailedError(), config))
    assert "topic t" in str(causes.denied_by(kafka.TopicAuthorizationFailedError("t"), config))
    assert "group g" in str(causes.denied_by(kafka.GroupAuthorizationFailedError("g"), config))
    assert "(not named)" in str(causes.denied_by(kafka.GroupAuthorizationFailedError(), config))
    assert causes.denied_by(OSError(), config) is None


def test_an_address_that_only_the_broker_tells() -> None:
    nobody = causes.elsewhere("inside:9092", Cause("nobody listens there", "start it", lasting=False))
    assert str(nobody).startswith("the broker says that it is to be reached at inside:9092, and there: nobody listens")
    assert "advertised.listeners" in nobody.remedy
    assert causes.elsewhere("inside:9092", Cause("expired", "renew it")).remedy == "renew it"


def test_the_same_cause_at_several_addresses_is_told_once() -> None:
    same, other = Cause("gone", "start it", lasting=False), Cause("expired", "renew it")
    assert causes.together([("a:1", same), ("b:1", same)]) == Cause("a:1, b:1: gone", "start it", lasting=False)
    assert str(causes.together([("a:1", same), ("b:1", other), ("c:1", same)])) == (
        "a:1, c:1: gone; start it | b:1: expired; renew it"
    )


ANY_ERROR = st.one_of(
    st.builds(kafka.SaslAuthenticationFailed, st.text()),
    st.builds(kafka.UnsupportedSaslMechanismError, st.text()),
    st.builds(kafka.TopicAuthorizationFailedError, st.from_regex(r"[a-z.]{1,20}", fullmatch=True)),
    st.builds(OSError, st.text()),
    st.builds(ValueError, st.text()),
    st.builds(lambda code: verification(code, "words"), st.integers(0, 100)),
)


@given(ANY_ERROR, st.sampled_from([SASL, TLS, MUTUAL, RedpandaConfig()]))
def test_always_one_line_without_a_secret(error: BaseException, config: RedpandaConfig) -> None:
    told = [
        causes.of_network(error),
        causes.of_certificate(error, config),
        causes.of_alert(error, config, expired=False),
        causes.of_login(error, config, ()),
        causes.denied_by(error, config),
    ]
    for line in [*map(str, told), causes.text(error)]:
        assert len(line.splitlines()) == 1
        assert PASSWORD not in line


def test_a_chain_of_errors_is_walked() -> None:
    inner, outer = OSError("inner"), kafka.KafkaConnectionError("outer")
    outer.__cause__ = inner
    assert list(causes.chain(outer)) == [outer, inner]

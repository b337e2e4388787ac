"""Why the broker cannot be used, in one line for a person: what is wrong, and what to do. Pure.

Every line names the settings by which the bridge, or the right by which the broker, is put right.
"""

import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from aiokafka import errors as kafka

from mt5_bridge.redpanda.config import RedpandaConfig

_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME = frozenset({62, 64})
_UNTRUSTED = frozenset({2, 18, 19, 20, 21, 24, 27})
"""OpenSSL's X509_V_ERR_ numbers."""
_LONGEST = 300


class Cause(msgspec.Struct, frozen=True):
    """What is wrong, and what to do.

    Attributes:
        remedy: empty where there is nothing to advise.
        lasting: only a person can mend it, so trying again every second helps nobody.
    """

    what: str
    remedy: str = ""
    lasting: bool = True

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what

    def at(self, where: str) -> "Cause":
        """The same, saying where."""
        return msgspec.structs.replace(self, what=f"{where}: {self.what}")


def together(found: Sequence[tuple[str, Cause]]) -> Cause:
    """One line for several addresses; the same cause is told once."""
    places: dict[Cause, list[str]] = {}
    for where, cause in found:
        places.setdefault(cause, []).append(where)
    lines = [cause.at(", ".join(where)) for cause, where in places.items()]
    if len(lines) == 1:
        return lines[0]
    return Cause(" | ".join(map(str, lines)), lasting=all(cause.lasting for cause in places))


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from; aiokafka hides a connection's end behind an error of its own."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def text(error: BaseException) -> str:
    """An error in its own words, on one line."""
    words = " ".join(str(error).split())[:_LONGEST]
    name = type(error).__name__
    return words if words.startswith(name) else f"{name}: {words}" if words else name


def of_network(error: BaseException) -> Cause | None:
    """There is nobody, or no way to them."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return Cause("the name is not known in the network", "mend REDPANDA_BOOTSTRAP_SERVERS, or the network", False)
    if isinstance(error, ConnectionRefusedError):
        remedy = "start the broker (start-redpanda.sh), or mend REDPANDA_BOOTSTRAP_SERVERS"
        return Cause("nobody listens there", remedy, False)
    if isinstance(error, TimeoutError | kafka.RequestTimedOutError):
        return Cause("no answer", "look at the network, the firewall and the broker", False)
    return None


def of_certificate(error: BaseException, config: RedpandaConfig) -> Cause | None:
    """The broker's certificate is not good enough for us."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return None
    code, words = getattr(error, "verify_code", 0), getattr(error, "verify_message", None) or text(error)
    if code == _EXPIRED:
        return Cause("the broker's certificate has expired", "renew it on the broker; is this PC's clock right?")
    if code == _NOT_YET_VALID:
        return Cause("the broker's certificate is not valid yet", "look at the clocks of this PC and of the broker")
    if code in _OTHER_NAME:
        remedy = (
            "let REDPANDA_BOOTSTRAP_SERVERS and the broker's advertised address use a name that is in its certificate, "
            "or give it a certificate for this one"
        )
        return Cause(f"the broker's certificate is for another host ({words.rstrip('.')})", remedy)
    if code in _UNTRUSTED and config.ca_file:
        remedy = "put the CA that signed it into that file"
        return Cause(f"the broker's certificate is not signed by the CA in {config.ca_file} ({words})", remedy)
    if code in _UNTRUSTED:
        remedy = "let REDPANDA_SSL_CA_FILE name a file with its CA"
        return Cause(f"the broker's certificate is signed by a CA that this PC does not know ({words})", remedy)
    return Cause(f"the broker's certificate is not trusted ({words})", "mend it on the broker, or REDPANDA_SSL_CA_FILE")


def of_alert(error: BaseException, config: RedpandaConfig, *, expired: bool) -> Cause | None:
    """What the broker says of our side of TLS.

    Args:
        expired: whether our own certificate's time is over, which not every broker says.
    """
    reason = str(getattr(error, "reason", "") or "") if isinstance(error, ssl.SSLError) else ""
    if "ALERT" not in reason:
        return None
    if "PROTOCOL_VERSION" in reason:
        return Cause("the broker wants another version of TLS", "let it speak TLS 1.2 or newer")
    if config.cert_file is None:
        remedy = "set REDPANDA_SSL_CERT_FILE and REDPANDA_SSL_KEY_FILE"
        return Cause("the broker wants a client certificate, and none is set", remedy)
    if expired or "EXPIRED" in reason:
        return Cause(f"the client certificate {config.cert_file} has expired", "renew it: the file is read again")
    words = reason.partition("ALERT_")[2].replace("_", " ").lower()
    remedy = "have it signed by a CA that the broker trusts, or put its CA into the broker's truststore"
    return Cause(f"the broker refuses the client certificate {config.cert_file} ({words})", remedy)


def of_login(error: BaseException, config: RedpandaConfig, offered: Sequence[str]) -> Cause | None:
    """The broker does not let this user in.

    Args:
        offered: the mechanisms it takes, where that is known.
    """
    protocol, mechanism = config.security_protocol.upper(), config.sasl_mechanism.upper()
    if isinstance(error, kafka.IllegalSaslStateError):
        plain = protocol.removeprefix("SASL_")
        remedy = f"use the broker's SASL port, or set REDPANDA_SECURITY_PROTOCOL={plain} and take user and password out"
        return Cause("this port of the broker takes no user and password", remedy)
    if isinstance(error, kafka.UnsupportedSaslMechanismError):
        remedy = f"set REDPANDA_SASL_MECHANISM to {_one_of(offered)}"
        return Cause(f"the broker does not take {mechanism}", remedy)
    if isinstance(error, kafka.SaslAuthenticationFailed | kafka.AuthenticationFailedError):
        remedy = (
            "check REDPANDA_SASL_USERNAME, REDPANDA_SASL_PASSWORD and REDPANDA_SASL_MECHANISM, "
            "and that the broker has this user for that mechanism"
        )
        return Cause(f"the broker refused the credentials of user {config.username!r} ({mechanism})", remedy)
    if "SASL" in protocol and isinstance(error, ValueError | AssertionError):  # aiokafka's, on SCRAM's last word
        return Cause(
            "the broker did not prove that it knows the password", "is REDPANDA_BOOTSTRAP_SERVERS the right broker?"
        )
    return None


def wants_login(config: RedpandaConfig, offered: Sequence[str]) -> Cause:
    """It answers nothing before somebody has said who they are."""
    protocol = "SASL_SSL" if config.security_protocol.upper().endswith("SSL") else "SASL_PLAINTEXT"
    remedy = (
        f"set REDPANDA_SECURITY_PROTOCOL={protocol}, REDPANDA_SASL_MECHANISM to {_one_of(offered)}, "
        "REDPANDA_SASL_USERNAME and REDPANDA_SASL_PASSWORD"
    )
    return Cause("the broker wants a user and a password", remedy)


def wants_tls(config: RedpandaConfig) -> Cause:
    """We spoke plain text to a TLS port."""
    given = config.security_protocol.upper()
    fit = "SASL_SSL" if given.startswith("SASL") else "SSL"
    return Cause(f"this port speaks TLS, and REDPANDA_SECURITY_PROTOCOL={given} does not", f"set it to {fit}")


def wants_no_tls(config: RedpandaConfig) -> Cause:
    """We spoke TLS to a plain port."""
    given = config.security_protocol.upper()
    fit = given.replace("SSL", "PLAINTEXT")
    remedy = f"use the broker's TLS port, or set it to {fit} where nobody listens in on the way"
    return Cause(f"this port does not speak TLS, and REDPANDA_SECURITY_PROTOCOL={given} does", remedy)


def hung_up(config: RedpandaConfig) -> Cause:
    """The last resort: somebody closes every connection and says nothing."""
    remedy = "is it a Kafka port, and does the broker's log say why?"
    if config.security_protocol.upper().endswith("SSL") and config.cert_file is None:
        remedy += " It may want a client certificate: REDPANDA_SSL_CERT_FILE"
    return Cause("the connection is closed without a word", remedy, lasting=False)


def elsewhere(name: str, cause: Cause) -> Cause:
    """The address that was given is right, the one which the broker then tells is not."""
    remedy = cause.remedy
    if not cause.lasting:
        remedy = "mend the address that it advertises (advertised.listeners, in Redpanda advertised_kafka_api)"
    return Cause(f"the broker says that it is to be reached at {name}, and there: {cause.what}", remedy, cause.lasting)


def denied(config: RedpandaConfig, right: str, on: str, instead: str = "") -> Cause:
    """A right is missing.

    Args:
        right: the operation as Kafka calls it.
        on: what it is needed for: `topic x`, `group x`, `the cluster`.
        instead: another way out.
    """
    remedy = f"grant {right} on {on} to {principal(config)} (kafka-acls, rpk security acl create)"
    return Cause(f"{right} on {on} is not granted", f"{remedy}, {instead}" if instead else remedy)


def denied_by(error: BaseException, config: RedpandaConfig) -> Cause | None:
    """The right that is missing where only the error tells."""
    if isinstance(error, kafka.ClusterAuthorizationFailedError):
        # Asked for by nothing but the idempotent producer's first request.
        instead = "or WRITE on a topic (enough for Kafka 2.8 and newer)"
        return denied(config, "IDEMPOTENT_WRITE", "the cluster", instead)
    if isinstance(error, kafka.TopicAuthorizationFailedError):
        return denied(config, "the right needed", f"topic {text_of(error)}")
    if isinstance(error, kafka.GroupAuthorizationFailedError):
        return denied(config, "READ", f"group {text_of(error)}")
    return None


def text_of(error: BaseException) -> str:
    """The name that an authorization error carries."""
    return str(error.args[0]) if error.args and error.args[0] else "(not named)"


def principal(config: RedpandaConfig) -> str:
    """Who we are to the broker's access rules."""
    protocol = config.security_protocol.upper()
    if protocol.startswith("SASL"):
        return f"User:{config.username}"
    if protocol == "SSL" and config.cert_file:
        return "the client certificate's name"
    return "User:ANONYMOUS"


def _one_of(offered: Iterable[str]) -> str:
    ours = [name for name in offered if name in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")]
    if offered and not ours:
        return f"what it takes (it takes {', '.join(offered)}, which the bridge does not speak)"
    return " or ".join(ours) or "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"

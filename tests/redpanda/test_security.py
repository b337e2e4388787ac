"""What aiokafka is told, which settings are refused with a remedy, and files that are renewed."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.certificates import Authority, Certificate
from support.logged import event, logged

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.redpanda import RedpandaConfig
from mt5_bridge.redpanda.security import Access, client_options


@pytest.fixture
def events() -> Iterator[list[str]]:
    with logged(event) as found:
        yield found


def tls(shown: Certificate, **changes: str | None) -> RedpandaConfig:
    config = RedpandaConfig(security_protocol="SSL", cert_file=str(shown.certificate), key_file=str(shown.key))
    return msgspec.structs.replace(config, **changes)


def test_plaintext_needs_nothing_but_addresses() -> None:
    options = client_options(RedpandaConfig(bootstrap="a:1, b:2,", client_id="me"))
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["client_id"] == "me"
    assert "ssl_context" not in options
    assert "sasl_mechanism" not in options


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "scram-sha-512"])
def test_sasl_over_tls(mechanism: str) -> None:
    options = client_options(
        RedpandaConfig(security_protocol="sasl_ssl", sasl_mechanism=mechanism, username="u", password="p")
    )
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == mechanism.upper()
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "p")
    context = options["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (RedpandaConfig(security_protocol="TLS"), "REDPANDA_SECURITY_PROTOCOL"),
        (RedpandaConfig(security_protocol="SASL_SSL", sasl_mechanism="GSSAPI"), "REDPANDA_SASL_MECHANISM"),
        (RedpandaConfig(security_protocol="SASL_PLAINTEXT", password="p"), "REDPANDA_SASL_USERNAME"),
        (RedpandaConfig(security_protocol="SASL_PLAINTEXT", username="u"), "REDPANDA_SASL_PASSWORD"),
        (RedpandaConfig(security_protocol="SSL", ca_file="/no/such/file"), "REDPANDA_SSL_CA_FILE"),
        (RedpandaConfig(security_protocol="SSL", cert_file="/no/such/file"), "REDPANDA_SSL_CERT_FILE"),
    ],
)
def test_wrong_settings_are_named(config: RedpandaConfig, name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        client_options(config)


def test_a_client_certificate_with_its_key_beside_it_or_in_it(pair: Certificate, locked: Certificate) -> None:
    assert "ssl_context" in client_options(tls(pair))
    assert "ssl_context" in client_options(tls(pair, cert_file=str(pair.bundle), key_file=None))
    assert "ssl_context" in client_options(tls(locked, key_password="key-secret"))


def test_renewed_files_are_used_when_they_fit(authority: Authority, tmp_path: Path, events: list[str]) -> None:
    shown = Certificate(tmp_path / "shown.pem", tmp_path / "shown.key", tmp_path / "none")
    first, second = authority.issue("first"), authority.issue("second")
    shown.certificate.write_bytes(first.certificate.read_bytes())
    shown.key.write_bytes(first.key.read_bytes())
    access = Access(tls(shown))
    before = access.options()["ssl_context"]
    assert access.options()["ssl_context"] is before
    shown.certificate.write_bytes(second.certificate.read_bytes() + b"\n")
    for _ in range(2):
        assert access.options()["ssl_context"] is before, "its key is not there yet"
    shown.key.write_bytes(second.key.read_bytes() + b"\n")
    assert access.options()["ssl_context"] is not before
    shown.key.unlink()
    assert access.options()["ssl_context"] is not None
    assert events == ["tls_files_unusable", "tls_files_read", "tls_files_unusable"]


def test_the_password_is_in_no_text() -> None:
    config = RedpandaConfig(username="u", password="secret-word", key_password="other-word")
    assert "word" not in repr(config) + str(config)

"""What aiokafka is told, and which settings are refused with a remedy."""

import ssl
from pathlib import Path

import pytest

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.redpanda import RedpandaConfig
from mt5_bridge.redpanda.security import client_options


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
    ],
)
def test_wrong_settings_are_named(config: RedpandaConfig, name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        client_options(config)


def test_a_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match="REDPANDA_SSL_CA_FILE"):
        client_options(RedpandaConfig(security_protocol="SSL", ca_file=str(tmp_path / "ca.pem")))


def test_the_password_is_in_no_text() -> None:
    config = RedpandaConfig(username="u", password="secret-word")
    assert "secret-word" not in repr(config) + str(config)

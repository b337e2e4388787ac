"""The settings of a connection as aiokafka wants them: addresses, TLS, SASL."""

import ssl
from typing import Any

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.redpanda.config import RedpandaConfig

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def client_options(config: RedpandaConfig) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client, producer and admin client takes.

    Raises:
        SettingsError: a value is wrong or missing, with the setting's name and the remedy.
    """
    protocol = config.security_protocol.upper()
    if protocol not in PROTOCOLS:
        raise SettingsError(f"REDPANDA_SECURITY_PROTOCOL: {protocol!r} is unknown; use one of {', '.join(PROTOCOLS)}")
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in config.bootstrap.split(",") if server.strip()],
        "client_id": config.client_id,
        "request_timeout_ms": int(config.request_timeout * 1000),
        "security_protocol": protocol,
    }
    if protocol.endswith("SSL"):
        options["ssl_context"] = _tls(config.ca_file)
    if protocol.startswith("SASL"):
        options |= _sasl(config)
    return options


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"REDPANDA_SSL_CA_FILE: {ca_file!r} cannot be read ({error}); give a PEM file with the broker's CA"
        ) from error


def _sasl(config: RedpandaConfig) -> dict[str, Any]:
    mechanism = config.sasl_mechanism.upper()
    if mechanism not in MECHANISMS:
        raise SettingsError(f"REDPANDA_SASL_MECHANISM: {mechanism!r} is unknown; use one of {', '.join(MECHANISMS)}")
    for name, value in (("REDPANDA_SASL_USERNAME", config.username), ("REDPANDA_SASL_PASSWORD", config.password)):
        if not value:
            raise SettingsError(f"{name}: missing; {config.security_protocol} needs it")
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": config.username,
        "sasl_plain_password": config.password,
    }

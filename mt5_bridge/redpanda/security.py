"""The settings of a connection as aiokafka wants them: addresses, TLS, SASL."""

from pathlib import Path
from typing import Any

from loguru import logger

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.settings.tls import TlsFiles, client_context

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_Stamp = tuple[int, int] | None


class Access:
    """The options of the next connection.

    Files of keys and certificates are read again when they have changed, so that a renewed certificate needs no
    restart. While they cannot be read, say because one of a pair is not written yet, the former ones are used.

    Raises:
        SettingsError: as `client_options`.
    """

    def __init__(self, config: RedpandaConfig) -> None:
        self._config = config
        self._stamps = self._look()
        self._options = client_options(config)

    def options(self) -> dict[str, Any]:
        """See `client_options`; costs a look at the files' times. Never raises."""
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._options = client_options(self._config)
            except SettingsError as error:
                logger.bind(event="tls_files_unusable").warning(
                    "The changed files for TLS cannot be used, the former ones still are: {e}", e=error
                )
            else:
                logger.bind(event="tls_files_read").info("The changed files for TLS are used from now on")
        return self._options

    def _look(self) -> tuple[_Stamp, ...]:
        files = (self._config.ca_file, self._config.cert_file, self._config.key_file)
        return tuple(None if name is None else _stamp(Path(name)) for name in files)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


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
        files = TlsFiles(
            ca=config.ca_file, cert=config.cert_file, key=config.key_file, key_password=config.key_password
        )
        options["ssl_context"] = client_context(files, group="REDPANDA", whose="the broker's")
    if protocol.startswith("SASL"):
        options |= _sasl(config)
    return options


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

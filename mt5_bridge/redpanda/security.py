"""The settings of a connection as aiokafka wants them: addresses, TLS, SASL."""

import ssl
from pathlib import Path
from typing import Any

from loguru import logger

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.redpanda.config import RedpandaConfig

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
        options["ssl_context"] = _tls(config)
    if protocol.startswith("SASL"):
        options |= _sasl(config)
    return options


def _tls(config: RedpandaConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"REDPANDA_SSL_CA_FILE: {config.ca_file!r} cannot be read ({error}); give a PEM file with the broker's CA"
        ) from error
    if config.ca_file is not None:
        # From Python 3.13 on, certificates must be made by RFC 5280 to the letter. CAs that people made themselves
        # often are not, and every other Kafka client takes them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if config.cert_file is not None:
        _show_certificate(context, config.cert_file, config.key_file, config.key_password)
    return context


def _show_certificate(context: ssl.SSLContext, cert_file: str, key_file: str | None, password: str | None) -> None:
    name = "REDPANDA_SSL_CERT_FILE" if key_file is None else "REDPANDA_SSL_KEY_FILE"
    asked = False

    def tell_password() -> str:
        nonlocal asked
        asked = True
        return password or ""

    try:
        # Without a function, OpenSSL would ask whoever sits at the terminal for the password.
        context.load_cert_chain(cert_file, key_file, tell_password)
    except (OSError, ssl.SSLError) as error:
        if asked:
            fault = "does not open the key" if password else "is not set, and the key is encrypted"
            raise SettingsError(
                f"REDPANDA_SSL_KEY_PASSWORD: {fault} ({key_file or cert_file}); give the key's password"
            ) from error
        if "KEY_VALUES_MISMATCH" in str(error):
            raise SettingsError(
                f"REDPANDA_SSL_KEY_FILE: the key in {key_file or cert_file!r} is not that of {cert_file!r}; "
                "give the pair that belongs together"
            ) from error
        files = repr(cert_file) if key_file is None else f"{key_file!r} or the certificate {cert_file!r}"
        raise SettingsError(
            f"{name}: {files} cannot be read ({getattr(error, 'reason', None) or error.strerror}); "
            "give PEM files with the client certificate and its key"
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

"""How the backend is sure of the bridge and the bridge of the backend: token, own CA, client certificate."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field

from mt5_bridge.core.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files for `wss://`; all None: the platform's trusted roots, and no client certificate.

    Attributes:
        ca: who signed the backend's certificate; replaces the platform's roots.
        cert: the bridge's own certificate, with those between it and its CA.
        key: its private key; None: it is in `cert` too.
        key_password: of an encrypted key.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a connection is made with.

    Attributes:
        token: sent as `Authorization: Bearer`; None sends no such header.
        tls: context for `wss://`; None takes the platform's trusted roots.
    """

    token: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)


def tls_context(files: TlsFiles) -> ssl.SSLContext | None:
    """The context the files ask for; None where there are none. Reads the disk.

    Raises:
        SettingsError: a file cannot be used; names the setting, the fault and the remedy.
    """
    if files == TlsFiles():
        return None
    context = _trusting(files.ca)
    if files.cert is not None:
        _identify(context, files.cert, files)
    return context


def _trusting(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"BACKEND_SSL_CA_FILE: {ca!r} cannot be used ({_words(error)}); give a PEM file with the backend's CA"
        ) from None


def _identify(context: ssl.SSLContext, cert: str, files: TlsFiles) -> None:
    try:
        # Without a password OpenSSL would ask for one on the console, and wait for ever.
        context.load_cert_chain(cert, files.key, password=files.key_password or "")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"BACKEND_SSL_CERT_FILE: {cert!r} cannot be used ({_words(error)}); give the bridge's certificate (PEM), "
            "its key in BACKEND_SSL_KEY_FILE and the key's password in BACKEND_SSL_KEY_PASSWORD"
        ) from None


def why_unreachable(error: BaseException, *, secure: bool) -> str:
    """What kept a connection from coming about, and for TLS what to do about it.

    Args:
        error: of the attempt.
        secure: it was made with `wss://`.
    """
    causes = list(_causes(error))
    refused = next((each for each in causes if isinstance(each, ssl.SSLError)), None)
    if isinstance(refused, ssl.SSLCertVerificationError):
        return f"TLS: the backend's certificate is not accepted: {refused.verify_message}; {_remedy(refused)}"
    if refused is not None or (secure and isinstance(causes[-1], ConnectionResetError | EOFError)):
        # asyncio keeps the alert to itself: what is left of it is a connection that ended too early.
        why = "ended by the backend" if refused is None else _words(refused)
        return (
            f"TLS: handshake not completed ({why}); the backend must speak TLS on this port, and where it asks for a "
            "client certificate, BACKEND_SSL_CERT_FILE must be one it accepts"
        )
    return str(error) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _remedy(error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message.lower()
    if "expired" in said or "not yet valid" in said:
        return "renew it, or set this PC's clock right"
    if "mismatch" in said:
        return "BACKEND_WS_URL must name the host as the certificate does"
    return "give its CA in BACKEND_SSL_CA_FILE"


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no certificate or key in it").replace("_", " ").lower()
    return error.strerror or type(error).__name__

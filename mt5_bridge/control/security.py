"""How the backend is sure of the bridge and the bridge of the backend, and what to do when they are not."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field

from mt5_bridge.settings.tls import TlsFiles, client_context, words


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
    return None if files == TlsFiles() else client_context(files, group="BACKEND", whose="the backend's")


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
        why = "ended by the backend" if refused is None else words(refused)
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

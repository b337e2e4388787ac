"""The PEM files that a group of settings names, as TLS of a client: own CA, own certificate."""

import ssl
from dataclasses import dataclass, field

from mt5_bridge.core.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files; all None: the platform's trusted roots, and no client certificate.

    Attributes:
        ca: who signed the other side's certificate; replaces the platform's roots.
        cert: the bridge's own certificate, with those between it and its CA.
        key: its private key; None: it is in `cert` too.
        key_password: of an encrypted key.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)


def client_context(files: TlsFiles, *, group: str, whose: str) -> ssl.SSLContext:
    """The context the files ask for. Reads the disk.

    Args:
        files: as the settings name them.
        group: what the settings' names begin with, `REDPANDA` or `BACKEND`.
        whose: the other side, for the message: "the broker's".

    Raises:
        SettingsError: a file cannot be used; names the setting, the fault and the remedy.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{group}_SSL_CA_FILE: {files.ca!r} cannot be read ({words(error)}); give a PEM file with {whose} CA"
        ) from None
    if files.ca is not None:
        # From Python 3.13 on, certificates must be made by RFC 5280 to the letter. CAs that people made themselves
        # often are not, and all other clients take them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if files.cert is not None:
        _identify(context, files.cert, files, group)
    return context


def _identify(context: ssl.SSLContext, cert: str, files: TlsFiles, group: str) -> None:
    asked = False

    def tell_password() -> str:
        nonlocal asked
        asked = True
        return files.key_password or ""

    try:
        # Without a function, OpenSSL would ask whoever sits at the console for the password.
        context.load_cert_chain(cert, files.key, tell_password)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(_fault(error, cert, files, group, asked=asked)) from None


def _fault(error: OSError, cert: str, files: TlsFiles, group: str, *, asked: bool) -> str:
    if asked:
        fault = "does not open the key" if files.key_password else "is not set, and the key is encrypted"
        return f"{group}_SSL_KEY_PASSWORD: {fault} ({files.key or cert}); give the key's password"
    if "KEY_VALUES_MISMATCH" in str(error):
        return (
            f"{group}_SSL_KEY_FILE: the key in {files.key or cert!r} is not that of {cert!r}; "
            "give the pair that belongs together"
        )
    name, which = "CERT", repr(cert)
    if files.key is not None:
        name, which = "KEY", f"{files.key!r} or the certificate {cert!r}"
    return (
        f"{group}_SSL_{name}_FILE: {which} cannot be read ({words(error)}); "
        "give PEM files with the client certificate and its key"
    )


def words(error: OSError) -> str:
    """What went wrong in a file or handshake, for people."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no certificate or key in it").replace("_", " ").lower()
    return error.strerror or type(error).__name__

"""What the gateway's settings may not be together, and what of them deserves a second look."""

import importlib.util
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from mt5_bridge.settings.model import Settings

LEAST_KEY = 32
"""Bytes of a key for HS256: RFC 7518 asks for as many as the hash has."""
LEAST_TOKEN = 16
_NEEDED = ("fastapi", "fastapi_offline", "jwt", "limits", "prometheus_client", "uvicorn")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)")


class Contradiction(NamedTuple):
    """A fault of several settings together; not told when one of `names` is wrong by itself."""

    names: tuple[str, ...]
    line: str


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """All that cannot be meant."""
    if not settings.gateway_enabled:
        return
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        yield Contradiction(
            ("GATEWAY_ENABLED",),
            f"GATEWAY_ENABLED: needs packages that are not installed ({', '.join(missing)}); "
            'run: python -m pip install "mt5-bridge[gateway]"',
        )
    yield from _of_tokens(settings)
    yield from _of_reach(settings)
    yield from _of_names(settings)


def _of_tokens(settings: Settings) -> Iterator[Contradiction]:
    token, key = settings.gateway_token, settings.gateway_jwt_key
    if token is None and key is None:
        yield Contradiction(
            ("GATEWAY_TOKEN", "GATEWAY_JWT_KEY"),
            "GATEWAY_TOKEN: is not set, but GATEWAY_ENABLED needs it; set it to a long random text, "
            "or set GATEWAY_JWT_KEY",
        )
    if key is not None and len(key.get_secret_value().encode()) < LEAST_KEY:
        yield Contradiction(
            ("GATEWAY_JWT_KEY",),
            f"GATEWAY_JWT_KEY: is shorter than {LEAST_KEY} bytes, so tokens could be forged; set a longer random text",
        )
    if key is not None and key == token:
        yield Contradiction(
            ("GATEWAY_JWT_KEY", "GATEWAY_TOKEN"),
            "GATEWAY_JWT_KEY: is the same as GATEWAY_TOKEN; the key stays here, the token is given away: set another",
        )


def _of_reach(settings: Settings) -> Iterator[Contradiction]:
    cert, key = settings.gateway_tls_cert, settings.gateway_tls_key
    token = settings.gateway_token
    if key is not None and cert is None:
        yield Contradiction(
            ("GATEWAY_TLS_CERT", "GATEWAY_TLS_KEY"),
            "GATEWAY_TLS_CERT: is not set, but GATEWAY_TLS_KEY is; give the certificate that belongs to the key",
        )
    for name, path in (("GATEWAY_TLS_CERT", cert), ("GATEWAY_TLS_KEY", key)):
        if path is not None and not Path(path).is_file():
            yield Contradiction((name,), f"{name}: {str(path)!r} is no file; give the path of a PEM file")
    if is_loopback(settings.gateway_host):
        return
    if cert is None and not settings.gateway_allow_public:
        yield Contradiction(
            ("GATEWAY_HOST", "GATEWAY_TLS_CERT", "GATEWAY_ALLOW_PUBLIC"),
            f"GATEWAY_HOST: {settings.gateway_host} can be reached by others, who would read the token on its way; "
            "set GATEWAY_TLS_CERT, or GATEWAY_ALLOW_PUBLIC=true where something else encrypts, or take it out",
        )
    if token is not None and len(token.get_secret_value()) < LEAST_TOKEN:
        yield Contradiction(
            ("GATEWAY_TOKEN", "GATEWAY_HOST"),
            f"GATEWAY_TOKEN: is shorter than {LEAST_TOKEN} characters, and others can reach GATEWAY_HOST; lengthen it",
        )


def _of_names(settings: Settings) -> Iterator[Contradiction]:
    for host in settings.gateway_allowed_hosts:
        if not _HOST.fullmatch(host):
            yield Contradiction(
                ("GATEWAY_ALLOWED_HOSTS",),
                f"GATEWAY_ALLOWED_HOSTS: holds {host[:64]!r}, which is no name of a machine; "
                "give names without port, with commas between",
            )
    for origin in settings.gateway_allowed_origins:
        if not _is_origin(origin):
            yield Contradiction(
                ("GATEWAY_ALLOWED_ORIGINS",),
                f"GATEWAY_ALLOWED_ORIGINS: holds {origin[:64]!r}, which is no origin; "
                "give them like https://desk.example:8443, with commas between",
            )


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        rest = (parts.path, parts.query, parts.fragment)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(rest) and "@" not in text
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def doubts(settings: Settings) -> Iterator[str]:
    """What is allowed but deserves a second look, one line each."""
    if not settings.gateway_enabled:
        return
    token = settings.gateway_token
    if token is not None and len(token.get_secret_value()) < LEAST_TOKEN:
        yield f"GATEWAY_TOKEN: is shorter than {LEAST_TOKEN} characters and can be guessed"
    if not is_loopback(settings.gateway_host) and settings.gateway_tls_cert is None:
        yield "GATEWAY_HOST: others can reach it and nothing is encrypted; let a proxy on this machine do it"

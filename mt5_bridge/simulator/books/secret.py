"""Keeps the paper account's password as a salted, stretched hash: people put real ones into their settings."""

import os
from collections.abc import Callable
from typing import Any

_ROUNDS = 5_000


def seal(password: str) -> str:
    """Returns what may be stored."""
    salt = os.urandom(16)
    return f"{salt.hex()}:{_stretch(password, salt).hex()}"


def matches(password: str, sealed: str) -> bool:
    """Whether the password is the sealed one.

    Raises:
        ValueError: nothing was ever sealed so.
    """
    salt, _, digest = sealed.partition(":")
    return _stretch(password, bytes.fromhex(salt)).hex() == digest


def _stretch(password: str, salt: bytes) -> bytes:
    sha256 = _sha256()
    digest: bytes = salt
    for _ in range(_ROUNDS):
        digest = sha256(digest + password.encode("utf-8", "surrogatepass")).digest()
    return digest


def _sha256() -> Callable[[bytes], Any]:
    """The interpreter's own SHA-256: `hashlib` would load OpenSSL, and cost the process 3.5 MB for one password."""
    for module in ("_sha2", "_sha256", "hashlib"):  # Python 3.12 and later, 3.11, any other
        try:
            found: Callable[[bytes], Any] = __import__(module).sha256
        except ImportError:
            continue
        return found
    raise AssertionError("unreachable: hashlib is always there")

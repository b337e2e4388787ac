"""Keeps the paper account's password as a salted, stretched hash: people put real ones into their settings."""

import os

_ROUNDS = 5_000


def seal(password: str) -> str:
    """Returns what may be stored."""
    salt = os.urandom(16)
    return f"{salt.hex()}:{_stretch(password, salt).hex()}"


def matches(password: str, sealed: str) -> bool:
    """Whether the password is the sealed one."""
    import hmac  # late, as hashlib below

    salt, _, digest = sealed.partition(":")
    return hmac.compare_digest(_stretch(password, bytes.fromhex(salt)).hex(), digest)


def _stretch(password: str, salt: bytes) -> bytes:
    import hashlib  # late: OpenSSL costs the process 3 MB, which only a login need pay

    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)

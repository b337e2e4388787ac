"""A text that does not show itself: not in a log, a traceback or `repr`; and addresses without what nobody may see."""

import re

LEAST_LENGTH = 4
_WORDS = """
    account admin backend bridge broker changeme closed connected daemon debug default demo disconnected error event
    false info journal kafka login market metatrader mode none null order orders paper pass password placed position
    positions postgres producer redis redpanda root secret server signal signals standard start started stop stopped
    symbol test ticks token trading true user volume warning
"""
COMMON = frozenset(_WORDS.split())
"""Words that stand in every log: to blot them out would hide the lines and show the password."""

_WHO = re.compile(r"((?:\w+:)?//)\S*@|(?<!\S)[^\s/@:]+:[^\s@]*@")

_ASKED = re.compile(r"(//[^\s?#]*[?#]|\?(?=[^\s=]+=))\S+")
"""Tokens travel in queries, under any name."""


class SecretStr:
    """Holds a password, token or key; `get_secret_value()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "SecretStr('**********')"

    def __str__(self) -> str:
        return "**********"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled: it would leave the process in clear")


def is_guessable(value: str) -> bool:
    """Whether a secret is none: too short or too common a word to be told from any other text."""
    return len(value) < LEAST_LENGTH or value.lower() in COMMON


def without_password(text: str) -> str:
    """An address without user, password and query; however malformed, nothing before its last @ or behind ? remains."""
    return _ASKED.sub(r"\1***", _WHO.sub(lambda found: f"{found[1] or ''}***@", text))

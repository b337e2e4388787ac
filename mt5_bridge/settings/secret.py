"""A text that does not show itself: not in a log, a traceback or `repr`; and addresses without what nobody may see."""

import re

_WHO = re.compile(r"((?:\w+:)?//)\S*@|(?<!\S)[^\s/@:]+:[^\s@]*@")


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


def without_password(text: str) -> str:
    """An address without user and password; however it is malformed, nothing before its last @ remains."""
    return _WHO.sub(lambda found: f"{found[1] or ''}***@", text)

"""Whether a key that names a request was used before, and for what."""

from enum import StrEnum


class Claim(StrEnum):
    """What a key stands for."""

    FIRST = "first"
    """Nothing was asked with it before."""
    AGAIN = "again"
    """The same was: it gets its first answer."""
    OTHER = "other"
    """Something else was: what is meant cannot be told."""

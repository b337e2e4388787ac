"""Which of a broker's symbol names is meant: pure."""

import re
from collections.abc import Iterable

_SUFFIX = re.compile(r"[^A-Z0-9].*|[a-z].*")
"""`.m`, `-ECN`, `_i`, `m`, `pro`: a capital or a digit right behind would make another symbol (BTCUSDT, US5000)."""
_PREFIX = re.compile(r"[^A-Za-z0-9]+")


def match_symbol(name: str, names: Iterable[str]) -> list[str]:
    """The broker's names for a symbol: the exact one alone, else all that only add a suffix or a sign before it.

    Args:
        name: what people say.
        names: what the broker has.
    """
    found = []
    for candidate in names:
        if candidate == name:
            return [candidate]
        before, hit, behind = candidate.partition(name)
        if hit and (not before or _PREFIX.fullmatch(before)) and (not behind or _SUFFIX.fullmatch(behind)):
            found.append(candidate)
    return sorted(found)

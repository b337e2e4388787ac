"""The masks of `group=`: comma-separated patterns with `*`, read from left to right, `!` taking out."""

import re


class Group:
    """`"*USD*,!EUR*"` holds every name with USD in it that does not begin with EUR."""

    def __init__(self, mask: str) -> None:
        self._parts = [
            (part.startswith("!"), _pattern(part.lstrip("!")))
            for part in (piece.strip() for piece in mask.split(","))
            if part
        ]

    def __contains__(self, name: str) -> bool:
        inside = False
        for excluded, pattern in self._parts:
            if pattern.fullmatch(name):
                inside = not excluded
        return inside


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(piece) for piece in text.split("*")), re.IGNORECASE)

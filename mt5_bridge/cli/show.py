"""`config show`: every setting, its value with secrets masked, and where it comes from."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mt5_bridge.settings import SPECS, Loaded, SecretStr


def rows(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    """(name, value, source) of every setting, in the order of the documentation."""
    for name in SPECS:
        yield name, shown(getattr(loaded.settings, name.lower())), loaded.sources[name]


def shown(value: object) -> str:
    """A value as one would write it, without secrets; `off` for what is off."""
    if value is None:
        return "off"
    if isinstance(value, SecretStr):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Path):
        return str(value)
    return _without_password(str(value))


def _without_password(text: str) -> str:
    if "://" not in text or "@" not in text:
        return text
    parts = urlsplit(text)
    return urlunsplit(parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}"))

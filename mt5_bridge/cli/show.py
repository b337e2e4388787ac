"""`config show`: every setting, its value with secrets masked, and where it comes from."""

from collections.abc import Iterator
from pathlib import Path

from mt5_bridge.settings import SPECS, Loaded, SecretStr, without_password


def rows(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    """(name, value, source) of every setting, in the order of the documentation; (!) marks what cannot be used."""
    for name in SPECS:
        written = loaded.wrong.get(name)
        value = shown(getattr(loaded.settings, name.lower())) if written is None else f"{without_password(written)} (!)"
        yield name, value, loaded.sources[name]


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
    return without_password(str(value))

"""Where settings come from: `.env` and YAML files and the environment, each read into (name, text) pairs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings.names import canonical, canonical_nested, flatten, near_miss

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)")
_QUOTED = re.compile(r"""(["'])(.*)\1\s*(?:#.*)?""")


class Entry(NamedTuple):
    """One value as written, and where: `origin` names file and line for people."""

    text: str
    origin: str
    written: str
    """The name as written: an alias, or the nested form."""


class Source:
    """The settings of one place. What it says wrong is collected, not raised."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.entries: dict[str, Entry] = {}
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def add(self, name: str, entry: Entry) -> None:
        """Takes a value; the same setting twice with different values is contradictory."""
        if not entry.text.strip():
            return
        before = self.entries.get(name)
        if before and before.written != entry.written and before.text != entry.text:
            self.faults.append(
                f"{name}: {before.written} and {entry.written} in {self.label} say different things; keep one of them"
            )
        self.entries[name] = entry

    def unknown(self, written: str, origin: str, cutoff: float, leaf: str | None = None) -> None:
        """Points out a name that nearly is a setting; of the nested form the leaf alone may be that."""
        meant = near_miss(written, cutoff) or (leaf and near_miss(leaf, cutoff))
        if meant:
            self.warnings.append(f"{written}: no such setting ({origin}); did you mean {meant}?")


def from_pairs(label: str, pairs: Mapping[str, Any]) -> Source:
    """What the command line says, by the settings' names; None means not given."""
    source = Source(label)
    for written, value in pairs.items():
        name = canonical(written)
        if name is None:
            raise KeyError(written)
        if value is not None:
            source.add(name, Entry(str(value), label, written))
    return source


def from_env(env: Mapping[str, str]) -> Source:
    """The environment. Names there are mostly not ours, so only very near misses are pointed out."""
    source = Source("environment")
    for written, text in env.items():
        upper = written.upper()
        name = canonical(upper)
        if name is not None:
            source.add(name, Entry(text, "environment", upper))
        elif len(upper) >= 6:
            source.unknown(upper, "environment", 0.91)
    return source


def from_dotenv(path: Path) -> Source:
    """A `.env` file: `NAME=value`, `#` comments, quotes. Backslashes stay, for the sake of Windows paths."""
    source = Source(path.name)
    for number, raw in enumerate(_read(path).splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        origin = f"{path.name} line {number}"
        match = _LINE.fullmatch(line)
        if not match:
            source.faults.append(f"{origin}: is not NAME=value; write it so, or put # before it")
            continue
        written, text = match[1].upper(), _unquote(match[2])
        name = canonical(written)
        if name is not None:
            source.add(name, Entry(text, origin, written))
        else:
            source.unknown(written, origin, 0.8)
    return source


def _unquote(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    if quoted:
        return quoted[2].replace(f"\\{quoted[1]}", quoted[1])
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()


def from_yaml(path: Path) -> Source:
    """A YAML file, flat or nested. Every scalar is taken as text: a login keeps its zeros, `off` stays a word."""
    import yaml  # only who has such a file pays for it

    source = Source(path.name)
    try:
        tree = yaml.load(_read(path), Loader=yaml.BaseLoader)  # noqa: S506 - the BaseLoader makes nothing but texts
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        source.faults.append(
            f"{path.name}{where}: is not YAML ({getattr(error, 'problem', None) or 'syntax'}); mend it"
        )
        return source
    if tree in (None, ""):
        return source
    if not isinstance(tree, dict):
        source.faults.append(f"{path.name}: holds no names; write NAME: value lines")
        return source
    for nested, text in flatten(tree):
        written = ".".join(nested)
        name = canonical_nested(nested)
        if name is not None:
            source.add(name, Entry(text, path.name, written))
        else:
            parts = [part for part in nested if part.lower() != "mt5_bridge"]
            source.unknown("_".join(parts).upper(), path.name, 0.8, parts[-1] if parts else None)
    return source


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{path.name}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path.name}: cannot be read ({error.strerror}); mend its permissions") from error

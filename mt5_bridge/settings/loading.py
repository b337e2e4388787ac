"""Reads the settings once (defaults < YAML < `.env` < environment < command line) and tells all that is wrong."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings import rules
from mt5_bridge.settings.kinds import OFF, FaultError, PathText
from mt5_bridge.settings.model import Settings
from mt5_bridge.settings.names import FEATURES_TO_COME, SPECS, Spec
from mt5_bridge.settings.secret import SecretStr, without_password
from mt5_bridge.settings.sources import Entry, Source, from_dotenv, from_env, from_pairs, from_yaml

KEYRING_SERVICE = "mt5-bridge"
KEYRING_WORD = "keyring"

KeyringLookup = Callable[[str], str | None]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, the origin of each by its name (`default` where nobody said), and what a person should know.

    Attributes:
        wrong: what is written where it cannot be used, by the setting's name; of a secret only that it is one.
        faults: one line for each fault; empty for settings that `load` gave.
        reread: the value of one setting as it stands in its sources now; raises SettingsError when it is wrong.
    """

    settings: Settings
    sources: dict[str, str]
    warnings: list[str]
    wrong: dict[str, str] = {}
    faults: list[str] = []
    reread: Callable[[str], Any] | None = None


def load(
    cli: Mapping[str, Any] | None = None,
    env: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    keyring: KeyringLookup | None = None,
) -> Loaded:
    """Reads all sources and checks every value.

    Args:
        cli: what the command line said, by the settings' names; None values count as not given.
        env: the environment.
        cwd: the folder of `.env` and the YAML files; relative paths start there. None: the current one.
        keyring: looks a secret up by its setting's name; None: the operating system's keyring.

    Raises:
        SettingsError: one line a fault: name, fault, remedy. No secret is in it.
    """
    loaded = examine(cli, env, cwd, keyring)
    if loaded.faults:
        raise SettingsError("\n".join(loaded.faults), tuple(loaded.warnings))
    return loaded


def examine(
    cli: Mapping[str, Any] | None = None,
    env: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    keyring: KeyringLookup | None = None,
) -> Loaded:
    """As `load`, for a person who looks for a fault: what is wrong is told beside what there is, not raised."""
    folder = (cwd or Path.cwd()).absolute()
    sources = _read_all(cli or {}, env, folder)
    faults = [fault for source in sources for fault in source.faults]
    warnings = [warning for source in sources for warning in source.warnings]
    entries: dict[str, Entry] = {}
    for source in sources:
        entries.update(source.entries)
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, entry in entries.items():
        try:
            values[name.lower()] = _value(SPECS[name], entry, folder, keyring or from_keyring)
        except FaultError as error:
            faults.append(_line(SPECS[name], entry, error))
            wrong[name] = str(SecretStr("")) if SPECS[name].kind.secret else entry.text.strip()
    settings = rules.settle(Settings(**values), frozenset(values), folder)
    faults += [fault.line for fault in rules.contradictions(settings) if not wrong.keys() & set(fault.names)]
    warnings += rules.doubts(settings)
    warnings += [
        f"{name}: is set, but this version does not do it yet"
        for name in FEATURES_TO_COME
        if name in entries and getattr(settings, name.lower()) != SPECS[name].default
    ]
    origins = {name: entries[name].origin if name in entries else "default" for name in SPECS}
    return Loaded(
        settings=settings,
        sources=origins,
        warnings=warnings,
        wrong=wrong,
        faults=faults,
        reread=partial(_reread, cli=cli or {}, env=env, folder=folder, keyring=keyring or from_keyring),
    )


def _reread(name: str, *, cli: Mapping[str, Any], env: Mapping[str, str], folder: Path, keyring: KeyringLookup) -> Any:
    spec = SPECS[name]
    sources = _read_all(cli, env, folder)
    found = [source.entries[name] for source in sources if name in source.entries]
    broken = [fault for source in sources if not source.entries for fault in source.faults]
    if broken:
        raise SettingsError("\n".join(broken))  # a file half written would look like one without the setting
    if not found:
        return spec.default
    try:
        return _value(spec, found[-1], folder, keyring)
    except FaultError as error:
        raise SettingsError(_line(spec, found[-1], error)) from error


def find_data_dir(
    cli: Mapping[str, Any] | None = None, env: Mapping[str, str] = os.environ, cwd: Path | None = None
) -> Path:
    """The bridge's folder, whatever else is wrong: a local stop must not wait for a typing error elsewhere.

    Raises:
        SettingsError: DATA_DIR itself is wrong.
    """
    folder = (cwd or Path.cwd()).absolute()
    spec = SPECS["DATA_DIR"]
    found = [source.entries[spec.name] for source in _read_all(cli or {}, env, folder) if spec.name in source.entries]
    if not found:
        return Settings().data_dir
    try:
        path: Path = _value(spec, found[-1], folder, from_keyring)
    except FaultError as error:
        raise SettingsError(_line(spec, found[-1], error)) from error
    return path


def _read_all(cli: Mapping[str, Any], env: Mapping[str, str], folder: Path) -> list[Source]:
    """The sources, weakest first. ENVIRONMENT, which names the second YAML file, may stand in any other."""
    named = from_pairs("command line", cli)
    environment = from_env(env)
    dotenv = _file(folder / ".env", from_dotenv)
    base = _file(folder / "mt5_bridge.yaml", from_yaml)
    strongest_first = [named, environment, dotenv, base]
    word = next((s.entries["ENVIRONMENT"].text for s in strongest_first if "ENVIRONMENT" in s.entries), "").strip()
    overlay = folder / f"mt5_bridge.{word}.yaml"
    # A word that is no file name is a fault of ENVIRONMENT itself, told by its kind.
    safe = bool(word) and overlay.parent == folder and ".." not in word
    return [base, _file(overlay, from_yaml) if safe else Source("no overlay"), dotenv, environment, named]


def _file(path: Path, read: Callable[[Path], Source]) -> Source:
    if not path.is_file():
        return Source(path.name)
    try:
        return read(path)
    except SettingsError as error:
        source = Source(path.name)
        source.faults.append(str(error))
        return source


def _value(spec: Spec, entry: Entry, folder: Path, keyring: KeyringLookup) -> Any:
    text = entry.text.strip()
    if spec.optional and text.lower() in OFF and not spec.kind.secret:
        return None
    if spec.kind.secret and text.lower() == KEYRING_WORD:
        found = keyring(spec.name)
        if not found:
            raise FaultError("is not in the keyring", f"run: keyring set {KEYRING_SERVICE} {spec.name}")
        text = found
    value = spec.kind.parse(text)
    return folder / value if isinstance(spec.kind, PathText) else value


def _line(spec: Spec, entry: Entry, error: FaultError) -> str:
    shown = "the secret" if spec.kind.secret else repr(_short(without_password(entry.text.strip())))
    written = entry.written.upper()
    also = "" if written == spec.name else f", written {entry.written}"
    return f"{spec.name}: {shown} {without_password(error.fault)}; {error.remedy} ({entry.origin}{also})"


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def from_keyring(name: str) -> str | None:
    """The secret kept in the operating system's keyring under service `mt5-bridge` and the setting's name.

    Raises:
        FaultError: there is no keyring to ask.
    """
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        remedy = "install the package keyring, or write the secret itself"
        raise FaultError("cannot be fetched: no keyring is installed", remedy) from None
    try:
        found: str | None = keyring.get_password(KEYRING_SERVICE, name)
    except KeyringError as error:
        raise FaultError(
            f"cannot be fetched: {type(error).__name__}", "unlock the keyring or write the secret"
        ) from None
    return found

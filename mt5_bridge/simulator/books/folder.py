"""What a paper folder holds: when its market began, and its accounts' files.

Files get their names when they are whole, by a link. One that is damaged is refused and set aside as
`<name>.corrupt-<n>`: nobody takes an account for empty unawares, the next start begins anew, and a person can still
look at what is left.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec

from mt5_bridge.core.errors import BridgeError

_VERSION = 1
_YEAR_2100 = 4_102_444_800_000


class PaperStateError(BridgeError):
    """The stored state cannot be used; the message says which file, and what to do."""


class MarketState(msgspec.Struct):
    """When the market began, UTC in ms."""

    anchor_msc: Annotated[int, msgspec.Meta(ge=0, lt=_YEAR_2100)]
    version: int = _VERSION


def market_anchor(folder: Path, now_msc: int, *, read_only: bool = False) -> int:
    """The moment the folder's market began: now, if it is new. Two processes that start together agree.

    Raises:
        PaperStateError: the file is there but cannot be read. It is set aside, unless by one who only reads, or of
            another version.
        OSError: the folder cannot be written.
    """
    path = folder / "market.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with draft(path) as unnamed:
            unnamed.write_bytes(msgspec.json.encode(MarketState(now_msc)))
    try:
        state = msgspec.json.decode(path.read_bytes(), type=MarketState)
    except (OSError, msgspec.DecodeError) as error:
        damaged = not isinstance(error, OSError)
        then = "begins a new market, in which the accounts go on"
        raise refusal(path, error, then, damaged=damaged, aside=not read_only) from error
    if state.version != _VERSION:
        raise PaperStateError(f"{path} is of version {state.version}, written by another version of the bridge")
    return state.anchor_msc


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A file to write, which gets its name when it is whole; none is left behind."""
    unnamed = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unnamed.unlink(missing_ok=True)  # of a process that died with the same number
    try:
        yield unnamed
        _publish(unnamed, path)
    finally:
        unnamed.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    """Gives the draft its name unless another process was first: a link, unlike a rename, never replaces."""
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # the other process's start is as good as ours
    except OSError:
        # The file system knows no hard links.
        draft.replace(path)


def refusal(path: Path, error: Exception, then: str, *, damaged: bool, aside: bool) -> PaperStateError:
    """What to say of a file that cannot be used.

    Args:
        path: the file.
        error: what is the matter.
        then: what the next start does without the file.
        damaged: it will never be of use again, at least not to us.
        aside: take the damaged file's name from it.
    """
    if not damaged:
        return PaperStateError(f"{path} cannot be used ({error})")
    if not aside:
        return PaperStateError(f"{path} is damaged ({error})")
    try:
        kept = _set_aside(path)
    except OSError as failure:
        return PaperStateError(f"{path} is damaged ({error}) and keeps its name ({failure}); move it away: it {then}")
    return PaperStateError(f"{path} is damaged ({error}) and now called {kept.name}; the next start {then}")


def _set_aside(path: Path) -> Path:
    """Renames a file, and what SQLite keeps beside it, to the first free `<name>.corrupt-<n>`."""
    number = 1
    while (kept := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.rename(kept)
    for beside in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + beside).rename(kept.with_name(kept.name + beside))
    return kept


def escaped(server: str) -> str:
    """A server's name as a part of a file's: different for different servers."""
    return quote(server.encode("utf-8", "surrogatepass"), safe="-._")


def account_file(folder: Path, login: int, server: str, currency: str, mode: str) -> Path:
    """Where an account is kept: another server, currency or margin mode is another account."""

    def place(name: str) -> Path:
        return folder / f"{login}@{name}-{currency}-{mode}.sqlite"

    path = place(escaped(server))
    # Older files are called alike where servers differ in signs only.
    older = place("".join(letter if letter.isalnum() or letter in "-." else "_" for letter in server))
    if path != older and not path.exists() and older.exists() and _owner(older) in (None, escaped(server)):
        return older
    return path


def _owner(path: Path) -> str | None:
    """The server that an account's file says it is of; older ones do not say."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            row = db.execute("SELECT value FROM meta WHERE name = 'server'").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])

"""The package's functions, as methods on a terminal: arguments in, structures out. `api` gives them their manners."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from mt5_bridge.simulator.functions.connection import Connection
from mt5_bridge.simulator.functions.copies import Copies
from mt5_bridge.simulator.functions.history import History
from mt5_bridge.simulator.functions.symbols import Symbols
from mt5_bridge.simulator.functions.trading import Trading
from mt5_bridge.simulator.terminal import Terminal


class Functions(Connection, Symbols, Copies, Trading, History):
    """All 31 functions that talk to the terminal. Each raises `ArgumentError` or `TerminalError` where it fails."""


class _Asked(Exception):
    """The arguments have been read."""


class _NoTerminal:
    """Where a call ends that got as far as asking the terminal."""

    def __getattr__(self, name: str) -> Any:
        raise _Asked


_ALONE = Functions(cast(Terminal, _NoTerminal()))


def read(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Reads a call's arguments and does no more: every function reads them all before it asks the terminal.

    Raises:
        ArgumentError: as the function itself.
        PendingOverflowError: as the function itself.
    """
    with suppress(_Asked):
        getattr(_ALONE, name)(*args, **kwargs)

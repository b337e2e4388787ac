"""The package's functions, as methods on a terminal: arguments in, structures out. `api` gives them their manners."""

from mt5_bridge.simulator.functions.connection import Connection
from mt5_bridge.simulator.functions.copies import Copies
from mt5_bridge.simulator.functions.history import History
from mt5_bridge.simulator.functions.symbols import Symbols
from mt5_bridge.simulator.functions.trading import Trading


class Functions(Connection, Symbols, Copies, Trading, History):
    """All 31 functions that talk to the terminal. Each raises `ArgumentError` or `TerminalError` where it fails."""

"""What the functions of the package share: the terminal they talk to."""

from mt5_bridge.simulator.market.market import Feed
from mt5_bridge.simulator.terminal import NOT_FOUND, Terminal, TerminalError


class Pipe:
    """A program's connection to one terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.books: dict[str, None] = {}
        """The symbols whose depth is subscribed to, until the next connection."""

    def feed(self, symbol: str) -> Feed:
        """What a symbol quotes.

        Raises:
            TerminalError: not connected, or no such symbol.
        """
        self.terminal.require_session()
        feed = self.terminal.market.feeds.get(symbol)
        if feed is None:
            raise TerminalError(*NOT_FOUND)
        return feed

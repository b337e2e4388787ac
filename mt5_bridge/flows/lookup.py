"""What a command names, looked up: the account read anew, symbols by the terminal's names."""

from collections.abc import Callable

from mt5_bridge.core.errors import MT5Error, MT5ValidationError
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Order, Position
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.book import Book
from mt5_bridge.terminal.port import Priority


class Lookup:
    """Reads the book for commands; what fails there is a `Refusal` here."""

    def __init__(self, book: Book) -> None:
        self.book = book

    async def refresh(self, priority: Priority = Priority.HIGH) -> None:
        """Read the account.

        Raises:
            Refusal: the terminal cannot be asked.
        """
        try:
            await self.book.refresh(priority=priority)
        except MT5Error as error:
            raise unavailable(error) from error

    async def listed(self, name: str | None) -> str | None:
        """Read the account, and the terminal's name of the symbol asked for.

        Raises:
            Refusal: the terminal cannot be asked, or has no such symbol.
        """
        await self.refresh()
        try:
            return await self.known(name)
        except MT5Error as error:
            raise unavailable(error) from error

    async def known(self, name: str | None) -> str | None:
        """The terminal's name of a symbol; a misspelt one must not read as "nothing held".

        Raises:
            Refusal: the terminal has no such symbol.
            MT5Error: ambiguous, or the terminal cannot be asked.
        """
        if name is None:
            return None
        book = self.book
        symbol = await book.resolve(name)
        listed = {x.symbol for x in book.positions.values()} | {x.symbol for x in book.orders.values()}
        if symbol not in listed and await book.symbol(symbol) is None:
            raise Refusal(Reason.UNKNOWN_SYMBOL.value, f"the terminal has no symbol {name}")
        return symbol

    async def symbol_of_position(self, ticket: int) -> str:
        """The symbol of an open position.

        Raises:
            Refusal: there is none, or the terminal cannot be asked.
        """
        return await self._symbol_of("position", lambda: self.book.positions.get(ticket), ticket)

    async def symbol_of_order(self, ticket: int) -> str:
        """The symbol of a pending order.

        Raises:
            Refusal: there is none, or the terminal cannot be asked.
        """
        return await self._symbol_of("pending order", lambda: self.book.orders.get(ticket), ticket)

    async def _symbol_of(self, what: str, find: Callable[[], Position | Order | None], ticket: int) -> str:
        if (found := find()) is None:
            await self.refresh(Priority.CRITICAL)
            found = find()
        if found is None:
            raise Refusal(Reason.NOT_FOUND.value, f"there is no {what} {ticket}")
        return found.symbol


def unavailable(error: MT5Error) -> Refusal:
    """What the terminal could not do, as an answer."""
    if isinstance(error, MT5ValidationError):
        code = Reason.AMBIGUOUS_SYMBOL if str(error).startswith("ambiguous") else Reason.INVALID
    else:
        code = Reason.UNKNOWN_SYMBOL if error.code == -4 else Reason.TERMINAL_UNAVAILABLE
    return Refusal(code.value, str(error))

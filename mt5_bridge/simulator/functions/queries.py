"""What is asked for: whose account, which positions and orders, which part of the past."""

from typing import Any

from mt5_bridge.simulator.books.store import By
from mt5_bridge.simulator.functions import arguments as a
from mt5_bridge.simulator.functions.arguments import ArgumentError
from mt5_bridge.simulator.functions.groups import Group

_KEYWORD_INT = 'Invalid "{}" argument'


def credentials(kwargs: dict[str, Any]) -> tuple[int | None, str | None, str | None]:
    """Login, password and server of `initialize` and `login`; None where not given, or empty.

    Raises:
        ArgumentError: one of them, or the timeout, is none.
    """
    login = password = server = None
    if "login" in kwargs:
        login = a.python_int(kwargs["login"], _KEYWORD_INT.format("login"))
    if "server" in kwargs:
        server = a.text(kwargs["server"], 'Invalid "server" argument', limit=a.MAX_SECRET)
    if "password" in kwargs:
        password = a.text(kwargs["password"], 'Invalid "password" argument', limit=a.MAX_SECRET)
    if "timeout" in kwargs:
        a.python_int(kwargs["timeout"], _KEYWORD_INT.format("timeout"), most=a.UINT32)
    return login or None, password or None, server or None


class Wanted:
    """The filter of positions_get and orders_get: ticket before symbol before group; what is unknown is ignored."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._ticket: int | None = None
        self._symbol: str | None = None
        self._group: Group | None = None
        if args:
            raise ArgumentError("Unnamed arguments not allowed")
        if "ticket" in kwargs:
            self._ticket = a.python_int(kwargs["ticket"], _KEYWORD_INT.format("ticket"))
        elif "symbol" in kwargs:
            self._symbol = a.text(kwargs["symbol"], 'Invalid "symbol" argument')
        elif "group" in kwargs:
            self._group = Group(a.text(kwargs["group"], 'Invalid "group" argument', limit=a.MAX_GROUP))

    def takes(self, ticket: int, symbol: str) -> bool:
        if self._ticket is not None:
            return ticket == self._ticket
        if self._symbol is not None:
            return symbol == self._symbol
        return self._group is None or symbol in self._group


def past(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[By, tuple[int, ...], Group | None]:
    """How the history is asked for: two dates, or a ticket or position alone."""
    if len(args) == 2:
        start, stop = a.seconds(args[0]), a.seconds(args[1])
        group = None
        if "group" in kwargs:
            group = Group(a.text(kwargs["group"], 'Invalid "group" argument', limit=a.MAX_GROUP))
        return By.PERIOD, (start * 1000, stop * 1000 + 999), group
    for name, by in (("ticket", By.TICKET), ("position", By.POSITION)):
        if name in kwargs:
            if args:
                raise ArgumentError("Unnamed arguments not allowed")
            number = a.python_int(kwargs[name], _KEYWORD_INT.format(name))
            return by, (min(number, a.INT64),), None
    raise ArgumentError

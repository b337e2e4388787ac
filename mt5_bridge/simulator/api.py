"""The manners of the official package: one terminal per process, one `last_error`, failure values instead of errors."""

import sys
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from mt5_bridge.simulator import bookings, broker
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.books.folder import PaperStateError
from mt5_bridge.simulator.faults import trouble
from mt5_bridge.simulator.faults.injector import fault
from mt5_bridge.simulator.functions.arguments import ArgumentError, PendingOverflowError, without_overflow
from mt5_bridge.simulator.functions.functions import Functions
from mt5_bridge.simulator.functions.manners import LAST_ERROR, MANNERS, SILENT, SUCCESS, TEXTS, VERSION_FIRST, Manner
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.clock import Clock, ManualClock
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.terminal import Terminal, TerminalError, make


class _State:
    """The process's one terminal and one last error."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.last_error: tuple[int, str] = (0, "")
        self.functions = Functions(make({}))
        self.before: ModuleType | None = None
        """What `import MetaTrader5` gave before `install`."""

    def replace(self, terminal: Terminal) -> None:
        with self.lock:
            self.functions.terminal.close()
            self.functions = Functions(terminal)
            self.last_error = (0, "")


_state = _State()


class Builtin:
    # A function of the package. Like a C builtin it does not bind when a class stores it.

    __slots__ = ("__name__", "_manner")

    def __init__(self, name: str, manner: Manner) -> None:
        self.__name__ = name
        self._manner = manner

    def __repr__(self) -> str:
        return f"<built-in function {self.__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return builtin, (self.__name__,)

    @property
    def __doc__(self) -> str:  # type: ignore[override] # every function describes itself, as builtins do
        return f"{self._manner.signature}\n\n{self._manner.words}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name, manner = self.__name__, self._manner
        self._admit(args, kwargs)
        with _state.lock:
            _state.last_error = SUCCESS
            functions = _state.functions
            try:
                if functions.terminal.faults:
                    return trouble.perform(functions, name, args, kwargs)
                work: Callable[..., Any] = getattr(functions, name)
                return work(*args, **kwargs)
            except PendingOverflowError:
                self(*without_overflow(args), **kwargs)
                raise self._exception_set() from None
            except ArgumentError as error:
                _state.last_error = (c.RES_E_INVALID_PARAMS, str(error))
                if error.system_error:
                    raise self._exception_set() from None
                return manner.bad_arguments
            except TerminalError as error:
                _fail(name, error)
                return manner.failure
            except PaperStateError as error:
                _fail(name, TerminalError(c.RES_E_FAIL, f"Terminal: Call failed ({error})"))
                return manner.failure

    def _exception_set(self) -> SystemError:
        return SystemError(f"{self!r} returned a result with an exception set")

    def _admit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """What CPython itself refuses before a builtin is reached."""
        if kwargs and not self._manner.keywords:
            owner = "" if self._manner.arguments else "MetaTrader5._core."
            raise TypeError(f"{owner}{self.__name__}() takes no keyword arguments")
        if args and not self._manner.arguments:
            raise TypeError(f"MetaTrader5._core.{self.__name__}() takes no arguments ({len(args)} given)")


def _fail(name: str, error: TerminalError) -> None:
    code, text = error.code, error.text
    if name in VERSION_FIRST and code == c.RES_E_INTERNAL_FAIL_CONNECT:
        code = c.RES_E_INVALID_VERSION
        text = TEXTS[code]
    if name not in SILENT:
        _state.last_error = (code, text)


class _LastError(Builtin):
    # Code and text of the last call's error; asking does not reset it.

    __slots__ = ()
    __doc__ = Builtin.__doc__  # else the class has none, which hides the property

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[int, str]:
        self._admit(args, kwargs)
        return _state.last_error


BUILTINS = {
    **{name: Builtin(name, manner) for name, manner in MANNERS.items()},
    "last_error": _LastError("last_error", LAST_ERROR),
}


def builtin(name: str) -> Builtin:
    """The function of that name, for pickle: worker processes are given functions of the package."""
    return BUILTINS[name]


def configure(settings: Mapping[str, str]) -> None:
    """Gives the process a new terminal with these settings; nothing is opened before `initialize()`.

    Args:
        settings: `PAPER_*`, `MT5_LOGIN`, `MT5_PASSWORD`, `MT5_SERVER`, `DATA_DIR` by name; others are ignored. With
            `PAPER_ROLE=history` the terminal shows the market and account of a folder on which another process
            trades, and never writes.

    Raises:
        SettingsError: a setting is wrong; the terminal before stays.
    """
    _state.replace(make(settings))


def install(
    clock: str | Clock = "system",
    *,
    symbols: Mapping[str, Mapping[str, Any]] | None = None,
    account: Mapping[str, Any] | None = None,
    **settings: Any,
) -> "MarketControl":
    """Makes `import MetaTrader5` give the paper terminal, with these settings, and returns its market.

    Args:
        clock: `"system"`, or `"manual"`: time passes only with `advance()`.
        symbols: what differs from the catalogue, by symbol or `*`: `{"EURUSD": {"execution": "instant"}}`.
        account: the broker's rules for the account: `{"limit_orders": 200}`. Both as in a `PAPER_SYMBOLS` file.
        **settings: as for `configure`; `balance=` says the same as `PAPER_BALANCE=`.

    Raises:
        SettingsError: a setting is wrong; the terminal before stays.
    """
    rules = None
    if symbols is not None or account is not None:
        rules = broker.build({"symbols": symbols or {}, "account": account or {}}, "install()")
    _state.replace(make({_full_name(name): str(value) for name, value in settings.items()}, clock, rules))
    paper = sys.modules["mt5_bridge.simulator"]
    before = sys.modules.get("MetaTrader5")
    if before is not paper:
        _state.before, sys.modules["MetaTrader5"] = before, paper
    return MarketControl(_state.functions)


def uninstall() -> None:
    """Undoes `install`: `import MetaTrader5` is what it was, and the terminal starts anew with default settings."""
    if sys.modules.get("MetaTrader5") is sys.modules["mt5_bridge.simulator"]:
        del sys.modules["MetaTrader5"]
        if _state.before is not None:
            sys.modules["MetaTrader5"] = _state.before
    _state.replace(make({}))


def inject(**rule: Any) -> None:
    """Adds a fault: `inject(function="order_send", kind="none", nth=1, code=-10005)`.

    Raises:
        ValueError: a name or value makes no sense; the message says which, and what would.
    """
    _state.functions.terminal.faults.add(fault(**rule))


def clear_faults() -> None:
    """Ends all faults, and what they left: AutoTrading is on, the own account answers, nothing lags or is on its way.

    A changed clock stays.
    """
    with _state.lock:
        trouble.clear(_state.functions.terminal)


def _full_name(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith(("PAPER_", "MT5_", "DATA_DIR")) else f"PAPER_{upper}"


class MarketControl:
    """A test's hand on the market."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    @property
    def terminal(self) -> Terminal:
        """The terminal program."""
        return self._functions.terminal

    @property
    def market(self) -> Market:
        """The market itself."""
        return self.terminal.market

    @property
    def specs(self) -> dict[str, SymbolSpec]:
        """The symbols' rules."""
        return self.market.specs

    def now(self) -> int:
        """UTC in ms."""
        return self.market.now()

    def advance(self, seconds: float) -> None:
        """Lets time pass, with all the ticks, triggers and expirations in it.

        Raises:
            TypeError: the clock is not a manual one.
        """
        clock = self._functions.terminal.clock
        if not isinstance(clock, ManualClock):
            raise TypeError('time is the PC\'s: install(clock="manual") gives it to the test')
        with _state.lock:
            _ = self.market  # begins, if it has not yet
            clock.advance(seconds)
            self._sync()

    def tick(self, symbol: str, bid: float, ask: float, *, last: float = 0.0, volume: float = 0.0) -> None:
        """A tick now. From the first one on, only ticks given so move the symbol.

        Args:
            symbol: by the name the broker shows.
            bid: in quote currency.
            ask: in quote currency.
            last: price of a trade that came with the tick; 0: none did.
            volume: of that trade, in lots.

        Raises:
            KeyError: no such symbol.
            ValueError: the ask is below the bid, or a price not above 0.
        """
        if not 0 < bid <= ask or last < 0 or volume < 0:
            raise ValueError(f"bid {bid} and ask {ask} are no quote, or last {last} and volume {volume} no trade")
        with _state.lock:
            terminal = self.terminal
            # What came before the tick is worked off before it is there.
            if not (terminal.connected and terminal.session.idle(terminal.clock.now())):
                self._sync()
            terminal.market.hand_tick(symbol, bid, ask, last, volume)
            self._sync(moved=symbol)

    def deposit(self, amount: bookings.Amount, comment: str = "") -> int:
        """Pays account money in or, negative, out; returns the deal's ticket. Raises as `book`."""
        return self.book("balance", amount, comment)

    def book(self, kind: bookings.Kind, amount: bookings.Amount, comment: str = "") -> int:
        """Books an operation of the broker's, as `bookings.book` says; returns the deal's ticket."""
        with _state.lock:
            ticket = bookings.book(self.terminal, kind, amount, comment)
            self._sync()
            return ticket

    def grant(self, symbol: str, volume: float) -> int:
        """Gives the account collateral, as `bookings.grant` says; returns the position's ticket."""
        with _state.lock:
            return bookings.grant(self.terminal, symbol, volume)

    def _sync(self, *, moved: str | None = None) -> None:
        terminal = self._functions.terminal
        if terminal.connected:
            if moved is not None:
                terminal.session.engine.wake(moved)
            terminal.synced()

"""The manners of the official package: one terminal per process, one `last_error`, failure values instead of errors."""

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mt5_bridge.simulator import bookings, broker
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.arguments import ArgumentError
from mt5_bridge.simulator.catalogue import SymbolSpec
from mt5_bridge.simulator.clock import Clock, ManualClock
from mt5_bridge.simulator.faults import Fault
from mt5_bridge.simulator.functions import Functions
from mt5_bridge.simulator.market import Market
from mt5_bridge.simulator.rules import COMMENTS
from mt5_bridge.simulator.structs import OrderCheckResult, OrderSendResult
from mt5_bridge.simulator.terminal import Terminal, TerminalError, make

_SUCCESS = (c.RES_S_OK, "Success")
_TEXTS = {
    c.RES_E_FAIL: "Terminal: Call failed",
    c.RES_E_INVALID_PARAMS: "Terminal: Invalid params",
    c.RES_E_NO_MEMORY: "Terminal: Out of memory",
    c.RES_E_NOT_FOUND: "Terminal: Not found",
    c.RES_E_INVALID_VERSION: (
        "Terminal: Incompatible versions, please install the latest version of Terminal and Python module"
    ),
    c.RES_E_AUTH_FAILED: "Terminal: Authorization failed",
    c.RES_E_UNSUPPORTED: "Terminal: Unsupported function",
    c.RES_E_AUTO_TRADING_DISABLED: "Auto-Trading using Python API disabled in Terminal",
    c.RES_E_INTERNAL_FAIL: "IPC call failed",
    c.RES_E_INTERNAL_FAIL_SEND: "IPC send failed",
    c.RES_E_INTERNAL_FAIL_RECEIVE: "IPC recv failed",
    c.RES_E_INTERNAL_FAIL_INIT: "IPC initialize failed, no terminal",
    c.RES_E_INTERNAL_FAIL_CONNECT: "No IPC connection",
    c.RES_E_INTERNAL_FAIL_TIMEOUT: "IPC timeout",
}


class _Manner(NamedTuple):
    """How a function is called and fails."""

    arguments: bool = True
    keywords: bool = False
    failure: Any = None
    bad_arguments: Any = None


_FALSE = _Manner(failure=False, bad_arguments=False)
_MANNERS: dict[str, _Manner] = {
    "initialize": _FALSE._replace(keywords=True),
    "login": _FALSE._replace(keywords=True),
    "shutdown": _Manner(arguments=False),
    "version": _Manner(arguments=False, failure=(0, 0, "")),
    "terminal_info": _Manner(arguments=False),
    "account_info": _Manner(arguments=False),
    "copy_ticks_from": _Manner(),
    "copy_ticks_range": _Manner(),
    "copy_rates_from": _Manner(),
    "copy_rates_from_pos": _Manner(),
    "copy_rates_range": _Manner(),
    "positions_total": _Manner(arguments=False),
    "positions_get": _Manner(keywords=True),
    "orders_total": _Manner(arguments=False),
    "orders_get": _Manner(keywords=True),
    "history_orders_total": _Manner(),
    "history_orders_get": _Manner(keywords=True),
    "history_deals_total": _Manner(),
    "history_deals_get": _Manner(keywords=True),
    "order_check": _Manner(keywords=True),
    "order_send": _Manner(keywords=True),
    "order_calc_margin": _Manner(),
    "order_calc_profit": _Manner(),
    "symbol_info": _Manner(),
    "symbol_info_tick": _Manner(),
    "symbol_select": _FALSE,
    "symbols_total": _Manner(arguments=False),
    "symbols_get": _Manner(keywords=True, bad_arguments=False),
    "market_book_add": _Manner(failure=False),
    "market_book_release": _Manner(failure=False),
    "market_book_get": _Manner(),
}
_VERSION_FIRST = frozenset({"symbols_total", "symbols_get"})
"""Without a terminal these complain of its version, not of the connection."""
_SILENT = frozenset({"market_book_add", "market_book_release"})
"""These fail without telling `last_error`."""


class _State:
    """The process's one terminal and one last error."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.last_error: tuple[int, str] = (0, "")
        self.functions = Functions(make({}))

    def replace(self, terminal: Terminal) -> None:
        with self.lock:
            self.functions.terminal.close()
            self.functions = Functions(terminal)
            self.last_error = (0, "")


_state = _State()


class Builtin:
    """A function of the package. Like a C builtin it does not bind when a class stores it."""

    __slots__ = ("__name__", "_manner")

    def __init__(self, name: str, manner: _Manner) -> None:
        self.__name__ = name
        self._manner = manner

    def __repr__(self) -> str:
        return f"<built-in function {self.__name__}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name, manner = self.__name__, self._manner
        self._admit(args, kwargs)
        with _state.lock:
            _state.last_error = _SUCCESS
            functions = _state.functions
            work: Callable[..., Any] = getattr(functions, name)
            try:
                if functions.terminal.faults:
                    return _troubled(functions, name, work, args, kwargs)
                return work(*args, **kwargs)
            except ArgumentError as error:
                _state.last_error = (c.RES_E_INVALID_PARAMS, str(error))
                if error.system_error:
                    raise SystemError(f"{self!r} returned a result with an exception set") from None
                return manner.bad_arguments
            except TerminalError as error:
                _fail(name, error)
                return manner.failure

    def _admit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """What CPython itself refuses before a builtin is reached."""
        if kwargs and not self._manner.keywords:
            raise TypeError(f"MetaTrader5.{self.__name__}() takes no keyword arguments")
        if args and not self._manner.arguments:
            raise TypeError(f"MetaTrader5.{self.__name__}() takes no arguments ({len(args)} given)")


def _fail(name: str, error: TerminalError) -> None:
    code, text = error.code, error.text
    if name in _VERSION_FIRST and code == c.RES_E_INTERNAL_FAIL_CONNECT:
        code = c.RES_E_INVALID_VERSION
        text = _TEXTS[code]
    if name not in _SILENT:
        _state.last_error = (code, text)


def _troubled(
    functions: Functions, name: str, work: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """A call on which faults may strike."""
    terminal = functions.terminal
    hits = terminal.faults.strike(name)
    for fault in hits:
        _before(terminal, fault)
    answer = next((fault for fault in hits if fault.kind == "retcode"), None)
    if answer is not None and name in ("order_send", "order_check"):
        result = _false_answer(functions, name, answer, args, kwargs)
    else:
        result = work(*args, **kwargs)
    for fault in hits:
        _after(terminal, fault)
    return result


def _before(terminal: Terminal, fault: Fault) -> None:
    faults = terminal.faults
    match fault.kind:
        case "delay" if fault.when == "before":
            faults.wait(fault.seconds)
        case "hang" if fault.when == "before":
            faults.hang()
        case "crash" if fault.when == "before":
            faults.die()
        case "none":
            raise TerminalError(fault.code, fault.text or _TEXTS.get(fault.code, "Terminal: Call failed"))
        case "autotrading_off" | "autotrading_on":
            terminal.autotrading = fault.kind == "autotrading_on"
        case "account_swap":
            terminal.shown_login = fault.login or None
        case "clock_offset":
            terminal.market.change_offset(round(fault.seconds))
        case _:
            pass


def _after(terminal: Terminal, fault: Fault) -> None:
    faults = terminal.faults
    match fault.kind:
        case "delay" if fault.when == "after":
            faults.wait(fault.seconds)
        case "hang" if fault.when == "after":
            faults.hang()
        case "crash" if fault.when == "after":
            faults.die()
        case "executed_then_none":
            raise TerminalError(fault.code, fault.text or _TEXTS.get(fault.code, "Terminal: Call failed"))
        case _:
            pass


def _false_answer(
    functions: Functions, name: str, fault: Fault, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> OrderSendResult | OrderCheckResult:
    if fault.execute or name == "order_check":
        real = getattr(functions, name)(*args, **kwargs)
        request = real.request
    else:
        request = functions.read_request(args, kwargs)
    kind = OrderSendResult if name == "order_send" else OrderCheckResult
    return kind.of({"retcode": fault.retcode, "comment": COMMENTS.get(fault.retcode, ""), "request": request})


class _LastError(Builtin):
    """Code and text of the last call's error; asking does not reset it."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[int, str]:
        self._admit(args, kwargs)
        return _state.last_error


BUILTINS = {
    **{name: Builtin(name, manner) for name, manner in _MANNERS.items()},
    "last_error": _LastError("last_error", _Manner(arguments=False)),
}


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
    sys.modules["MetaTrader5"] = sys.modules["mt5_bridge.simulator"]
    return MarketControl(_state.functions)


def uninstall() -> None:
    """Undoes `install`: `import MetaTrader5` is what it was, and the terminal starts anew with default settings."""
    if sys.modules.get("MetaTrader5") is sys.modules["mt5_bridge.simulator"]:
        del sys.modules["MetaTrader5"]
    _state.replace(make({}))


def inject(**rule: Any) -> None:
    """Adds a fault: `inject(function="order_send", kind="none", nth=1, code=-10005)`."""
    _state.functions.terminal.faults.add(Fault(**rule))


def clear_faults() -> None:
    """Ends all faults, and what they left: AutoTrading is on, the own account answers."""
    terminal = _state.functions.terminal
    terminal.faults.clear()
    terminal.autotrading = True
    terminal.shown_login = None


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
        return {name: feed.spec for name, feed in self.market.feeds.items()}

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

    def tick(self, symbol: str, bid: float, ask: float) -> None:
        """A tick now. From the first one on, only ticks given so move the symbol.

        Raises:
            KeyError: no such symbol.
            ValueError: the ask is below the bid, or a price not above 0.
        """
        if not 0 < bid <= ask:
            raise ValueError(f"bid {bid} and ask {ask} are no quote")
        with _state.lock:
            self._sync()
            market = self.market
            feed = market.feeds[symbol]
            source = market.hand_feed(symbol)
            source.append(market.now(), round(bid * feed.spec.scale), round(ask * feed.spec.scale))
            feed.forget()
            self._sync(force=True)

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

    def _sync(self, *, force: bool = False) -> None:
        terminal = self._functions.terminal
        if terminal.connected:
            if force:
                terminal.session.engine.wake()
            terminal.synced()

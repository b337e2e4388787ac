"""What a fault leaves for a while: stale lists, standing quotes, a terminal that restarts.

An effect stands between the terminal and the caller. It changes what is shown, never the books.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from mt5_bridge.simulator.functions.functions import Functions
from mt5_bridge.simulator.functions.queries import Wanted
from mt5_bridge.simulator.market.clock import ManualClock
from mt5_bridge.simulator.structs import SymbolInfo, TradeDeal, TradeOrder, TradePosition
from mt5_bridge.simulator.terminal import TerminalError

if TYPE_CHECKING:
    from mt5_bridge.simulator.terminal import Terminal
    from mt5_bridge.simulator.trading.session import Session


class Call(msgspec.Struct):
    """One call of the package on its way to the terminal."""

    functions: Functions
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def terminal(self) -> "Terminal":
        """The terminal it goes to."""
        return self.functions.terminal

    @property
    def now(self) -> int:
        """UTC in ms."""
        return self.terminal.clock.now()

    def concerns(self, symbol: str) -> bool:
        """Whether the call names the symbol; an empty one is any."""
        named = self.args[0] if self.args else self.kwargs.get("symbol")
        if isinstance(named, dict):
            named = named.get("symbol")
        return not symbol or (isinstance(named, str) and named == symbol)


class Effect:
    """Base: does nothing until a moment (UTC, ms; None: until cleared)."""

    def __init__(self, until: int | None) -> None:
        self.until = until

    def over(self, now: int) -> bool:
        """Whether it has ended."""
        return self.until is not None and now >= self.until

    def before(self, call: Call) -> None:
        """Its say before the call takes effect; may raise `TerminalError`."""

    @contextmanager
    def during(self, _call: Call) -> Iterator[None]:
        """What holds while the terminal works on the call."""
        yield

    def show(self, _call: Call, result: Any) -> Any:
        """What the caller gets to see."""
        return result

    def end(self, terminal: "Terminal") -> None:
        """Undoes what needs it."""


class AutotradingOff(Effect):
    """The toolbar's button is off, and somebody will switch it on again."""

    def end(self, terminal: "Terminal") -> None:
        terminal.autotrading = True


class Restarting(Effect):
    """The terminal is closed and comes back later: nobody can connect before.

    Args:
        until: when it is back.
        error: what `initialize` says meanwhile.
    """

    def __init__(self, until: int, error: TerminalError) -> None:
        super().__init__(until)
        self._error = error

    def before(self, call: Call) -> None:
        if call.name == "initialize":
            raise TerminalError(self._error.code, self._error.text)


class _Lag(Effect):
    """An account shows what was. Other accounts show what is."""

    def __init__(self, until: int, session: "Session") -> None:
        super().__init__(until)
        self._account = session.identity

    def _holds(self, call: Call) -> bool:
        return call.terminal.connected and call.terminal.session.identity == self._account


class StaleList(_Lag):
    """`positions_get` or `orders_get` as they were when the fault struck.

    Args:
        until: when the list is brought up to date.
        functions: of the terminal, to read the list.
        what: `positions` or `orders`.
    """

    def __init__(self, until: int, functions: Functions, what: str) -> None:
        super().__init__(until, functions.terminal.session)
        self._get, self._total = f"{what}_get", f"{what}_total"
        self._held: tuple[TradePosition | TradeOrder, ...] = getattr(functions, self._get)()

    def show(self, call: Call, result: Any) -> Any:
        if not self._holds(call):
            return result
        if call.name == self._total:
            return len(self._held)
        if call.name == self._get:
            wanted = Wanted(call.args, call.kwargs)
            return tuple(record for record in self._held if wanted.takes(record.ticket, record.symbol))
        return result


class StaleHistory(_Lag):
    """The history without what came into it since the fault struck.

    Args:
        until: when the history is brought up to date.
        session: whose it is.
    """

    def __init__(self, until: int, session: "Session") -> None:
        super().__init__(until, session)
        ledger = session.account.ledger
        self._ticket = ledger.next_ticket
        self._waiting = frozenset(ledger.orders)

    def show(self, call: Call, result: Any) -> Any:
        if not self._holds(call):
            return result
        if call.name in ("history_deals_get", "history_orders_get"):
            return tuple(record for record in result if self._known(record))
        if call.name in ("history_deals_total", "history_orders_total"):
            records = getattr(call.functions, call.name.replace("_total", "_get"))(*call.args)
            return sum(map(self._known, records))
        return result

    def _known(self, record: TradeDeal | TradeOrder) -> bool:
        return record.ticket < self._ticket and record.ticket not in self._waiting


_QUOTES = frozenset(
    {
        "symbol_info_tick", "market_book_get", "copy_ticks_from", "copy_ticks_range", "copy_rates_from",
        "copy_rates_from_pos", "copy_rates_range",
    }
)  # fmt: skip
"""What shows prices and nothing of the account."""


class FrozenQuotes(Effect):
    """Prices stand still for the caller, while the market goes on.

    Args:
        until: when they move again.
        at: the moment (UTC, ms) of the prices shown.
        symbol: the only one; empty: all.
    """

    def __init__(self, until: int, at: int, symbol: str) -> None:
        super().__init__(until)
        self._clock = ManualClock(at)
        self._symbol = symbol

    @contextmanager
    def during(self, call: Call) -> Iterator[None]:
        if call.name not in _QUOTES or not call.concerns(self._symbol):
            yield
            return
        terminal, market = call.terminal, call.terminal.market
        clocks = terminal.clock, market.clock
        terminal.clock = market.clock = self._clock
        try:
            yield
        finally:
            terminal.clock, market.clock = clocks

    def show(self, call: Call, result: Any) -> Any:
        if call.name == "symbol_info" and call.concerns(self._symbol):
            return self._info(call.terminal, result)
        if call.name == "symbols_get":
            return tuple(
                self._info(call.terminal, info) if self._symbol in ("", info.name) else info for info in result
            )
        return result

    def _info(self, terminal: "Terminal", info: SymbolInfo) -> SymbolInfo:
        quote = terminal.market.quote(info.name, self._clock.now())
        if not info.time or quote is None:
            return info
        time = terminal.market.server_time(quote.time_msc) // 1000
        spread = round((quote.ask - quote.bid) / info.point)
        return SymbolInfo.of({**info._asdict(), "time": time, "bid": quote.bid, "ask": quote.ask, "spread": spread})

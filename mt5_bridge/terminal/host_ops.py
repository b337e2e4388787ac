"""What the host can be asked: one function per operation, each a few calls of the terminal's module.

Results are plain tuples of the fields named in `raw`. Every failing call becomes a `HostError` that carries the
terminal's `last_error`; None never leaves here as a result.
"""

import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec

from mt5_bridge.core.model import OrderRequest
from mt5_bridge.terminal import host_orders, host_pages
from mt5_bridge.terminal.frames import Failure, HostError
from mt5_bridge.terminal.host_ticks import TickReader
from mt5_bridge.terminal.raw import (
    ConnectArgs,
    PageArgs,
    RawAccount,
    RawCursor,
    RawDeal,
    RawOrder,
    RawPage,
    RawPosition,
    RawSymbol,
    RawTerminal,
    RawTick,
)

_tick = attrgetter(*RawTick.__struct_fields__)
_account = attrgetter(*RawAccount.__struct_fields__)
_terminal = attrgetter(*RawTerminal.__struct_fields__)
_symbol = attrgetter(*RawSymbol.__struct_fields__)
_position = attrgetter(*RawPosition.__struct_fields__)
_order = attrgetter(*RawOrder.__struct_fields__)
_deal = attrgetter(*RawDeal.__struct_fields__)

_RULES_S = 1.0


def _never() -> bool:
    return False


class Host:
    """The operations on one terminal module (`MetaTrader5`, the simulator, a test's fake).

    Attributes:
        sending: `order_send` has been called by the running operation.
    """

    def __init__(self, module: Any) -> None:
        self.sending = False
        self._withdrawn: Callable[[], bool] = _never
        self._mt5 = module
        self._whose: tuple[int, str] | None = None
        self._connected_by: list[Any] = []
        self._ticks = TickReader(module, self._pick, self._need)
        self._fillings = host_orders.FillingCache()
        self._rules: dict[str, tuple[float, Any]] = {}
        """What is traded: its `symbol_info`, and when that was read (monotonic seconds)."""
        self._operations: dict[str, Callable[..., Any]] = {
            "connect": self.connect,
            "account": self.account,
            "terminal": self.terminal,
            "symbol": self.symbol,
            "symbols": self.symbols,
            "symbol_names": self.symbol_names,
            "tick": self.tick,
            "positions": self.positions,
            "orders": self.orders,
            "history_orders": self.history_orders,
            "history_deals": self.history_deals,
            "snapshot": self.snapshot,
            "calc_margin": self.calc_margin,
            "calc_profit": self.calc_profit,
            "facts": self.facts,
            "check": self.check,
            "send": self.send,
            "poll": self.poll,
            "page": self._page,
            "ticks": self._range,
            "rates": self.rates,
        }

    def perform(self, op: str, args: list[Any], withdrawn: Callable[[], bool] = _never) -> Any:
        """Run an operation by name.

        Args:
            op: its name.
            args: its arguments.
            withdrawn: asked right before `order_send`: whether nothing is to be sent after all.

        Raises:
            HostError: it failed; the terminal's reason is inside.
        """
        self.sending = False
        self._withdrawn = withdrawn
        operation = self._operations.get(op)
        if operation is None:
            raise HostError(Failure("validation", None, f"unknown operation {op}"))
        try:
            return operation(*args)
        finally:
            self._withdrawn = _never

    @property
    def whose(self) -> tuple[int, str] | None:
        """Login and server that `connect` found; None before it ever did."""
        return self._whose

    def reconnect(self) -> None:
        """`connect` as it was asked for last, for a terminal whose pipe broke.

        Raises:
            HostError: the terminal refuses, or shows another account.
        """
        whose = self._whose
        self.connect(self._connected_by)
        self._whose = whose
        self._own()

    def shutdown(self) -> None:
        """Close the terminal's pipe."""
        self._mt5.shutdown()

    def _fail(self, what: str) -> HostError:
        code, text = self._mt5.last_error()
        return HostError(Failure("terminal", int(code), f"{what}: {text} ({code})", self.sending))

    def _need(self, value: Any, what: str) -> Any:
        if value is None or value is False:
            raise self._fail(what)
        return value

    def connect(self, raw: list[Any]) -> Any:
        """`initialize`, and `login` where another account than the wanted one is open. Answers the account."""
        args = msgspec.convert(raw, ConnectArgs)
        self._connected_by = raw
        self._mt5.shutdown()
        self._fillings.clear()
        self._rules.clear()
        wish = {"login": args.login, "password": args.password, "server": args.server}
        options = {name: value for name, value in wish.items() if value is not None}
        if args.portable:
            options["portable"] = True
        path = () if args.path is None else (args.path,)
        self._need(self._mt5.initialize(*path, timeout=args.timeout_ms, **options), "initialize")
        account = self._need(self._mt5.account_info(), "account_info")
        if args.login is not None and account.login != args.login:
            del wish["login"]
            rest = {name: value for name, value in wish.items() if value is not None}
            self._need(self._mt5.login(args.login, timeout=args.timeout_ms, **rest), "login")
            account = self._need(self._mt5.account_info(), "account_info")
        self._whose = (account.login, account.server)
        return _account(account)

    def _own(self, wanted: tuple[int | None, str | None] | None = None) -> Any:
        """`account_info`, of the account that `connect` found: what another one shows says nothing of ours.

        A second terminal can answer the pipe, and a person can log in to another account at any time.

        Args:
            wanted: login and server that it must be as well; None: any.
        """
        account = self._need(self._mt5.account_info(), "account_info")
        for login, server in filter(None, (wanted, self._whose)):
            if account.login != (login or account.login) or account.server != (server or account.server):
                text = f"the terminal is logged in to {account.login} at {account.server}, not to {login} at {server}"
                raise HostError(Failure("mismatch", None, text))
        return account

    def account(self) -> Any:
        """`account_info`."""
        return _account(self._own())

    def terminal(self) -> Any:
        """`terminal_info`."""
        return _terminal(self._need(self._mt5.terminal_info(), "terminal_info"))

    def _pick(self, name: str) -> Any:
        """A symbol's `symbol_info`, selected into Market Watch where it was not."""
        info = self._need(self._mt5.symbol_info(name), f"symbol_info {name}")
        if not info.select:
            self._need(self._mt5.symbol_select(name, True), f"symbol_select {name}")
            info = self._need(self._mt5.symbol_info(name), f"symbol_info {name}")
        return info

    def _noted(self, name: str) -> Any:
        info = self._pick(name)
        self._rules[name] = (time.monotonic(), info)
        return info

    def _rules_of(self, name: str) -> Any:
        """`symbol_info` for digits and modes: an order sent right after its facts were read need not read it again."""
        at, info = self._rules.get(name, (0.0, None))
        return info if info is not None and time.monotonic() - at < _RULES_S else self._noted(name)

    def symbol(self, name: str) -> Any:
        """One symbol, selected."""
        return _symbol(self._pick(name))

    def symbols(self, group: str | None) -> Any:
        """All symbols, or those of a group mask."""
        found = self._mt5.symbols_get() if group is None else self._mt5.symbols_get(group=group)
        return [_symbol(info) for info in self._need(found, "symbols_get")]

    def symbol_names(self, group: str) -> list[str]:
        """Only the names: a broker may have thousands of symbols."""
        return [info.name for info in self._need(self._mt5.symbols_get(group=group), "symbols_get")]

    def tick(self, name: str) -> Any:
        """The last tick of a symbol, selected first where needed."""
        tick = self._mt5.symbol_info_tick(name)
        if tick is None or not tick.time_msc:
            self._pick(name)
            tick = self._need(self._mt5.symbol_info_tick(name), f"symbol_info_tick {name}")
        return _tick(tick)

    def positions(self, symbol: str | None, ticket: int | None) -> Any:
        """Open positions: all, of a symbol, or one by ticket."""
        return [_position(p) for p in self._need(self._mt5.positions_get(**_which(symbol, ticket)), "positions_get")]

    def orders(self, symbol: str | None, ticket: int | None) -> Any:
        """Live orders: all, of a symbol, or one by ticket."""
        return [_order(o) for o in self._need(self._mt5.orders_get(**_which(symbol, ticket)), "orders_get")]

    def history_orders(self, start: int, end: int, ticket: int | None, position: int | None) -> Any:
        """Orders of the past by dates (broker seconds), ticket or position."""
        found = _history(self._mt5.history_orders_get, start, end, ticket, position)
        return [_order(o) for o in self._need(found, "history_orders_get")]

    def history_deals(self, start: int, end: int, ticket: int | None, position: int | None) -> Any:
        """Deals by dates (broker seconds), the order's ticket or position."""
        found = _history(self._mt5.history_deals_get, start, end, ticket, position)
        return [_deal(d) for d in self._need(found, "history_deals_get")]

    def snapshot(self) -> Any:
        """Account, terminal, positions and orders in one round trip."""
        return self.account(), self.terminal(), self.positions(None, None), self.orders(None, None)

    def calc_margin(self, type_: int, symbol: str, volume: float, price: float) -> float:
        """`order_calc_margin`."""
        self._pick(symbol)
        return float(self._need(self._mt5.order_calc_margin(type_, symbol, volume, price), "order_calc_margin"))

    def calc_profit(self, type_: int, symbol: str, volume: float, start: float, end: float) -> float:
        """`order_calc_profit`."""
        self._pick(symbol)
        return float(self._need(self._mt5.order_calc_profit(type_, symbol, volume, start, end), "order_calc_profit"))

    def facts(self, symbol: str, type_: int, price: float | None, stop: float | None) -> Any:
        """Everything the guards need for one opening. A margin the terminal cannot say is None."""
        info = self._noted(symbol)
        tick = self._need(self._mt5.symbol_info_tick(symbol), f"symbol_info_tick {symbol}")
        at = price or (tick.ask if type_ == 0 else tick.bid)
        margin = self._mt5.order_calc_margin(type_, symbol, 1.0, at) if at else None
        profit = self._mt5.order_calc_profit(type_, symbol, 1.0, at, stop) if at and stop else None
        return _symbol(info), _tick(tick), margin, profit, self.account(), self.terminal()

    def check(self, request: dict[str, Any], expiration_s: int) -> Any:
        """`order_check` with the very dict that would be sent."""
        order = self._prepare(msgspec.convert(request, OrderRequest), expiration_s)
        return _result(self._need(self._mt5.order_check(order), "order_check"))

    def send(self, login: int | None, server: str | None, request: dict[str, Any], expiration_s: int) -> Any:
        """`order_send`, after a look, in the same breath, at whose terminal this is."""
        self._own((login, server))
        wanted = msgspec.convert(request, OrderRequest)
        order = self._prepare(wanted, expiration_s)
        if wanted.as_it_stands and (answer := self._as_it_stands(wanted, order)) is not None:
            return answer
        if self._withdrawn():
            raise HostError(Failure("withdrawn", None, "the order was taken back before `order_send`"))
        self.sending = True
        answer = self._mt5.order_send(order)
        if answer is None:
            raise self._fail("order_send")
        result = _result(answer)  # what cannot be read was sent all the same
        self.sending = False
        if answer.retcode == host_orders.INVALID_FILL:
            self._fillings.forget(wanted.symbol)
            self._rules.pop(wanted.symbol, None)
        return result

    def _as_it_stands(self, wanted: OrderRequest, order: dict[str, Any]) -> tuple[Any, ...] | None:
        """Put in the stop and target of this moment where they stay; an answer where nothing is to be sent.

        What the bridge decided by was read before: they may have been moved, or the position turned round.
        """
        found = self._need(self._mt5.positions_get(ticket=wanted.position), "positions_get")
        position = next(iter(found), None)
        if position is None or position.type != wanted.type.side.type:
            return host_orders.POSITION_GONE
        rounded = msgspec.structs.replace(wanted, stop_loss=order["sl"], take_profit=order["tp"])
        stands = (float(position.sl), float(position.tp))
        order["sl"], order["tp"] = rounded.stops(*stands)
        return host_orders.NO_CHANGES if (order["sl"], order["tp"]) == stands else None

    def _prepare(self, request: OrderRequest, expiration_s: int) -> dict[str, Any]:
        if not request.symbol:
            return host_orders.build(request, None, None, expiration_s)
        info = self._rules_of(request.symbol)
        tick = None
        if host_orders.wants_price(request):
            tick = self._need(self._mt5.symbol_info_tick(request.symbol), f"symbol_info_tick {request.symbol}")
        order = host_orders.build(request, info, tick, expiration_s)
        if host_orders.wants_filling(request):
            order["type_filling"] = self._fillings.choose(order, info, self._mt5.order_check)
        return order

    def poll(self, cursors: list[Any], slice_ms: float, max_ticks: int, backfill_ms: int) -> Any:
        """One slice of live ticks."""
        wanted = [RawCursor(*cursor) for cursor in cursors]
        blocks, quotes, unfinished, faults = self._ticks.poll(wanted, slice_ms, max_ticks, backfill_ms)
        return blocks, {name: _tick(tick) for name, tick in quotes.items()}, unfinished, faults

    def _page(self, symbol: str, time_msc: int, count: int, passes: int, max_ticks: int, args: list[Any]) -> RawPage:
        self._pick(symbol)
        block = self._ticks.page(RawCursor(symbol, time_msc, count, passes), max_ticks, max_ticks)
        return host_pages.framed(block, msgspec.convert(args, PageArgs))

    def _range(self, symbol: str, start_s: int, end_s: int | None, count: int | None) -> bytes:
        self._pick(symbol)
        return self._ticks.stretch(symbol, start_s, end_s, count)

    def rates(self, symbol: str, timeframe: int, start_s: int | None, count: int) -> bytes:
        """`count` bars back from a time (broker seconds), or from now."""
        self._pick(symbol)
        if start_s is None:
            found = self._mt5.copy_rates_from_pos(symbol, timeframe, 0, count)
        else:
            found = self._mt5.copy_rates_from(symbol, timeframe, start_s, count)
        data: bytes = self._need(found, f"copy_rates {symbol}").tobytes()
        return data


def _which(symbol: str | None, ticket: int | None) -> dict[str, Any]:
    if ticket is not None:
        return {"ticket": ticket}
    return {} if symbol is None else {"symbol": symbol}


def _history(get: Callable[..., Any], start: int, end: int, ticket: int | None, position: int | None) -> Any:
    if ticket is not None:
        return get(ticket=ticket)
    if position is not None:
        return get(position=position)
    return get(start, end)


def _result(answer: Any) -> tuple[Any, ...]:
    return (
        answer.retcode,
        getattr(answer, "deal", 0),
        getattr(answer, "order", 0),
        getattr(answer, "volume", 0.0),
        getattr(answer, "price", 0.0),
        getattr(answer, "bid", 0.0),
        getattr(answer, "ask", 0.0),
        answer.comment,
    )

"""MT5 in asyncio without a frozen loop.

    async with MT5SessionManager(login=…, password=…, server=…) as mt5:
        account = await mt5.get_account_info()

The terminal is called in a child process; a call that hangs costs that process, never the event loop.
"""

import asyncio
import math
import random as _random
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from mt5_bridge.core.errors import MT5DataError, MT5ValidationError
from mt5_bridge.core.model import (
    AccountInfo,
    Bar,
    Cursor,
    Deal,
    Order,
    OrderRequest,
    Position,
    Quote,
    Side,
    SymbolInfo,
    TerminalInfo,
    TickBlock,
    TradeResult,
)
from mt5_bridge.core.symbols import match_symbol
from mt5_bridge.core.ticks import Label
from mt5_bridge.terminal import convert, requests
from mt5_bridge.terminal.breaker import CircuitBreaker
from mt5_bridge.terminal.clock import BrokerClock
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.history import HistoryHost
from mt5_bridge.terminal.link import Link, wall_ms
from mt5_bridge.terminal.port import (
    CallInfo,
    EncodedTicks,
    OrderFacts,
    PollResult,
    Priority,
    Snapshot,
    StateCallback,
    TerminalState,
    TerminalStats,
)
from mt5_bridge.terminal.raw import (
    PageArgs,
    Passes,
    RawAccount,
    RawBlock,
    RawDeal,
    RawFacts,
    RawOrder,
    RawPage,
    RawPoll,
    RawPosition,
    RawResult,
    RawSnapshot,
    RawSymbol,
    RawTerminal,
    RawTick,
)

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW
READ_S = 5.0
SEND_S = 30.0
HISTORY_S = 60.0
NOT_FOUND = -4
PAPER_OFFSET_S = "7200"


class MT5SessionManager:
    """One account of one terminal. Implements `terminal.port.Terminal`, which documents priorities and errors.

    Args:
        config: everything that can be set; or give the usual few as keywords.
        login: the account.
        password: its password.
        server: the broker's server name.
        path: the terminal's program.
        backend: `mt5`, `paper`, or a module that speaks like the `MetaTrader5` package.
        clock: the broker's clock, for whoever keeps its timeline.
        now_ms: UTC wall clock in ms.
        monotonic: seconds.
        random: uniform in [0, 1), the jitter of reconnects.
    """

    def __init__(
        self,
        config: TerminalConfig | None = None,
        *,
        login: int | None = None,
        password: str | None = None,
        server: str | None = None,
        path: str | None = None,
        backend: str = "mt5",
        clock: BrokerClock | None = None,
        now_ms: Callable[[], int] = wall_ms,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.config = config or TerminalConfig(
            backend=backend, login=login, password=password, server=server, path=path
        )
        self.clock = clock or _clock_for(self.config)
        self._now_ms = now_ms
        self._link = Link(self.config, now_ms=now_ms, monotonic=monotonic, random=random)
        self._history = HistoryHost(self.config, self._link.stats, lambda: self.state is TerminalState.CONNECTED)
        self._resolved: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.connect(max_wait=self.config.connect_timeout)
        except BaseException:
            await self.disconnect()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    @property
    def state(self) -> TerminalState:
        """Where the connection stands."""
        return self._link.state

    @property
    def detail(self) -> str:
        """Why, in words."""
        return self._link.detail

    @property
    def since_msc(self) -> int:
        """Since when, UTC ms."""
        return self._link.since_msc

    @property
    def in_flight(self) -> CallInfo | None:
        """What the live host is busy with."""
        return self._link.client.in_flight

    @property
    def login(self) -> int | None:
        """The account held on to: the configured one, else the one that answered first; None before."""
        return self._link.login

    @property
    def host_pid(self) -> int | None:
        """The live host's process id, for the watch."""
        return self._link.client.pid

    @property
    def history_pid(self) -> int | None:
        """The history host's process id while it runs."""
        return self._history.pid

    @property
    def breaker(self) -> CircuitBreaker:
        """The circuit breaker, for its state and manual reset."""
        return self._link.breaker

    @property
    def stats(self) -> TerminalStats:
        """Counters."""
        return self._link.stats

    def on_state(self, callback: StateCallback) -> None:
        """Tell `callback(state, detail)` of every change, synchronously."""
        self._link.on_state(callback)

    def kill_host(self, reason: str) -> None:
        """Kill the live host now: what is in flight becomes unknown, what waits was not sent."""
        self._link.kill_host(reason)

    async def warm_up(self) -> None:
        """Start the host ahead of `connect`; see `Link.warm_up`. `disconnect` ends it."""
        await self._link.warm_up()

    async def connect(self, *, max_wait: float | None = None) -> None:
        """Connect and stay connected; see `Link.connect` for errors."""
        await self._link.connect(max_wait=max_wait)

    async def disconnect(self, *, bye: bool = True, timeout: float = 2.0) -> None:
        """End the session and its hosts. Bounded; safe to call twice. For `bye` see `Link.disconnect`."""
        await asyncio.gather(self._history.close(), self._link.disconnect(bye=bye, timeout=timeout))

    async def reconnect(self, *, max_wait: float | None = None) -> None:
        """A person's word: begin anew with fresh hosts, also after FAILED."""
        await self._history.close()
        self._history.forget_refusal()
        self._resolved.clear()
        await self._link.reconnect(max_wait=max_wait)

    async def _read(self, op: str, *args: Any, result: Any, priority: Priority, timeout: float) -> Any:
        return await self._link.call(op, *args, result=result, priority=priority, timeout=timeout)

    async def get_account_info(self, *, priority: Priority = HIGH, timeout: float = READ_S) -> AccountInfo:
        """The account now."""
        return convert.account(await self._read("account", result=RawAccount, priority=priority, timeout=timeout))

    async def get_terminal_info(self, *, priority: Priority = HIGH, timeout: float = READ_S) -> TerminalInfo:
        """The terminal program now."""
        return convert.terminal(await self._read("terminal", result=RawTerminal, priority=priority, timeout=timeout))

    async def get_symbol(self, name: str, *, priority: Priority = HIGH, timeout: float = READ_S) -> SymbolInfo:
        """A symbol's rules; it is selected into Market Watch.

        Raises:
            MT5DataError: code -4, no such symbol.
        """
        return convert.symbol(await self._read("symbol", name, result=RawSymbol, priority=priority, timeout=timeout))

    async def get_symbols(
        self, group: str | None = None, *, priority: Priority = LOW, timeout: float = READ_S
    ) -> list[SymbolInfo]:
        """All symbols, or those of a group mask (`*USD*,!EUR*`)."""
        found = await self._read("symbols", group, result=list[RawSymbol], priority=priority, timeout=timeout)
        return [convert.symbol(raw) for raw in found]

    async def resolve_symbol(self, name: str, *, priority: Priority = HIGH, timeout: float = READ_S) -> str:
        """The broker's name of a symbol: exact, by alias, or with the broker's suffix.

        Raises:
            MT5ValidationError: several names fit; the text begins with "ambiguous".
            MT5DataError: code -4, none fits.
        """
        if name not in self._resolved:
            wish = self.config.aliases.get(name, name)
            names = await self._read("symbol_names", f"*{wish}*", result=list[str], priority=priority, timeout=timeout)
            found = match_symbol(wish, names)
            if not found:
                raise MT5DataError(f"the broker has no symbol {name}", code=NOT_FOUND)
            if len(found) > 1:
                raise MT5ValidationError(f"ambiguous symbol {name}: {', '.join(found)}")
            self._resolved[name] = found[0]
        return self._resolved[name]

    async def get_price(self, symbol: str, *, priority: Priority = HIGH, timeout: float = READ_S) -> Quote:
        """The last prices.

        Raises:
            MT5DataError: no tick yet.
        """
        raw = await self._read("tick", symbol, result=RawTick, priority=priority, timeout=timeout)
        return self._quote(symbol, raw)

    def _quote(self, symbol: str, raw: RawTick) -> Quote:
        self.clock.observe(symbol, raw.time_msc, self._now_ms())
        if not raw.time_msc or not (raw.bid or raw.ask or raw.last):
            raise MT5DataError(f"{symbol} has no price yet")
        return convert.quote(symbol, raw, self.clock)

    async def get_positions(
        self,
        symbol: str | None = None,
        ticket: int | None = None,
        *,
        priority: Priority = HIGH,
        timeout: float = READ_S,
    ) -> list[Position]:
        """Open positions: all, of a symbol, or by ticket. An empty list means that there are none."""
        found = await self._read(
            "positions", symbol, ticket, result=list[RawPosition], priority=priority, timeout=timeout
        )
        return [convert.position(raw, self.clock) for raw in found]

    async def get_orders(
        self,
        symbol: str | None = None,
        ticket: int | None = None,
        *,
        priority: Priority = HIGH,
        timeout: float = READ_S,
    ) -> list[Order]:
        """Live orders: all, of a symbol, or by ticket."""
        found = await self._read("orders", symbol, ticket, result=list[RawOrder], priority=priority, timeout=timeout)
        return [convert.order(raw, self.clock) for raw in found]

    async def get_history_orders(
        self,
        from_msc: int | None = None,
        to_msc: int | None = None,
        *,
        ticket: int | None = None,
        position: int | None = None,
        priority: Priority = HIGH,
        timeout: float = READ_S,
    ) -> list[Order]:
        """Orders of the past: between two UTC times, by ticket, or of a position."""
        span = self._span(from_msc, to_msc, ticket, position)
        found = await self._read(
            "history_orders", *span, ticket, position, result=list[RawOrder], priority=priority, timeout=timeout
        )
        return [convert.order(raw, self.clock) for raw in found]

    async def get_history_deals(
        self,
        from_msc: int | None = None,
        to_msc: int | None = None,
        *,
        ticket: int | None = None,
        position: int | None = None,
        priority: Priority = HIGH,
        timeout: float = READ_S,
    ) -> list[Deal]:
        """Deals: between two UTC times, by the order's ticket, or of a position."""
        span = self._span(from_msc, to_msc, ticket, position)
        found = await self._read(
            "history_deals", *span, ticket, position, result=list[RawDeal], priority=priority, timeout=timeout
        )
        return [convert.deal(raw, self.clock) for raw in found]

    def _span(
        self, from_msc: int | None, to_msc: int | None, ticket: int | None, position: int | None
    ) -> tuple[int, int]:
        """The dates in broker seconds; the terminal takes whole ones, so the end is rounded up."""
        if ticket is not None or position is not None:
            return 0, 0
        if from_msc is None or to_msc is None:
            raise MT5ValidationError("history needs from_msc and to_msc, a ticket or a position")
        return self.clock.to_broker(from_msc) // 1000, -(-self.clock.to_broker(to_msc) // 1000)

    async def snapshot(self, *, priority: Priority = HIGH, timeout: float = READ_S) -> Snapshot:
        """Account, terminal, positions and orders in one round trip: all of it, or an error."""
        raw: RawSnapshot = await self._read("snapshot", result=RawSnapshot, priority=priority, timeout=timeout)
        return Snapshot(
            convert.account(raw.account),
            convert.terminal(raw.terminal),
            [convert.position(p, self.clock) for p in raw.positions],
            [convert.order(o, self.clock) for o in raw.orders],
            self._now_ms(),
        )

    async def calc_margin(
        self,
        side: Side,
        symbol: str,
        volume: float,
        price: float,
        *,
        priority: Priority = HIGH,
        timeout: float = READ_S,
    ) -> float:
        """Margin of an opening, account currency."""
        args = (side.type, symbol, float(volume), float(price))
        value: float = await self._read("calc_margin", *args, result=float, priority=priority, timeout=timeout)
        return value

    async def calc_profit(
        self,
        side: Side,
        symbol: str,
        volume: float,
        price_open: float,
        price_close: float,
        *,
        priority: Priority = HIGH,
        timeout: float = READ_S,
    ) -> float:
        """Profit between two prices, account currency."""
        args = (side.type, symbol, float(volume), float(price_open), float(price_close))
        value: float = await self._read("calc_profit", *args, result=float, priority=priority, timeout=timeout)
        return value

    async def quote_for_order(
        self,
        symbol: str,
        side: Side,
        price: float | None = None,
        stop_loss: float | None = None,
        *,
        priority: Priority = HIGH,
        timeout: float = READ_S,
    ) -> OrderFacts:
        """Everything the guards need for an opening, in one round trip. `price` None: at the market.

        Raises:
            MT5DataError: no tick yet, or no such symbol (-4).
        """
        raw: RawFacts = await self._read(
            "facts", symbol, side.type, price, stop_loss, result=RawFacts, priority=priority, timeout=timeout
        )
        return OrderFacts(
            convert.symbol(raw.symbol),
            self._quote(symbol, raw.tick),
            raw.margin,
            None if raw.profit is None else max(0.0, -raw.profit),
            convert.account(raw.account),
            convert.terminal(raw.terminal),
        )

    async def check_order(
        self, request: OrderRequest, *, priority: Priority = HIGH, timeout: float = READ_S
    ) -> TradeResult:
        """`order_check`: retcode 0 when the terminal would take it."""
        requests.validate(request)
        args = (request, self._expiration(request))
        return convert.result(await self._read("check", *args, result=RawResult, priority=priority, timeout=timeout))

    def recall_orders(self) -> None:
        """Ask whether the order on its way is taken back: it is withdrawn then, up to `order_send` itself."""
        self._link.client.recall()

    async def place_order(
        self,
        request: OrderRequest,
        *,
        priority: Priority = HIGH,
        timeout: float = SEND_S,
        on_sent: Callable[[], None] | None = None,
        may_go: Callable[[], bool] | None = None,
        taken_back: Callable[[], bool] | None = None,
    ) -> TradeResult:
        """`order_send`, once. Account and server are compared in the host right before it.

        Args:
            request: what to send; prices are rounded to the symbol's digits, nothing else is changed. Stops
                that depend on those that stand are held against the position as the host reads it right before; where
                nothing is left to do, or the position is another by then, the answer is 10025 or 10036, unsent.
            priority: CRITICAL for closing and emergency work.
            timeout: seconds for the terminal's answer.
            on_sent: called when the request is handed to the host.
            may_go: asked right before that, when the terminal is free: False withdraws the order (`MT5StateError`).
            taken_back: asked with each `recall_orders` from then on: True withdraws it too, if it has not been sent.

        Returns:
            The trade server's answer, whatever its retcode: see `retcodes.classify`.

        Raises:
            MT5Error: no answer. `sent` False: certainly not executed; True: unknown, look it up by its magic.
        """
        requests.validate(request)
        link = self._link
        raw: RawResult = await link.call(
            "send",
            link.login,
            link.server,
            request,
            self._expiration(request),
            result=RawResult,
            priority=priority,
            timeout=timeout,
            on_sent=on_sent,
            may_go=may_go,
            taken_back=taken_back,
        )
        self.stats.order_sends += 1
        return convert.result(raw)

    def _expiration(self, request: OrderRequest) -> int:
        return math.ceil(self.clock.to_broker(request.expiration_msc) / 1000) if request.expiration_msc else 0

    async def poll_ticks(
        self,
        cursors: Mapping[str, Cursor | None],
        *,
        slice_ms: float = 4.0,
        max_ticks: int = 20_000,
        backfill_ms: int = 0,
        priority: Priority = NORMAL,
        timeout: float = READ_S,
    ) -> PollResult:
        """One slice of live ticks.

        Args:
            cursors: symbols and how far each is read; None begins at now.
            slice_ms: the host stops looking after so long.
            max_ticks: and after so many ticks.
            backfill_ms: a symbol without cursor begins so long before its last tick instead.
            priority: NORMAL.
            timeout: seconds.
        """
        epoch = self.clock.epoch
        asked = self._raw_cursors(cursors)
        raw: RawPoll = await self._read(
            "poll", asked, slice_ms, max_ticks, backfill_ms, result=RawPoll, priority=priority, timeout=timeout
        )
        now = self._now_ms()
        for symbol, tick in raw.quotes.items():
            self.clock.observe(symbol, tick.time_msc, now)
        begun = {symbol: epoch if cursor is None else cursor.epoch for symbol, cursor in cursors.items()}
        return PollResult(
            {
                b.symbol: TickBlock(b.symbol, b.data, b.first_seq, b.more, b.lost, begun[b.symbol])
                for b in raw.blocks
                if b.data
            },
            {symbol: convert.quote(symbol, tick, self.clock) for symbol, tick in raw.quotes.items()},
            raw.unfinished,
            {b.symbol: self._after(b, begun[b.symbol], epoch) for b in raw.blocks},
            raw.faults,
        )

    def _raw_cursors(self, cursors: Mapping[str, Cursor | None]) -> list[tuple[str, int | None, int, int]]:
        stepped = self.clock.epoch > 0
        asked: list[tuple[str, int | None, int, int]] = []
        for symbol, cursor in cursors.items():
            if cursor is None:
                asked.append((symbol, None, 0, Passes.ONE))
            else:
                passes = self._passes(cursor) if stepped else Passes.ONE
                asked.append((symbol, cursor.time_msc, cursor.count, passes))
        return asked

    def _passes(self, cursor: Cursor) -> Passes:
        return Passes.BEHIND if self.clock.shown_twice(cursor.time_msc, cursor.epoch) else Passes.BEFORE

    def _after(self, block: RawBlock | RawPage, read: int, epoch: int) -> Cursor:
        """Where a symbol stands behind a block of one epoch; `epoch` was the current one when it was asked for."""
        if read < epoch and not block.more:
            # All that came before broker time stepped back has been read: on with the beginning of the next epoch.
            return Cursor(self.clock.epoch_begins(read + 1), 0, read + 1)
        return Cursor(block.time_msc, block.count, read)

    async def catch_up(
        self, label: Label, cursor: Cursor, max_ticks: int, *, latest_only: bool = False, timeout: float = HISTORY_S
    ) -> EncodedTicks:
        """The next ticks behind a cursor that fell far behind, from the history host, ready for the broker.

        Args:
            label: the symbol, its point and the headers of its records.
            cursor: how far it is published.
            max_ticks: at most so many are read.
            latest_only: of what is read, only the newest tick is wanted.
            timeout: seconds.
        """
        clock = self.clock
        # Broker time may step back while the call lasts: the page is then still of the time before.
        epoch = clock.epoch
        how = PageArgs(label, clock.timezone, clock.timeline, cursor.epoch, self._now_ms(), latest_only)
        raw: RawPage = await self._old(
            "page", *self._raw_cursors({label.symbol: cursor})[0], max_ticks, how, result=RawPage, timeout=timeout
        )
        after = self._after(raw, cursor.epoch, epoch)
        return EncodedTicks(raw.batches, raw.ticks, raw.unusable, raw.newest_msc, after, raw.more, raw.lost)

    async def get_ticks(
        self,
        symbol: str,
        from_msc: int,
        to_msc: int | None = None,
        count: int | None = None,
        *,
        timeout: float = HISTORY_S,
    ) -> list[TickBlock]:
        """Ticks of the past as packed by the terminal: up to a UTC time, or a number of them."""
        start = self.clock.to_broker(from_msc) // 1000
        end = None if to_msc is None else -(-self.clock.to_broker(to_msc) // 1000)
        data: bytes = await self._old("ticks", symbol, start, end, count, result=bytes, timeout=timeout)
        return [TickBlock(symbol, data)] if data else []

    async def get_rates(
        self, symbol: str, timeframe: str, count: int, from_msc: int | None = None, *, timeout: float = HISTORY_S
    ) -> list[Bar]:
        """Bars, oldest first: the last `count`, or `count` back from a UTC time. `timeframe`: M1 … MN1.

        Raises:
            MT5ValidationError: no such timeframe.
        """
        code = requests.timeframe(timeframe)
        start = None if from_msc is None else self.clock.to_broker(from_msc) // 1000
        data: bytes = await self._old("rates", symbol, code, start, count, result=bytes, timeout=timeout)
        return convert.bars(symbol, timeframe, data, self.clock)

    async def _old(self, op: str, *args: Any, result: Any, timeout: float) -> Any:
        call = self._history.call if self.config.history_host else self._link.call
        return await call(op, *args, result=result, priority=LOW, timeout=timeout)


def _clock_for(config: TerminalConfig) -> BrokerClock:
    """The paper terminal's clock is a setting, so its first tick need not wait for two more to tell the time."""
    if config.backend != "paper" or config.server_timezone is not None:
        return BrokerClock(timezone=config.server_timezone)
    zone = config.settings.get("PAPER_SERVER_TIMEZONE")
    if zone:
        return BrokerClock(timezone=zone)
    text = config.settings.get("PAPER_SERVER_OFFSET") or PAPER_OFFSET_S
    return BrokerClock(offset_ms=round(float(text) * 1000))

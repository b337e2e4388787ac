"""A terminal in memory for tests of what stands on the port: an account that fills at its quotes.

    terminal = FakeTerminal()
    terminal.tick("EURUSD", 1.1, 1.1001)
    terminal.script(Refused(10004), Executed(), Lost(MT5TimeoutError("late", sent=True), executed=True))

Each `place_order` takes the next scripted answer; when the script is empty it is executed. Calls of `order_send` that
outlive their timeout, or whose host is killed, fail with `sent=True`, as on the real one. `netting()` makes it an
account of one position a symbol; `step` lets a test stop the world between any two effects.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec
from support.cursors import cursor_after

from mt5_bridge.core.errors import (
    MT5ConnectionError,
    MT5DataError,
    MT5Error,
    MT5StateError,
    MT5TimeoutError,
    MT5ValidationError,
)
from mt5_bridge.core.model import (
    TICK_RECORD,
    AccountInfo,
    Bar,
    Cursor,
    Deal,
    DealEntry,
    Deed,
    Execution,
    MarginMode,
    Order,
    OrderRequest,
    OrderState,
    OrderType,
    Position,
    Quote,
    Side,
    SymbolInfo,
    TerminalInfo,
    TickBlock,
    TradeMode,
    TradeResult,
)
from mt5_bridge.core.ticks import Label
from mt5_bridge.terminal.breaker import CircuitBreaker
from mt5_bridge.terminal.clock import BrokerClock
from mt5_bridge.terminal.host_pages import framed
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
from mt5_bridge.terminal.raw import PageArgs, RawBlock

OFFSET_MS = 7_200_000
START_MS = 1_700_000_000_000
_RECORD = struct.Struct(TICK_RECORD)


@dataclass(frozen=True)
class Executed:
    """The order does what it says. `volume`: only so much of it (10010). `after`: the answer waits for this."""

    volume: float | None = None
    after: asyncio.Event | None = None
    bare: bool = False
    """The answer carries deal 0 and price 0, as some brokers' do."""


@dataclass(frozen=True)
class Refused:
    """A retcode and nothing done."""

    retcode: int
    after: asyncio.Event | None = None


@dataclass(frozen=True)
class Lost:
    """No answer. `executed`: the order was done all the same (`sent` errors only)."""

    error: MT5Error
    executed: bool = False
    after: asyncio.Event | None = None


@dataclass(frozen=True)
class Hangs:
    """No answer until the deadline passes or the host is killed. `executed`: done all the same, before it hung."""

    executed: bool = False


@dataclass(frozen=True)
class Silent:
    """The call returned None: `last_error` tells. `executed`: the order was done all the same."""

    last_error: int = -10005
    executed: bool = False


@dataclass(frozen=True)
class Late:
    """Answers with a retcode now, and is executed when the test calls `fill_late`."""

    retcode: int = 10008


Answer = Executed | Refused | Lost | Hangs | Silent | Late


def symbol_info(name: str = "EURUSD", **changes: Any) -> SymbolInfo:
    """A forex symbol with five digits."""
    info = SymbolInfo(
        name=name,
        digits=5,
        point=0.00001,
        tick_size=0.00001,
        tick_value=1.0,
        contract_size=100_000.0,
        volume_min=0.01,
        volume_max=100.0,
        volume_step=0.01,
        stops_level=0,
        freeze_level=0,
        trade_mode=TradeMode.FULL,
        execution=Execution.MARKET,
        filling_bits=3,
        currency_base=name[:3],
        currency_profit=name[3:6],
        currency_margin=name[:3],
        path=f"Forex\\{name}",
    )
    return msgspec.structs.replace(info, **changes)


class FakeTerminal:
    """Implements `terminal.port.Terminal` in memory.

    Attributes:
        sent: every request that `place_order` got.
        positions, orders, past_orders, deals: the account's book, free to be changed by a test.
        rates: the bars held: (symbol, timeframe) → raw time → bar; `rate_faults` those of symbols that cannot be read.
        failures: method name → error it raises until removed.
        holds: method name → event it waits for first.
        calls: names of the methods called, in order.
        killed: reasons given to `kill_host`.
        now_msc: the time, UTC ms; a test moves it, unless a clock is given: then it goes with that.
        lag_ms: history (past orders, deals) shows only what is older than this.
        list_lag_ms: positions and pending orders appear only when they are older than this.
        step: awaited before each call, and before and after an order's effect, with its name; None: not at all.
        late: requests of `Late` answers, not executed yet.
    """

    def __init__(
        self,
        *,
        login: int = 1001,
        balance: float = 10_000.0,
        connected: bool = True,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self._clock_ms = clock_ms or (lambda: START_MS)
        self._ahead_ms = 0
        self.lag_ms = 0
        self.list_lag_ms = 0
        self.step: Callable[[str], Awaitable[None]] | None = None
        self.late: list[OrderRequest] = []
        self.state = TerminalState.CONNECTED if connected else TerminalState.DISCONNECTED
        self.detail = ""
        self.since_msc = START_MS
        self._in_flight: CallInfo | None = None
        self._began = count(1)
        self.clock = BrokerClock(offset_ms=OFFSET_MS)
        self.breaker = CircuitBreaker()
        self.stats = TerminalStats()
        self.account = AccountInfo(
            login=login,
            server="Fake-Demo",
            currency="USD",
            leverage=100,
            balance=balance,
            equity=balance,
            margin=0.0,
            free_margin=balance,
            margin_level=0.0,
            profit=0.0,
            margin_mode=MarginMode.HEDGING,
            trade_allowed=True,
        )
        self.terminal = TerminalInfo(connected=True, trade_allowed=True, tradeapi_disabled=False)
        self.symbols = {"EURUSD": symbol_info()}
        self.quotes: dict[str, Quote] = {}
        self.ticks: dict[str, bytes] = {}
        self.rates: dict[tuple[str, str], dict[int, Bar]] = {}
        self.rate_faults: dict[str, MT5Error] = {}
        self.positions: dict[int, Position] = {}
        self.orders: dict[int, Order] = {}
        self.past_orders: list[Order] = []
        self.deals: list[Deal] = []
        self.sent: list[OrderRequest] = []
        self.failures: dict[str, MT5Error] = {}
        self.holds: dict[str, asyncio.Event] = {}
        self.calls: list[str] = []
        self.killed: list[str] = []
        self._answers: deque[Answer] = deque()
        self._tickets = count(1000)
        self._callbacks: list[StateCallback] = []
        self._kills: set[asyncio.Future[str]] = set()
        self._handed: list[tuple[Callable[[], bool] | None, asyncio.Future[None]]] = []

    @property
    def now_msc(self) -> int:
        return self._clock_ms() + self._ahead_ms

    @now_msc.setter
    def now_msc(self, value: int) -> None:
        self._ahead_ms = value - self._clock_ms()

    @property
    def in_flight(self) -> CallInfo | None:
        """The call under way, described anew each time, as the real one does: equal while it is the same call."""
        return None if self._in_flight is None else msgspec.structs.replace(self._in_flight)

    @in_flight.setter
    def in_flight(self, value: CallInfo | None) -> None:
        self._in_flight = value

    def keep_time(self, clock_ms: Callable[[], int]) -> None:
        """Go with another clock from now on."""
        self._clock_ms, self._ahead_ms = clock_ms, 0

    def netting(self, mode: MarginMode = MarginMode.NETTING) -> None:
        """Be an account with one position a symbol."""
        self.account = msgspec.structs.replace(self.account, margin_mode=mode)

    def forget_listeners(self) -> None:
        """The bridge that listened is gone."""
        self._callbacks.clear()
        self._answers.clear()
        self.step = None

    def script(self, *answers: Answer) -> None:
        """What the next `place_order` calls get, in turn."""
        self._answers.extend(answers)

    def tick(self, symbol: str, bid: float, ask: float, *, after_ms: int = 1) -> None:
        """Move the time on and let a tick come; positions of the symbol are valued at it."""
        self.now_msc += after_ms
        raw = self.now_msc + OFFSET_MS
        self.symbols.setdefault(symbol, symbol_info(symbol))
        quote = self.quotes[symbol] = Quote(symbol, bid, ask, 0.0, 0.0, self.now_msc)
        for ticket, held in self.positions.items():
            if held.symbol == symbol:
                price = quote.price_to_close(held.side)
                self.positions[ticket] = msgspec.structs.replace(held, price_current=price)
        record = _RECORD.pack(raw // 1000, bid, ask, 0.0, 0, raw, 6, 0.0)
        self.ticks[symbol] = self.ticks.get(symbol, b"") + record

    def bar(self, symbol: str, timeframe: str, raw_msc: int, close: float = 1.1, **values: Any) -> None:
        """Hold a bar, or another version of it, by the raw time it opened."""
        plain = {"open": 1.1, "high": 1.2, "low": 1.0, "tick_volume": 7, "spread": 10, "real_volume": 0} | values
        bar = Bar(symbol=symbol, timeframe=timeframe, time_msc=0, close=close, **plain)
        self.rates.setdefault((symbol, timeframe), {})[raw_msc] = bar

    def become(self, state: TerminalState, detail: str = "") -> None:
        """Change the connection's state and tell who listens."""
        self.state, self.detail, self.since_msc = state, detail, self.now_msc
        for callback in self._callbacks:
            callback(state, detail)

    def on_state(self, callback: StateCallback) -> None:
        self._callbacks.append(callback)

    def kill_host(self, reason: str) -> None:
        self.killed.append(reason)
        for kill in self._kills:
            if not kill.done():
                kill.set_result(reason)

    async def connect(self, *, max_wait: float | None = None) -> None:
        await self._enter("connect", connected=False)
        self.become(TerminalState.CONNECTED)

    async def disconnect(self) -> None:
        self.become(TerminalState.DISCONNECTED, "closed")

    async def reconnect(self) -> None:
        await self.disconnect()
        await self.connect()

    async def _enter(self, name: str, *, connected: bool = True) -> None:
        self.calls.append(name)
        if self.step is not None:
            await self.step(name)
        if name in self.holds:
            await self.holds[name].wait()
        if name in self.failures:
            raise self.failures[name].with_traceback(None)  # raised a thousand times, it would keep them all
        if connected and self.state is not TerminalState.CONNECTED:
            raise MT5StateError(f"the terminal is {self.state.value}")

    async def get_account_info(self, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> AccountInfo:
        await self._enter("get_account_info")
        return self.account

    async def get_terminal_info(self, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> TerminalInfo:
        await self._enter("get_terminal_info")
        return self.terminal

    async def get_symbol(self, name: str, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> SymbolInfo:
        await self._enter("get_symbol")
        return self._symbol(name)

    def _symbol(self, name: str) -> SymbolInfo:
        if name not in self.symbols:
            raise MT5DataError(f"symbol_info {name}: Terminal: Not found (-4)", code=-4)
        return self.symbols[name]

    async def get_symbols(
        self, group: str | None = None, *, priority: Priority = Priority.LOW, timeout: float = 5.0
    ) -> list[SymbolInfo]:
        await self._enter("get_symbols")
        return list(self.symbols.values())

    async def resolve_symbol(self, name: str, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> str:
        await self._enter("resolve_symbol")
        if name in self.symbols:
            return name
        found = [known for known in self.symbols if known.startswith(name)]
        if len(found) > 1:
            raise MT5ValidationError(f"ambiguous symbol {name}: {', '.join(found)}")
        return found[0] if found else self._symbol(name).name

    async def get_price(self, symbol: str, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> Quote:
        await self._enter("get_price")
        return self._quote(symbol)

    def _quote(self, symbol: str) -> Quote:
        self._symbol(symbol)
        if symbol not in self.quotes:
            raise MT5DataError(f"{symbol} has no price yet")
        return self.quotes[symbol]

    async def get_positions(
        self,
        symbol: str | None = None,
        ticket: int | None = None,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Position]:
        await self._enter("get_positions")
        return [p for p in self.positions.values() if symbol in (None, p.symbol) and ticket in (None, p.ticket)]

    async def get_orders(
        self,
        symbol: str | None = None,
        ticket: int | None = None,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Order]:
        await self._enter("get_orders")
        return [o for o in self.orders.values() if symbol in (None, o.symbol) and ticket in (None, o.ticket)]

    async def get_history_orders(
        self,
        from_msc: int | None = None,
        to_msc: int | None = None,
        *,
        ticket: int | None = None,
        position: int | None = None,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Order]:
        await self._enter("get_history_orders")
        shown = [o for o in self.past_orders if o.time_done_msc <= self.now_msc - self.lag_ms]
        if ticket is not None:
            return [o for o in shown if o.ticket == ticket]
        if position is not None:
            return [o for o in shown if o.position_id == position]
        return [o for o in shown if (from_msc or 0) <= o.time_done_msc <= (to_msc or self.now_msc)]

    async def get_history_deals(
        self,
        from_msc: int | None = None,
        to_msc: int | None = None,
        *,
        ticket: int | None = None,
        position: int | None = None,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Deal]:
        await self._enter("get_history_deals")
        shown = [d for d in self.deals if d.time_msc <= self.now_msc - self.lag_ms]
        if ticket is not None:
            return [d for d in shown if d.order == ticket]
        if position is not None:
            return [d for d in shown if d.position_id == position]
        return [d for d in shown if (from_msc or 0) <= d.time_msc <= (to_msc or self.now_msc)]

    async def snapshot(self, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> Snapshot:
        await self._enter("snapshot")
        now = self.now_msc
        seen = now - self.list_lag_ms
        return Snapshot(
            self.account,
            self.terminal,
            [p for p in self.positions.values() if p.time_msc <= seen],
            [o for o in self.orders.values() if o.time_setup_msc <= seen],
            now,
        )

    async def calc_margin(
        self,
        side: Side,
        symbol: str,
        volume: float,
        price: float,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> float:
        await self._enter("calc_margin")
        return self._margin(symbol, volume, price)

    def _margin(self, symbol: str, volume: float, price: float) -> float:
        return volume * self._symbol(symbol).contract_size * price / self.account.leverage

    async def calc_profit(
        self,
        side: Side,
        symbol: str,
        volume: float,
        price_open: float,
        price_close: float,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> float:
        await self._enter("calc_profit")
        return self._profit(side, symbol, volume, price_open, price_close)

    def _profit(self, side: Side, symbol: str, volume: float, start: float, end: float) -> float:
        moved = end - start if side is Side.BUY else start - end
        return moved * volume * self._symbol(symbol).contract_size

    async def quote_for_order(
        self,
        symbol: str,
        side: Side,
        price: float | None = None,
        stop_loss: float | None = None,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> OrderFacts:
        await self._enter("quote_for_order")
        quote = self._quote(symbol)
        at = price or quote.price_to_open(side)
        loss = max(0.0, -self._profit(side, symbol, 1.0, at, stop_loss)) if stop_loss else None
        return OrderFacts(self._symbol(symbol), quote, self._margin(symbol, 1.0, at), loss, self.account, self.terminal)

    async def check_order(
        self, request: OrderRequest, *, priority: Priority = Priority.HIGH, timeout: float = 5.0
    ) -> TradeResult:
        await self._enter("check_order")
        return TradeResult(retcode=0, comment="Done")

    async def place_order(
        self,
        request: OrderRequest,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 30.0,
        on_sent: Callable[[], None] | None = None,
        may_go: Callable[[], bool] | None = None,
        taken_back: Callable[[], bool] | None = None,
    ) -> TradeResult:
        await self._enter("place_order")
        if may_go is not None and not may_go():
            raise MT5StateError("withdrawn before it was sent")
        if on_sent is not None:
            on_sent()
        if "order_send" in self.holds:
            await self._begins(self.holds["order_send"], taken_back)
        self.sent.append(request)
        self.in_flight = CallInfo("send", priority, float(next(self._began)))
        killed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._kills.add(killed)
        answer = self._answers.popleft() if self._answers else Executed()
        answering = asyncio.ensure_future(self._answer(request, answer))
        try:
            both: set[asyncio.Future[Any]] = {answering, killed}
            await asyncio.wait(both, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return answering.result()
            if killed.done():
                raise MT5ConnectionError(f"host killed: {killed.result()}", sent=True)
            raise MT5TimeoutError(f"order_send took longer than {timeout:g} s", sent=True)
        finally:
            self.in_flight = None
            self._kills.discard(killed)
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _begins(self, turn: asyncio.Event, taken_back: Callable[[], bool] | None) -> None:
        """Handed over, and not begun yet: it can be taken back."""
        back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        handed = (taken_back, back)
        self._handed.append(handed)
        begins = asyncio.ensure_future(turn.wait())
        both: set[asyncio.Future[Any]] = {begins, back}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._handed.remove(handed)
            begins.cancel()
            await asyncio.gather(begins, return_exceptions=True)
        if back.done():
            raise MT5StateError("withdrawn before it was sent")

    def recall_orders(self) -> None:
        for taken_back, back in self._handed:
            if taken_back is not None and taken_back() and not back.done():
                back.set_result(None)

    async def _answer(self, request: OrderRequest, answer: Answer) -> TradeResult:
        if self.step is not None:
            await self.step("order_send")
        done = await self._outcome(request, answer)
        if self.step is not None:
            await self.step("order_sent")
        return done

    async def _outcome(self, request: OrderRequest, answer: Answer) -> TradeResult:
        if isinstance(answer, Late):
            self.late.append(request)
            return TradeResult(retcode=answer.retcode)
        if isinstance(answer, Hangs | Silent):
            if answer.executed:
                self.execute(request)
            if isinstance(answer, Silent):
                return TradeResult(retcode=None, last_error=answer.last_error, last_error_text="IPC")
            await asyncio.get_running_loop().create_future()
        assert not isinstance(answer, Hangs | Silent)
        if answer.after is not None:
            await answer.after.wait()
        if isinstance(answer, Refused):
            return TradeResult(retcode=answer.retcode)
        if isinstance(answer, Lost):
            if answer.executed:
                self.execute(request)
            raise answer.error
        if answer.volume is not None:
            done = self.execute(msgspec.structs.replace(request, volume=answer.volume))
            done = msgspec.structs.replace(done, retcode=10010)
        else:
            done = self.execute(request)
        return msgspec.structs.replace(done, deal=0, price=0.0) if answer.bare else done

    def fill_late(self) -> None:
        """Execute what was answered `Late`."""
        late, self.late = self.late, []
        for request in late:
            self.execute(request)

    def execute(self, request: OrderRequest) -> TradeResult:
        """Do what a request says, now: also for fills that come late."""
        done = {
            Deed.DEAL: self._deal,
            Deed.PENDING: self._place,
            Deed.SLTP: self._move_stops,
            Deed.MODIFY: self._modify,
            Deed.REMOVE: self._remove,
            Deed.CLOSE_BY: self._close_by,
        }
        return done[request.deed](request)

    def _deal(self, request: OrderRequest) -> TradeResult:
        side = request.type.side
        if request.position and request.position not in self.positions:
            return TradeResult(retcode=10036)
        if request.position and request.volume > self.positions[request.position].volume + 1e-9:
            return TradeResult(retcode=10038)
        quote = self._quote(request.symbol)
        ticket = next(self._tickets)
        price = quote.price_to_open(side)
        if self.account.margin_mode is not MarginMode.HEDGING:
            deal = self._net(request, side, price, ticket)
        elif request.position:
            deal = self._reduce(request.position, request.volume, price, ticket, request.magic)
        else:
            deal = self._open(request, side, price, ticket)
        self.past_orders.append(self._order(request, ticket, OrderState.FILLED, deal.position_id))
        return TradeResult(
            retcode=10009,
            deal=deal.ticket,
            order=ticket,
            volume=request.volume,
            price=price,
            bid=quote.bid,
            ask=quote.ask,
        )

    def _net(self, request: OrderRequest, side: Side, price: float, ticket: int) -> Deal:
        """One position a symbol: more of the same side adds, the other side reduces, closes or reverses."""
        held = next((p for p in self.positions.values() if p.symbol == request.symbol), None)
        if held is None:
            return self._open(request, side, price, ticket)
        if held.side is side:
            self.positions[held.ticket] = msgspec.structs.replace(held, volume=round(held.volume + request.volume, 8))
            return self._book(held, DealEntry.IN, request.volume, price, 0.0, ticket, request.magic)
        if request.volume <= held.volume + 1e-9:
            return self._reduce(held.ticket, request.volume, price, ticket, request.magic)
        rest = round(request.volume - held.volume, 8)
        self._reduce(held.ticket, held.volume, price, ticket, request.magic)
        deal = self._open(msgspec.structs.replace(request, volume=rest), side, price, ticket)
        self.deals[-2:] = [msgspec.structs.replace(deal, entry=DealEntry.INOUT, volume=request.volume)]
        return self.deals[-1]

    def _open(self, request: OrderRequest, side: Side, price: float, ticket: int) -> Deal:
        self.positions[ticket] = Position(
            ticket=ticket,
            symbol=request.symbol,
            side=side,
            volume=request.volume,
            price_open=price,
            price_current=price,
            stop_loss=request.stop_loss,
            take_profit=request.take_profit,
            swap=0.0,
            profit=0.0,
            time_msc=self.now_msc,
            magic=request.magic,
            comment=request.comment,
            identifier=ticket,
        )
        return self._book(self.positions[ticket], DealEntry.IN, request.volume, price, 0.0, ticket, request.magic)

    def _reduce(self, position: int, volume: float, price: float, ticket: int, magic: int) -> Deal:
        held = self.positions[position]
        profit = self._profit(held.side, held.symbol, volume, held.price_open, price)
        rest = round(held.volume - volume, 8)
        if rest > 0:
            self.positions[position] = msgspec.structs.replace(held, volume=rest)
        else:
            del self.positions[position]
        balance = self.account.balance + profit
        self.account = msgspec.structs.replace(self.account, balance=balance, equity=balance, free_margin=balance)
        return self._book(held, DealEntry.OUT, volume, price, profit, ticket, magic)

    def _book(
        self, held: Position, entry: DealEntry, volume: float, price: float, profit: float, ticket: int, magic: int
    ) -> Deal:
        side = held.side if entry is DealEntry.IN else held.side.opposite
        deal = Deal(
            ticket=next(self._tickets),
            order=ticket,
            position_id=held.ticket,
            symbol=held.symbol,
            type=side.type,
            entry=entry,
            volume=volume,
            price=price,
            profit=profit,
            swap=0.0,
            commission=0.0,
            fee=0.0,
            time_msc=self.now_msc,
            magic=magic,
            reason=3,
            comment=held.comment,
        )
        self.deals.append(deal)
        return deal

    def _order(self, request: OrderRequest, ticket: int, state: OrderState, position_id: int = 0) -> Order:
        done = state is not OrderState.PLACED
        return Order(
            ticket=ticket,
            symbol=request.symbol,
            type=request.type,
            state=state,
            volume_initial=request.volume,
            volume_current=0.0 if done else request.volume,
            price=request.price,
            stop_limit_price=request.stop_limit_price,
            stop_loss=request.stop_loss,
            take_profit=request.take_profit,
            time_setup_msc=self.now_msc,
            time_done_msc=self.now_msc if done else 0,
            expiration_msc=request.expiration_msc,
            magic=request.magic,
            comment=request.comment,
            position_id=position_id,
        )

    def _place(self, request: OrderRequest) -> TradeResult:
        ticket = next(self._tickets)
        self.orders[ticket] = self._order(request, ticket, OrderState.PLACED)
        return TradeResult(retcode=10009, order=ticket, volume=request.volume)

    def _move_stops(self, request: OrderRequest) -> TradeResult:
        held = self.positions.get(request.position)
        if held is None:
            return TradeResult(retcode=10036)
        wish = (request.stop_loss, request.take_profit)
        if request.as_it_stands:
            if held.side is not request.type.side:
                return TradeResult(retcode=10036)
            wish = request.stops(held.stop_loss, held.take_profit)
        if wish == (held.stop_loss, held.take_profit):
            return TradeResult(retcode=10025)
        self.positions[request.position] = msgspec.structs.replace(held, stop_loss=wish[0], take_profit=wish[1])
        return TradeResult(retcode=10009)

    def _modify(self, request: OrderRequest) -> TradeResult:
        order = self.orders.get(request.order)
        if order is None:
            return TradeResult(retcode=10013)
        self.orders[request.order] = msgspec.structs.replace(
            order,
            price=request.price,
            stop_limit_price=request.stop_limit_price,
            stop_loss=request.stop_loss,
            take_profit=request.take_profit,
            expiration_msc=request.expiration_msc,
        )
        return TradeResult(retcode=10009, order=request.order)

    def _remove(self, request: OrderRequest) -> TradeResult:
        order = self.orders.pop(request.order, None)
        if order is None:
            return TradeResult(retcode=10013)
        self.past_orders.append(msgspec.structs.replace(order, state=OrderState.CANCELED, time_done_msc=self.now_msc))
        return TradeResult(retcode=10009, order=request.order)

    def _close_by(self, request: OrderRequest) -> TradeResult:
        one, other = self.positions.get(request.position), self.positions.get(request.position_by)
        if one is None or other is None or one.side is other.side:
            return TradeResult(retcode=10013)
        ticket = next(self._tickets)
        volume = min(one.volume, other.volume)
        self._reduce(one.ticket, volume, other.price_open, ticket, request.magic)
        self._reduce(other.ticket, volume, other.price_open, ticket, request.magic)
        self.deals[-2:] = [msgspec.structs.replace(d, entry=DealEntry.OUT_BY) for d in self.deals[-2:]]
        closing = replace_type(request, one.symbol, volume)
        self.past_orders.append(self._order(closing, ticket, OrderState.FILLED, one.ticket))
        return TradeResult(retcode=10009, order=ticket, volume=volume)

    def fill_pending(self, ticket: int) -> None:
        """Let a pending order be triggered: it becomes a position under its own ticket."""
        order = self.orders.pop(ticket)
        request = OrderRequest(
            deed=Deed.DEAL,
            symbol=order.symbol,
            volume=order.volume_current,
            stop_loss=order.stop_loss,
            take_profit=order.take_profit,
            magic=order.magic,
            comment=order.comment,
        )
        self._open(request, order.type.side, order.price, ticket)
        filled = msgspec.structs.replace(
            order, state=OrderState.FILLED, volume_current=0.0, time_done_msc=self.now_msc, position_id=ticket
        )
        self.past_orders.append(filled)

    async def poll_ticks(
        self,
        cursors: Mapping[str, Cursor | None],
        *,
        slice_ms: float = 4.0,
        max_ticks: int = 20_000,
        backfill_ms: int = 0,
        priority: Priority = Priority.NORMAL,
        timeout: float = 5.0,
    ) -> PollResult:
        await self._enter("poll_ticks")
        result = PollResult({}, {s: self.quotes[s] for s in cursors if s in self.quotes}, [], {}, {})
        for symbol, cursor in cursors.items():
            if symbol not in self.ticks:
                continue
            block = TickBlock(symbol, self.ticks[symbol])
            if cursor is None and not backfill_ms:
                result.cursors[symbol] = cursor_after(block)
                continue
            block = self._behind(symbol, cursor or Cursor(0, 0), max_ticks)
            if block.count:
                result.blocks[symbol] = block
                result.cursors[symbol] = cursor_after(block)
            if block.more:
                result.unfinished.append(symbol)
        return result

    def _behind(self, symbol: str, cursor: Cursor, max_ticks: int) -> TickBlock:
        """Ticks behind a cursor; its count is taken off the ticks at its own ms."""
        records = [self.ticks[symbol][i : i + _RECORD.size] for i in range(0, len(self.ticks[symbol]), _RECORD.size)]
        same = [r for r in records if _RECORD.unpack(r)[5] == cursor.time_msc][cursor.count :]
        later = [r for r in records if _RECORD.unpack(r)[5] > cursor.time_msc]
        new = same + later
        return TickBlock(symbol, b"".join(new[:max_ticks]), cursor.count if same else 0, len(new) > max_ticks)

    async def catch_up(
        self, label: Label, cursor: Cursor, max_ticks: int, *, latest_only: bool = False, timeout: float = 60.0
    ) -> EncodedTicks:
        clock = self.clock
        how = PageArgs(label, clock.timezone, clock.timeline, clock.epoch, self.now_msc, latest_only)
        await self._enter("catch_up")
        block = TickBlock(label.symbol, b"")
        if label.symbol in self.ticks:
            block = self._behind(label.symbol, cursor, max_ticks)
        after = cursor_after(block, how.epoch) if block.count else cursor
        raw = RawBlock(label.symbol, block.data, block.first_seq, block.more, after.time_msc, after.count)
        page = framed(raw, how)
        return EncodedTicks(page.batches, page.ticks, page.unusable, page.newest_msc, after, page.more)

    async def get_ticks(
        self,
        symbol: str,
        from_msc: int,
        to_msc: int | None = None,
        count: int | None = None,
        *,
        timeout: float = 60.0,
    ) -> list[TickBlock]:
        await self._enter("get_ticks")
        block = self._behind(symbol, Cursor(self.clock.to_broker(from_msc), 0), count or 1_000_000)
        return [block] if block.count else []

    async def get_rates(
        self, symbol: str, timeframe: str, count: int, from_msc: int | None = None, *, timeout: float = 60.0
    ) -> list[Bar]:
        until = self.clock.to_broker(self.now_msc if from_msc is None else from_msc)
        await self._enter("get_rates")
        if (fault := self.rate_faults.get(symbol)) is not None:
            raise fault
        held = self.rates.get((symbol, timeframe), {})
        shown = [raw for raw in sorted(held) if raw <= until][-count:]
        return [msgspec.structs.replace(held[raw], time_msc=self.clock.to_utc(raw)) for raw in shown]


def replace_type(request: OrderRequest, symbol: str, volume: float) -> OrderRequest:
    """A close-by as the order that the history shows."""
    return msgspec.structs.replace(request, symbol=symbol, volume=volume, type=OrderType.CLOSE_BY)

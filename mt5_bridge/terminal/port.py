"""The port to the terminal: the types that cross it, and the Protocol that the rest of the bridge is written against.

Whatever fails raises an `MT5Error`; `None` and empty never mean "failed". Times are UTC in ms unless called raw (the
broker's wall clock encoded as if it were UTC).
"""

from collections.abc import Callable, Mapping
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec

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
from mt5_bridge.core.ticks import Framed, Label
from mt5_bridge.terminal.breaker import CircuitBreaker
from mt5_bridge.terminal.clock import BrokerClock


class Priority(IntEnum):
    """Who goes first when several calls wait for the one terminal."""

    CRITICAL = 0
    """Emergency stop, closing."""
    HIGH = 1
    """Orders, risk, account."""
    NORMAL = 2
    """Live ticks."""
    LOW = 3
    """History, bars, analytics."""


class TerminalState(StrEnum):
    """Where the connection to the terminal stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    """No retry mends it (wrong password, wrong path): a person must act, then `reconnect()`."""


StateCallback = Callable[[TerminalState, str], None]


class CallInfo(msgspec.Struct, frozen=True):
    """The call that the host is busy with; `since` is the monotonic clock in seconds."""

    op: str
    priority: Priority
    since: float


class TerminalStats(msgspec.Struct):
    """Counters for the watch, growing only."""

    calls: int = 0
    failures: int = 0
    timeouts: int = 0
    queue_timeouts: int = 0
    preempted: int = 0
    host_starts: int = 0
    host_deaths: int = 0
    reconnects: int = 0
    breaker_trips: int = 0
    history_starts: int = 0
    order_sends: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """Everything the account holds, read in one round trip; `taken_msc` is UTC ms."""

    account: AccountInfo
    terminal: TerminalInfo
    positions: list[Position]
    orders: list[Order]
    taken_msc: int


class OrderFacts(msgspec.Struct, frozen=True):
    """What the guards need to judge an opening, read in one round trip.

    Attributes:
        symbol_info: the symbol's rules.
        quote: its last prices.
        margin_per_lot: margin for one lot at the asked price, account currency; None where the terminal cannot say.
        loss_per_lot: loss of one lot from the price to the stop, positive, account currency; None without a stop.
        account: the account now.
        terminal: the terminal now.
    """

    symbol_info: SymbolInfo
    quote: Quote
    margin_per_lot: float | None
    loss_per_lot: float | None
    account: AccountInfo
    terminal: TerminalInfo


class PollResult(msgspec.Struct, frozen=True):
    """One slice of reading live ticks.

    Attributes:
        blocks: new ticks by symbol, in the order read.
        quotes: last prices of the symbols that moved since the last poll.
        unfinished: symbols not looked at, or with more to read: poll these again before the others.
        cursors: where each symbol now stands, once its block is published; symbols that began get theirs here.
        faults: what the terminal said of symbols it could not serve; the others are not held up.
    """

    blocks: dict[str, TickBlock]
    quotes: dict[str, Quote]
    unfinished: list[str]
    cursors: dict[str, Cursor]
    faults: dict[str, str]


class EncodedTicks(msgspec.Struct, frozen=True):
    """A page of past ticks, ready to be published.

    Attributes:
        batches: what goes to the broker, oldest first; only the newest tick where that was asked for.
        ticks: how many were read.
        unusable: how many of these were left out because a price is no number.
        newest_msc: UTC ms of the last one; None when nothing was read.
        after: where the symbol stands once the batches are published.
        more: the terminal holds further ticks.
        lost: see `TickBlock`.
    """

    batches: list[Framed]
    ticks: int
    unusable: int
    newest_msc: int | None
    after: Cursor
    more: bool
    lost: int = 0

    @property
    def count(self) -> int:
        """How many records the batches hold."""
        return sum(batch.count for batch in self.batches)


class ProbeResult(msgspec.Struct, frozen=True):
    """Health in four figures; `latency_ms` of one account read, None when it failed."""

    connection_ok: bool
    auth_ok: bool
    data_feed_ok: bool
    latency_ms: float | None


class Terminal(Protocol):
    """A trading terminal in asyncio terms.

    Every call takes `priority` and `timeout` (seconds the terminal may take; the wait in the queue is bounded by the
    same figure). All raise `MT5Error`; its `sent` says whether the terminal may have acted.
    """

    @property
    def state(self) -> TerminalState: ...
    @property
    def detail(self) -> str: ...
    @property
    def since_msc(self) -> int: ...
    @property
    def in_flight(self) -> CallInfo | None: ...
    @property
    def clock(self) -> BrokerClock: ...
    @property
    def breaker(self) -> CircuitBreaker: ...
    @property
    def stats(self) -> TerminalStats: ...
    def on_state(self, callback: StateCallback) -> None: ...
    def kill_host(self, reason: str) -> None: ...
    async def connect(self, *, max_wait: float | None = None) -> None: ...
    async def disconnect(self) -> None: ...
    async def reconnect(self) -> None: ...

    async def get_account_info(self, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> AccountInfo: ...
    async def get_terminal_info(self, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> TerminalInfo: ...
    async def get_symbol(
        self, name: str, *, priority: Priority = Priority.HIGH, timeout: float = 5.0
    ) -> SymbolInfo: ...
    async def get_symbols(
        self, group: str | None = None, *, priority: Priority = Priority.LOW, timeout: float = 5.0
    ) -> list[SymbolInfo]: ...
    async def resolve_symbol(self, name: str, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> str: ...
    async def get_price(self, symbol: str, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> Quote: ...
    async def get_positions(
        self,
        symbol: str | None = None,
        ticket: int | None = None,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Position]: ...
    async def get_orders(
        self,
        symbol: str | None = None,
        ticket: int | None = None,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Order]: ...
    async def get_history_orders(
        self,
        from_msc: int | None = None,
        to_msc: int | None = None,
        *,
        ticket: int | None = None,
        position: int | None = None,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Order]: ...
    async def get_history_deals(
        self,
        from_msc: int | None = None,
        to_msc: int | None = None,
        *,
        ticket: int | None = None,
        position: int | None = None,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Deal]: ...
    async def snapshot(self, *, priority: Priority = Priority.HIGH, timeout: float = 5.0) -> Snapshot: ...
    async def calc_margin(
        self,
        side: Side,
        symbol: str,
        volume: float,
        price: float,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> float: ...
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
    ) -> float: ...
    async def quote_for_order(
        self,
        symbol: str,
        side: Side,
        price: float | None = None,
        stop_loss: float | None = None,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> OrderFacts: ...
    async def check_order(
        self, request: OrderRequest, *, priority: Priority = Priority.HIGH, timeout: float = 5.0
    ) -> TradeResult: ...
    async def place_order(
        self,
        request: OrderRequest,
        *,
        priority: Priority = Priority.HIGH,
        timeout: float = 30.0,
        on_sent: Callable[[], None] | None = None,
        may_go: Callable[[], bool] | None = None,
        taken_back: Callable[[], bool] | None = None,
    ) -> TradeResult: ...
    async def poll_ticks(
        self,
        cursors: Mapping[str, Cursor | None],
        *,
        slice_ms: float = 4.0,
        max_ticks: int = 20_000,
        backfill_ms: int = 0,
        priority: Priority = Priority.NORMAL,
        timeout: float = 5.0,
    ) -> PollResult: ...
    async def catch_up(
        self, label: Label, cursor: Cursor, max_ticks: int, *, latest_only: bool = False, timeout: float = 60.0
    ) -> EncodedTicks: ...
    async def get_ticks(
        self,
        symbol: str,
        from_msc: int,
        to_msc: int | None = None,
        count: int | None = None,
        *,
        timeout: float = 60.0,
    ) -> list[TickBlock]: ...
    async def get_rates(
        self,
        symbol: str,
        timeframe: str,
        count: int,
        from_msc: int | None = None,
        *,
        timeout: float = 60.0,
    ) -> list[Bar]: ...

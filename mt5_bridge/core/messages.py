"""The messages of the contract: what goes over the topics and the WebSocket, field by field.

Outgoing structs carry wire types only (ISO times, plain numbers); `wire` puts them into the envelope. Fields that are
None are sent as null, so that a consumer may rely on every name being there.
"""

from enum import StrEnum

import msgspec

from mt5_bridge.core.model import AccountInfo, Action, Bar, Position
from mt5_bridge.core.times import iso


class Reason(StrEnum):
    """Why a signal was denied, an order refused, or a stop moved: the published codes of `order_result.reason`."""

    TRADING_DISABLED = "trading_disabled"
    HALTED = "halted"
    REDUCING = "reducing"
    NOT_READY = "not_ready"
    STALE = "stale"
    FROM_FUTURE = "from_future"
    BAD_SIGNATURE = "bad_signature"
    FORBIDDEN = "forbidden"
    UNKNOWN_SYMBOL = "unknown_symbol"
    AMBIGUOUS_SYMBOL = "ambiguous_symbol"
    SYMBOL_BLOCKED = "symbol_blocked"
    MARKET_CLOSED = "market_closed"
    NO_QUOTE = "no_quote"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    DUPLICATE = "duplicate"
    BELOW_MIN_VOLUME = "below_min_volume"
    MAX_VOLUME = "max_volume"
    SPREAD = "spread"
    DRIFT = "drift"
    PRICE_COLLAR = "price_collar"
    NO_STOP_LOSS = "no_stop_loss"
    INVALID_STOPS = "invalid_stops"
    STOPS_LEVEL = "stops_level"
    RISK = "risk"
    OPEN_RISK = "open_risk"
    MARGIN = "margin"
    MARGIN_LEVEL = "margin_level"
    DAILY_TRADES = "daily_trades"
    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    POSITIONS = "positions"
    UNKNOWN_OUTCOME = "unknown_outcome"
    THROTTLED = "throttled"
    EXPIRED = "expired"
    NOT_FOUND = "not_found"
    ACCOUNT_MISMATCH = "account_mismatch"
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    TERMINAL_REFUSED = "terminal_refused"
    TERMINAL_UNAVAILABLE = "terminal_unavailable"
    REQUOTES = "requotes"
    STOP_NOT_SET = "stop_not_set"
    EMERGENCY_STOP = "emergency_stop"
    TRAILING_STOP = "trailing_stop"
    BREAK_EVEN = "break_even"


class Status(StrEnum):
    """`order_result.status`."""

    FILLED = "filled"
    PARTIAL = "partial"
    PLACED = "placed"
    MODIFIED = "modified"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    REJECTED = "rejected"
    DENIED = "denied"
    UNKNOWN = "unknown"
    ABANDONED = "abandoned"
    SIMULATED = "simulated"


class Urgency(StrEnum):
    """Order of work between symbols; within one symbol it is first in, first out."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return ("critical", "high", "normal", "low").index(self.value)


class TradingSignal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A signal as it arrives. Prices in quote currency, volume in lots, points in the symbol's points.

    Only `symbol` and `action` are required by the wire; what an action needs beyond is checked by `wire.decode_signal`.
    """

    symbol: str
    action: Action
    signal_id: str | None = None
    volume: float | None = None
    risk_percent: float | None = None
    price: float | None = None
    stop_limit_price: float | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    deviation_points: int | None = None
    expiration: str | int | float | None = None
    comment: str | None = None
    urgency: Urgency = Urgency.NORMAL
    strategy: str | None = None
    account: str | int | None = None
    position: int | None = None
    created_at: str | int | float | None = None
    ttl_ms: int | None = None
    order: int | None = None
    target_signal_id: str | None = None
    trailing_stop_points: int | None = None
    break_even_points: int | None = None


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a signal that needed several, e.g. a CLOSE of three positions."""

    position: int
    order: int
    deal: int
    status: str


class OrderResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a signal or of a command that trades."""

    signal_id: str | None
    status: Status
    request_id: str | int | None = None
    reason: str | None = None
    detail: str | None = None
    retcode: int | None = None
    retcode_text: str | None = None
    order: int | None = None
    deal: int | None = None
    position: int | None = None
    symbol: str | None = None
    action: str | None = None
    volume_requested: float | None = None
    volume_filled: float | None = None
    price: float | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    magic: int | None = None
    comment: str | None = None
    attempts: int = 0
    received_at: str | None = None
    sent_at: str | None = None
    done_at: str | None = None
    latency_ms: float | None = None
    strategy: str | None = None
    legs: list[Leg] | None = None
    supersedes: str | None = None


class PositionMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A position on the wire: `positions`, `position_opened`."""

    ticket: int
    symbol: str
    type: int
    side: str
    volume: float
    price_open: float
    price_current: float
    stop_loss: float
    take_profit: float
    swap: float
    profit: float
    time: str
    time_msc: int
    magic: int
    comment: str
    signal_id: str | None = None


class PositionClosed(PositionMessage, frozen=True, kw_only=True):
    """A position that is gone; money in account currency."""

    price_close: float | None = None
    commission: float | None = None
    reason: str | None = None


class PendingChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A pending order changed state: placed, filled, cancelled, expired, rejected."""

    ticket: int
    state: str
    signal_id: str | None = None
    symbol: str | None = None


class AccountMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`account_info` on the wire."""

    login: int
    server: str
    currency: str
    leverage: int
    balance: float
    equity: float
    margin: float
    free_margin: float
    margin_level: float
    profit: float
    margin_mode: str
    trade_allowed: bool


class HaltChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a halt: phase latched, progress or done; the last three are lists of tickets."""

    state: str
    phase: str
    reason: str
    by: str
    at: str
    cancelled: list[int] = []
    closed: list[int] = []
    survivors: list[int] = []
    detail: str | None = None


class ConnectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one channel: terminal, redpanda or backend."""

    channel: str
    state: str
    since: str
    detail: str


class BarMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`bar_data`: a bar that is over. `time` is when it opened; `corrected`: another version of it was told before."""

    symbol: str
    timeframe: str
    time: str
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    spread: int
    real_volume: int
    corrected: bool


def position_message(position: Position, signal_id: str | None = None) -> PositionMessage:
    """A terminal's position as it goes over the wire."""
    return PositionMessage(
        ticket=position.ticket,
        symbol=position.symbol,
        type=position.side.type,
        side=position.side.value,
        volume=position.volume,
        price_open=position.price_open,
        price_current=position.price_current,
        stop_loss=position.stop_loss,
        take_profit=position.take_profit,
        swap=position.swap,
        profit=position.profit,
        time=iso(position.time_msc),
        time_msc=position.time_msc,
        magic=position.magic,
        comment=position.comment,
        signal_id=signal_id,
    )


def account_message(account: AccountInfo) -> AccountMessage:
    """A terminal's account as it goes over the wire."""
    return AccountMessage(
        login=account.login,
        server=account.server,
        currency=account.currency,
        leverage=account.leverage,
        balance=account.balance,
        equity=account.equity,
        margin=account.margin,
        free_margin=account.free_margin,
        margin_level=account.margin_level,
        profit=account.profit,
        margin_mode=account.margin_mode.value,
        trade_allowed=account.trade_allowed,
    )


def bar_message(bar: Bar, *, corrected: bool) -> BarMessage:
    """A terminal's bar as it goes over the wire."""
    return BarMessage(
        symbol=bar.symbol,
        timeframe=bar.timeframe,
        time=iso(bar.time_msc),
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        tick_volume=bar.tick_volume,
        spread=bar.spread,
        real_volume=bar.real_volume,
        corrected=corrected,
    )

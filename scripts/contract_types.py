"""Shapes of the contract that the bridge puts together where it sends them, field by field.

What has a type in `mt5_bridge.core` or `mt5_bridge.control.params` is not repeated here. Tests hold these
against what a running bridge sends: a field too many or too few fails them.
"""

from typing import Any, Literal

import msgspec

from mt5_bridge.core.answers import Bar, Latch, PastDeal, PendingOrder, Tick
from mt5_bridge.core.channels import Channel
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.health import Health
from mt5_bridge.core.messages import AccountMessage, OrderResult, PositionMessage
from mt5_bridge.core.model import SymbolInfo
from mt5_bridge.core.usage import Usage


class Hello(msgspec.Struct):
    """The first frame of every connection: who the bridge is and what it understands."""

    bridge_id: str
    version: str
    mode: Literal["hybrid", "standard"]
    account: int | None
    symbols: list[str]
    halt: Latch
    capabilities: list[str]


class Heartbeat(msgspec.Struct):
    """How the bridge is; `detail` says in words what is behind a status other than `ok`."""

    status: Health
    detail: str | None
    halt: HaltState
    channels: dict[str, str]
    tick_age_ms: float | None
    clock_skew_ms: int | None
    rss_mb: float
    loop_stall_ms: float
    uptime_s: float


class BarReport(msgspec.Struct):
    """How the bars stand: the newest one sent, why series wait, and counters."""

    timeframes: list[str]
    series: int
    newest: str | None
    troubles: dict[str, str]
    looks: int
    published: int
    corrected: int
    failures: int
    unusable: int
    given_up: int


class StatusReport(Heartbeat):
    """The answer to `get_status`. The names in `counters` are not promised.

    `bars` is null where none are asked for; `gateway` is the gateway's address, null where it is off.
    """

    bridge_id: str
    version: str
    mode: Literal["hybrid", "standard"]
    account: str | None
    halt_detail: Latch
    symbols: list[str]
    symbols_missing: dict[str, str]
    positions: int
    orders: int
    unknown_intents: int
    survivors: list[int]
    managed_stops: int
    limits: list[Usage]
    bars: BarReport | None
    trading_enabled: bool
    simulation_mode: bool
    journal_healthy: bool
    gateway: str | None
    counters: dict[str, Any]


class SignalRow(msgspec.Struct):
    """A signal in the journal; `status` is null until its final result, and what belongs to that with it."""

    signal_id: str
    source: str
    symbol: str
    action: str
    received_at: str
    status: str | None
    reason: str | None
    detail: str | None
    price: float | None
    volume_filled: float | None
    latency_ms: float | None
    strategy: str | None


class SignalIntent(msgspec.Struct):
    """One order of a signal: `request` is what was asked of the terminal."""

    magic: int
    leg: int
    symbol: str
    action: str
    state: str
    opened_at: str
    moved_at: str
    volume: float
    request: Any
    risk: float | None
    retcode: int | None
    order: int | None
    deal: int | None
    position: int | None
    filled_volume: float | None
    price: float | None
    detail: str | None


class SignalCorrection(msgspec.Struct):
    """A result that was told later in place of the one with event id `supersedes`."""

    event_id: str
    supersedes: str
    status: str
    reason: str | None
    at: str
    result: dict[str, Any] | None


class SignalWaiting(msgspec.Struct):
    """An event of a signal that a channel has not acknowledged."""

    channel: str
    type: str
    since: str


class SignalLife(SignalRow):
    """A signal's whole life. `topic`, `partition` and `offset` are null for one that came another way."""

    key: str
    account: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    request_id: str | int | None
    sender: str | None
    correlation: str | None
    event_id: str | None
    settled_at: str | None
    result: dict[str, Any] | None
    intents: list[SignalIntent]
    corrections: list[SignalCorrection]
    waiting: list[SignalWaiting]


class Stopped(Latch):
    """The answer to `emergency_stop`; `faults` is there when something of the frame could not be read."""

    durable: bool
    faults: list[str] | msgspec.UnsetType = msgspec.UNSET


class Closed(msgspec.Struct):
    """The tickets that `close_all` closed."""

    closed: list[int]


class Subscribed(msgspec.Struct):
    """All symbols whose ticks flow now, those added, and why the others were not."""

    symbols: list[str]
    added: list[str]
    failed: dict[str, str]


class Unsubscribed(msgspec.Struct):
    """All symbols whose ticks flow now, and those removed."""

    symbols: list[str]
    removed: list[str]


class Now(msgspec.Struct):
    """The bridge's clock."""

    time: str


class Fault(msgspec.Struct):
    """A code for programs, a message for people."""

    code: str
    message: str


class Refused(Fault):
    """Why a command was not done; with its `order_result` where an order was asked for."""

    result: OrderResult | msgspec.UnsetType = msgspec.UNSET


ANSWERS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("close_position", "modify_position", "cancel_order", "modify_order"), (OrderResult,)),
    "close_all": (Closed,),
    "emergency_stop": (Stopped,),
    "reduce_only": (Latch,),
    "resume_trading": (Latch,),
    "get_status": (StatusReport,),
    "get_account": (AccountMessage,),
    "get_positions": (list[PositionMessage],),
    "get_orders": (list[PendingOrder],),
    "get_symbols": (list[SymbolInfo],),
    "get_rates": (list[Bar],),
    "get_ticks": (list[Tick],),
    "get_history": (list[PastDeal], list[PendingOrder]),
    "get_signals": (list[SignalRow],),
    "get_signal": (SignalLife,),
    "subscribe": (Subscribed,),
    "unsubscribe": (Unsubscribed,),
    "heartbeat": (Now,),
}
"""What `data` of a successful `command_result` may be, by command."""


# --- what is said over the gateway's WebSocket besides


class Hearing(msgspec.Struct):
    """A client's subscriptions; `symbols` are those whose ticks it hears, null: all."""

    channels: list[Channel]
    symbols: list[str] | None


class Welcome(msgspec.Struct):
    """The first frame to a client that has shown who it is, and the answer to every further `auth`."""

    service: str
    version: str
    bridge_id: str
    account: int | None
    symbols: list[str]
    capabilities: list[str]
    scopes: list[Literal["read", "trade", "stop", "admin"]]
    halt: Latch
    channels: list[Channel]
    subscriptions: Hearing
    heartbeat_s: float
    messages_per_s: float


class Broadcast(msgspec.Struct):
    """What somebody tells all clients."""

    by: str
    message: str | dict[str, Any]


class Acknowledged(msgspec.Struct):
    """It was counted; it is not used."""

    success: Literal[True]


class Shown(msgspec.Struct):
    """GATEWAY_TOKEN, or a JWT."""

    token: str


class Wish(msgspec.Struct):
    """What to hear, or not to hear any more. Naming `symbols` means the channel `ticks`, of these only."""

    channels: list[Channel] | None = None
    symbols: list[str] | None = None

"""Shapes that the bridge puts together where it sends them, field by field, for those who publish what they look like.

Nothing is made of them on the way of a command. Tests hold them against what a running bridge sends.
"""

import msgspec

from mt5_bridge.core.halt import HaltState


class Tick(msgspec.Struct):
    """One tick; `spread` is in points, `seq` numbers those of one millisecond from 0."""

    symbol: str
    bid: float
    ask: float
    last: float
    volume: float
    spread: int
    time: str
    time_msc: int
    flags: int
    seq: int


class Latch(msgspec.Struct):
    """The halt as it stands; `at` is null while it never changed."""

    state: HaltState
    reason: str
    by: str
    at: str | None


class Bar(msgspec.Struct):
    """One bar; `time` is when it opened, UTC, `spread` is in points."""

    symbol: str
    timeframe: str
    time: str
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    spread: int
    real_volume: float


class PendingOrder(msgspec.Struct):
    """A pending order, or one of the past. `type` is the terminal's number for `order_type`."""

    ticket: int
    symbol: str
    type: int
    order_type: str
    state: str
    volume: float
    volume_initial: float
    price: float
    stop_limit_price: float
    stop_loss: float
    take_profit: float
    expiration: str | None
    time: str
    time_done: str | None
    magic: int
    comment: str
    position: int | None


class PastDeal(msgspec.Struct):
    """A deal; `type` is the terminal's number (0 buy, 1 sell, others: balance operations)."""

    ticket: int
    order: int
    position: int
    symbol: str
    type: int
    entry: str
    volume: float
    price: float
    profit: float
    swap: float
    commission: float
    fee: float
    time: str
    time_msc: int
    magic: int
    comment: str

"""What the terminal knows, in the bridge's own terms.

Every time is UTC in milliseconds since the epoch (`_msc`), already converted from the broker's wall clock; prices are
in quote currency, volumes in lots, money in the account's currency unless said otherwise. Enum values are those of the
official `MetaTrader5` package.
"""

from enum import IntEnum, IntFlag, StrEnum

import msgspec

PAPER_LOGIN = 5000001
"""The paper terminal's account where the settings name none."""


class Side(StrEnum):
    """Direction of a position, an order or a deal."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY

    @property
    def type(self) -> int:
        """The terminal's POSITION_TYPE_* / ORDER_TYPE_* of a market order: 0 buy, 1 sell."""
        return 0 if self is Side.BUY else 1

    def nearer(self, stop: float, than: float) -> bool:
        """Whether a stop loses less than the one that stands; any does that where none (0) stands."""
        if stop <= 0 or than <= 0:
            return stop > 0
        return stop > than if self is Side.BUY else stop < than


class Action(StrEnum):
    """What a trading signal may ask for."""

    BUY = "BUY"
    SELL = "SELL"
    CLOSE = "CLOSE"
    BUY_LIMIT = "BUY_LIMIT"
    SELL_LIMIT = "SELL_LIMIT"
    BUY_STOP = "BUY_STOP"
    SELL_STOP = "SELL_STOP"
    BUY_STOP_LIMIT = "BUY_STOP_LIMIT"
    SELL_STOP_LIMIT = "SELL_STOP_LIMIT"
    MODIFY = "MODIFY"
    CANCEL = "CANCEL"
    CLOSE_BY = "CLOSE_BY"

    is_market: bool
    is_pending: bool
    opens: bool
    """True when the action can raise risk: a market or a pending order."""
    side: Side | None
    """The direction of an opening action, None for the others."""

    def __init__(self, value: str) -> None:
        # Told once for each member: every guard asks.
        self.is_market = value in ("BUY", "SELL")
        self.is_pending = "_LIMIT" in value or "_STOP" in value
        self.opens = self.is_market or self.is_pending
        self.side = None
        if self.opens:
            self.side = Side.BUY if value.startswith("BUY") else Side.SELL


class OrderType(IntEnum):
    """ORDER_TYPE_* of the terminal."""

    BUY = 0
    SELL = 1
    BUY_LIMIT = 2
    SELL_LIMIT = 3
    BUY_STOP = 4
    SELL_STOP = 5
    BUY_STOP_LIMIT = 6
    SELL_STOP_LIMIT = 7
    CLOSE_BY = 8

    @property
    def side(self) -> Side:
        return Side.BUY if self in (0, 2, 4, 6) else Side.SELL

    @classmethod
    def of(cls, side: Side) -> "OrderType":
        """That of a market order, and of a position."""
        return cls.BUY if side is Side.BUY else cls.SELL


class OrderState(IntEnum):
    """ORDER_STATE_* of the terminal."""

    STARTED = 0
    PLACED = 1
    CANCELED = 2
    PARTIAL = 3
    FILLED = 4
    REJECTED = 5
    EXPIRED = 6
    REQUEST_ADD = 7
    REQUEST_MODIFY = 8
    REQUEST_CANCEL = 9


class DealEntry(IntEnum):
    """DEAL_ENTRY_* of the terminal."""

    IN = 0
    OUT = 1
    INOUT = 2
    OUT_BY = 3


class MarginMode(StrEnum):
    """ACCOUNT_MARGIN_MODE_* of the terminal, by name."""

    NETTING = "netting"
    EXCHANGE = "exchange"
    HEDGING = "hedging"


class TradeMode(IntEnum):
    """SYMBOL_TRADE_MODE_* of the terminal."""

    DISABLED = 0
    LONG_ONLY = 1
    SHORT_ONLY = 2
    CLOSE_ONLY = 3
    FULL = 4


class Execution(IntEnum):
    """SYMBOL_TRADE_EXECUTION_* of the terminal."""

    REQUEST = 0
    INSTANT = 1
    MARKET = 2
    EXCHANGE = 3


class Filling(IntEnum):
    """ORDER_FILLING_* of the terminal (its symbol bits are `FillingBits`, other numbers)."""

    FOK = 0
    IOC = 1
    RETURN = 2
    BOC = 3


class FillingBits(IntFlag):
    """SYMBOL_FILLING_*: absent from the official package, values from the MQL5 documentation."""

    FOK = 1
    IOC = 2
    BOC = 4


class AssetClass(StrEnum):
    """Classes with position limits of their own."""

    FOREX = "forex"
    METAL = "metal"
    INDEX = "index"
    CRYPTO = "crypto"
    OTHER = "other"


class Quote(msgspec.Struct, frozen=True, gc=False):
    """The last known prices of a symbol; `time_msc` is UTC."""

    symbol: str
    bid: float
    ask: float
    last: float
    volume: float
    time_msc: int

    def price_to_open(self, side: Side) -> float:
        """A long opens at the ask, a short at the bid."""
        return self.ask if side is Side.BUY else self.bid

    def price_to_close(self, side: Side) -> float:
        """A long closes at the bid, a short at the ask."""
        return self.bid if side is Side.BUY else self.ask


class AccountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The trading account. `margin_level` is in percent, 0 without positions."""

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
    margin_mode: MarginMode
    trade_allowed: bool
    trade_expert: bool = True
    credit: float = 0.0
    name: str = ""
    company: str = ""
    fifo_close: bool = False


class TerminalInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The terminal program itself: `trade_allowed` is its AutoTrading toggle."""

    connected: bool
    trade_allowed: bool
    tradeapi_disabled: bool
    name: str = ""
    company: str = ""
    build: int = 0
    path: str = ""
    ping_last_us: int = 0


class SymbolInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol's trading rules. Levels are in points, `tick_value` in account currency per lot."""

    name: str
    digits: int
    point: float
    tick_size: float
    tick_value: float
    contract_size: float
    volume_min: float
    volume_max: float
    volume_step: float
    stops_level: int
    freeze_level: int
    trade_mode: TradeMode
    execution: Execution
    filling_bits: int
    volume_limit: float = 0.0
    order_mode: int = 127
    expiration_mode: int = 15
    calc_mode: int = 0
    currency_base: str = ""
    currency_profit: str = ""
    currency_margin: str = ""
    description: str = ""
    path: str = ""
    spread_points: int = 0
    selected: bool = True


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """An open position. `identifier` is the ticket of the order that opened it."""

    ticket: int
    symbol: str
    side: Side
    volume: float
    price_open: float
    price_current: float
    stop_loss: float
    take_profit: float
    swap: float
    profit: float
    time_msc: int
    magic: int
    comment: str
    identifier: int = 0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order, pending or of the past. `position_id` is 0 until it dealt."""

    ticket: int
    symbol: str
    type: OrderType
    state: OrderState
    volume_initial: float
    volume_current: float
    price: float
    stop_limit_price: float
    stop_loss: float
    take_profit: float
    time_setup_msc: int
    time_done_msc: int
    expiration_msc: int
    magic: int
    comment: str
    position_id: int = 0
    position_by_id: int = 0


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """An execution, or a balance operation (`type` ≥ 2, no symbol). `reason` is DEAL_REASON_*."""

    ticket: int
    order: int
    position_id: int
    symbol: str
    type: int
    entry: DealEntry
    volume: float
    price: float
    profit: float
    swap: float
    commission: float
    fee: float
    time_msc: int
    magic: int
    reason: int
    comment: str

    @property
    def is_trade(self) -> bool:
        """False for deposits, credits, charges and the like."""
        return self.type in (0, 1)

    @property
    def side(self) -> Side:
        return Side.BUY if self.type == 0 else Side.SELL

    @property
    def net(self) -> float:
        """What the deal did to the balance."""
        return self.profit + self.swap + self.commission + self.fee


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar; `time_msc` is the UTC time it opened."""

    symbol: str
    timeframe: str
    time_msc: int
    open: float
    high: float
    low: float
    close: float
    tick_volume: int
    spread: int
    real_volume: int


class Deed(StrEnum):
    """What an order request does: TRADE_ACTION_* of the terminal, by name."""

    DEAL = "deal"
    PENDING = "pending"
    SLTP = "sltp"
    MODIFY = "modify"
    REMOVE = "remove"
    CLOSE_BY = "close_by"


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `order_send` is asked for. Zero means absent, as in the terminal's own request."""

    deed: Deed
    symbol: str = ""
    type: OrderType = OrderType.BUY
    volume: float = 0.0
    price: float = 0.0
    stop_limit_price: float = 0.0
    stop_loss: float = 0.0
    take_profit: float = 0.0
    deviation_points: int = 0
    filling: Filling | None = None
    """None: chosen by the terminal room from the symbol's bits, confirmed by `order_check`, cached."""
    expiration_msc: int = 0
    magic: int = 0
    comment: str = ""
    position: int = 0
    position_by: int = 0
    order: int = 0
    nearer_only: bool = False
    """SLTP: a stop that stands nearer by then stays. With this or one of the next, `type` is that of the position."""
    keeps_stop: bool = False
    """SLTP: the stop stays as it is by then."""
    keeps_target: bool = False
    """SLTP: the target stays as it is by then."""

    @property
    def as_it_stands(self) -> bool:
        """Whether it depends on the stop and target that the position has by then."""
        return self.nearer_only or self.keeps_stop or self.keeps_target

    def stops(self, stop: float, target: float) -> tuple[float, float]:
        """The stop and target that a position is to have which has these by then."""
        stays = self.keeps_stop or (self.nearer_only and not self.type.side.nearer(self.stop_loss, stop))
        return stop if stays else self.stop_loss, target if self.keeps_target else self.take_profit


class TradeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `order_send` or `order_check` answered. `retcode` is None when the call itself returned None."""

    retcode: int | None
    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    bid: float = 0.0
    ask: float = 0.0
    comment: str = ""
    last_error: int = 1
    last_error_text: str = ""


class TickBlock(msgspec.Struct, frozen=True, gc=False):
    """Ticks of one symbol, oldest first, as the terminal packs them.

    `data` holds 60-byte records `<qdddQqId`: time (s), bid, ask, last, volume, time_msc, flags, volume_real. Times
    inside are raw broker time; `terminal.convert` turns them into UTC. Nothing in it is numpy: the daemon never
    imports it.
    `first_seq` is the number of ticks with the first record's time_msc that came before it.
    """

    symbol: str
    data: bytes
    first_seq: int = 0
    more: bool = False
    """True when the terminal holds further ticks beyond this block."""
    lost: int = 0
    """How many of the ticks at the cursor, read before, the terminal no longer shows: others may be gone with them."""
    epoch: int | None = None
    """Of broker time, in which they came; None: the current one."""

    @property
    def count(self) -> int:
        return len(self.data) // TICK_RECORD_SIZE


TICK_RECORD = "<qdddQqId"
TICK_RECORD_SIZE = 60


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """How far a symbol's ticks have been read: all up to `time_msc` (raw broker time) and `count` of those at it.

    `epoch` grows when broker time steps back, so that cursors stay comparable within one epoch.
    """

    time_msc: int
    count: int
    epoch: int = 0

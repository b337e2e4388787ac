"""The terminal's structs as they cross the pipe: the fields the bridge uses, by the terminal's own names.

The host picks these fields into plain tuples, the daemon decodes and type-checks them here, and only `convert` turns
them into the bridge's terms. Times are raw broker time.
"""

from enum import IntEnum
from typing import Literal

import msgspec

from mt5_bridge.core.ticks import Framed, Label
from mt5_bridge.terminal.clock import Segment


class RawTick(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`symbol_info_tick`."""

    time_msc: int
    bid: float
    ask: float
    last: float
    volume: float
    volume_real: float


class RawAccount(msgspec.Struct, frozen=True, array_like=True):
    """`account_info`."""

    login: int
    server: str
    currency: str
    leverage: int
    balance: float
    equity: float
    margin: float
    margin_free: float
    margin_level: float
    profit: float
    margin_mode: int
    trade_allowed: bool
    trade_expert: bool
    credit: float
    name: str
    company: str
    fifo_close: bool


class RawTerminal(msgspec.Struct, frozen=True, array_like=True):
    """`terminal_info`."""

    connected: bool
    trade_allowed: bool
    tradeapi_disabled: bool
    name: str
    company: str
    build: int
    path: str
    ping_last: int


class RawSymbol(msgspec.Struct, frozen=True, array_like=True):
    """`symbol_info`."""

    name: str
    digits: int
    point: float
    trade_tick_size: float
    trade_tick_value: float
    trade_contract_size: float
    volume_min: float
    volume_max: float
    volume_step: float
    volume_limit: float
    trade_stops_level: int
    trade_freeze_level: int
    trade_mode: int
    trade_exemode: int
    filling_mode: int
    order_mode: int
    expiration_mode: int
    trade_calc_mode: int
    currency_base: str
    currency_profit: str
    currency_margin: str
    description: str
    path: str
    spread: int
    select: bool


class RawPosition(msgspec.Struct, frozen=True, array_like=True):
    """`positions_get`."""

    ticket: int
    symbol: str
    type: int
    volume: float
    price_open: float
    price_current: float
    sl: float
    tp: float
    swap: float
    profit: float
    time_msc: int
    magic: int
    comment: str
    identifier: int


class RawOrder(msgspec.Struct, frozen=True, array_like=True):
    """`orders_get`, `history_orders_get`."""

    ticket: int
    symbol: str
    type: int
    state: int
    volume_initial: float
    volume_current: float
    price_open: float
    price_stoplimit: float
    sl: float
    tp: float
    time_setup_msc: int
    time_done_msc: int
    time_expiration: int
    magic: int
    comment: str
    position_id: int
    position_by_id: int


class RawDeal(msgspec.Struct, frozen=True, array_like=True):
    """`history_deals_get`."""

    ticket: int
    order: int
    position_id: int
    symbol: str
    type: int
    entry: int
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


class RawResult(msgspec.Struct, frozen=True, array_like=True):
    """`order_send`, `order_check` (which has no deal, order, bid and ask)."""

    retcode: int
    deal: int
    order: int
    volume: float
    price: float
    bid: float
    ask: float
    comment: str


class Passes(IntEnum):
    """Where a cursor stands to a step back of broker time, after which history has the same times twice."""

    ONE = 0
    """There was none: times only grow."""
    BEFORE = 1
    """Read on to the step at most."""
    BEHIND = 2
    """The time was shown before: what is meant is what came behind the step."""


class RawCursor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A symbol's cursor on the pipe: `time_msc` None asks for a position to begin at."""

    symbol: str
    time_msc: int | None
    count: int = 0
    passes: int = Passes.ONE


class RawBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A page of ticks and the cursor behind it.

    Attributes:
        lost: how many of the ticks at the cursor asked from, read before, are no longer there.
    """

    symbol: str
    data: bytes
    first_seq: int
    more: bool
    time_msc: int
    count: int
    lost: int = 0


class PageArgs(msgspec.Struct, frozen=True, array_like=True):
    """How a page of the past is made ready to be published: what records carry, and the broker's clock."""

    label: Label
    timezone: str | None
    timeline: tuple[Segment, ...]
    epoch: int
    now_msc: int
    latest_only: bool


class RawPage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A page of ticks framed for the broker, and the cursor behind it.

    Attributes:
        ticks: how many were read.
        unusable: how many of them were left out because a price is no number.
        newest_msc: UTC ms of the last one; None without any.
        lost: see `RawBlock`.
    """

    batches: list[Framed]
    ticks: int
    unusable: int
    newest_msc: int | None
    more: bool
    time_msc: int
    count: int
    lost: int = 0


class RawPoll(msgspec.Struct, frozen=True, array_like=True):
    """One slice of live ticks. A block without data only places a cursor."""

    blocks: list[RawBlock]
    quotes: dict[str, RawTick]
    unfinished: list[str]
    faults: dict[str, str]


class RawSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """Account, terminal, positions and orders of one moment."""

    account: RawAccount
    terminal: RawTerminal
    positions: list[RawPosition]
    orders: list[RawOrder]


class RawFacts(msgspec.Struct, frozen=True, array_like=True):
    """What the guards need for one opening."""

    symbol: RawSymbol
    tick: RawTick
    margin: float | None
    profit: float | None
    account: RawAccount
    terminal: RawTerminal


class ConnectArgs(msgspec.Struct, frozen=True, array_like=True):
    """What `initialize` and `login` get. It crosses the pipe only, never a command line or the environment."""

    path: str | None
    login: int | None
    password: str | None
    server: str | None
    timeout_ms: int
    portable: bool


class DeadManArgs(msgspec.Struct, frozen=True, array_like=True):
    """What the host does by itself when the daemon is gone.

    Attributes:
        action: `cancel` pending orders, or `flatten`: close positions as well.
        after_s: seconds of silence after which a daemon whose pipe is still open counts as dead; None: never.
        scope: `all`, or `mine`: only what carries `magic_base`.
        magic_base: MT5_MAGIC.
        folder: where the report is left.
    """

    action: Literal["cancel", "flatten"]
    after_s: float | None
    scope: str
    magic_base: int
    folder: str


class OpenArgs(msgspec.Struct, frozen=True, array_like=True):
    """The first frame: which terminal, and its settings.

    Attributes:
        lock: the file whose lock this host needs before it opens anything; None: it needs none.
        deadman: None: it ends with its daemon, and does nothing.
    """

    backend: str
    role: str
    settings: dict[str, str]
    lock: str | None = None
    deadman: DeadManArgs | None = None

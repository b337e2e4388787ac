"""Everything a decision may look at, and what it says: `Context` in, `Approval` or `Denial` out.

Guards (`core.guards`) are functions `Context -> Denial | None`; only the chain puts them in order. Nothing here reads a
clock or asks a terminal: whoever decides collects the facts first.
"""

from enum import StrEnum

import msgspec

from mt5_bridge.core.halt import Halt
from mt5_bridge.core.messages import Reason, TradingSignal
from mt5_bridge.core.model import AccountInfo, AssetClass, Order, Position, Quote, Side, SymbolInfo


class Requester(StrEnum):
    """On whose word a request acts. Signals are machines; a person speaks by command, gateway or CLI."""

    SIGNAL = "signal"
    PERSON = "person"
    EMERGENCY = "emergency"
    """The emergency stop's own cancels and closes: they pass by origin."""


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """Why not: a published code, the figures for people, and the limit and value for machines."""

    code: Reason
    detail: str
    limit: float | None = None
    value: float | None = None


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """May be sent: with this volume (lots), risking this much (account currency) when the stop is hit.

    `risk` is 0 where there is no stop to reckon with, `margin` is what the terminal will hold back for an opening;
    both belong into the `Exposure` of the intent. Of a CANCEL all three are 0.
    """

    volume: float
    risk: float
    margin: float = 0.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The trading settings as the guards read them. None: off."""

    trading_enabled: bool = False
    account: int | None = None
    require_account: bool = False
    max_risk_percent: float | None = 2.0
    require_stop_loss: bool = True
    max_daily_trades: int | None = 10
    max_daily_loss_pct: float | None = 5.0
    max_drawdown_pct: float | None = None
    max_open_risk_pct: float | None = None
    min_margin_level_pct: float | None = None
    price_collar_pct: float | None = None
    max_simultaneous_trades: int | None = None
    max_positions_per_symbol: int | None = None
    max_positions_by_class: dict[AssetClass, int] = {}
    max_volume: float | None = 10.0
    max_spread_points: float | None = None
    max_drift_points: float | None = None
    max_orders_per_second: float | None = 5.0
    throttle_latch: int | None = 20
    signal_max_age_ms: int = 5000
    clock_skew_ms: int = 2000


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """An opening intent whose outcome is not in the terminal's lists yet: it counts as filled in every limit (P9)."""

    magic: int
    symbol: str
    side: Side
    volume: float
    risk: float
    margin: float = 0.0
    unknown: bool = False


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The trading day so far, in account currency.

    Attributes:
        date: ISO date in TRADING_DAY_TIMEZONE.
        start_equity: equity when the day began, deposits and withdrawals since then added.
        trades: opening deals of the day, manual ones included, in-flight ones not.
        peak_equity: the highest equity ever seen, deposits and withdrawals since then added.
        start_msc: when the day began, UTC ms.
        deposits: deposits less withdrawals of the day that are in the figures above.
        start_balance: balance and credit before the first deal of the day; None: not known.
        balance: balance and credit that the figures above were last found to agree with; None: they do not yet. While
            the account shows another one, deals are still to be read and its equity must not be judged
            (`risk.settled`).
        accepted: how often a person has resumed after the day's loss or the drawdown had reached its limit: the
            reference figure begins anew with each (`risk.accept`).
    """

    date: str
    start_equity: float
    trades: int
    peak_equity: float
    start_msc: int = 0
    deposits: float = 0.0
    start_balance: float | None = None
    balance: float | None = None
    accepted: int = 0


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the terminal can trade and the journal agrees with it; each False has its own words."""

    reconciled: bool = False
    connected: bool = False
    terminal_trade_allowed: bool = False
    api_allowed: bool = True
    account_trade_allowed: bool = False
    expert_trade_allowed: bool = True
    journal_healthy: bool = True

    @property
    def why_not(self) -> str | None:
        """The first thing that is missing, in words; None when ready."""
        for ok, words in (
            (self.connected, "no connection to the terminal or its trade server"),
            (self.reconciled, "journal and terminal are not reconciled yet"),
            (self.terminal_trade_allowed, "AutoTrading is off in the terminal"),
            (self.api_allowed, "trading through the Python API is disabled in the terminal's options"),
            (self.account_trade_allowed, "trading is disabled for the account (investor password?)"),
            (self.expert_trade_allowed, "the broker does not allow automated trading on the account"),
            (self.journal_healthy, "the journal cannot be written"),
        ):
            if not ok:
                return words
        return None


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one decision. Times are UTC ms, prices in quote currency, money in account currency.

    Attributes:
        signal: what is asked, its symbol as the backend wrote it.
        now_msc: the time of the decision.
        created_msc: when the signal was made: `created_at`, else the record's time.
        limits: the settings.
        halt: the latch as it is now.
        readiness: whether the terminal can trade.
        account: the account, None while unknown.
        symbol: the symbol's rules, None when the terminal does not know it.
        quote: the current prices, None while there are none.
        positions: all open positions of the account, manual ones included.
        orders: all pending orders of the account.
        in_flight: opening intents not yet visible in those two, without the one that is being decided.
        day: the trading day so far.
        blocked: symbols on which nothing may open: an unknown outcome, or trading disabled by the broker (10017).
        loss_per_lot: loss of one lot from the entry to the stop by `order_calc_profit`, positive; None: not known.
        margin_per_lot: margin of one lot at the entry by `order_calc_margin`; None: not known.
        risk_by_position: loss to the stop of each position (ticket) and pending order; without stop: None.
        requester: on whose word.
        record_key: the key of the signal's record, for SIGNAL_REQUIRE_ACCOUNT; None: none, or not from a topic.
        target: what CLOSE, MODIFY, CANCEL or CLOSE_BY is about, as the terminal holds it now; None: not found. A CLOSE
            of several positions is decided once a leg.
        target_by: the opposite position of a CLOSE_BY.
        volume: lots that this leg of a CLOSE may close; None: the signal's volume, else all.
        throttle_wait_ms: how long the rate limit would make this request wait (`throttle.wait_ms`).
        classes: asset classes by symbol where known from the symbol's rules; others are told by name.

    For a MODIFY `loss_per_lot` is meant from the entry (a position's open price) to the stop after the change.
    """

    signal: TradingSignal
    now_msc: int
    created_msc: int
    limits: Limits
    halt: Halt
    readiness: Readiness
    account: AccountInfo | None = None
    symbol: SymbolInfo | None = None
    quote: Quote | None = None
    positions: tuple[Position, ...] = ()
    orders: tuple[Order, ...] = ()
    in_flight: tuple[Exposure, ...] = ()
    day: Day | None = None
    blocked: frozenset[str] = frozenset()
    loss_per_lot: float | None = None
    margin_per_lot: float | None = None
    risk_by_position: dict[int, float | None] = {}
    requester: Requester = Requester.SIGNAL
    record_key: str | None = None
    target: Position | Order | None = None
    target_by: Position | None = None
    volume: float | None = None
    throttle_wait_ms: int = 0
    classes: dict[str, AssetClass] = {}

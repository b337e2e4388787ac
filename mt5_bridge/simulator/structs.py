"""The eleven structures of the official `MetaTrader5` package.

There they are CPython struct sequences: tuples with named fields, built from one sequence, without `_fields` and
without keyword construction, with a shallow `_asdict()`.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self


class Struct(tuple[Any, ...]):
    """Base of the structures. Fields are declared once, as `__match_args__`, in the wheel's order."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()
    n_fields: ClassVar[int]
    n_sequence_fields: ClassVar[int]
    n_unnamed_fields: ClassVar[int] = 0
    _all: ClassVar[Callable[[Any], tuple[Any, ...]]]
    """Every field's value out of a mapping that has them all: how the most asked-for structures are built."""

    def __init_subclass__(cls) -> None:
        if cls.__bases__ != (Struct,):
            raise TypeError(f"type '{cls.__bases__[0].__name__}' is not an acceptable base type")
        # The wheel's say so, too; it is why they cannot be pickled.
        cls.__module__ = "builtins"
        cls.n_fields = cls.n_sequence_fields = len(cls.__match_args__)
        cls._all = itemgetter(*cls.__match_args__)
        for place, name in enumerate(cls.__match_args__):
            setattr(cls, name, property(itemgetter(place)))

    def __new__(cls, sequence: Iterable[Any], dict: Mapping[str, Any] | None = None) -> Self:
        values = tuple(sequence)
        if len(values) != cls.n_fields:
            raise TypeError(f"{cls.__name__}() takes a {cls.n_fields}-sequence ({len(values)}-sequence given)")
        return tuple.__new__(cls, values)

    @classmethod
    def of(cls, values: Mapping[str, Any], default: Any = 0) -> Self:
        """Builds the structure from named values; fields without one get `default`."""
        if len(values) != cls.n_fields:
            values = {**dict.fromkeys(cls.__match_args__, default), **values}
        return tuple.__new__(cls, cls._all(values))

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name}={value!r}" for name, value in zip(self.__match_args__, self, strict=True))
        return f"{type(self).__name__}({pairs})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (tuple(self), {})

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self.__match_args__, self, strict=True))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class TradePosition(Struct):
    """Trade position structure"""

    __slots__ = ()
    __match_args__ = (
        "ticket", "time", "time_msc", "time_update", "time_update_msc", "type", "magic", "identifier", "reason",
        "volume", "price_open", "sl", "tp", "price_current", "swap", "profit", "symbol", "comment", "external_id",
    )  # fmt: skip


class TradeOrder(Struct):
    """Trade order structure"""

    __slots__ = ()
    __match_args__ = (
        "ticket", "time_setup", "time_setup_msc", "time_done", "time_done_msc", "time_expiration", "type", "type_time",
        "type_filling", "state", "magic", "position_id", "position_by_id", "reason", "volume_initial", "volume_current",
        "price_open", "sl", "tp", "price_current", "price_stoplimit", "symbol", "comment", "external_id",
    )  # fmt: skip


class TradeDeal(Struct):
    """Trade deal structure"""

    __slots__ = ()
    __match_args__ = (
        "ticket", "order", "time", "time_msc", "type", "entry", "magic", "position_id", "reason", "volume", "price",
        "commission", "swap", "profit", "fee", "symbol", "comment", "external_id",
    )  # fmt: skip


class TradeRequest(Struct):
    """Trade request structure"""

    __slots__ = ()
    __match_args__ = (
        "action", "magic", "order", "symbol", "volume", "price", "stoplimit", "sl", "tp", "deviation", "type",
        "type_filling", "type_time", "expiration", "comment", "position", "position_by",
    )  # fmt: skip


class SymbolInfo(Struct):
    """This is a structure for storing symbol information"""

    __slots__ = ()
    __match_args__ = (
        "custom", "chart_mode", "select", "visible", "session_deals", "session_buy_orders", "session_sell_orders",
        "volume", "volumehigh", "volumelow", "time", "digits", "spread", "spread_float", "ticks_bookdepth",
        "trade_calc_mode", "trade_mode", "start_time", "expiration_time", "trade_stops_level", "trade_freeze_level",
        "trade_exemode", "swap_mode", "swap_rollover3days", "margin_hedged_use_leg", "expiration_mode", "filling_mode",
        "order_mode", "order_gtc_mode", "option_mode", "option_right", "bid", "bidhigh", "bidlow", "ask", "askhigh",
        "asklow", "last", "lasthigh", "lastlow", "volume_real", "volumehigh_real", "volumelow_real", "option_strike",
        "point", "trade_tick_value", "trade_tick_value_profit", "trade_tick_value_loss", "trade_tick_size",
        "trade_contract_size", "trade_accrued_interest", "trade_face_value", "trade_liquidity_rate", "volume_min",
        "volume_max", "volume_step", "volume_limit", "swap_long", "swap_short", "margin_initial", "margin_maintenance",
        "session_volume", "session_turnover", "session_interest", "session_buy_orders_volume",
        "session_sell_orders_volume", "session_open", "session_close", "session_aw", "session_price_settlement",
        "session_price_limit_min", "session_price_limit_max", "margin_hedged", "price_change", "price_volatility",
        "price_theoretical", "price_greeks_delta", "price_greeks_theta", "price_greeks_gamma", "price_greeks_vega",
        "price_greeks_rho", "price_greeks_omega", "price_sensitivity", "basis", "category", "currency_base",
        "currency_profit", "currency_margin", "bank", "description", "exchange", "formula", "isin", "name", "page",
        "path",
    )  # fmt: skip


class OrderCheckResult(Struct):
    """order_check result structure"""

    __slots__ = ()
    __match_args__ = (
        "retcode", "balance", "equity", "profit", "margin", "margin_free", "margin_level", "comment", "request",
    )  # fmt: skip


class OrderSendResult(Struct):
    """order_send result structure"""

    __slots__ = ()
    __match_args__ = (
        "retcode", "deal", "order", "volume", "price", "bid", "ask", "comment", "request_id", "retcode_external",
        "request",
    )  # fmt: skip


class Tick(Struct):
    """This is a structure for storing latest symbol prices"""

    __slots__ = ()
    __match_args__ = (
        "time", "bid", "ask", "last", "volume", "time_msc", "flags", "volume_real",
    )  # fmt: skip


class TerminalInfo(Struct):
    """This is a structure for storing terminal information"""

    __slots__ = ()
    __match_args__ = (
        "community_account", "community_connection", "connected", "dlls_allowed", "trade_allowed", "tradeapi_disabled",
        "email_enabled", "ftp_enabled", "notifications_enabled", "mqid", "build", "maxbars", "codepage", "ping_last",
        "community_balance", "retransmission", "company", "name", "language", "path", "data_path", "commondata_path",
    )  # fmt: skip


class AccountInfo(Struct):
    """This is a structure for storing account information"""

    __slots__ = ()
    __match_args__ = (
        "login", "trade_mode", "leverage", "limit_orders", "margin_so_mode", "trade_allowed", "trade_expert",
        "margin_mode", "currency_digits", "fifo_close", "balance", "credit", "profit", "equity", "margin",
        "margin_free", "margin_level", "margin_so_call", "margin_so_so", "margin_initial", "margin_maintenance",
        "assets", "liabilities", "commission_blocked", "name", "server", "currency", "company",
    )  # fmt: skip


class BookInfo(Struct):
    """This is a structure for storing Depth of Market information"""

    __slots__ = ()
    __match_args__ = (
        "type", "price", "volume", "volume_dbl",
    )  # fmt: skip

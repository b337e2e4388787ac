"""The symbols of the paper broker and their trading rules."""

from typing import Literal

import msgspec

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.market.sessions import AROUND_THE_CLOCK, FOREX_WEEK, INDICES_WEEK, METALS_WEEK, Week

FILLING_FOK, FILLING_IOC, FILLING_BOC = 1, 2, 4
"""SYMBOL_FILLING_* bits: absent from the official package, values from the MQL5 documentation."""
EXPIRATION_GTC, EXPIRATION_DAY, EXPIRATION_SPECIFIED, EXPIRATION_SPECIFIED_DAY = 1, 2, 4, 8
ORDER_MODE_ALL = 127


class MarginRates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Multipliers of the margin by order type; 0: such an order reserves nothing (MQL5, `SymbolInfoMarginRate`)."""

    buy: float = 1.0
    sell: float = 1.0
    buy_limit: float = 0.0
    sell_limit: float = 0.0
    buy_stop: float = 0.0
    sell_stop: float = 0.0
    buy_stop_limit: float = 0.0
    sell_stop_limit: float = 0.0


class SymbolSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One symbol. Levels and spread are in points; `base_price` and `slot_ms` shape its seeded walk.

    What costs money or refuses orders beyond the spread is off unless a symbol asks for it: commission, slippage,
    requotes, depth.
    """

    name: str
    description: str
    path: str
    currency_base: str
    currency_profit: str
    currency_margin: str
    digits: int
    contract_size: float
    base_price: float
    spread: int
    slot_ms: int = 300
    """One tick of the walk falls into each slot of this length."""
    volatility: float = 1.0
    """Relative to EURUSD's."""
    volume_min: float = 0.01
    volume_max: float = 100.0
    volume_step: float = 0.01
    volume_limit: float = 0.0
    stops_level: int = 0
    freeze_level: int = 0
    calc_mode: int = c.SYMBOL_CALC_MODE_FOREX
    trade_mode: int = c.SYMBOL_TRADE_MODE_FULL
    execution: int = c.SYMBOL_TRADE_EXECUTION_MARKET
    filling_bits: int = FILLING_FOK | FILLING_IOC
    expiration_bits: int = 15
    order_mode: int = ORDER_MODE_ALL
    order_gtc_mode: int = c.SYMBOL_ORDERS_GTC
    tick_size: float = 0.0
    """The step of prices; 0: one point."""
    tick_value: float = 0.0
    """Profit currency per lot and tick, where the calculation mode asks; 0: as the contract size gives it."""
    face_value: float = 0.0
    accrued_interest: float = 0.0
    """Of bonds: the face value in profit currency, and the coupon accrued per unit."""
    settlement_price: float = 0.0
    """Of the last clearing, for FORTS futures."""
    liquidity_rate: float = 0.0
    """The share of a collateral's value that counts as an asset."""
    margin_rate: float = 1.0
    """Multiplies all of `margin_rates` and `maintenance_rates`."""
    margin_rates: MarginRates = MarginRates()
    maintenance_rates: MarginRates | None = None
    """For what is open already; None: as `margin_rates`."""
    margin_initial: float = 0.0
    margin_maintenance: float = 0.0
    """Fixed margin per lot, in margin currency; 0: by formula, and for maintenance as initial."""
    margin_hedged: float = 0.0
    """Contract size that covered lots pay for; with `margin_initial`, money per lot."""
    margin_hedged_use_leg: bool = False
    """True: of opposite positions only the side with the larger margin pays."""
    swap_mode: int = c.SYMBOL_SWAP_MODE_POINTS
    swap_long: float = 0.0
    swap_short: float = 0.0
    swap_rollover3days: int = c.DAY_OF_WEEK_WEDNESDAY
    swap_days: tuple[float, float, float, float, float, float, float] | None = None
    """Multipliers of the swap for nights that begin on Sunday, Monday ...; None: 3 on the triple day, 0 at weekends."""
    swap_year_days: int = 360
    commission: float = 0.0
    commission_mode: Literal["lot", "deal", "percent"] = "lot"
    """Account money per lot or per deal, or percent of the deal's value."""
    commission_entry: Literal["both", "in", "out"] = "both"
    slippage: int = 0
    """Market and stop orders fill up to so many points worse than quoted, drawn from the seed."""
    requotes: float = 0.0
    """Share of requests under instant or request execution that get a requote, drawn from the seed."""
    depth_volume: float = 0.0
    """Lots the market offers at each level of its depth; 0: no end at the best price."""
    depth_levels: int = 1
    depth_step: int = 1
    """Points between two levels."""
    sessions: Week = FOREX_WEEK
    """When it trades, where sessions are real."""
    book_depth: int = 10
    """Levels a side that the market book shows; 0: the symbol has none."""
    chart_mode: int = c.SYMBOL_CHART_MODE_BID
    basis: str = ""
    category: str = ""
    exchange: str = ""
    isin: str = ""
    page: str = ""

    @property
    def point(self) -> float:
        return 1 / self.scale

    @property
    def scale(self) -> int:
        """Points in one unit of price."""
        return int(10**self.digits)

    @property
    def tick(self) -> float:
        """The step of prices."""
        return self.tick_size or self.point

    @property
    def step(self) -> int:
        """The same in points."""
        return round(self.tick_size * self.scale) or 1


def _pair(
    name: str, words: str, price: float, spread: int, *, group: str = "Majors", slot_ms: int = 300,
    volatility: float = 1.0, swaps: tuple[float, float] = (-5.0, -1.0),
) -> SymbolSpec:  # fmt: skip
    base, profit = name[:3], name[3:]
    return SymbolSpec(
        name=name, description=words, path=f"Forex\\{group}\\{name}",
        currency_base=base, currency_profit=profit, currency_margin=base,
        digits=3 if profit == "JPY" else 5, contract_size=100000.0, base_price=price, spread=spread, slot_ms=slot_ms,
        volatility=volatility, margin_hedged=100000.0, swap_long=swaps[0], swap_short=swaps[1],
        page=f"http://www.google.com/finance?q={name}",
    )  # fmt: skip


_CATALOGUE = (
    _pair("EURUSD", "Euro vs US Dollar", 1.1212, 8, slot_ms=250, swaps=(-6.6, 2.5)),
    _pair("GBPUSD", "Great Britain Pound vs US Dollar", 1.3255, 12, slot_ms=270, volatility=1.2, swaps=(-4.8, -0.6)),
    _pair("USDJPY", "US Dollar vs Japanese Yen", 86.66, 9, slot_ms=280, swaps=(1.5, -4.2)),
    _pair("AUDUSD", "Australian Dollar vs US Dollar", 0.7018, 10, slot_ms=320, volatility=1.1, swaps=(-3.1, 0.4)),
    _pair("USDCAD", "US Dollar vs Canadian Dollar", 1.2990, 13, slot_ms=340, volatility=0.9, swaps=(-1.7, -3.4)),
    _pair("USDCHF", "US Dollar vs Swiss Franc", 0.9680, 12, slot_ms=360, swaps=(2.1, -6.3)),
    _pair("NZDUSD", "New Zealand Dollar vs US Dollar", 0.6735, 14, slot_ms=400, volatility=1.1, swaps=(-1.9, -0.8)),
    _pair("EURJPY", "Euro vs Japanese Yen", 97.16, 14, group="Crosses", volatility=1.2, swaps=(-0.2, -6.1)),
    _pair(
        "GBPJPY", "Great Britain Pound vs Japanese Yen", 114.87, 22,
        group="Crosses", volatility=1.5, swaps=(2.4, -9.8),
    ),
    SymbolSpec(
        name="XAUUSD", description="Gold vs US Dollar", path="Metals\\XAUUSD",
        currency_base="XAU", currency_profit="USD", currency_margin="USD", digits=2, contract_size=100.0,
        base_price=1517.0, spread=25, slot_ms=220, volatility=1.8, volume_max=50.0,
        calc_mode=c.SYMBOL_CALC_MODE_CFDLEVERAGE, stops_level=10, filling_bits=FILLING_FOK, margin_hedged=100.0,
        swap_long=-22.0, swap_short=12.0, sessions=METALS_WEEK,
        category="Metals", page="http://www.google.com/finance?q=XAUUSD",
    ),
    SymbolSpec(
        name="US500", description="US 500 Index", path="Indices\\US500",
        currency_base="USD", currency_profit="USD", currency_margin="USD", digits=1, contract_size=10.0,
        base_price=3230.0, spread=5, slot_ms=400, volatility=1.6, volume_min=0.1, volume_max=250.0, volume_step=0.1,
        calc_mode=c.SYMBOL_CALC_MODE_CFDLEVERAGE, stops_level=10, filling_bits=FILLING_IOC, margin_hedged=10.0,
        swap_long=-4.5, swap_short=-1.5, swap_rollover3days=c.DAY_OF_WEEK_FRIDAY, sessions=INDICES_WEEK,
        basis="S&P 500", category="Indices",
    ),
    SymbolSpec(
        name="BTCUSD", description="Bitcoin vs US Dollar", path="Crypto\\BTCUSD",
        currency_base="BTC", currency_profit="USD", currency_margin="USD", digits=2, contract_size=1.0,
        base_price=7195.0, spread=1500, slot_ms=200, volatility=5.0, volume_max=10.0,
        calc_mode=c.SYMBOL_CALC_MODE_CFDLEVERAGE, margin_rate=10.0, margin_hedged=1.0,
        swap_mode=c.SYMBOL_SWAP_MODE_INTEREST_CURRENT, swap_long=-20.0, swap_short=-20.0,
        swap_rollover3days=c.DAY_OF_WEEK_FRIDAY, sessions=AROUND_THE_CLOCK,
        category="Crypto", page="http://www.google.com/finance?q=BTCUSD",
    ),
)  # fmt: skip


def catalogue(suffix: str = "") -> dict[str, SymbolSpec]:
    """All symbols by the name the broker shows (`EURUSD` + suffix), in the broker's order."""
    return {spec.name + suffix: _renamed(spec, suffix) for spec in _CATALOGUE}


def unlisted(name: str, suffix: str, price: float, digits: int, spread: int, *, traded: bool = False) -> SymbolSpec:
    """A symbol known only from a tick file: taken for a currency pair when its name has six letters.

    Args:
        name: without suffix.
        price: a recorded price, which shapes nothing but the walk after the file.
        digits: decimals seen in the file.
        spread: typical, in points.
        traded: the file has trades, so it is a share of an exchange: charts show the last price.
    """
    if traded:
        return _renamed(_share(name, price, digits, spread), suffix)
    six = len(name) == 6 and name.isalpha()
    base, profit = (name[:3], name[3:]) if six else ("USD", "USD")
    spec = SymbolSpec(
        name=name, description=f"{name} from a tick file", path=f"Recorded\\{name}",
        currency_base=base, currency_profit=profit, currency_margin=base, digits=digits,
        contract_size=100000.0 if six else 1.0, base_price=price, spread=spread,
        calc_mode=c.SYMBOL_CALC_MODE_FOREX if six else c.SYMBOL_CALC_MODE_CFDLEVERAGE,
        margin_hedged=100000.0 if six else 0.5,
    )  # fmt: skip
    return _renamed(spec, suffix)


def _share(name: str, price: float, digits: int, spread: int) -> SymbolSpec:
    return SymbolSpec(
        name=name, description=f"{name} from a tick file", path=f"Exchange\\{name}",
        currency_base="USD", currency_profit="USD", currency_margin="USD", digits=digits, contract_size=1.0,
        base_price=price, spread=spread, volume_min=1.0, volume_max=10_000.0, volume_step=1.0,
        calc_mode=c.SYMBOL_CALC_MODE_EXCH_STOCKS, execution=c.SYMBOL_TRADE_EXECUTION_EXCHANGE,
        chart_mode=c.SYMBOL_CHART_MODE_LAST, exchange="Recorded",
    )  # fmt: skip


def _renamed(spec: SymbolSpec, suffix: str) -> SymbolSpec:
    if not suffix:
        return spec
    return msgspec.structs.replace(spec, name=spec.name + suffix, path=spec.path + suffix)

"""Margin and profit by calculation mode, against MetaQuotes' own worked examples."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import margin
from mt5_bridge.simulator.core.margin import FORTS, Leg, Waiting
from mt5_bridge.simulator.market.catalogue import MarginRates, SymbolSpec, catalogue

SPECS = catalogue()
EURUSD = SPECS["EURUSD"]


def spec(calc_mode: int, contract: float = 100.0, **changes: Any) -> SymbolSpec:
    return msgspec.structs.replace(EURUSD, calc_mode=calc_mode, contract_size=contract, **changes)


def leg(*deals: tuple[float, float], conversion: float | None = None) -> Leg:
    """A side of lots and prices; converted at the price unless told otherwise, as EURUSD is on a USD account."""
    found = Leg()
    for lots, price in deals:
        found.add(lots, price, price if conversion is None else conversion)
    return found


FUTURE = {"margin_initial": 4000.0, "margin_maintenance": 3500.0, "tick_size": 0.25, "tick_value": 12.5}

# MetaTrader 5 help, "Basic Margin Calculation": the examples of Forex (1000 EUR), Forex No Leverage (100,000 EUR), CFDs
# and Exchange Stocks (8,000 USD); else its formulas, which are also those of ENUM_SYMBOL_CALC_MODE in the MQL5
# reference, "Symbol Properties". In margin currency.
MARGINS = [
    ("forex", EURUSD, 1.0, 1.1, 1000.0),
    ("forex, small", EURUSD, 0.25, 1.1, 250.0),
    ("forex, long margin rate 1.15", spec(0, 100000.0, margin_rates=MarginRates(buy=1.15)), 1.0, 1.1, 1150.0),
    ("forex no leverage", spec(c.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE, 100000.0), 1.0, 1.1, 100000.0),
    ("cfd", spec(c.SYMBOL_CALC_MODE_CFD), 1.0, 80.0, 8000.0),
    ("cfd leverage", spec(c.SYMBOL_CALC_MODE_CFDLEVERAGE), 1.0, 80.0, 80.0),
    ("cfd index", spec(c.SYMBOL_CALC_MODE_CFDINDEX, 10.0, tick_size=0.5, tick_value=5.0), 2.0, 3000.0, 600000.0),
    ("cfd index, no tick value", spec(c.SYMBOL_CALC_MODE_CFDINDEX, 10.0), 2.0, 3000.0, 60000.0),
    ("futures", spec(c.SYMBOL_CALC_MODE_FUTURES, **FUTURE), 3.0, 3000.0, 12000.0),
    ("exchange futures", spec(c.SYMBOL_CALC_MODE_EXCH_FUTURES, **FUTURE), 3.0, 3000.0, 12000.0),
    ("exchange stocks", spec(c.SYMBOL_CALC_MODE_EXCH_STOCKS), 1.0, 80.0, 8000.0),
    ("moex stocks", spec(c.SYMBOL_CALC_MODE_EXCH_STOCKS_MOEX), 1.0, 80.0, 8000.0),
    ("options", spec(c.SYMBOL_CALC_MODE_EXCH_OPTIONS_MARGIN), 2.0, 3.5, 700.0),
    ("options, fixed", spec(c.SYMBOL_CALC_MODE_EXCH_OPTIONS_MARGIN, margin_initial=50.0), 2.0, 3.5, 100.0),
    ("bonds", spec(c.SYMBOL_CALC_MODE_EXCH_BONDS, 1.0, face_value=1000.0), 10.0, 97.5, 9750.0),
    ("moex bonds", spec(c.SYMBOL_CALC_MODE_EXCH_BONDS_MOEX, 1.0, face_value=1000.0), 10.0, 97.5, 9750.0),
    ("collateral", spec(c.SYMBOL_CALC_MODE_SERV_COLLATERAL, liquidity_rate=0.8), 10.0, 97.5, 0.0),
    ("fixed margin, forex", spec(0, 100000.0, margin_initial=2000.0), 1.5, 1.1, 30.0),
    ("fixed margin, cfd leverage", spec(c.SYMBOL_CALC_MODE_CFDLEVERAGE, margin_initial=2000.0), 1.5, 80.0, 30.0),
    ("fixed margin, cfd", spec(c.SYMBOL_CALC_MODE_CFD, margin_initial=2000.0), 1.5, 80.0, 3000.0),
    ("fixed margin, stocks", spec(c.SYMBOL_CALC_MODE_EXCH_STOCKS, margin_initial=2000.0), 1.5, 80.0, 3000.0),
]


@pytest.mark.parametrize(
    ("symbol", "volume", "price", "expected"), [row[1:] for row in MARGINS], ids=[r[0] for r in MARGINS]
)
def test_margin(symbol: SymbolSpec, volume: float, price: float, expected: float) -> None:
    assert margin.raw_margin(symbol, volume, price, 100) == pytest.approx(expected)


def test_what_is_open_pays_the_maintenance_margin() -> None:
    future = spec(c.SYMBOL_CALC_MODE_FUTURES, **FUTURE)
    assert margin.raw_margin(future, 3.0, 3000.0, 100, maintenance=True) == 10500.0
    assert margin.raw_margin(spec(1, margin_initial=4000.0), 3.0, 3000.0, 100, maintenance=True) == 12000.0
    held = spec(0, 100000.0, maintenance_rates=MarginRates(buy=0.5))
    assert margin.raw_margin(held, 1.0, 1.1, 100, maintenance=True) == 500.0
    assert margin.raw_margin(held, 1.0, 1.1, 100) == 1000.0


def test_a_pending_pays_by_the_rate_of_its_type() -> None:
    waiting = spec(0, 100000.0, margin_rate=2.0, margin_rates=MarginRates(sell_stop=0.25))
    assert margin.raw_margin(waiting, 1.0, 1.1, 100, c.ORDER_TYPE_SELL_STOP) == 500.0
    assert margin.raw_margin(waiting, 1.0, 1.1, 100, c.ORDER_TYPE_BUY_STOP) == 0.0
    assert margin.pendings_reserve(waiting)
    assert not margin.pendings_reserve(EURUSD)


def test_positions_and_a_pending_of_one_direction() -> None:
    """MetaTrader 5 help, "... Hedging", section "Positions/orders opened in the same direction"."""
    symbol = spec(c.SYMBOL_CALC_MODE_CFDLEVERAGE, 5000.0, margin_rates=MarginRates(buy_limit=1.0), margin_hedged=0.0)
    legs = (leg((1, 15.436), (2, 15.432), conversion=1.0), Leg())
    assert margin.symbol_margin(symbol, legs, [], 100, hedging=True) == pytest.approx(2315.0)
    waiting = [Waiting(c.ORDER_TYPE_BUY_LIMIT, 1.0, 15.412, 1.0)]
    assert margin.symbol_margin(symbol, legs, waiting, 100, hedging=True) == pytest.approx(3085.6)


SELLS, BUYS = ((1, 1.11943), (1, 1.11943), (1, 1.11943)), ((1, 1.11953), (1, 1.11953))


def test_hedged_margin_basic_calculation() -> None:
    """MetaTrader 5 help, "... Hedging", section "Opposite Positions/Orders", left column."""
    symbol = spec(0, 100000.0, margin_hedged=100000.0, margin_rates=MarginRates(buy=2.0, sell=4.0))
    assert margin.legs_margin(symbol, (leg(*BUYS), leg(*SELLS)), 500) == pytest.approx(2238.90, abs=0.01)
    uncharged = msgspec.structs.replace(symbol, margin_hedged=0.0)
    assert margin.legs_margin(uncharged, (leg(*BUYS), leg(*SELLS)), 500) == pytest.approx(895.54, abs=0.01)


def test_hedged_margin_by_the_larger_leg() -> None:
    """The same page, right column: 4646.81 for the longs, 4642.48 for the shorts."""
    ones = MarginRates(buy_limit=1.0, sell_stop=1.0)
    symbol = spec(0, 100000.0, margin_hedged_use_leg=True, margin_rates=ones)
    legs = (leg((1, 1.16214), (2, 1.16207)), leg((1, 1.16184), (1, 1.16189)))
    waiting = [
        Waiting(c.ORDER_TYPE_BUY_LIMIT, 1.0, 1.16053, 1.16053),
        Waiting(c.ORDER_TYPE_SELL_STOP, 1.0, 1.15808, 1.15808),
        Waiting(c.ORDER_TYPE_SELL_STOP, 1.0, 1.16067, 1.16067),
    ]
    assert margin.symbol_margin(symbol, legs, waiting, 100, hedging=True) == pytest.approx(4646.81, abs=0.01)
    assert margin.symbol_margin(symbol, legs, waiting[1:], 100, hedging=True) == pytest.approx(4642.48, abs=0.01)
    assert margin.legs_margin(symbol, legs, 100) == pytest.approx(3486.28, abs=0.01)


def test_a_hedge_with_fixed_margin_pays_the_initial_one_first() -> None:
    """The same page, "Calculation specifics for hedging orders when using fixed margin"."""
    fixed = {"margin_initial": 1000.0, "margin_maintenance": 500.0, "margin_hedged": 500.0}
    symbol = spec(c.SYMBOL_CALC_MODE_FUTURES, 1000.0, **fixed)
    held = (leg((1, 70.0), conversion=1.0), Leg())
    assert margin.legs_margin(symbol, held, 100) == 500.0
    assert margin.hedging_need(symbol, held, 1, leg((2, 70.0), conversion=1.0), 100) == 1500.0
    both = (held[0], leg((2, 70.0), conversion=1.0))
    assert margin.legs_margin(symbol, both, 100) == 1000.0


def test_an_order_never_lowers_the_margin_before_it_is_filled() -> None:
    """MetaTrader 5 help, "... Hedging", section "Checking Margin"."""
    symbol = SPECS["USDJPY"]
    held = (Leg(), leg((0.02, 110.0), conversion=1.0))
    assert margin.hedging_need(symbol, held, 0, leg((0.03, 110.0), conversion=1.0), 300) == pytest.approx(
        3.33, abs=0.01
    )
    assert margin.hedging_need(symbol, held, 1, leg((0.03, 110.0), conversion=1.0), 300) == pytest.approx(10.0)
    cheaper = leg((0.02, 110.0), conversion=0.9)
    assert margin.hedging_need(symbol, held, 0, cheaper, 300) == 0.0


def test_netting_takes_the_dearer_of_position_and_order() -> None:
    """MetaTrader 5 help, "... Netting", the five cases at the top."""
    held = leg((1, 1.1))
    order = leg((1, 1.1))
    assert margin.netting_need(EURUSD, Leg(), 0, 0, order, 100) == pytest.approx(1100.0)
    assert margin.netting_need(EURUSD, held, 0, 0, order, 100) == pytest.approx(1100.0)
    assert margin.netting_need(EURUSD, held, 0, 1, order, 100) == 0.0
    assert margin.netting_need(EURUSD, held, 0, 1, leg((1.5, 1.1)), 100) == pytest.approx(550.0)
    rates = MarginRates(buy_limit=1.0, sell_limit=1.0, buy_stop=1.0, sell_stop=1.0)
    symbol = spec(0, 100000.0, margin_rates=rates)
    buy_limit, sell_limit, sell_stop = (
        Waiting(kind, lots, 1.1, 1.1)
        for kind, lots in ((c.ORDER_TYPE_BUY_LIMIT, 1), (c.ORDER_TYPE_SELL_LIMIT, 2), (c.ORDER_TYPE_SELL_STOP, 1))
    )

    def total(legs: tuple[Leg, Leg], *waiting: Waiting) -> float:
        return margin.symbol_margin(symbol, legs, waiting, 100, hedging=False)

    assert total((Leg(), Leg()), buy_limit, sell_limit) == pytest.approx(2200.0)
    assert total((Leg(), Leg()), buy_limit, sell_limit, sell_stop) == pytest.approx(3300.0)
    assert total((held, Leg()), sell_stop) == pytest.approx(1100.0)
    assert total((held, Leg()), buy_limit) == pytest.approx(2200.0)
    assert total((held, Leg()), sell_limit) == pytest.approx(2200.0)


def test_forts_futures_margin() -> None:
    """MetaTrader 5 help, "Basic Margin Calculation", section "Exchange FORTS Futures": 45,563.13."""
    symbol = spec(
        FORTS, 1.0, margin_initial=7665.41, margin_maintenance=7739.59, settlement_price=73638.0, tick_size=1.0,
        tick_value=1.0, margin_rates=MarginRates(buy_limit=1.0, sell_limit=1.0),
    )  # fmt: skip
    legs = (leg((3, 73640.0), conversion=1.0), Leg())
    buys = Waiting(c.ORDER_TYPE_BUY_LIMIT, 2.0, 73000.0, 1.0)
    sells = Waiting(c.ORDER_TYPE_SELL_LIMIT, 10.0, 74500.0, 1.0)
    assert margin.symbol_margin(symbol, legs, [buys, sells], 1, hedging=False) == pytest.approx(45563.13)
    assert margin.symbol_margin(symbol, legs, [buys], 1, hedging=False) == pytest.approx(37057.05)
    assert margin.legs_margin(symbol, legs, 1) == pytest.approx(3 * 7667.41)
    assert margin.hedging_need(symbol, (Leg(), Leg()), 1, leg((1, 73638.0), conversion=1.0), 1) == pytest.approx(
        7739.59
    )


# MetaTrader 5 help, "Profit Calculation": the examples of Forex and CFD (500 USD), and its formulas. Profit currency.
PROFITS = [
    ("forex", EURUSD, 1.0, 1.2, 1.205, "500.00"),
    ("forex no leverage", spec(c.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE, 100000.0), 1.0, 1.2, 1.205, "500.00"),
    ("cfd", spec(c.SYMBOL_CALC_MODE_CFD, 100000.0), 1.0, 1.2, 1.205, "500.00"),
    ("cfd leverage", spec(c.SYMBOL_CALC_MODE_CFDLEVERAGE), 0.5, 80.0, 81.5, "75.00"),
    ("cfd index", spec(c.SYMBOL_CALC_MODE_CFDINDEX, 10.0, tick_size=0.5, tick_value=5.0), 2.0, 3000.0, 3001.0, "20.00"),
    ("futures", spec(c.SYMBOL_CALC_MODE_FUTURES, **FUTURE), 3.0, 3000.0, 3001.25, "187.50"),
    ("exchange futures", spec(c.SYMBOL_CALC_MODE_EXCH_FUTURES, **FUTURE), 3.0, 3000.0, 3001.25, "187.50"),
    ("forts", spec(FORTS, tick_size=1.0, tick_value=1.0), 3.0, 73640.0, 73700.0, "180.00"),
    ("margin options", spec(c.SYMBOL_CALC_MODE_EXCH_OPTIONS_MARGIN, **FUTURE), 1.0, 10.0, 10.25, "12.50"),
    ("stocks", spec(c.SYMBOL_CALC_MODE_EXCH_STOCKS, 1.0), 10.0, 80.0, 81.5, "15.00"),
    ("moex stocks", spec(c.SYMBOL_CALC_MODE_EXCH_STOCKS_MOEX, 1.0), 10.0, 80.0, 81.5, "15.00"),
    ("bonds", spec(c.SYMBOL_CALC_MODE_EXCH_BONDS, 1.0, face_value=1000.0), 10.0, 97.5, 98.0, "50.00"),
    ("moex bonds", spec(c.SYMBOL_CALC_MODE_EXCH_BONDS_MOEX, 1.0, face_value=1000.0), 10.0, 97.5, 98.0, "50.00"),
    ("collateral", spec(c.SYMBOL_CALC_MODE_SERV_COLLATERAL, 1.0), 10.0, 97.5, 98.0, "0.00"),
    ("exact", EURUSD, 0.03, 1.1, 1.1041, "12.30"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "volume", "opened", "closed", "expected"), [r[1:] for r in PROFITS], ids=[r[0] for r in PROFITS]
)
def test_profit(symbol: SymbolSpec, volume: float, opened: float, closed: float, expected: str) -> None:
    assert margin.exact_profit(symbol, 0, volume, opened, closed) == Decimal(expected)
    assert margin.exact_profit(symbol, 1, volume, opened, closed) == -Decimal(expected)
    assert margin.raw_profit(symbol, 0, volume, opened, closed) == pytest.approx(float(expected))
    assert margin.raw_profit(symbol, 1, volume, opened, closed) == pytest.approx(-float(expected))


def test_forex_rounds_both_ends_and_all_others_the_difference() -> None:
    """MetaTrader 5 help, "Profit Calculation", section "Normalization"."""
    forex, cfd = (spec(mode, 100000.0) for mode in (c.SYMBOL_CALC_MODE_FOREX, c.SYMBOL_CALC_MODE_CFD))
    assert margin.exact_profit(forex, 0, 0.01, 1.100005, 1.100014) == Decimal("0.00")
    assert margin.exact_profit(cfd, 0, 0.01, 1.100005, 1.100014) == Decimal("0.01")


def test_every_calculation_mode_of_the_package_is_in_the_tables() -> None:
    known = {getattr(c, name) for name in vars(c) if name.startswith("SYMBOL_CALC_MODE_")}
    assert known - {FORTS} == {row[1].calc_mode for row in MARGINS}
    assert known == {row[1].calc_mode for row in PROFITS}


def test_collateral_is_worth_its_liquid_share() -> None:
    """MetaTrader 5 help, "Symbol Properties": lots x contract size x market price x liquidity rate."""
    bond = spec(c.SYMBOL_CALC_MODE_SERV_COLLATERAL, 10.0, liquidity_rate=0.8)
    assert margin.asset_value(bond, 2.0, 50.0) == 800.0
    assert margin.asset_value(EURUSD, 2.0, 50.0) == 0.0


def test_money_rounds_half_up_to_the_currency() -> None:
    assert margin.to_money(Decimal("0.005"), "USD") == Decimal("0.01")
    assert margin.to_money(Decimal("-0.005"), "USD") == Decimal("-0.01")
    assert margin.to_money(Decimal("10.5"), "JPY") == Decimal(11)

"""Margin and profit by calculation mode, against examples worked by hand."""

from decimal import Decimal

import msgspec
import pytest

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator import margin
from mt5_bridge.simulator.catalogue import SymbolSpec, catalogue
from mt5_bridge.simulator.conversion import Converter

SPECS = catalogue()
EURUSD = SPECS["EURUSD"]


def spec(calc_mode: int, contract: float = 100.0, rate: float = 1.0) -> SymbolSpec:
    return msgspec.structs.replace(EURUSD, calc_mode=calc_mode, contract_size=contract, margin_rate=rate)


@pytest.mark.parametrize(
    ("symbol", "volume", "price", "leverage", "expected"),
    [
        (EURUSD, 1.0, 1.1, 100, 1000.0),
        (EURUSD, 0.25, 1.1, 500, 50.0),
        (spec(c.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE, 100000.0), 1.0, 1.1, 100, 100000.0),
        (spec(c.SYMBOL_CALC_MODE_CFD), 2.0, 50.0, 100, 10000.0),
        (spec(c.SYMBOL_CALC_MODE_CFDLEVERAGE), 2.0, 50.0, 100, 100.0),
        (spec(c.SYMBOL_CALC_MODE_CFDLEVERAGE, rate=0.5), 2.0, 50.0, 100, 50.0),
    ],
)
def test_margin(symbol: SymbolSpec, volume: float, price: float, leverage: int, expected: float) -> None:
    assert margin.raw_margin(symbol, volume, price, leverage) == pytest.approx(expected)


@pytest.mark.parametrize(("side", "expected"), [(0, "12.30"), (1, "-12.30")])
def test_profit_is_exact(side: int, expected: str) -> None:
    assert margin.exact_profit(EURUSD, side, 0.03, 1.1, 1.1041) == Decimal(expected)
    assert margin.raw_profit(EURUSD, side, 0.03, 1.1, 1.1041) == pytest.approx(float(expected))


def test_money_rounds_half_up_to_the_currency() -> None:
    assert margin.to_money(Decimal("0.005"), "USD") == Decimal("0.01")
    assert margin.to_money(Decimal("-0.005"), "USD") == Decimal("-0.01")
    assert margin.to_money(Decimal("10.5"), "JPY") == Decimal(11)


def test_conversion_takes_the_side_that_is_traded() -> None:
    prices = {"EURUSD": (1.1, 1.2), "USDJPY": (100.0, 101.0), "GBPUSD": (1.3, 1.4)}
    converter = Converter(SPECS, prices.get)
    assert converter.rate("USD", "USD", selling=True) == 1.0
    assert converter.rate("EUR", "USD", selling=True) == 1.1
    assert converter.rate("EUR", "USD", selling=False) == 1.2
    assert converter.rate("JPY", "USD", selling=True) == pytest.approx(1 / 101)
    assert converter.rate("JPY", "USD", selling=False) == pytest.approx(1 / 100)
    assert converter.rate("EUR", "GBP", selling=True) == pytest.approx(1.1 / 1.4)
    assert converter.rate("EUR", "USD", selling=True, known={"EURUSD": 1.5}) == 1.5
    assert converter.rate("CHF", "USD", selling=True) is None
    assert converter.rate("CHF", "GBP", selling=True) is None
    assert converter.rate("XXX", "USD", selling=True) is None

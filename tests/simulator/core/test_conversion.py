"""Exchange rates."""

import pytest

from mt5_bridge.simulator.core.conversion import Converter
from mt5_bridge.simulator.market.catalogue import catalogue


def test_conversion_takes_the_side_that_is_traded() -> None:
    prices = {"EURUSD": (1.1, 1.2), "USDJPY": (100.0, 101.0), "GBPUSD": (1.3, 1.4)}
    converter = Converter(catalogue(), prices.get)
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

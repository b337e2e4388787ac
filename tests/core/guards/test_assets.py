"""Asset classes by the symbol's rules, and by its name alone."""

import pytest
from support.facts import a_symbol

from mt5_bridge.core.guards.assets import asset_class
from mt5_bridge.core.model import AssetClass


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EURUSD", AssetClass.FOREX),
        ("EURUSD.m", AssetClass.FOREX),
        ("usdjpy", AssetClass.FOREX),
        ("GBPJPYpro", AssetClass.FOREX),
        ("XAUUSD", AssetClass.METAL),
        ("XAGUSD.r", AssetClass.METAL),
        ("GOLD", AssetClass.METAL),
        ("BTCUSD", AssetClass.CRYPTO),
        ("#ETHUSD", AssetClass.CRYPTO),
        ("US500", AssetClass.INDEX),
        (".US500Cash", AssetClass.INDEX),
        ("GER40", AssetClass.INDEX),
        ("AAPL", AssetClass.OTHER),
        ("", AssetClass.OTHER),
    ],
)
def test_by_name(name: str, expected: AssetClass) -> None:
    assert asset_class(name) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Forex\\Majors\\ABC", AssetClass.FOREX),
        ("Crypto/ABC", AssetClass.CRYPTO),
        ("CFD\\Metals\\ABC", AssetClass.METAL),
        ("Cash Indices\\ABC", AssetClass.INDEX),
        ("Stocks\\ABC", AssetClass.OTHER),
        ("INDEX", AssetClass.OTHER),
    ],
)
def test_by_folder(path: str, expected: AssetClass) -> None:
    assert asset_class("ABC", path) is expected


def test_by_rules() -> None:
    assert asset_class(a_symbol("EURUSD")) is AssetClass.FOREX
    assert asset_class(a_symbol("FIBER", currency_base="EUR", currency_profit="USD")) is AssetClass.FOREX
    assert asset_class(a_symbol("EURX", currency_base="EUR", currency_profit="EUR")) is AssetClass.OTHER
    assert asset_class(a_symbol("COIN", currency_base="BTC", currency_profit="USD")) is AssetClass.CRYPTO
    assert asset_class(a_symbol("BROAD", currency_base="USD", calc_mode=3)) is AssetClass.INDEX
    assert asset_class(a_symbol("XAUUSD", path="Forex\\XAUUSD")) is AssetClass.METAL
    assert asset_class(a_symbol("APPLE", currency_base="USD", calc_mode=32)) is AssetClass.OTHER

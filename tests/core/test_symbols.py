import pytest

from mt5_bridge.core.symbols import match_symbol


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        ("EURUSD", ["EURUSD", "EURUSD.m"], ["EURUSD"]),
        ("EURUSD", ["EURUSD.m", "GBPUSD.m"], ["EURUSD.m"]),
        ("EURUSD", ["EURUSDm"], ["EURUSDm"]),
        ("EURUSD", ["EURUSD-ECN", "#EURUSD"], ["#EURUSD", "EURUSD-ECN"]),
        ("EURUSD", ["xEURUSD"], []),
        ("BTCUSD", ["BTCUSDT", "BTCUSD2"], []),
        ("US500", ["US500.cash"], ["US500.cash"]),
        ("EURUSD", [], []),
    ],
)
def test_suffixes_are_found_and_other_symbols_are_not(name: str, names: list[str], found: list[str]) -> None:
    assert match_symbol(name, names) == found

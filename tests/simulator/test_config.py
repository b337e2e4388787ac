"""The paper terminal's settings, as texts."""

from pathlib import Path

import pytest

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator.config import parse


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("eurusd.csv", "EURUSD"),
        ("eurusd2020.csv", "EURUSD"),
        ("EURUSD_M1_202001.csv", "EURUSD"),
        ("#AAPL_M1.csv", "AAPL"),
        ("us500-2020.csv", "US500"),
        ("us500.csv.gz", "US500"),
        ("GER40.csv", "GER40"),
        ("btcusdt2020.csv", "BTCUSDT2020"),
    ],
)
def test_the_symbol_of_a_file_is_its_names_first_letters(name: str, symbol: str) -> None:
    assert parse({"PAPER_TICKS": f"a/{name}"}).ticks == ((symbol, Path("a") / name),)
    assert parse({"PAPER_TICKS": f"x = a/{name}"}).ticks == (("X", Path(f" a/{name}")),)


@pytest.mark.parametrize("given", ["#_.csv", "=eurusd.csv", " = eurusd.csv"])
def test_a_file_that_names_no_symbol_is_told(given: str) -> None:
    with pytest.raises(SettingsError, match=r"PAPER_TICKS: .* names no symbol; write SYMBOL=path"):
        parse({"PAPER_TICKS": f"eurusd.csv,{given}"})

"""Sizing: tables worked out by hand, and what rounding never does."""

import math
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.facts import a_symbol

from mt5_bridge.core.model import SymbolInfo
from mt5_bridge.core.sizing import contract_loss_per_lot, round_price, round_volume_down, volume_for_risk

EURUSD = a_symbol("EURUSD")
USDJPY = a_symbol("USDJPY", digits=3, point=0.001, tick_size=0.001, tick_value=0.6667)  # 100 JPY at 150
XAUUSD = a_symbol("XAUUSD", digits=2, point=0.01, tick_size=0.01, tick_value=1.0, contract_size=100.0)
US500 = a_symbol("US500", digits=1, point=0.1, tick_size=0.1, tick_value=0.1, contract_size=1.0, volume_step=0.1)
EURGBP_ON_EUR = a_symbol("EURGBP", tick_value=1.1628)  # a euro account: 1 GBP is 1.1628 EUR
BTCUSD = a_symbol("BTCUSD", digits=2, point=0.01, tick_size=0.01, tick_value=0.01, contract_size=1.0)


@pytest.mark.parametrize(
    ("symbol", "entry", "stop", "equity", "percent", "loss", "lots"),
    [
        # 50 pips of 10 USD: 500 a lot; 1 % of 10,000 is 100: 0.2 lots.
        (EURUSD, 1.1000, 1.0950, 10_000.0, 1.0, 500.0, 0.2),
        # 33 pips: 330 a lot; 100 / 330 = 0.303: 0.30 lots.
        (EURUSD, 1.1000, 1.0967, 10_000.0, 1.0, 330.0, 0.30),
        # A short with its stop 20 pips above: 200 a lot; 2 % of 5,000 is 100: 0.5 lots.
        (EURUSD, 1.1000, 1.1020, 5_000.0, 2.0, 200.0, 0.5),
        # 30 pips = 300 ticks of 0.6667 USD: 200.01 a lot; 100 / 200.01 = 0.49998: 0.49 lots.
        (USDJPY, 150.000, 149.700, 10_000.0, 1.0, 200.01, 0.49),
        # 5 USD an ounce, 100 ounces: 500 a lot; 250 / 500 = 0.5 lots.
        (XAUUSD, 2400.00, 2395.00, 25_000.0, 1.0, 500.0, 0.5),
        # 20 index points of 1 USD: 20 a lot; 50 / 20 = 2.5 lots.
        (US500, 5000.0, 4980.0, 5_000.0, 1.0, 20.0, 2.5),
        # 40 pips = 400 ticks of 1.1628 EUR: 465.12 a lot; 100 / 465.12 = 0.215: 0.21 lots.
        (EURGBP_ON_EUR, 0.8600, 0.8560, 10_000.0, 1.0, 465.12, 0.21),
        # 1,000 USD a coin; 50 / 1,000 = 0.05 lots.
        (BTCUSD, 60_000.0, 59_000.0, 10_000.0, 0.5, 1_000.0, 0.05),
        # 2 % of 10 is 0.20; 0.20 / 500 = 0.0004: nothing, and never the minimum instead.
        (EURUSD, 1.1000, 1.0950, 10.0, 2.0, 500.0, 0.0),
        (EURUSD, 1.1000, 1.0950, 0.0, 2.0, 500.0, 0.0),
        (EURUSD, 1.1000, 1.0950, -50.0, 2.0, 500.0, 0.0),
    ],
)
def test_worked_by_hand(
    symbol: SymbolInfo, entry: float, stop: float, equity: float, percent: float, loss: float, lots: float
) -> None:
    per_lot = contract_loss_per_lot(symbol, entry, stop)
    assert per_lot == pytest.approx(loss, rel=1e-12)
    assert per_lot is not None
    assert round_volume_down(volume_for_risk(equity, percent, per_lot), symbol.volume_step) == lots


@pytest.mark.parametrize(("tick_size", "tick_value"), [(0.0, 1.0), (0.00001, 0.0), (0.00001, -1.0)])
def test_without_a_usable_tick_value_there_is_no_figure(tick_size: float, tick_value: float) -> None:
    assert contract_loss_per_lot(a_symbol(tick_size=tick_size, tick_value=tick_value), 1.1, 1.0) is None


def test_a_stop_at_the_entry_is_no_figure_either() -> None:
    assert contract_loss_per_lot(EURUSD, 1.1, 1.1) is None


@pytest.mark.parametrize(
    ("volume", "step", "expected"),
    [
        (0.3, 0.1, 0.3),
        (0.1 + 0.2, 0.1, 0.3),
        (0.29999999999999993, 0.1, 0.3),
        (0.299999, 0.1, 0.2),
        (0.019, 0.01, 0.01),
        (1.999, 1.0, 1.0),
        (0.009, 0.01, 0.0),
        (7.5, 0.25, 7.5),
        (1e-7, 0.01, 0.0),
        (0.123, 0.0, 0.123),
        (0.123, -1.0, 0.123),
    ],
)
def test_volumes_round_down(volume: float, step: float, expected: float) -> None:
    assert round_volume_down(volume, step) == expected


@pytest.mark.parametrize(
    ("price", "tick", "digits", "expected"),
    [
        (1.100004, 0.00001, 5, 1.1),
        (1.100006, 0.00001, 5, 1.10001),
        (5000.13, 0.25, 2, 5000.25),
        (5000.12, 0.25, 2, 5000.0),
        (150.1234, 0.001, 3, 150.123),
        (1.23456, 0.0, 3, 1.235),
        (0.0, 0.00001, 5, 0.0),
    ],
)
def test_prices_round_to_the_nearest_tick(price: float, tick: float, digits: int, expected: float) -> None:
    assert round_price(price, tick, digits) == expected


steps = st.sampled_from([0.001, 0.01, 0.1, 0.25, 1.0, 5.0])


@given(st.floats(min_value=0.0, max_value=1e6), steps)
def test_a_rounded_volume_is_a_multiple_at_most_a_step_below(volume: float, step: float) -> None:
    rounded = round_volume_down(volume, step)
    assert rounded <= volume + 1e-9
    assert volume - rounded < step + 1e-9
    assert Decimal(repr(rounded)) % Decimal(repr(step)) == 0
    assert round_volume_down(rounded, step) == rounded


@given(
    equity=st.floats(min_value=0.01, max_value=1e9),
    percent=st.floats(min_value=0.01, max_value=100.0),
    per_lot=st.floats(min_value=0.001, max_value=1e7),
    step=steps,
)
def test_a_volume_sized_from_risk_never_risks_more(equity: float, percent: float, per_lot: float, step: float) -> None:
    lots = round_volume_down(volume_for_risk(equity, percent, per_lot), step)
    assume(math.isfinite(lots))
    assert lots * per_lot <= equity * percent / 100 * (1 + 1e-9) + 1e-9 * per_lot


@given(st.floats(min_value=0.0001, max_value=1e6), st.sampled_from([(0.00001, 5), (0.001, 3), (0.25, 2), (0.5, 1)]))
def test_a_rounded_price_is_a_multiple_at_most_half_a_tick_away(price: float, rule: tuple[float, int]) -> None:
    tick, digits = rule
    rounded = round_price(price, tick, digits)
    assert abs(rounded - price) <= tick / 2 + 1e-9
    assert Decimal(repr(rounded)) % Decimal(repr(tick)) == 0

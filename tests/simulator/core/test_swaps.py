"""Swaps by mode, against the examples of the MetaTrader 5 platform help, "Swaps"."""

from typing import Any

import msgspec
import pytest

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import swaps
from mt5_bridge.simulator.core.swaps import Swap
from mt5_bridge.simulator.market.catalogue import SymbolSpec, catalogue

EURUSD = catalogue()["EURUSD"]
DAY = 86_400_000
WEDNESDAY = 4 * DAY + 2 * DAY  # 1970-01-07


def spec(mode: int, long: float, **changes: Any) -> SymbolSpec:
    return msgspec.structs.replace(EURUSD, swap_mode=mode, swap_long=long, swap_short=-1.0, **changes)


def test_the_point_price_of_five_lots_usdtry() -> None:
    """5 x 100,000 x 0.00001 = 5 TRY a point, of which -11.35 are due."""
    symbol = spec(c.SYMBOL_SWAP_MODE_POINTS, -11.35, currency_profit="TRY")
    amount, currency, times = swaps.one_night(symbol, 0, 5.0, 4.4, 4.4)
    assert (round(amount, 9), currency, times) == (5.0, "TRY", -11.35)
    assert swaps.one_night(symbol, 1, 5.0, 4.4, 4.4).times == -1.0


@pytest.mark.parametrize(
    ("mode", "currency"),
    [
        (c.SYMBOL_SWAP_MODE_CURRENCY_SYMBOL, "EUR"),
        (c.SYMBOL_SWAP_MODE_CURRENCY_MARGIN, "GBP"),
        (c.SYMBOL_SWAP_MODE_CURRENCY_DEPOSIT, None),
    ],
)
def test_money_per_lot(mode: int, currency: str | None) -> None:
    assert swaps.one_night(spec(mode, -2.5, currency_margin="GBP"), 0, 3.0, 1.1, 1.2) == Swap(-7.5, currency)


def test_interest_on_the_value_of_the_position() -> None:
    """One lot of a future with contract 100, price 33 and tick ratio 1/0.1 is worth 33,000; of a CFD 3,300."""
    current, opened = c.SYMBOL_SWAP_MODE_INTEREST_CURRENT, c.SYMBOL_SWAP_MODE_INTEREST_OPEN
    future = {"calc_mode": c.SYMBOL_CALC_MODE_FUTURES, "contract_size": 100.0, "tick_size": 0.1, "tick_value": 1.0}
    cfd = {"calc_mode": c.SYMBOL_CALC_MODE_CFD, "contract_size": 100.0}
    assert swaps.one_night(spec(current, 3.6, **future), 0, 1.0, 30.0, 33.0).amount == pytest.approx(3.30)
    assert swaps.one_night(spec(current, 3.6, **cfd), 0, 1.0, 30.0, 33.0).amount == pytest.approx(0.33)
    assert swaps.one_night(spec(opened, 3.6, **cfd), 0, 1.0, 30.0, 33.0).amount == pytest.approx(0.30)
    forex = swaps.one_night(spec(current, 3.6), 0, 1.0, 1.1, 1.2)
    assert forex.amount == pytest.approx(10.0)
    assert forex.currency == "EUR"
    year = swaps.one_night(spec(current, 3.65, swap_year_days=365), 0, 1.0, 1.1, 1.2)
    assert year.amount == pytest.approx(10.0)


def test_no_amount_where_swaps_are_off_or_in_the_price() -> None:
    for mode in (c.SYMBOL_SWAP_MODE_DISABLED, *swaps.REOPENING):
        assert swaps.one_night(spec(mode, -2.5), 0, 3.0, 1.1, 1.2).amount == 0.0


def test_reopening_prices() -> None:
    close, bid = spec(c.SYMBOL_SWAP_MODE_REOPEN_CURRENT, -3.0), spec(c.SYMBOL_SWAP_MODE_REOPEN_BID, -3.0)
    assert swaps.reopening_price(close, 0, 1.1, 1.1002, 1) == 1.10003
    assert swaps.reopening_price(close, 0, 1.1, 1.1002, 3) == 1.10009
    assert swaps.reopening_price(close, 1, 1.1, 1.1002, 1) == 1.10019
    assert swaps.reopening_price(bid, 1, 1.1, 1.1002, 1) == 1.09999


def test_the_week_has_seven_swaps_three_of_them_on_the_triple_day() -> None:
    midnights = [WEDNESDAY + (1 + day) * DAY for day in range(7)]  # ends of Wednesday, Thursday ...
    assert [swaps.nights(EURUSD, midnight) for midnight in midnights] == [3.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    friday = msgspec.structs.replace(EURUSD, swap_rollover3days=c.DAY_OF_WEEK_FRIDAY)
    assert [swaps.nights(friday, midnight) for midnight in midnights] == [1.0, 1.0, 3.0, 0.0, 0.0, 1.0, 1.0]
    daily = msgspec.structs.replace(EURUSD, swap_days=(1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    assert [swaps.nights(daily, midnight) for midnight in midnights] == [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0]


def test_midnight_itself_begins_the_new_day() -> None:
    assert swaps.next_midnight(WEDNESDAY - 1) == WEDNESDAY
    assert swaps.next_midnight(WEDNESDAY) == WEDNESDAY + DAY

"""Margin of what waits."""

from collections.abc import Callable

import pytest
from support.paper import pending

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]


@pytest.mark.parametrize(
    ("kind", "price", "stoplimit", "margin"),
    [
        (mt5.ORDER_TYPE_BUY_STOP_LIMIT, 1.2, 1.15, 115.0),
        (mt5.ORDER_TYPE_SELL_STOP_LIMIT, 1.0, 1.05, 105.0),
        (mt5.ORDER_TYPE_BUY_STOP, 1.2, 0.0, 120.0),
    ],
)
def test_a_stop_limit_reserves_at_the_price_it_will_fill_at(
    start: Start, kind: int, price: float, stoplimit: float, margin: float
) -> None:
    rates = {"buy_stop_limit": 1.0, "sell_stop_limit": 1.0, "buy_stop": 1.0}
    start(symbols={"EURUSD": {"margin_rates": rates}})
    assert pending(kind, price, stoplimit=stoplimit).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.account_info().margin == margin


def test_a_pending_reserves_at_the_exchange_rate_of_its_placing(start: Start) -> None:
    """Also when the account is opened anew: who looks later sees the same."""
    market = start(symbols={"EURJPY": {"margin_rates": {"buy_limit": 1.0}}})
    mt5.symbol_select("EURJPY")
    market.tick("EURJPY", 120.0, 120.01)
    pending(mt5.ORDER_TYPE_BUY_LIMIT, 119.0, symbol="EURJPY")
    market.advance(1)
    market.tick("EURUSD", 1.2, 1.2001)
    assert mt5.account_info().margin == 110.01
    mt5.shutdown()
    assert mt5.initialize()
    assert mt5.account_info().margin == 110.01

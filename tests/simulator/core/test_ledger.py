"""The books, through the terminal."""

from collections.abc import Callable

from support.paper import buy, sell

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]


def test_what_a_reversal_opens_pays_margin_at_the_price_of_the_reversal(start: Start) -> None:
    market = start(margin_mode="netting")
    buy(0.1)
    market.tick("EURUSD", 1.2, 1.2001)
    sell(0.3)
    assert mt5.account_info().margin == 240.0

"""A paper terminal whose time and prices the test holds."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]


@pytest.fixture
def start() -> Iterator[Start]:
    """Installs a terminal with a manual clock, connects, selects EURUSD, and gives it a quote of 1.10000/1.10010."""

    def begin(**settings: Any) -> MarketControl:
        suffix = str(settings.get("symbol_suffix", ""))
        market = mt5.install(clock="manual", **settings)
        assert mt5.initialize(), mt5.last_error()
        assert mt5.symbol_select("EURUSD" + suffix)
        market.tick("EURUSD" + suffix, 1.1, 1.1001)
        return market

    yield begin
    mt5.uninstall()


@pytest.fixture
def market(start: Start) -> MarketControl:
    """A hedging account of 10,000 USD."""
    return start()

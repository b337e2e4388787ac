"""Requests to the paper terminal through the package's own functions, and what must always add up."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import mt5_bridge.simulator as mt5

ALWAYS = (0, 2**31 - 1)


def begin(folder: Path, **settings: Any) -> mt5.MarketControl:
    """A terminal that keeps its state in `folder`, connected, with EURUSD selected; the time is the test's."""
    market = mt5.install(clock="manual", DATA_DIR=str(folder), **settings)
    assert mt5.initialize(), mt5.last_error()
    assert mt5.symbol_select("EURUSD")
    return market


def send(**fields: Any) -> Any:
    """Sends a request for EURUSD unless it says otherwise."""
    result = mt5.order_send({"symbol": "EURUSD", **fields})
    assert result is not None, mt5.last_error()
    return result


def check(**fields: Any) -> Any:
    """Checks such a request."""
    result = mt5.order_check({"symbol": "EURUSD", **fields})
    assert result is not None, mt5.last_error()
    return result


def buy(volume: float = 0.1, **fields: Any) -> Any:
    return send(action=mt5.TRADE_ACTION_DEAL, type=mt5.ORDER_TYPE_BUY, volume=volume, **fields)


def sell(volume: float = 0.1, **fields: Any) -> Any:
    return send(action=mt5.TRADE_ACTION_DEAL, type=mt5.ORDER_TYPE_SELL, volume=volume, **fields)


def pending(kind: int, price: float, **fields: Any) -> Any:
    return send(**{"action": mt5.TRADE_ACTION_PENDING, "type": kind, "price": price, "volume": 0.1, **fields})


def balance_adds_up() -> bool:
    """Whether balance and credit are the sums of their deals, to the cent."""
    sums = {True: Decimal(0), False: Decimal(0)}
    for deal in mt5.history_deals_get(*ALWAYS):
        for amount in (deal.profit, deal.swap, deal.commission, deal.fee):
            sums[deal.type == mt5.DEAL_TYPE_CREDIT] += Decimal(repr(amount))
    account = mt5.account_info()
    return (sums[False], sums[True]) == (Decimal(repr(account.balance)), Decimal(repr(account.credit)))

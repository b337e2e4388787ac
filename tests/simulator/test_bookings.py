"""Money that no trade made: deposits, credits, and what they do to the account."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.paper import ALWAYS, balance_adds_up, buy

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]


def test_deposits_and_withdrawals_are_deals(market: MarketControl) -> None:
    ticket = market.deposit("250.50")
    market.deposit(Decimal("-100.25"))
    market.deposit(0.1, "gift")
    deals = mt5.history_deals_get(*ALWAYS)[1:]
    assert deals[0].ticket == ticket
    assert [(deal.type, deal.profit, deal.comment) for deal in deals] == [
        (mt5.DEAL_TYPE_BALANCE, 250.5, "Deposit"),
        (mt5.DEAL_TYPE_BALANCE, -100.25, "Withdrawal"),
        (mt5.DEAL_TYPE_BALANCE, 0.1, "gift"),
    ]
    assert mt5.account_info().balance == 10150.35
    assert balance_adds_up()


@pytest.mark.parametrize(
    ("kind", "deal_type"),
    [
        ("charge", mt5.DEAL_TYPE_CHARGE),
        ("correction", mt5.DEAL_TYPE_CORRECTION),
        ("bonus", mt5.DEAL_TYPE_BONUS),
        ("commission", mt5.DEAL_TYPE_COMMISSION),
        ("interest", mt5.DEAL_TYPE_INTEREST),
    ],
)
def test_other_operations_of_the_broker(market: MarketControl, kind: Any, deal_type: int) -> None:
    market.book(kind, -5)
    deal = mt5.history_deals_get(*ALWAYS)[-1]
    assert (deal.type, deal.profit, deal.comment) == (deal_type, -5.0, kind)
    assert mt5.account_info().balance == 9995.0
    assert balance_adds_up()


def test_a_credit_carries_positions_and_is_not_the_balance(tmp_path: Path) -> None:
    def begin() -> MarketControl:
        market = mt5.install(clock="manual", DATA_DIR=str(tmp_path), balance=100)
        assert mt5.initialize()
        mt5.symbol_select("EURUSD")
        market.tick("EURUSD", 1.1, 1.1001)
        return market

    market = begin()
    market.book("credit", 500)
    account = mt5.account_info()
    assert (account.balance, account.credit, account.equity, account.margin_free) == (100.0, 500.0, 600.0, 600.0)
    assert buy(0.5).retcode == mt5.TRADE_RETCODE_DONE
    begin()
    assert mt5.account_info().credit == 500.0
    assert mt5.account_info().equity == 595.0
    assert balance_adds_up()
    market = begin()
    market.book("credit", -200)
    assert mt5.account_info().credit == 300.0
    mt5.uninstall()


def test_what_is_no_amount_of_money(market: MarketControl) -> None:
    for amount in (0, "0.001", "nan", float("inf"), "much"):
        with pytest.raises(ValueError, match="no amount of USD"):
            market.deposit(amount)
    mt5.shutdown()
    with pytest.raises(TypeError, match="no account"):
        market.deposit(1)


def test_collateral_adds_to_the_equity_and_is_not_traded(start: Start) -> None:
    """MetaTrader 5 help, "Symbol Properties": its market value times the liquidity rate is added to the assets."""
    rules = {"calc_mode": "serv_collateral", "liquidity_rate": 0.8, "swap_mode": "disabled"}
    market = start(balance=100, symbols={"XAUUSD": rules})
    with pytest.raises(ValueError, match="no collateral"):
        market.grant("EURUSD", 1.0)
    mt5.symbol_select("XAUUSD")
    market.tick("XAUUSD", 1500.0, 1501.0)
    ticket = market.grant("XAUUSD", 0.05)
    account = mt5.account_info()
    assert (account.assets, account.equity, account.margin, account.profit) == (6000.0, 6100.0, 0.0, 0.0)
    assert buy(1.0).retcode == mt5.TRADE_RETCODE_DONE
    market.tick("XAUUSD", 1600.0, 1601.0)
    assert mt5.account_info().equity == 6490.0
    request = {"action": 1, "symbol": "XAUUSD", "type": 1, "volume": 0.05, "position": ticket}
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_TRADE_DISABLED
    # Worth less, it no longer carries the position; it stays itself, for it cannot be traded.
    market.tick("XAUUSD", 50.0, 51.0)
    assert [position.ticket for position in mt5.positions_get()] == [ticket]
    assert balance_adds_up()


def test_a_withdrawal_may_stop_the_account_out(market: MarketControl) -> None:
    buy(1.0)
    market.deposit(-9700)
    market.advance(1)
    assert mt5.positions_total() == 0
    assert mt5.history_deals_get(*ALWAYS)[-1].reason == mt5.DEAL_REASON_SO

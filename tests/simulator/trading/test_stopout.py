"""Stop-out, in the order of MetaQuotes' "Processing of Stop out by Server"."""

from collections.abc import Callable

import pytest
from support.paper import ALWAYS, balance_adds_up, buy, pending, sell

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]

RESERVING = {"EURUSD": {"margin_rates": {"buy_limit": 1.0, "sell_limit": 0.5}}}


def test_pendings_with_margin_go_first_the_dearest_one_before_the_others(start: Start) -> None:
    market = start(balance=1000, symbols=RESERVING)
    small = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, volume=0.1).order
    large = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, volume=0.2).order
    free = pending(mt5.ORDER_TYPE_BUY_STOP, 1.2, volume=0.1).order
    position = buy(0.4).order
    margin = mt5.account_info().margin
    assert margin == 740.04
    # Without the dearest order the rest of 540.04 needs 162.01 of equity.
    market.tick("EURUSD", 1.0800, 1.0801)
    assert mt5.orders_total() == 2
    assert mt5.history_orders_get(ticket=large)[0].state == mt5.ORDER_STATE_CANCELED
    assert mt5.positions_get()[0].ticket == position
    market.tick("EURUSD", 1.0785, 1.0786)
    assert [order.ticket for order in mt5.orders_get()] == [free]
    assert mt5.history_orders_get(ticket=small)[0].state == mt5.ORDER_STATE_CANCELED
    assert mt5.positions_total() == 1
    market.tick("EURUSD", 1.078, 1.0781)
    assert mt5.positions_total() == 0
    assert [order.ticket for order in mt5.orders_get()] == [free]
    assert balance_adds_up()


def test_then_positions_by_their_loss_until_the_level_is_above(start: Start) -> None:
    market = start(balance=1000)
    worse, better = buy(0.6).order, buy(0.2).order
    market.tick("EURUSD", 1.0908, 1.0909)
    assert [position.ticket for position in mt5.positions_get()] == [better]
    assert mt5.account_info().margin_level > 30
    deal = mt5.history_deals_get(position=worse)[-1]
    assert deal.reason == mt5.DEAL_REASON_SO
    assert deal.comment.startswith("[so 2")
    assert mt5.history_orders_get(position=worse)[-1].reason == mt5.ORDER_REASON_SO


def test_levels_may_be_money(start: Start) -> None:
    market = start(balance=1000, account={"stop_out_mode": "money", "stop_out": 400, "margin_call": 500})
    info = mt5.account_info()
    assert (info.margin_so_mode, info.margin_so_so, info.margin_so_call) == (mt5.ACCOUNT_STOPOUT_MODE_MONEY, 400, 500)
    buy(0.5)
    market.tick("EURUSD", 1.0882, 1.0883)
    assert mt5.positions_total() == 1
    market.tick("EURUSD", 1.0881, 1.0882)
    assert mt5.positions_total() == 0


def test_the_stop_out_level_is_the_brokers(start: Start) -> None:
    market = start(balance=1000, account={"stop_out": 80})
    buy(0.8)
    market.tick("EURUSD", 1.0958, 1.0959)
    assert mt5.positions_total() == 0


@pytest.mark.parametrize(("rule", "balance"), [(True, 0.0), (False, -608.0)])
def test_a_balance_below_zero_may_be_made_good(start: Start, rule: bool, balance: float) -> None:
    market = start(balance=1000, account={"stop_out_compensation": rule})
    buy(0.8)
    market.tick("EURUSD", 1.08, 1.0801)
    assert mt5.account_info().balance == balance
    last = mt5.history_deals_get(*ALWAYS)[-1]
    assert (last.comment == "so compensation") is rule
    assert balance_adds_up()


def test_a_covered_account_without_margin_is_left_alone(start: Start) -> None:
    market = start(balance=1000, symbols={"EURUSD": {"margin_hedged": 0.0}})
    buy(0.8), sell(0.8)
    assert mt5.account_info().margin == 0.0
    market.tick("EURUSD", 1.0, 1.02)
    assert mt5.positions_total() == 2


def test_what_cannot_trade_now_is_passed_over(start: Start) -> None:
    market = start(balance=1000, sessions="real", symbols={"BTCUSD": {"margin_rate": 1.0}})
    mt5.symbol_select("BTCUSD")
    market.advance(2.5 * 86_400)
    market.tick("EURUSD", 1.1, 1.1001)
    market.tick("BTCUSD", 7000.0, 7001.0)
    trading, closed = buy(0.1, symbol="BTCUSD").order, buy(0.9).order
    market.advance(86_400)
    market.tick("BTCUSD", 1.0, 2.0)
    assert [position.ticket for position in mt5.positions_get()] == [closed]
    assert mt5.history_deals_get(position=trading)[-1].reason == mt5.DEAL_REASON_SO
    assert mt5.account_info().margin_level < 30
    market.advance(2 * 86_400)
    market.tick("EURUSD", 1.1, 1.1001)
    assert mt5.positions_total() == 0


def test_an_account_with_nothing_that_trades_waits(start: Start) -> None:
    market = start(balance=1000, sessions="real")
    buy(0.8)
    market.advance(3.5 * 86_400)
    market.deposit(-900)
    market.advance(3600)
    assert mt5.positions_total() == 1
    market.advance(2 * 86_400)
    market.tick("EURUSD", 1.1, 1.1001)
    assert mt5.positions_total() == 0

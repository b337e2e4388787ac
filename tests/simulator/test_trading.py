"""Requests against the paper terminal, through the package's own functions."""

from collections.abc import Callable
from typing import Any

import pytest
from support.paper import ALWAYS, balance_adds_up, buy, pending, sell, send

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]


def test_the_first_deal_is_the_deposit(market: MarketControl) -> None:
    (deposit,) = mt5.history_deals_get(*ALWAYS)
    assert (deposit.type, deposit.profit, deposit.symbol) == (mt5.DEAL_TYPE_BALANCE, 10000.0, "")
    assert mt5.history_deals_total(*ALWAYS) == 1
    assert mt5.history_orders_total(*ALWAYS) == 0


def test_a_long_opens_at_the_ask_and_closes_on_the_bid(market: MarketControl) -> None:
    result = buy(magic=2**63 + 5, comment="why")
    assert (result.retcode, result.price, result.volume) == (mt5.TRADE_RETCODE_DONE, 1.1001, 0.1)
    (position,) = mt5.positions_get()
    assert position.ticket == position.identifier == result.order
    assert (position.price_open, position.price_current, position.profit) == (1.1001, 1.1, -1.0)
    assert (position.magic, position.comment) == (2**63 + 5, "why")
    market.tick("EURUSD", 1.105, 1.1051)
    assert mt5.positions_get(ticket=result.order)[0].profit == 49.0
    closed = sell(position=result.order)
    assert (closed.retcode, closed.price) == (mt5.TRADE_RETCODE_DONE, 1.105)
    assert mt5.positions_get() == ()
    deals = mt5.history_deals_get(position=result.order)
    assert [(d.entry, d.profit, d.magic) for d in deals] == [(0, 0.0, 2**63 + 5), (1, 49.0, 0)]
    assert mt5.history_deals_get(ticket=closed.order) == deals[1:]
    assert [o.state for o in mt5.history_orders_get(position=result.order)] == [mt5.ORDER_STATE_FILLED] * 2
    assert mt5.account_info().balance == 10049.0
    assert balance_adds_up()


def test_a_short_opens_at_the_bid_and_closes_on_the_ask(market: MarketControl) -> None:
    result = sell()
    assert result.price == 1.1
    assert mt5.positions_get()[0].price_current == 1.1001
    assert buy(0.04, position=result.order).price == 1.1001
    assert mt5.positions_get()[0].volume == 0.06
    assert balance_adds_up()


@pytest.mark.parametrize(
    ("fields", "retcode"),
    [
        ({"volume": 0.005}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 0.015}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 101.0}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": float("nan")}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 100.0}, mt5.TRADE_RETCODE_NO_MONEY),
        ({"price": float("nan")}, mt5.TRADE_RETCODE_INVALID_PRICE),
        ({"sl": 1.1}, mt5.TRADE_RETCODE_INVALID_STOPS),
        ({"tp": 1.1}, mt5.TRADE_RETCODE_INVALID_STOPS),
        ({"sl": float("inf")}, mt5.TRADE_RETCODE_INVALID_STOPS),
        ({"type_filling": mt5.ORDER_FILLING_RETURN}, mt5.TRADE_RETCODE_INVALID_FILL),
        ({"type_filling": mt5.ORDER_FILLING_BOC}, mt5.TRADE_RETCODE_INVALID_FILL),
        ({"type": mt5.ORDER_TYPE_BUY_LIMIT}, mt5.TRADE_RETCODE_INVALID),
        ({"action": 3}, mt5.TRADE_RETCODE_INVALID),
        ({"symbol": ""}, mt5.TRADE_RETCODE_INVALID),
        ({"symbol": "GBPUSD"}, mt5.TRADE_RETCODE_PRICE_OFF),
        ({"position": 1}, mt5.TRADE_RETCODE_POSITION_CLOSED),
    ],
)
def test_market_orders_refused(market: MarketControl, fields: dict[str, Any], retcode: int) -> None:
    request = {"action": mt5.TRADE_ACTION_DEAL, "type": mt5.ORDER_TYPE_BUY, "volume": 0.1, **fields}
    assert send(**request).retcode == retcode
    assert mt5.positions_total() == 0


def test_order_check_answers_as_order_send_would(market: MarketControl) -> None:
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "type": mt5.ORDER_TYPE_BUY, "volume": 1.0}
    check = mt5.order_check(request)
    assert (check.retcode, check.comment, check.margin, check.margin_free) == (0, "Done", 1100.1, 8899.9)
    assert mt5.order_check({**request, "volume": 10.0}).retcode == mt5.TRADE_RETCODE_NO_MONEY
    assert mt5.order_check({**request, "action": 99}).retcode == mt5.TRADE_RETCODE_INVALID
    assert mt5.order_check({**request, "symbol": "NOPE"}) is None


def test_closing_is_held_to_the_position(market: MarketControl) -> None:
    ticket = buy().order
    mt5.symbol_select("GBPUSD")
    assert sell(0.2, position=ticket).retcode == mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME
    assert buy(position=ticket).retcode == mt5.TRADE_RETCODE_INVALID
    assert sell(position=ticket, symbol="GBPUSD").retcode == mt5.TRADE_RETCODE_INVALID
    assert sell(position=ticket, sl=5.0, tp=5.0).retcode == mt5.TRADE_RETCODE_DONE
    assert sell(position=ticket).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED


@pytest.mark.parametrize(("move", "price", "cause"), [(-0.01, 1.09, "sl"), (0.01, 1.11, "tp")])
def test_stop_and_target_close_a_long_on_the_bid(market: MarketControl, move: float, price: float, cause: str) -> None:
    ticket = buy(sl=1.095, tp=1.105, magic=9).order
    market.advance(1)
    market.tick("EURUSD", 1.1 + move, 1.1001 + move)
    assert mt5.positions_total() == 0
    deal = mt5.history_deals_get(position=ticket)[-1]
    assert (deal.price, deal.magic, deal.type) == (price, 9, mt5.DEAL_TYPE_SELL)
    assert deal.comment.startswith(f"[{cause} ")
    assert deal.reason == (mt5.DEAL_REASON_SL if cause == "sl" else mt5.DEAL_REASON_TP)
    assert balance_adds_up()


def test_a_shorts_stop_is_judged_on_the_ask(market: MarketControl) -> None:
    sell(sl=1.102, tp=1.098)
    market.tick("EURUSD", 1.1015, 1.1019)
    assert mt5.positions_total() == 1
    market.tick("EURUSD", 1.1015, 1.1021)
    assert mt5.positions_total() == 0


PENDINGS = [
    (mt5.ORDER_TYPE_BUY_LIMIT, 1.099, (1.0988, 1.0989), 1.0989),
    (mt5.ORDER_TYPE_SELL_LIMIT, 1.101, (1.1012, 1.1013), 1.1012),
    (mt5.ORDER_TYPE_BUY_STOP, 1.101, (1.1012, 1.1013), 1.1013),
    (mt5.ORDER_TYPE_SELL_STOP, 1.099, (1.0988, 1.0989), 1.0988),
]


@pytest.mark.parametrize(("kind", "price", "quote", "filled"), PENDINGS)
def test_pendings_fill_at_the_market(
    market: MarketControl, kind: int, price: float, quote: tuple[float, float], filled: float
) -> None:
    result = pending(kind, price, magic=4, type_filling=mt5.ORDER_FILLING_RETURN)
    assert (result.retcode, result.deal) == (mt5.TRADE_RETCODE_DONE, 0)
    assert mt5.orders_total() == 1
    assert mt5.orders_get(ticket=result.order)[0].state == mt5.ORDER_STATE_PLACED
    market.tick("EURUSD", *quote)
    assert mt5.orders_get() == ()
    (position,) = mt5.positions_get(symbol="EURUSD")
    assert (position.ticket, position.price_open, position.magic) == (result.order, filled, 4)


@pytest.mark.parametrize(("kind", "price", "quote", "filled"), PENDINGS)
def test_pendings_on_the_wrong_side_are_refused(
    market: MarketControl, kind: int, price: float, quote: tuple[float, float], filled: float
) -> None:
    assert pending(kind, 2.2 - price).retcode == mt5.TRADE_RETCODE_INVALID_PRICE
    assert pending(kind, float("nan")).retcode == mt5.TRADE_RETCODE_INVALID_PRICE


@pytest.mark.parametrize(
    ("kind", "stop", "limit", "first", "second", "filled"),
    [
        (mt5.ORDER_TYPE_BUY_STOP_LIMIT, 1.102, 1.101, (1.1019, 1.102), (1.1008, 1.1009), 1.1009),
        (mt5.ORDER_TYPE_SELL_STOP_LIMIT, 1.098, 1.099, (1.098, 1.0981), (1.0991, 1.0992), 1.0991),
    ],
)
def test_stop_limits_become_limits_and_then_fill(
    market: MarketControl,
    kind: int,
    stop: float,
    limit: float,
    first: tuple[float, float],
    second: tuple[float, float],
    filled: float,
) -> None:
    assert pending(kind, stop).retcode == mt5.TRADE_RETCODE_INVALID_PRICE
    assert pending(kind, stop, stoplimit=2 * stop - limit).retcode == mt5.TRADE_RETCODE_INVALID_PRICE
    assert pending(kind, stop, stoplimit=limit).retcode == mt5.TRADE_RETCODE_DONE
    market.tick("EURUSD", *first)
    (order,) = mt5.orders_get()
    assert (order.type, order.price_open) == (kind - 4, limit)
    market.tick("EURUSD", *second)
    assert mt5.positions_get()[0].price_open == filled


def test_a_pending_without_money_is_rejected_when_it_triggers(market: MarketControl) -> None:
    ticket = pending(mt5.ORDER_TYPE_BUY_STOP, 1.101, volume=50.0).order
    market.tick("EURUSD", 1.1012, 1.1013)
    assert mt5.positions_total() == mt5.orders_total() == 0
    assert mt5.history_orders_get(ticket=ticket)[0].state == mt5.ORDER_STATE_REJECTED


def test_pendings_are_modified_and_removed(market: MarketControl) -> None:
    ticket = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.099).order
    modify = {"action": mt5.TRADE_ACTION_MODIFY, "order": ticket, "price": 1.098, "sl": 1.09, "tp": 1.12}
    assert mt5.order_send(modify).retcode == mt5.TRADE_RETCODE_DONE
    order = mt5.orders_get(group="EUR*")[0]
    assert (order.price_open, order.sl, order.tp) == (1.098, 1.09, 1.12)
    assert mt5.order_send(modify).retcode == mt5.TRADE_RETCODE_NO_CHANGES
    assert mt5.order_send({**modify, "price": 1.2}).retcode == mt5.TRADE_RETCODE_INVALID_PRICE
    assert mt5.order_send({**modify, "sl": 1.11}).retcode == mt5.TRADE_RETCODE_INVALID_STOPS
    remove = {"action": mt5.TRADE_ACTION_REMOVE, "order": ticket}
    assert mt5.order_send(remove).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.order_send(remove).retcode == mt5.TRADE_RETCODE_INVALID_ORDER
    assert mt5.order_send(modify).retcode == mt5.TRADE_RETCODE_INVALID_ORDER
    assert mt5.order_send({**modify, "symbol": "EURUSD"}).retcode == mt5.TRADE_RETCODE_INVALID_ORDER
    assert mt5.order_send({**remove, "symbol": "EURUSD"}).retcode == mt5.TRADE_RETCODE_INVALID_ORDER
    assert mt5.history_orders_get(*ALWAYS, group="*USD")[0].state == mt5.ORDER_STATE_CANCELED


def test_stops_of_a_position_are_moved(market: MarketControl) -> None:
    ticket = buy(sl=1.09).order
    request = {"action": mt5.TRADE_ACTION_SLTP, "position": ticket, "sl": 1.095, "tp": 1.12}
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_DONE
    assert (mt5.positions_get()[0].sl, mt5.positions_get()[0].tp) == (1.095, 1.12)
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_NO_CHANGES
    assert mt5.order_send({**request, "sl": 1.1}).retcode == mt5.TRADE_RETCODE_INVALID_STOPS
    assert mt5.order_send({**request, "position": 1}).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    assert send(**{**request, "position": 1}).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED


def test_pendings_expire(market: MarketControl) -> None:
    now = mt5.symbol_info_tick("EURUSD").time
    gone = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, type_time=mt5.ORDER_TIME_SPECIFIED, expiration=now + 60).order
    day = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, type_time=mt5.ORDER_TIME_DAY).order
    pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, type_time=mt5.ORDER_TIME_SPECIFIED_DAY, expiration=now + 86400)
    refused = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, type_time=mt5.ORDER_TIME_SPECIFIED, expiration=now)
    assert refused.retcode == mt5.TRADE_RETCODE_INVALID_EXPIRATION
    assert pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, type_time=9).retcode == mt5.TRADE_RETCODE_INVALID_EXPIRATION
    market.advance(59)
    assert mt5.orders_total() == 3
    market.advance(2)
    assert mt5.orders_total() == 2
    expired = mt5.history_orders_get(ticket=gone)[0]
    assert (expired.state, expired.time_done) == (mt5.ORDER_STATE_EXPIRED, now + 60)
    market.advance(86400)
    assert [order.ticket for order in mt5.history_orders_get(*ALWAYS)] == [gone, day]
    market.advance(86400)
    assert mt5.orders_total() == 0


def test_two_opposite_positions_close_each_other(market: MarketControl) -> None:
    long, short = buy(0.3).order, sell(0.1).order
    request = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": long, "position_by": short}
    assert mt5.order_send({**request, "position_by": long}).retcode == mt5.TRADE_RETCODE_INVALID
    assert mt5.order_send({**request, "position_by": buy().order}).retcode == mt5.TRADE_RETCODE_INVALID
    result = mt5.order_send(request)
    assert (result.retcode, result.volume) == (mt5.TRADE_RETCODE_DONE, 0.1)
    assert mt5.positions_get(ticket=long)[0].volume == 0.2
    assert mt5.positions_get(ticket=short) == ()
    deals = mt5.history_deals_get(ticket=result.order)
    assert [(d.entry, d.position_id, d.profit) for d in deals] == [(3, long, -1.0), (3, short, 0.0)]
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    assert balance_adds_up()


@pytest.mark.parametrize("mode", ["netting", "exchange"])
def test_netting_adds_reduces_and_reverses(start: Start, mode: str) -> None:
    market = start(margin_mode=mode)
    first = buy(0.1, sl=1.09).order
    market.tick("EURUSD", 1.102, 1.1021)
    buy(0.1, tp=1.2)
    (position,) = mt5.positions_get()
    assert (position.ticket, position.volume, position.price_open) == (first, 0.2, 1.1011)
    assert (position.sl, position.tp) == (0.0, 1.2)  # the last order's, also where it has none
    assert mt5.account_info().margin == 220.22
    sell(0.05)
    assert mt5.positions_get()[0].volume == 0.15
    reversing = sell(0.25)
    (position,) = mt5.positions_get()
    assert (position.ticket, position.identifier, position.type) == (reversing.order, first, mt5.POSITION_TYPE_SELL)
    assert position.volume == 0.1
    entries = [deal.entry for deal in mt5.history_deals_get(position=first)]
    assert entries == [mt5.DEAL_ENTRY_IN, mt5.DEAL_ENTRY_IN, mt5.DEAL_ENTRY_OUT, mt5.DEAL_ENTRY_INOUT]
    request = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": position.ticket, "position_by": first}
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    assert send(action=mt5.TRADE_ACTION_SLTP, sl=1.2).retcode == mt5.TRADE_RETCODE_DONE
    assert buy(0.1, position=position.ticket).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.positions_total() == 0
    assert balance_adds_up()


def test_opposite_positions_of_a_hedging_account_share_their_margin(market: MarketControl) -> None:
    buy(1.0)
    assert mt5.account_info().margin == 1100.1
    sell(1.0)
    assert mt5.positions_total() == 2
    assert mt5.account_info().margin == 1100.05
    sell(0.5)
    assert mt5.account_info().margin == pytest.approx(1650.03, abs=0.02)


def test_a_stop_out_closes_what_loses_most(start: Start) -> None:
    market = start(balance=1000)
    big, small = buy(0.8).order, buy(0.02).order
    market.tick("EURUSD", 1.0911, 1.0912)
    assert [position.ticket for position in mt5.positions_get()] == [small]
    deal = mt5.history_deals_get(position=big)[-1]
    assert (deal.reason, deal.comment) == (mt5.DEAL_REASON_SO, "[so 29.04%]")
    assert balance_adds_up()


def test_the_account_is_the_sum_of_its_positions(market: MarketControl) -> None:
    for symbol in ("USDJPY", "EURJPY", "XAUUSD", "US500"):
        mt5.symbol_select(symbol)
        assert buy(0.1, symbol=symbol, type_filling=1 if symbol == "US500" else 0).retcode == mt5.TRADE_RETCODE_DONE
    account = mt5.account_info()
    assert account.profit == pytest.approx(sum(p.profit for p in mt5.positions_get()), abs=1e-9)
    assert account.equity == pytest.approx(account.balance + account.profit, abs=1e-9)
    assert account.margin_free == pytest.approx(account.equity - account.margin, abs=1e-9)
    assert account.margin_level == pytest.approx(account.equity / account.margin * 100)


def test_margin_and_profit_are_calculated_as_documented(market: MarketControl) -> None:
    eurusd = mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "EURUSD", 0.1, 1.1001)
    assert eurusd == mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "EURJPY", 0.1, 97.0) == 110.01
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "USDJPY", 1, 86.0) == 1000.0
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "XAUUSD", 1, 1500) == 1500.0
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "BTCUSD", 1, 7000) == 700.0
    assert mt5.order_calc_profit(mt5.ORDER_TYPE_BUY, "USDJPY", 1.0, 100.0, 101.0) == 990.1
    assert mt5.order_calc_profit(mt5.ORDER_TYPE_SELL, "EURUSD", 1.0, 1.1, 1.2) == -10000.0
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_SELL_STOP, "EURUSD", 0.1, 1.1) == 0.0  # a pending reserves nothing
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_CLOSE_BY, "EURUSD", 0.1, 1.1) is None
    assert mt5.order_calc_margin(0, "EURUSD", float("nan"), 1.1) is None
    assert mt5.order_calc_profit(0, "EURUSD", 1.0, 0.0, 1.1) is None
    assert mt5.last_error()[0] == mt5.RES_E_INVALID_PARAMS


def test_the_packages_own_helpers(market: MarketControl) -> None:
    bought = mt5.Buy("EURUSD", 0.1, comment="c")
    sold = mt5.Sell("EURUSD", 0.1)
    assert (bought.retcode, sold.retcode) == (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_DONE)
    assert mt5.Buy("EURUSD", 0.1, 1.1001).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.Sell("EURUSD", 0.1, 1.1, ticket=bought.order).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.Close("EURUSD", ticket=sold.order) is True
    assert mt5.Close("EURUSD") is True
    assert mt5.Close("EURUSD") is False
    assert mt5.Close("GBPUSD", ticket=mt5.Buy("EURUSD", 0.1).order) is None
    for helper in (mt5.Buy, mt5.Sell):
        with pytest.raises(AttributeError):
            helper("GBPUSD", 0.1)


def test_a_symbol_with_something_open_stays_in_the_market_watch(market: MarketControl) -> None:
    pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0)
    assert mt5.symbol_select("EURUSD", False) is False
    mt5.order_send({"action": mt5.TRADE_ACTION_REMOVE, "order": mt5.orders_get()[0].ticket})
    assert mt5.symbol_select("EURUSD", False) is True
    info = mt5.symbol_info("EURUSD")
    assert (info.select, info.bid) == (False, 0.0)
    assert len(mt5.symbols_get("*JPY,!GBP*")) == 2
    assert len(mt5.symbols_get(group="*")) == mt5.symbols_total() == 12


def test_the_suffix_is_part_of_every_name(start: Start) -> None:
    start(symbol_suffix=".m")
    assert mt5.symbol_info("EURUSD") is None
    assert mt5.symbol_info("EURUSD.m").path.endswith("EURUSD.m")
    assert mt5.order_calc_margin(0, "EURJPY.m", 0.1, 97.0) == 110.01
    assert buy(symbol="EURUSD.m").retcode == mt5.TRADE_RETCODE_DONE


def test_the_market_book_holds_the_quote(market: MarketControl) -> None:
    assert mt5.market_book_add("EURUSD")
    levels = mt5.market_book_get("EURUSD")
    sell_side, buy_side = levels[9:11]
    assert (sell_side.price, buy_side.price) == (1.1001, 1.1)
    assert mt5.market_book_release("EURUSD")
    assert mt5.market_book_get("EURUSD") is None

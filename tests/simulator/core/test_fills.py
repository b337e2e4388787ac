"""What the market gives for an order: as functions, and through the terminal of symbols that ask for it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.paper import ALWAYS, balance_adds_up, buy, check, pending, sell

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.core import fills
from mt5_bridge.simulator.core.fills import Part
from mt5_bridge.simulator.market.catalogue import SymbolSpec, catalogue

Start = Callable[..., MarketControl]

EURUSD = catalogue()["EURUSD"]
DEEP = {"depth_volume": 1.0, "depth_levels": 3, "depth_step": 5}
EXCHANGE = {"execution": "exchange", "filling_bits": ["fok", "ioc", "boc"]}


def spec(**changes: Any) -> SymbolSpec:
    return msgspec.structs.replace(EURUSD, **changes)


def test_without_depth_everything_fills_at_the_best_price() -> None:
    assert fills.plan(EURUSD, 100.0, 1.1, buying=True) == [Part(1.1, 100.0)]
    assert fills.plan(EURUSD, 100.0, 1.1, buying=True, limit=1.0999) == []


def test_depth_gets_worse_level_by_level_and_ends() -> None:
    deep = spec(**DEEP)
    bought = fills.plan(deep, 2.5, 1.1, buying=True)
    assert bought == [Part(1.1, 1.0), Part(1.10005, 1.0), Part(1.1001, 0.5)]
    assert (fills.filled(bought), fills.average(bought, 5)) == (2.5, 1.10004)
    assert [part.price for part in fills.plan(deep, 9.0, 1.1, buying=False)] == [1.1, 1.09995, 1.0999]
    assert fills.filled(fills.plan(deep, 9.0, 1.1, buying=False)) == 3.0
    assert fills.filled(fills.plan(deep, 9.0, 1.1, buying=True, limit=1.10005)) == 2.0


def test_slippage_is_against_the_trader_bounded_and_drawn_from_seed_and_ticket() -> None:
    slippery = spec(slippage=3)
    prices = [fills.slipped(slippery, 1.1, 7, ticket, buying=True) for ticket in range(50)]
    assert set(prices) == {1.1, 1.10001, 1.10002, 1.10003}
    assert prices == [fills.slipped(slippery, 1.1, 7, ticket, buying=True) for ticket in range(50)]
    assert prices != [fills.slipped(slippery, 1.1, 8, ticket, buying=True) for ticket in range(50)]
    assert min(fills.slipped(slippery, 1.1, 7, ticket, buying=False) for ticket in range(50)) == 1.09997
    assert fills.slipped(EURUSD, 1.1, 7, 1, buying=True) == 1.1


def test_requotes_only_where_the_trader_names_the_price() -> None:
    always = spec(requotes=1.0)
    assert not fills.requoted(always, 7, 1)
    instant = msgspec.structs.replace(always, execution=mt5.SYMBOL_TRADE_EXECUTION_INSTANT)
    assert fills.requoted(instant, 7, 1)
    half = msgspec.structs.replace(instant, requotes=0.5)
    assert 30 < sum(fills.requoted(half, 7, ticket) for ticket in range(100)) < 70


def test_a_big_order_pays_the_depth_in_several_deals(start: Start) -> None:
    start(balance=100_000, symbols={"EURUSD": DEEP})
    result = buy(2.5)
    assert (result.retcode, result.volume, result.price) == (mt5.TRADE_RETCODE_DONE, 2.5, 1.10014)
    deals = mt5.history_deals_get(ticket=result.order)
    assert [(deal.volume, deal.price) for deal in deals] == [(1.0, 1.1001), (1.0, 1.10015), (0.5, 1.1002)]
    (position,) = mt5.positions_get()
    assert (position.ticket, position.volume) == (result.order, 2.5)
    assert position.price_open == pytest.approx(1.10014)
    assert mt5.history_orders_get(ticket=result.order)[0].state == mt5.ORDER_STATE_FILLED
    assert sell(2.5, position=result.order).volume == 2.5
    assert mt5.positions_total() == 0
    assert balance_adds_up()


def test_what_the_depth_does_not_hold(start: Start) -> None:
    market = start(balance=100_000, margin_mode="netting", symbols={"EURUSD": {**DEEP, **EXCHANGE}})
    refused = buy(5.0, type_filling=mt5.ORDER_FILLING_FOK)
    assert (refused.retcode, mt5.positions_total()) == (mt5.TRADE_RETCODE_REJECT, 0)
    partial = buy(5.0, type_filling=mt5.ORDER_FILLING_IOC)
    assert (partial.retcode, partial.volume) == (mt5.TRADE_RETCODE_DONE_PARTIAL, 3.0)
    (order,) = mt5.history_orders_get(ticket=partial.order)
    assert (order.state, order.volume_initial, order.volume_current) == (mt5.ORDER_STATE_CANCELED, 5.0, 2.0)
    waiting = buy(5.0, type_filling=mt5.ORDER_FILLING_RETURN)
    assert (waiting.retcode, waiting.volume) == (mt5.TRADE_RETCODE_DONE_PARTIAL, 3.0)
    (order,) = mt5.orders_get()
    assert (order.ticket, order.state, order.volume_current) == (waiting.order, mt5.ORDER_STATE_PARTIAL, 2.0)
    market.advance(1)
    market.tick("EURUSD", 1.1001, 1.1002)
    assert mt5.orders_total() == 0
    assert mt5.history_orders_get(ticket=waiting.order)[0].state == mt5.ORDER_STATE_FILLED
    assert mt5.positions_get()[0].volume == 8.0
    assert balance_adds_up()


def test_a_limit_fills_in_parts_and_never_beyond_its_price(start: Start) -> None:
    market = start(balance=100_000, symbols={"EURUSD": DEEP})
    ticket = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.099, volume=2.5, type_filling=mt5.ORDER_FILLING_RETURN).order
    for _ in range(2):
        market.advance(1)
        market.tick("EURUSD", 1.0989, 1.099)
    assert mt5.orders_get()[0].volume_current == 0.5
    assert mt5.positions_get(ticket=ticket)[0].volume == 2.0
    market.advance(1)
    market.tick("EURUSD", 1.0989, 1.09905)
    assert mt5.orders_total() == 1
    market.tick("EURUSD", 1.0989, 1.099)
    assert mt5.orders_total() == 0
    assert {deal.price for deal in mt5.history_deals_get(ticket=ticket)} == {1.099}


@pytest.mark.parametrize(
    ("filling", "state", "held"),
    [
        (mt5.ORDER_FILLING_FOK, mt5.ORDER_STATE_CANCELED, 0),
        (mt5.ORDER_FILLING_IOC, mt5.ORDER_STATE_CANCELED, 3.0),
    ],
)
def test_a_stop_order_takes_what_it_may(start: Start, filling: int, state: int, held: float) -> None:
    market = start(balance=100_000, symbols={"EURUSD": DEEP})
    ticket = pending(mt5.ORDER_TYPE_BUY_STOP, 1.101, volume=5.0, type_filling=filling).order
    market.tick("EURUSD", 1.101, 1.1011)
    assert mt5.orders_total() == 0
    assert mt5.history_orders_get(ticket=ticket)[0].state == state
    assert sum(position.volume for position in mt5.positions_get()) == held


def test_the_rest_of_a_stop_order_takes_any_price_of_the_next_tick(start: Start) -> None:
    market = start(balance=100_000, symbols={"EURUSD": DEEP})
    pending(mt5.ORDER_TYPE_BUY_STOP, 1.101, volume=5.0, type_filling=mt5.ORDER_FILLING_RETURN)
    market.tick("EURUSD", 1.101, 1.1011)
    market.advance(1)
    market.tick("EURUSD", 1.09, 1.0901)
    assert (mt5.orders_total(), mt5.positions_get()[0].volume) == (0, 5.0)


def closing_rest(start: Start) -> tuple[MarketControl, int, int]:
    """A position of 5 lots, of which a closing order has taken 3 and waits for 1."""
    market = start(balance=100_000, symbols={"EURUSD": {**DEEP, **EXCHANGE}})
    position = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.101, volume=5.0, type_filling=mt5.ORDER_FILLING_RETURN).order
    market.advance(1)
    market.tick("EURUSD", 1.0999, 1.1)
    assert mt5.positions_get(ticket=position)[0].volume == 5.0
    rest = sell(4.0, position=position, type_filling=mt5.ORDER_FILLING_RETURN).order
    assert mt5.orders_get(ticket=rest)[0].volume_current == 1.0
    return market, position, rest


def test_the_rest_of_a_closing_order_counts_as_a_close(start: Start) -> None:
    market, position, rest = closing_rest(start)
    assert sell(1.5, position=position).retcode == mt5.TRADE_RETCODE_CLOSE_ORDER_EXIST
    assert sell(0.5, position=position).retcode == mt5.TRADE_RETCODE_DONE
    market.tick("EURUSD", 1.0999, 1.1)
    assert mt5.positions_get(ticket=position)[0].volume == 0.5
    assert mt5.history_orders_get(ticket=rest)[0].state == mt5.ORDER_STATE_FILLED
    assert balance_adds_up()


def test_the_rest_of_a_closing_order_ends_with_its_position(start: Start) -> None:
    market, position, rest = closing_rest(start)
    other = sell(2.0).order
    mt5.order_send({"action": mt5.TRADE_ACTION_CLOSE_BY, "position": position, "position_by": other})
    assert mt5.positions_total() == 0
    market.tick("EURUSD", 1.0999, 1.1)
    assert mt5.history_orders_get(ticket=rest)[0].state == mt5.ORDER_STATE_CANCELED
    assert mt5.positions_total() == 0
    assert balance_adds_up()


def test_the_rest_of_a_closing_order_never_reverses(start: Start) -> None:
    market, position, rest = closing_rest(start)
    other = sell(1.5).order
    mt5.order_send({"action": mt5.TRADE_ACTION_CLOSE_BY, "position": position, "position_by": other})
    assert mt5.positions_get(ticket=position)[0].volume == 0.5
    market.tick("EURUSD", 1.0999, 1.1)
    assert mt5.positions_total() == 0
    market.tick("EURUSD", 1.0999, 1.1)
    assert mt5.history_orders_get(ticket=rest)[0].state == mt5.ORDER_STATE_CANCELED
    assert balance_adds_up()


def test_a_stop_closes_in_full_however_thin_the_market(start: Start) -> None:
    market = start(balance=100_000, symbols={"EURUSD": DEEP})
    ticket = buy(3.0, sl=1.09).order
    buy(2.0)
    thin = buy(1.0, sl=1.09).order
    market.tick("EURUSD", 1.08, 1.0801)
    assert mt5.positions_get(ticket=ticket) == mt5.positions_get(ticket=thin) == ()
    assert [deal.price for deal in mt5.history_deals_get(position=ticket)[3:]] == [1.08, 1.07995, 1.0799]
    assert balance_adds_up()


def test_slippage_through_the_terminal(start: Start) -> None:
    market = start(symbols={"EURUSD": {"slippage": 20}})
    opened = [buy(0.1, sl=1.09, tp=1.11).price for _ in range(8)]
    assert min(opened) >= 1.1001
    assert len(set(opened)) > 1
    market.tick("EURUSD", 1.08, 1.0801)
    stopped = [deal.price for deal in mt5.history_deals_get(*ALWAYS) if deal.reason == mt5.DEAL_REASON_SL]
    assert max(stopped) <= 1.08
    assert len(set(stopped)) > 1


def test_a_target_and_a_limit_do_not_slip(start: Start) -> None:
    market = start(symbols={"EURUSD": {"slippage": 20}})
    tickets = [buy(0.1, tp=1.11).order for _ in range(4)]
    limits = [pending(mt5.ORDER_TYPE_SELL_LIMIT, 1.111).order for _ in range(4)]
    market.tick("EURUSD", 1.112, 1.1121)
    assert {mt5.history_deals_get(position=ticket)[-1].price for ticket in tickets} == {1.112}
    assert {mt5.positions_get(ticket=ticket)[0].price_open for ticket in limits} == {1.112}


INSTANT = {"execution": "instant"}


def test_instant_execution_holds_to_the_price_or_requotes(start: Start) -> None:
    start(symbols={"EURUSD": {**INSTANT, "slippage": 5}})
    assert buy().retcode == mt5.TRADE_RETCODE_INVALID_PRICE
    away = buy(price=1.0995, deviation=3)
    assert (away.retcode, away.bid, away.ask) == (mt5.TRADE_RETCODE_REQUOTE, 1.1, 1.1001)
    strict = [buy(0.01, price=1.1001).retcode for _ in range(20)]
    assert set(strict) == {mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_REQUOTE}
    assert {buy(0.01, price=1.1001, deviation=5).retcode for _ in range(20)} == {mt5.TRADE_RETCODE_DONE}
    assert buy(0.01, price=1.1001, deviation=5, type_filling=mt5.ORDER_FILLING_RETURN).retcode == 10009


def test_requotes_are_a_share_of_requests(start: Start) -> None:
    start(symbols={"EURUSD": {**INSTANT, "requotes": 0.5}})
    answers = [buy(0.01, price=1.1001).retcode for _ in range(40)]
    assert 8 < answers.count(mt5.TRADE_RETCODE_REQUOTE) < 32
    assert set(answers) == {mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_REQUOTE}
    request = {"action": mt5.TRADE_ACTION_DEAL, "type": mt5.ORDER_TYPE_BUY, "volume": 0.1, "price": 1.1001}
    assert check(**request).retcode == 0


def test_an_exchange_takes_limits_beyond_the_market_and_fills_them_at_once(start: Start) -> None:
    start(margin_mode="exchange", symbols={"EURUSD": EXCHANGE})
    result = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.105, type_filling=mt5.ORDER_FILLING_RETURN)
    assert (result.retcode, mt5.orders_total()) == (mt5.TRADE_RETCODE_DONE, 0)
    assert mt5.positions_get()[0].price_open == 1.1001
    passive = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.105, type_filling=mt5.ORDER_FILLING_BOC)
    assert mt5.history_orders_get(ticket=passive.order)[0].state == mt5.ORDER_STATE_CANCELED
    assert mt5.positions_get()[0].volume == 0.1


def test_book_or_cancel_rests_in_the_book(start: Start) -> None:
    market = start(margin_mode="exchange", symbols={"EURUSD": EXCHANGE})
    passive = {"type_filling": mt5.ORDER_FILLING_BOC}
    pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.099, **passive)
    gone = pending(mt5.ORDER_TYPE_BUY_STOP_LIMIT, 1.103, stoplimit=1.103, **passive).order
    kept = pending(mt5.ORDER_TYPE_BUY_STOP_LIMIT, 1.103, stoplimit=1.1025, **passive).order
    market.tick("EURUSD", 1.1029, 1.103)
    assert mt5.history_orders_get(ticket=gone)[0].state == mt5.ORDER_STATE_CANCELED
    assert mt5.orders_get(ticket=kept)[0].type == mt5.ORDER_TYPE_BUY_LIMIT
    market.tick("EURUSD", 1.0988, 1.0989)
    assert (mt5.positions_get()[0].volume, mt5.orders_total()) == (0.2, 0)

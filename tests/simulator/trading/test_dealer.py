"""`order_check` foretells what `order_send` then does, in every margin mode."""

from collections.abc import Callable
from typing import Any

import pytest
from support.paper import ALWAYS, balance_adds_up, buy, check, pending, sell, send

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]

BUY = {"action": mt5.TRADE_ACTION_DEAL, "type": mt5.ORDER_TYPE_BUY, "volume": 1.0}
SELL = {**BUY, "type": mt5.ORDER_TYPE_SELL}


def test_the_example_of_the_reference(start: Start) -> None:
    """MQL5 reference, "order_check": a lot of USDJPY on 10000.17 USD at 1:100 leaves equity and profit as they were."""
    market = start(balance="10000.17")
    mt5.symbol_select("USDJPY")
    market.tick("USDJPY", 108.08, 108.081)
    result = check(**{**BUY, "symbol": "USDJPY", "price": 108.081})
    assert result[:8] == (0, 10000.17, 10000.17, 0.0, 1000.0, 9000.17, pytest.approx(1000.017), "Done")


def test_a_refusal_tells_nothing_of_the_account_but_that_of_money(market: MarketControl) -> None:
    assert check(**{**BUY, "volume": 0.001})[:8] == (
        mt5.TRADE_RETCODE_INVALID_VOLUME, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, "Invalid volume"
    )  # fmt: skip
    poor = check(**{**BUY, "volume": 20.0})
    assert (poor.retcode, poor.margin, poor.margin_free) == (mt5.TRADE_RETCODE_NO_MONEY, 22002.0, -12002.0)
    assert mt5.positions_total() == 0


def foretold(**request: Any) -> None:
    """Checks, sends, and compares; what a deal opens is worth its own price in the check, the quote after it."""
    before = mt5.account_info(), mt5.positions_get(), mt5.orders_get(), mt5.history_deals_get(*ALWAYS)
    told = check(**request)
    assert (mt5.account_info(), mt5.positions_get(), mt5.orders_get(), mt5.history_deals_get(*ALWAYS)) == before
    assert told.retcode == 0
    result = send(**request)
    assert result.retcode == mt5.TRADE_RETCODE_DONE
    account = mt5.account_info()
    assert (told.balance, told.margin) == (account.balance, account.margin)
    assert told.equity == pytest.approx(account.equity + spread(result))
    assert told.profit == pytest.approx(account.profit + spread(result))
    assert told.margin_free == pytest.approx(told.equity - told.margin)
    if account.margin:
        assert told.margin_level == pytest.approx(told.equity / told.margin * 100)


def spread(result: Any) -> float:
    """What the opened lots lose at once."""
    opened = 0.0
    for deal in mt5.history_deals_get(ticket=result.order):
        if deal.entry == mt5.DEAL_ENTRY_IN:
            opened += deal.volume
        elif deal.entry == mt5.DEAL_ENTRY_INOUT:
            opened += mt5.positions_get()[0].volume
    return opened * 10.0


@pytest.mark.parametrize("filling", [mt5.ORDER_FILLING_FOK, mt5.ORDER_FILLING_IOC])
def test_a_computed_volume_is_the_one_it_means(start: Start, filling: int) -> None:
    """0.1 * 3 is 0.30000000000000004."""
    start(symbols={"EURUSD": {"filling_bits": ["fok", "ioc"]}})
    result = buy(0.1 * 3, type_filling=filling)
    assert (result.retcode, result.volume) == (mt5.TRADE_RETCODE_DONE, 0.3)
    assert mt5.history_orders_get(ticket=result.order)[0].volume_initial == mt5.positions_get()[0].volume == 0.3
    assert sell(0.1 + 0.2, position=result.order, type_filling=filling).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.positions_total() == 0


@pytest.mark.parametrize("mode", ["hedging", "netting", "exchange"])
def test_opening_adding_reducing_and_reversing(start: Start, mode: str) -> None:
    market = start(margin_mode=mode, balance=100_000, symbols={"EURUSD": {"commission": 3.5}})
    foretold(**BUY)
    market.advance(3 * 86_400)
    market.tick("EURUSD", 1.102, 1.1021)
    foretold(**BUY)
    foretold(**{**SELL, "volume": 0.5})
    foretold(**{**SELL, "volume": 2.5})
    foretold(**{**SELL, "volume": 0.1})
    assert balance_adds_up()


def test_a_closing_order_has_no_levels(market: MarketControl) -> None:
    closed = sell(position=buy().order, sl=1.2, tp=1.0)
    order = mt5.history_orders_get(ticket=closed.order)[0]
    assert (order.sl, order.tp) == (0.0, 0.0)


def test_closing_and_closing_by(start: Start) -> None:
    market = start(balance=100_000, symbols={"EURUSD": {"commission": 3.5, "commission_entry": "out"}})
    long, short = buy(1.0).order, sell(0.4).order
    market.advance(86_400)
    market.tick("EURUSD", 1.102, 1.1021)
    foretold(**{**SELL, "volume": 0.3, "position": long})
    foretold(action=mt5.TRADE_ACTION_CLOSE_BY, position=long, position_by=short)
    assert mt5.positions_get(ticket=long)[0].volume == pytest.approx(0.3)
    foretold(**{**SELL, "volume": 0.3, "position": long})
    assert mt5.positions_total() == 0
    assert balance_adds_up()


def test_orders_that_only_wait(start: Start) -> None:
    start(symbols={"EURUSD": {"margin_rates": {"buy_limit": 0.5}}})
    foretold(action=mt5.TRADE_ACTION_PENDING, type=mt5.ORDER_TYPE_BUY_LIMIT, volume=0.1, price=1.05)
    ticket = mt5.orders_get()[0].ticket
    foretold(action=mt5.TRADE_ACTION_MODIFY, order=ticket, price=1.04)
    assert mt5.account_info().margin == 52.0
    foretold(action=mt5.TRADE_ACTION_REMOVE, order=ticket)
    position = buy().order
    foretold(action=mt5.TRADE_ACTION_SLTP, position=position, sl=1.0)


def test_the_check_foretells_the_prices_of_the_depth(start: Start) -> None:
    start(balance=100_000, symbols={"EURUSD": {"depth_volume": 0.5, "depth_levels": 4, "depth_step": 10}})
    ticket = buy(1.0).order
    told = check(**{**SELL, "position": ticket})
    sell(1.0, position=ticket)
    assert told.balance == told.equity == mt5.account_info().balance == 99980.0


@pytest.mark.parametrize(
    ("rule", "opening", "closing"),
    [
        ({"commission": 7.0}, -3.5, -3.5),
        ({"commission": 7.0, "commission_entry": "in"}, -3.5, 0.0),
        ({"commission": 7.0, "commission_entry": "out"}, 0.0, -3.5),
        ({"commission": 7.0, "commission_mode": "deal"}, -7.0, -7.0),
        ({"commission": 0.01, "commission_mode": "percent"}, -5.5, -5.5),
    ],
)
def test_commission_is_booked_deal_by_deal(start: Start, rule: dict[str, Any], opening: float, closing: float) -> None:
    start(symbols={"EURUSD": rule})
    ticket = buy(0.5).order
    assert mt5.account_info().balance == 10000.0 + opening
    sell(0.5, position=ticket)
    deals = mt5.history_deals_get(position=ticket)
    assert [deal.commission for deal in deals] == [opening, closing]
    assert mt5.account_info().balance == 10000.0 + opening + closing - 5.0
    assert balance_adds_up()


def test_commission_of_stops_reversals_and_close_by(start: Start) -> None:
    market = start(margin_mode="netting", symbols={"EURUSD": {"commission": 10.0}})
    buy(0.1, sl=1.09)
    sell(0.3)
    market.tick("EURUSD", 1.12, 1.1201)
    buy(0.2)
    assert [deal.commission for deal in mt5.history_deals_get(*ALWAYS)] == [0.0, -1.0, -3.0, -2.0]
    assert balance_adds_up()


def test_percent_commission_converts_from_the_profit_currency(start: Start) -> None:
    market = start(symbols={"USDJPY": {"commission": 0.01, "commission_mode": "percent"}})
    mt5.symbol_select("USDJPY")
    market.tick("USDJPY", 99.99, 100.0)
    assert mt5.history_deals_get(ticket=buy(1.0, symbol="USDJPY").order)[0].commission == -10.0


def test_profit_of_forex_converts_by_deal(start: Start) -> None:
    """MetaTrader 5 help, "Profit Calculation": longs at the ask of the profit currency, shorts at the bid."""
    market = start(balance=100_000)
    for symbol in ("USDJPY", "EURJPY"):
        mt5.symbol_select(symbol)
    market.tick("USDJPY", 100.0, 101.0)
    market.tick("EURJPY", 110.0, 110.0)
    long, short = buy(1.0, symbol="EURJPY").order, sell(1.0, symbol="EURJPY").order
    market.tick("EURJPY", 111.0, 111.0)
    # 100,000 yen at 1 / bid of USDJPY for the long, though it gains, and at 1 / ask for the short, though it loses.
    assert [position.profit for position in mt5.positions_get(symbol="EURJPY")] == [1000.0, -990.1]
    sell(1.0, symbol="EURJPY", position=long)
    buy(1.0, symbol="EURJPY", position=short)
    profits = [deal.profit for deal in mt5.history_deals_get(*ALWAYS) if deal.entry == mt5.DEAL_ENTRY_OUT]
    assert profits == [1000.0, -990.1]
    assert balance_adds_up()


def test_profit_of_everything_else_sells_gains_and_buys_losses(start: Start) -> None:
    market = start(balance=100_000, currency="EUR")
    mt5.symbol_select("XAUUSD")
    market.tick("EURUSD", 1.0, 1.25)
    market.tick("XAUUSD", 1500.0, 1500.0)
    long, short = (send(**{**kind, "symbol": "XAUUSD"}).order for kind in (BUY, SELL))
    market.tick("XAUUSD", 1510.0, 1510.0)
    profits = {position.ticket: position.profit for position in mt5.positions_get()}
    assert profits == {long: 800.0, short: -1000.0}
    assert mt5.order_calc_profit(mt5.ORDER_TYPE_BUY, "XAUUSD", 1.0, 1500.0, 1510.0) == 800.0
    assert mt5.order_calc_profit(mt5.ORDER_TYPE_SELL, "XAUUSD", 1.0, 1500.0, 1510.0) == -1000.0


def test_the_margin_of_a_future_and_its_maintenance(start: Start) -> None:
    rules = {
        "calc_mode": "futures", "margin_initial": 4000.0, "margin_maintenance": 3500.0, "tick_size": 0.1,
        "tick_value": 1.0, "currency_margin": "USD",
    }  # fmt: skip
    market = start(symbols={"US500": rules})
    mt5.symbol_select("US500")
    market.tick("US500", 3000.0, 3000.1)
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "US500", 2.0, 3000.0) == 8000.0
    assert buy(3.0, symbol="US500", type_filling=mt5.ORDER_FILLING_IOC).retcode == mt5.TRADE_RETCODE_NO_MONEY
    assert buy(2.0, symbol="US500", type_filling=mt5.ORDER_FILLING_IOC).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.account_info().margin == 7000.0
    market.tick("US500", 3001.1, 3001.2)
    assert mt5.positions_get()[0].profit == 20.0
    assert mt5.order_calc_profit(mt5.ORDER_TYPE_BUY, "US500", 2.0, 3000.1, 3001.1) == 20.0


def test_what_only_waits_is_answered_as_terminals_do(market: MarketControl) -> None:
    """Answers that people publish: of a pending its volume and no price, of stops nothing but that it is done."""
    placed = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.05, volume=0.3)
    modified = send(action=mt5.TRADE_ACTION_MODIFY, order=placed.order, price=1.04)
    removed = send(action=mt5.TRADE_ACTION_REMOVE, order=placed.order)
    for result in (placed, modified, removed):
        assert result[:8] == (10009, 0, placed.order, 0.3, 0.0, 1.1, 1.1001, "Request executed")
    stops = send(action=mt5.TRADE_ACTION_SLTP, position=buy().order, sl=1.0)
    assert stops[:8] == (10009, 0, 0, 0.0, 0.0, 0.0, 0.0, "Request executed")


def test_a_limit_that_an_exchange_fills_at_once_is_answered_with_its_volume(start: Start) -> None:
    start(symbols={"EURUSD": {"execution": "exchange"}})
    result = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.2, volume=0.5, type_filling=mt5.ORDER_FILLING_RETURN)
    assert (result.retcode, result.volume) == (mt5.TRADE_RETCODE_DONE, 0.5)
    assert mt5.positions_get()[0].volume == 0.5


@pytest.mark.parametrize("execution", ["instant", "request"])
def test_no_rest_waits_where_the_trader_names_the_price(start: Start, execution: str) -> None:
    market = start(symbols={"EURUSD": {"execution": execution, "depth_volume": 0.1, "depth_levels": 1}})
    result = buy(0.3, price=1.1001, type_filling=mt5.ORDER_FILLING_RETURN)
    assert (result.retcode, result.volume) == (mt5.TRADE_RETCODE_DONE_PARTIAL, 0.1)
    assert mt5.history_orders_get(ticket=result.order)[0].state == mt5.ORDER_STATE_CANCELED
    market.tick("EURUSD", 1.2, 1.2001)
    assert [deal.price for deal in mt5.history_deals_get(ticket=result.order)] == [1.1001]


def all_books() -> Any:
    return mt5.account_info(), mt5.positions_get(), mt5.orders_get(), mt5.history_deals_get(*ALWAYS)


@pytest.mark.parametrize("named", ["nothing", "none that exists", "another"])
@pytest.mark.parametrize("mode", ["hedging", "netting", "exchange"])
def test_a_check_of_what_fills_at_once_changes_nothing(start: Start, mode: str, named: str) -> None:
    """A limit beyond the market fills into the netting position of its symbol, whichever position the request names."""
    market = start(margin_mode=mode, symbols={"EURUSD": {"execution": "exchange"}})
    mt5.symbol_select("GBPUSD")
    market.tick("GBPUSD", 1.3, 1.3001)
    other = buy(0.1, symbol="GBPUSD").order
    buy(0.3)
    before = all_books()
    limit = {
        "action": mt5.TRADE_ACTION_PENDING, "type": mt5.ORDER_TYPE_BUY_LIMIT, "price": 1.2, "volume": 0.5,
        "type_filling": mt5.ORDER_FILLING_RETURN, "position": {"nothing": 0, "another": other}.get(named, 999),
    }  # fmt: skip
    told = check(**limit)
    assert all_books() == before
    send(**limit)
    account = mt5.account_info()
    assert (told.balance, told.margin) == (account.balance, account.margin)
    assert told.equity == pytest.approx(account.equity + 5.0)


def test_a_check_of_the_rest_of_a_limit_changes_nothing(start: Start) -> None:
    """Moved back into the market it would add to the position that its first part opened."""
    market = start(
        margin_mode="hedging", symbols={"EURUSD": {"execution": "exchange", "depth_volume": 0.1, "depth_levels": 1}}
    )
    ticket = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.2, volume=0.3, type_filling=mt5.ORDER_FILLING_RETURN).order
    market.tick("EURUSD", 1.3, 1.3001)
    before = all_books()
    assert [position.volume for position in before[1]] == [0.1]
    modify = {"action": mt5.TRADE_ACTION_MODIFY, "order": ticket, "price": 1.4}
    told = check(**modify)
    assert all_books() == before
    send(**modify)
    account = mt5.account_info()
    assert mt5.positions_get()[0].volume == 0.2
    assert told.margin == account.margin
    assert told.equity == pytest.approx(account.equity + 1.0)


def test_a_limit_in_the_depth_of_an_exchange_is_told_by_the_check(start: Start) -> None:
    start(margin_mode="exchange", symbols={"EURUSD": {"execution": "exchange"}})
    limit = {"action": mt5.TRADE_ACTION_PENDING, "type": mt5.ORDER_TYPE_BUY_LIMIT, "volume": 0.1, "price": 1.105}
    assert check(**limit).margin == 110.01
    assert mt5.positions_total() == 0
    pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.105)
    assert mt5.account_info().margin == 110.01

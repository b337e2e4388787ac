"""What a fault leaves for a while is in what is shown, never in the books."""

from typing import Any

import pytest

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

ALWAYS = (0, 2**31 - 1)
BUY: dict[str, Any] = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}
PENDING: dict[str, Any] = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "price": 1.0}


def send(**changes: Any) -> Any:
    return mt5.order_send({**BUY, **changes})


def test_positions_lag_behind_what_was_traded(market: MarketControl) -> None:
    old = send(magic=1)
    mt5.inject(kind="positions_lag", seconds=2, times=1)
    new = send(magic=2)
    send(type=1, position=old.order)
    assert [position.magic for position in mt5.positions_get()] == [1]
    assert mt5.positions_total() == 1
    assert mt5.positions_get(ticket=new.order) == mt5.positions_get(symbol="GBPUSD") == ()
    assert mt5.positions_get(group="*JPY") == ()
    assert len(mt5.positions_get(ticket=old.order)) == len(mt5.positions_get(group="EUR*")) == 1
    assert len(mt5.history_deals_get(*ALWAYS)) == 4, "the history knows"
    market.advance(2)
    assert [position.magic for position in mt5.positions_get()] == [2]
    assert mt5.positions_total() == 1


def test_orders_lag_behind_what_was_placed(market: MarketControl) -> None:
    mt5.inject(kind="orders_lag", times=1)
    ticket = mt5.order_send(PENDING).order
    assert mt5.orders_get() == ()
    assert mt5.orders_total() == 0
    market.advance(1)
    assert [order.ticket for order in mt5.orders_get()] == [ticket]
    mt5.inject(kind="orders_lag", times=1)
    mt5.order_send({"action": 8, "order": ticket})
    assert mt5.orders_total() == len(mt5.orders_get(ticket=ticket)) == 1
    market.advance(1)
    assert mt5.orders_get() == ()


def test_each_order_lags_its_own_time(market: MarketControl) -> None:
    mt5.inject(kind="positions_lag", seconds=2)
    send(magic=1)
    market.advance(1.5)
    send(magic=2)
    assert mt5.positions_get() == ()
    market.advance(1)
    assert [position.magic for position in mt5.positions_get()] == [1]
    market.advance(1)
    assert [position.magic for position in mt5.positions_get()] == [1, 2]


def test_the_history_lags_behind(market: MarketControl) -> None:
    opened, waiting = send(), mt5.order_send(PENDING).order
    market.advance(60)
    mt5.inject(kind="history_lag", times=1)
    closed = send(type=1, position=opened.order)
    mt5.order_send({"action": 8, "order": waiting})
    assert mt5.positions_total() == mt5.orders_total() == 0, "the lists know"
    assert [deal.order for deal in mt5.history_deals_get(*ALWAYS)] == [0, opened.order]
    assert [order.ticket for order in mt5.history_orders_get(*ALWAYS)] == [opened.order]
    assert mt5.history_deals_total(*ALWAYS) == 2
    assert mt5.history_orders_total(*ALWAYS) == 1
    assert mt5.history_deals_get(ticket=closed.order) == mt5.history_orders_get(ticket=closed.order) == ()
    assert len(mt5.history_deals_get(position=opened.order)) == 1
    market.advance(3)
    assert len(mt5.history_deals_get(position=opened.order)) == 2
    assert mt5.history_deals_total(*ALWAYS) == mt5.history_orders_total(*ALWAYS) == 3


def test_while_the_history_lags_the_lists_do_not(market: MarketControl) -> None:
    before = mt5.order_send(PENDING).order
    mt5.inject(kind="history_lag", times=1)
    since = mt5.order_send(PENDING).order
    assert [order.ticket for order in mt5.orders_get()] == [before, since]
    assert mt5.orders_total() == 2


@pytest.mark.parametrize("elsewhere", ["impostor", "login"])
def test_what_lags_is_one_accounts(market: MarketControl, elsewhere: str) -> None:
    send(magic=1)
    mt5.order_send(PENDING)
    for kind in ("positions_lag", "orders_lag", "history_lag"):
        mt5.inject(kind=kind, seconds=60, times=1)
    send(magic=2)
    if elsewhere == "impostor":
        mt5.inject(kind="account_swap", function="account_info")
    else:
        assert mt5.login(5000002, "x")
    assert mt5.account_info().login == 5000002
    assert mt5.positions_get() == mt5.orders_get() == ()
    assert mt5.positions_total() == mt5.orders_total() == 0
    own = send(magic=3)
    assert [position.ticket for position in mt5.positions_get()] == [own.order]
    assert len(mt5.history_deals_get(*ALWAYS)) == mt5.history_deals_total(*ALWAYS) == 2
    assert mt5.initialize()
    assert [position.magic for position in mt5.positions_get()] == [1], "a new connection shows no more"
    assert len(mt5.history_deals_get(*ALWAYS)) == 2


@pytest.mark.parametrize("connected", [True, False])
def test_what_strikes_a_connection_holds_from_it_on(market: MarketControl, connected: bool) -> None:
    send(magic=1)
    for kind in ("positions_lag", "history_lag"):
        mt5.inject(kind=kind, function="initialize", seconds=5, times=1)
    if not connected:
        mt5.shutdown()
    assert mt5.initialize()
    send(magic=2)
    assert [position.magic for position in mt5.positions_get()] == [1]
    assert len(mt5.history_deals_get(*ALWAYS)) == 2
    market.advance(5)
    assert mt5.positions_total() == 2
    mt5.inject(kind="account_swap", function="initialize")
    if not connected:
        mt5.shutdown()
    assert mt5.initialize()
    assert mt5.account_info().login == 5000002
    assert mt5.initialize()
    assert mt5.account_info().login == 5000001


def test_bad_arguments_are_refused_while_things_lag(market: MarketControl) -> None:
    for kind in ("positions_lag", "history_lag"):
        mt5.inject(kind=kind, times=1)
    send()
    assert mt5.positions_get(ticket="x") is None
    assert mt5.last_error() == (mt5.RES_E_INVALID_PARAMS, 'Invalid "ticket" argument')
    assert mt5.history_deals_total(1) is None
    assert mt5.last_error() == (mt5.RES_E_INVALID_PARAMS, "Invalid arguments")


def quotes(symbol: str) -> Any:
    now = 1704240000 + 7200
    return (
        mt5.symbol_info_tick(symbol),
        [getattr(mt5.symbol_info(symbol), field) for field in ("time", "bid", "ask", "spread", "select")],
        mt5.copy_ticks_range(symbol, now, now + 3600, mt5.COPY_TICKS_ALL).tobytes(),
        mt5.copy_rates_from_pos(symbol, mt5.TIMEFRAME_M1, 0, 5).tobytes(),
        mt5.copy_rates_range(symbol, mt5.TIMEFRAME_M1, now, now + 3600).tobytes(),
    )


def test_quotes_stand_still_while_the_market_goes_on(market: MarketControl) -> None:
    assert mt5.symbol_select("GBPUSD")
    market.advance(100)
    before = {symbol: quotes(symbol) for symbol in ("EURUSD", "GBPUSD")}
    mt5.inject(kind="frozen_quotes", seconds=30)
    mt5.version()
    market.advance(20)
    market.tick("EURUSD", 1.2, 1.2001)
    assert {symbol: quotes(symbol) for symbol in before} == before
    shown = {info.name: info.bid for info in mt5.symbols_get("EURUSD,GBPUSD")}
    assert shown["EURUSD"] == 1.1
    assert send().price == 1.2001, "orders are filled at the market's price"
    market.advance(10)
    assert mt5.symbol_info_tick("EURUSD").bid == mt5.symbol_info("EURUSD").bid == 1.2
    assert quotes("GBPUSD") != before["GBPUSD"]


def test_one_symbols_quotes_stand_still(market: MarketControl) -> None:
    assert mt5.symbol_select("GBPUSD")
    market.advance(100)
    still = quotes("EURUSD")
    other = quotes("GBPUSD")
    mt5.inject(kind="frozen_quotes", symbol="EURUSD", function="symbol_info_tick")
    mt5.symbol_info_tick("EURUSD")
    market.advance(20)
    market.tick("EURUSD", 1.2, 1.2001)
    assert quotes("EURUSD") == still
    assert quotes("GBPUSD") != other
    assert len(mt5.symbols_get()) == mt5.symbols_total()
    assert mt5.symbol_info("USDJPY").bid == 0.0, "not selected"
    mt5.clear_faults()
    assert mt5.symbol_info_tick("EURUSD").bid == 1.2


def test_the_clock_of_frozen_quotes_is_put_back_when_a_call_fails(market: MarketControl) -> None:
    mt5.inject(kind="frozen_quotes")
    mt5.version()
    market.advance(5)
    assert mt5.copy_ticks_from("EURUSD", 0, -1, -1) is None
    mt5.clear_faults()
    assert market.now() == market.terminal.clock.now() == market.market.clock.now()


def test_a_tick_while_another_account_answers_reaches_the_own_one(market: MarketControl) -> None:
    market.tick("EURUSD", 1.1, 1.1001)
    send(sl=1.09)
    assert mt5.account_info().login == 5000001
    mt5.inject(kind="account_swap")
    assert mt5.account_info().login == 5000002
    market.advance(5)
    market.tick("EURUSD", 1.08, 1.0801)
    mt5.clear_faults()
    market.advance(3600)
    assert mt5.symbol_info_tick("EURUSD").bid == 1.08
    assert mt5.positions_total() == 0

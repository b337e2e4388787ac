"""The calls that public wrappers, bots and tutorials make of the official package, and what they read from the answers.

Seen in aiomql, pymt5adapter and mt5linux, in the reference's examples, and in many a trading bot. The behaviour asked
for here is what lets such a program run unchanged.
"""

import asyncio
import concurrent.futures
import datetime as dt
import enum
import importlib
import importlib.util
import inspect
import json
import math
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mt5_bridge.simulator
from mt5_bridge.simulator import MarketControl

UTC = dt.UTC
MIDNIGHT = 1_704_240_000 + 7200
"""The manual clock's start on the server's clock."""


@pytest.fixture
def market() -> Iterator[MarketControl]:
    """Half an hour of the shipped quotes, then one of the test's."""
    market = mt5_bridge.simulator.install(clock="manual")
    assert mt5_bridge.simulator.initialize()
    assert mt5_bridge.simulator.symbol_select("EURUSD")
    market.advance(1800)
    market.tick("EURUSD", 1.1, 1.1001)
    yield market
    mt5_bridge.simulator.uninstall()


@pytest.fixture
def mt5(market: MarketControl) -> Any:
    """What `import MetaTrader5` gives a program."""
    return importlib.import_module("MetaTrader5")


def order(mt5: Any, kind: int, **changes: Any) -> dict[str, Any]:
    """The request of the reference's example, as nearly every program copies it."""
    tick = mt5.symbol_info_tick("EURUSD")
    return {
        "action": mt5.TRADE_ACTION_DEAL,
        "symbol": "EURUSD",
        "volume": 0.1,
        "type": kind,
        "price": tick.ask if kind == mt5.ORDER_TYPE_BUY else tick.bid,
        "deviation": 20,
        "magic": 234000,
        "comment": "python script open",
        "type_time": mt5.ORDER_TIME_GTC,
        "type_filling": mt5.ORDER_FILLING_IOC,
        **changes,
    }


# Connecting.


def test_connecting_in_all_the_usual_ways(mt5: Any) -> None:
    path = r"C:\Program Files\MetaTrader 5\terminal64.exe"
    account = {"login": 5000001, "password": "paper", "server": "Paper-Demo"}
    assert mt5.initialize() is True
    assert mt5.initialize(path)
    assert mt5.initialize(path, login=5000001, password="paper", server="Paper-Demo", timeout=60000, portable=False)
    assert mt5.initialize(path=path, **account)
    assert mt5.initialize(terminal_path=path), "a misspelt keyword is not noticed"
    assert mt5.login(5000001)
    assert mt5.login(5000001, password="paper")
    assert mt5.login(5000001, "paper", "Paper-Demo")
    assert mt5.login(login=5000001, server="Paper-Demo", timeout=10_000)
    assert mt5.last_error() == (1, "Success")
    assert not mt5.login(5000001, password="wrong")
    assert mt5.last_error()[0] == mt5.RES_E_AUTH_FAILED
    assert mt5.account_info().login == 5000001
    assert mt5.shutdown() is True
    assert mt5.terminal_info() is None
    code, text = mt5.last_error()
    assert (code, text) == (-10004, "No IPC connection")


def test_readiness_checks(mt5: Any) -> None:
    terminal, account = mt5.terminal_info(), mt5.account_info()
    assert terminal.connected
    assert terminal.trade_allowed
    assert not terminal.tradeapi_disabled
    assert account.trade_allowed
    assert account.trade_expert
    assert account.margin_mode == mt5.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING
    assert account.trade_mode == mt5.ACCOUNT_TRADE_MODE_DEMO
    version, build, date = mt5.version()
    assert (version, type(build), type(date)) == (500, int, str)
    assert mt5.__version__.startswith("5.0.")
    assert mt5.__author__ == "MetaQuotes Ltd."


# What wrappers do with the module itself.


def test_constants_are_found_by_name_and_turned_around(mt5: Any) -> None:
    assert getattr(mt5, "TIMEFRAME_" + "H4") == 16388
    retcodes = {value: name for name, value in vars(mt5).items() if name.startswith("TRADE_RETCODE_")}
    assert retcodes[10009] == "TRADE_RETCODE_DONE"
    frames = [name for name in dir(mt5) if name.startswith("TIMEFRAME_")]
    assert len(frames) == 21
    make: Any = enum.IntEnum  # from names known at run time only
    timeframe = make("Timeframe", {name: getattr(mt5, name) for name in frames})
    assert len(mt5.copy_rates_from_pos("EURUSD", timeframe["TIMEFRAME_M1"], 0, 3)) == 3
    assert mt5.order_calc_margin(make("Side", {"BUY": 0})["BUY"], "EURUSD", 1.0, 1.1) > 0


def test_functions_are_kept_in_classes_and_tables(mt5: Any) -> None:
    class Wrapper:
        account_info = mt5.account_info
        send = mt5.order_send

        def balance(self) -> float:
            balance: float = self.account_info().balance
            return balance

    wrapper = Wrapper()
    assert wrapper.balance() == 10000.0
    assert wrapper.send(order(mt5, mt5.ORDER_TYPE_BUY)).retcode == mt5.TRADE_RETCODE_DONE
    table = {name: getattr(mt5, name) for name in ("positions_get", "orders_get")}
    assert [len(get()) for get in table.values()] == [1, 0]
    assert callable(mt5.order_send)
    assert mt5.order_send.__name__ == "order_send"
    assert mt5.order_send.__doc__.startswith("order_send(request)")
    assert "copy_ticks_from(symbol, date_from, count, flags)" in str(inspect.getdoc(mt5.copy_ticks_from))


def test_star_import_and_imported_types(mt5: Any) -> None:
    names: dict[str, Any] = {}
    exec("from MetaTrader5 import *", names)  # noqa: S102 - how programs begin
    assert names["account_info"]().login == 5000001
    assert "configure" not in names
    exec("from MetaTrader5 import TradePosition, OrderSendResult, SymbolInfo, Tick, AccountInfo", names)  # noqa: S102
    assert isinstance(mt5.account_info(), names["AccountInfo"])
    assert isinstance(mt5.symbol_info_tick("EURUSD"), tuple)


# Threads and loops.


def test_calls_from_threads_pools_and_loops(mt5: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        frames = list(pool.map(lambda n: mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, 0, n), range(1, 20)))
    assert [len(frame) for frame in frames] == list(range(1, 20))

    async def ask() -> list[Any]:
        calls = (asyncio.to_thread(mt5.symbol_info_tick, "EURUSD") for _ in range(10))
        return list(await asyncio.gather(*calls))

    assert {tick.bid for tick in asyncio.run(ask())} == {1.1}
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(mt5.order_send(order(mt5, mt5.ORDER_TYPE_SELL))))
    thread.start()
    thread.join()
    assert seen[0].retcode == mt5.TRADE_RETCODE_DONE
    assert pickle.loads(pickle.dumps(mt5.copy_rates_from)) is mt5.copy_rates_from  # noqa: S301 - our own bytes


# Symbols and prices.


def test_symbols(mt5: Any) -> None:
    assert len(mt5.symbols_get()) == mt5.symbols_total()
    names = [symbol.name for symbol in mt5.symbols_get()]
    assert "EURUSD" in names
    dollars = mt5.symbols_get("*USD*")
    assert all("USD" in symbol.name for symbol in dollars)
    group = mt5.symbols_get(group="*,!*USD*,!*EUR*")
    assert group
    assert not any("USD" in symbol.name or "EUR" in symbol.name for symbol in group)
    info = mt5.symbol_info("GBPUSD")
    assert (info.visible, info.select) == (False, False)
    assert mt5.symbol_info_tick("GBPUSD") is None
    if not info.visible:
        assert mt5.symbol_select("GBPUSD", True)
    assert mt5.symbol_info_tick("GBPUSD").ask > mt5.symbol_info_tick("GBPUSD").bid > 0
    assert mt5.symbol_info("EURJPY_i") is None
    assert mt5.last_error()[0] == mt5.RES_E_NOT_FOUND
    fields = mt5.symbol_info("EURUSD")._asdict()
    assert {"spread", "digits", "ask", "bid", "point", "volume_min", "trade_tick_value", "path"} <= fields.keys()
    for number in (info.point, info.trade_tick_size, info.trade_contract_size, info.volume_step, info.volume_min):
        assert number > 0


def test_lot_sizes_by_risk(mt5: Any) -> None:
    info = mt5.symbol_info("EURUSD")
    risk, stop_points = mt5.account_info().balance * 0.01, 200
    lots = risk / (stop_points * info.trade_tick_value * info.point / info.trade_tick_size)
    lots = math.floor(lots / info.volume_step) * info.volume_step
    lots = max(info.volume_min, min(round(lots, 2), info.volume_max))
    assert lots == 0.5
    loss = mt5.order_calc_profit(mt5.ORDER_TYPE_BUY, "EURUSD", lots, info.ask, info.ask - stop_points * info.point)
    assert loss == -risk
    assert mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "EURUSD", lots, info.ask) < mt5.account_info().margin_free


def test_market_book(mt5: Any) -> None:
    assert mt5.market_book_add("EURUSD")
    for item in mt5.market_book_get("EURUSD"):
        row = item._asdict()
        assert list(row) == ["type", "price", "volume", "volume_dbl"]
        assert row["type"] in (mt5.BOOK_TYPE_SELL, mt5.BOOK_TYPE_BUY)
    assert mt5.market_book_release("EURUSD")


# Bars and ticks.


def test_bars(mt5: Any) -> None:
    rates = mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M5, 0, 5)
    assert rates.dtype.names == ("time", "open", "high", "low", "close", "tick_volume", "spread", "real_volume")
    assert isinstance(rates, np.ndarray)
    assert rates["close"][-1] == rates[-1]["close"] == rates[-1][4]
    assert float(rates["close"].mean()) > 0
    assert np.all(np.diff(rates["time"]) == 300)
    frame = {name: rates[name] for name in rates.dtype.names}  # what pandas.DataFrame(rates) does
    when = dt.datetime.fromtimestamp(int(frame["time"][-1]), UTC)
    assert (when.hour, when.minute) == (2, 30)
    forming, last_closed = mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, 0, 2)["time"][::-1]
    assert forming - last_closed == 60
    assert mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, 1, 1)["time"][0] == last_closed
    assert [row[0] for row in rates.tolist()] == list(rates["time"])


def test_bars_by_date(mt5: Any) -> None:
    aware = dt.datetime(2024, 1, 3, 2, 30, tzinfo=UTC)
    local = aware.astimezone().replace(tzinfo=None)
    seconds = int(aware.timestamp())
    by_date = [
        mt5.copy_rates_from("EURUSD", mt5.TIMEFRAME_M1, date, 10) for date in (aware, local, seconds, float(seconds))
    ]
    for rates in by_date:
        assert np.array_equal(rates, by_date[0])
        assert rates["time"][-1] == seconds
    earlier = aware - dt.timedelta(minutes=9)
    assert np.array_equal(mt5.copy_rates_range("EURUSD", mt5.TIMEFRAME_M1, earlier, aware), by_date[0])
    zone = dt.timezone(dt.timedelta(hours=-7))
    assert np.array_equal(
        mt5.copy_rates_range("EURUSD", mt5.TIMEFRAME_M1, earlier.astimezone(zone), aware.astimezone(zone)), by_date[0]
    )
    assert len(mt5.copy_rates_range("EURUSD", mt5.TIMEFRAME_D1, aware, aware + dt.timedelta(hours=1))) == 0
    assert mt5.copy_rates_from("NOPE", mt5.TIMEFRAME_M1, aware, 10) is None


def test_ticks(mt5: Any) -> None:
    start = dt.datetime(2024, 1, 3, 2, tzinfo=UTC)
    ticks = mt5.copy_ticks_from("EURUSD", start, 100_000, mt5.COPY_TICKS_ALL)
    assert ticks.dtype.names == ("time", "bid", "ask", "last", "volume", "time_msc", "flags", "volume_real")
    assert len(ticks) > 500
    mids = (ticks["bid"] + ticks["ask"]) / 2
    assert np.all(mids > 0)
    same = mt5.copy_ticks_range("EURUSD", start, start + dt.timedelta(hours=1), mt5.COPY_TICKS_ALL)
    assert np.array_equal(ticks, same)
    # Polling: again from the last second, without what is known already.
    again = mt5.copy_ticks_from("EURUSD", int(ticks["time"][-1]), 1000, mt5.COPY_TICKS_ALL)
    assert len(again[again["time_msc"] > ticks["time_msc"][-1]]) == 0
    assert ticks["flags"][0] & (mt5.TICK_FLAG_BID | mt5.TICK_FLAG_ASK)
    first = tuple(ticks[0])
    assert first[0] == MIDNIGHT
    assert len(mt5.copy_ticks_from("EURUSD", start, 10, mt5.COPY_TICKS_INFO)) == 10


# Orders.


def test_the_references_example(mt5: Any) -> None:
    """Open by market, show the result field by field, close by the position's ticket."""
    point = mt5.symbol_info("EURUSD").point
    request = order(mt5, mt5.ORDER_TYPE_BUY)
    request.update(sl=request["price"] - 100 * point, tp=request["price"] + 100 * point)
    result = mt5.order_send(request)
    assert result.retcode == mt5.TRADE_RETCODE_DONE
    shown = result._asdict()
    assert shown["comment"] == "Request executed"
    asked = shown["request"]._asdict()
    assert (asked["symbol"], asked["magic"], asked["comment"]) == ("EURUSD", 234000, "python script open")
    [position] = mt5.positions_get(ticket=result.order)
    assert (position.sl, position.tp) == (pytest.approx(1.0991), pytest.approx(1.1011))
    close = order(mt5, mt5.ORDER_TYPE_SELL, position=result.order, comment="python script close", magic=234000)
    assert mt5.order_send(close).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.positions_get(symbol="EURUSD") == ()
    assert mt5.positions_total() == 0


def test_checks_before_sending(mt5: Any) -> None:
    check = mt5.order_check(order(mt5, mt5.ORDER_TYPE_BUY))
    assert (check.retcode, check.comment) == (0, "Done")
    assert check.margin_free > 0
    assert check.request.volume == 0.1
    assert mt5.order_check(order(mt5, mt5.ORDER_TYPE_BUY, volume=1000.0)).retcode == mt5.TRADE_RETCODE_INVALID_VOLUME
    assert mt5.order_check({**order(mt5, mt5.ORDER_TYPE_BUY), "volume": 1}) is None
    assert mt5.last_error() == (mt5.RES_E_INVALID_PARAMS, 'Invalid "volume" argument')


def test_searching_for_a_filling_mode_that_works(mt5: Any) -> None:
    """Try one after the other until the answer is not 10030; or read the symbol's bits."""
    tried = []
    for filling in (mt5.ORDER_FILLING_RETURN, mt5.ORDER_FILLING_IOC, mt5.ORDER_FILLING_FOK):
        result = mt5.order_send(order(mt5, mt5.ORDER_TYPE_BUY, type_filling=filling))
        tried.append(result.retcode)
        if result.retcode != mt5.TRADE_RETCODE_INVALID_FILL:
            break
    assert tried == [mt5.TRADE_RETCODE_INVALID_FILL, mt5.TRADE_RETCODE_DONE]
    bits = mt5.symbol_info("EURUSD").filling_mode
    filling = mt5.ORDER_FILLING_FOK if bits & 1 else mt5.ORDER_FILLING_IOC
    assert mt5.order_send(order(mt5, mt5.ORDER_TYPE_SELL, type_filling=filling)).retcode == mt5.TRADE_RETCODE_DONE


def test_a_price_from_numpy_and_a_price_left_out(mt5: Any) -> None:
    rates = mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, 0, 10)
    stop = rates["low"].min() - np.float64(0.01)
    assert mt5.order_send(order(mt5, mt5.ORDER_TYPE_BUY, sl=stop)).retcode == mt5.TRADE_RETCODE_DONE
    bare = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 0.01, "type": mt5.ORDER_TYPE_SELL}
    assert mt5.order_send(bare).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.order_send(order(mt5, mt5.ORDER_TYPE_BUY, magic=np.int64(5))) is None
    assert mt5.last_error()[1] == 'Invalid "magic" argument'
    assert mt5.order_send(request=bare).retcode == mt5.TRADE_RETCODE_INVALID, "it is an unknown field"


def test_trailing_a_stop(mt5: Any, market: MarketControl) -> None:
    ticket = mt5.order_send(order(mt5, mt5.ORDER_TYPE_BUY)).order
    market.tick("EURUSD", 1.105, 1.1051)
    for position in mt5.positions_get(symbol="EURUSD"):
        if position.type == mt5.ORDER_TYPE_BUY and position.price_current - position.price_open > 0.001:
            request = {
                "action": mt5.TRADE_ACTION_SLTP,
                "symbol": position.symbol,
                "position": position.ticket,
                "sl": position.price_current - 0.001,
                "tp": position.tp,
                "comment": "python trailing stop",
            }
            assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_DONE
            assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_NO_CHANGES
    assert mt5.positions_get(ticket=ticket)[0].sl == pytest.approx(1.104)
    only = {"action": mt5.TRADE_ACTION_SLTP, "position": ticket, "sl": 1.1, "tp": 1.2}
    assert mt5.order_send(only).retcode == mt5.TRADE_RETCODE_DONE
    gone = {**only, "position": 1}
    assert mt5.order_send(gone).retcode in (mt5.TRADE_RETCODE_POSITION_CLOSED, mt5.TRADE_RETCODE_INVALID)


def test_pending_orders_as_they_are_written(mt5: Any) -> None:
    fok = order(mt5, mt5.ORDER_TYPE_BUY_LIMIT, action=mt5.TRADE_ACTION_PENDING, price=1.09, type_filling=0, sl=1.08)
    until = mt5.symbol_info_tick("EURUSD").time + 3600
    timed = {
        **fok,
        "type": mt5.ORDER_TYPE_SELL_STOP,
        "sl": 1.1,
        "type_time": mt5.ORDER_TIME_SPECIFIED,
        "expiration": until,
        "type_filling": mt5.ORDER_FILLING_RETURN,
    }
    tickets = []
    for request in (fok, timed):
        result = mt5.order_send(request)
        assert result.retcode in (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED)
        tickets.append(result.order)
    assert {waiting.ticket for waiting in mt5.orders_get(symbol="EURUSD")} == set(tickets)
    assert mt5.orders_get(ticket=tickets[1])[0].time_expiration == until
    assert mt5.orders_get(group="*GBP*") == ()
    modify = {"action": mt5.TRADE_ACTION_MODIFY, "order": tickets[0], "price": 1.085, "sl": 1.07, "tp": 1.1}
    assert mt5.order_send(modify).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.orders_get(ticket=tickets[0])[0].price_open == 1.085
    for ticket in tickets:
        remove = {"action": mt5.TRADE_ACTION_REMOVE, "order": ticket}
        assert mt5.order_send(remove).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.orders_total() == 0
    wrong = {**fok, "price": 1.2}
    assert mt5.order_send(wrong).retcode == mt5.TRADE_RETCODE_INVALID_PRICE


def test_closing_half_all_and_too_much(mt5: Any) -> None:
    for kind in (mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL):
        mt5.order_send(order(mt5, kind, volume=0.2))
    half, other = mt5.positions_get()
    opposite = mt5.ORDER_TYPE_SELL if half.type == mt5.POSITION_TYPE_BUY else mt5.ORDER_TYPE_BUY
    close = order(mt5, opposite, position=half.ticket, volume=0.1, sl=0.0, tp=0.0, type_filling=0)
    assert mt5.order_send(close).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.positions_get(ticket=half.ticket)[0].volume == 0.1
    assert mt5.order_send({**close, "volume": 0.5}).retcode == mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME
    by = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": half.ticket, "position_by": other.ticket}
    assert mt5.order_send(by).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.Close("EURUSD") is True
    assert mt5.positions_get() == ()
    assert mt5.Buy("EURUSD", 0.1).retcode == mt5.Sell("EURUSD", 0.1).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.order_send({**close, "position": 1}).retcode in (
        mt5.TRADE_RETCODE_POSITION_CLOSED, mt5.TRADE_RETCODE_INVALID,
    )  # fmt: skip


def test_what_the_terminal_refuses_by_itself_has_no_request_number(mt5: Any, market: MarketControl) -> None:
    """As shown in the answers that people publish: 10013, 10015, 10021 and 10027 with zeros all along."""
    market.terminal.autotrading = False
    refused = mt5.order_send(order(mt5, mt5.ORDER_TYPE_BUY))
    assert tuple(refused)[:10] == (10027, 0, 0, 0.0, 0.0, 0.0, 0.0, "AutoTrading disabled by client", 0, 0)
    market.terminal.autotrading = True
    assert tuple(mt5.order_send({}))[:10] == (10013, 0, 0, 0.0, 0.0, 0.0, 0.0, "Invalid request", 0, 0)
    assert mt5.order_send(order(mt5, mt5.ORDER_TYPE_BUY)).request_id > 0


# Lists and history.


def test_lists_become_tables(mt5: Any) -> None:
    for magic in (1, 2, 2):
        mt5.order_send(order(mt5, mt5.ORDER_TYPE_BUY, magic=magic))
    positions = mt5.positions_get()
    columns = list(positions[0]._asdict().keys())
    rows = [dict(zip(columns, row, strict=True)) for row in positions]  # pandas.DataFrame(list(positions), columns=...)
    assert [row["magic"] for row in rows] == [1, 2, 2]
    assert len([position for position in positions if position.magic == 2]) == 2
    assert sum(position.profit for position in positions) == pytest.approx(-3.0)
    assert max(positions, key=lambda position: position.ticket) == positions[-1]
    assert len(mt5.positions_get(magic=2)) == 3, "there is no such filter"
    text = json.dumps([position._asdict() for position in positions])
    assert json.loads(text)[0]["symbol"] == "EURUSD"
    assert json.loads(json.dumps(mt5.order_check(order(mt5, 0))._asdict()))["request"][3] == "EURUSD"
    match positions[0]:
        case mt5.TradePosition(symbol="EURUSD", magic=magic):
            assert magic == 1
        case _:
            pytest.fail("a structure matches by its fields")


def test_history_by_date_group_ticket_and_position(mt5: Any, market: MarketControl) -> None:
    ticket = mt5.order_send(order(mt5, mt5.ORDER_TYPE_BUY)).order
    mt5.order_send(order(mt5, mt5.ORDER_TYPE_SELL, position=ticket))
    since, until = dt.datetime(2020, 1, 1), dt.datetime(2024, 1, 4)  # noqa: DTZ001 - as programs write it
    deals = mt5.history_deals_get(since, until)
    assert mt5.history_deals_total(since, until) == len(deals) == 3
    assert mt5.history_orders_total(since, until) == len(mt5.history_orders_get(since, until)) == 2
    assert [deal.entry for deal in mt5.history_deals_get(since, until, group="*EUR*")] == [0, 1]
    assert mt5.history_deals_get(since, until, group="*,!*EUR*")[0].type == mt5.DEAL_TYPE_BALANCE
    assert len(mt5.history_deals_get(position=ticket)) == len(mt5.history_orders_get(position=ticket)) == 2
    assert mt5.history_deals_get(ticket=ticket)[0].order == mt5.history_orders_get(ticket=ticket)[0].ticket == ticket
    today = sum(deal.profit + deal.commission + deal.swap for deal in deals if deal.entry == mt5.DEAL_ENTRY_OUT)
    assert today == pytest.approx(mt5.account_info().balance - 10000)
    assert mt5.history_deals_get(0, mt5.symbol_info_tick("EURUSD").time) == deals
    assert mt5.history_deals_get(date_from=since, date_to=until) is None, "dates go by place"
    assert mt5.history_deals_get(until, until) == ()


def test_a_program_that_looks_for_the_package_finds_the_paper_terminal() -> None:
    mt5_bridge.simulator.install(clock="manual")
    try:
        assert importlib.import_module("MetaTrader5") is mt5_bridge.simulator
        assert importlib.util.find_spec("MetaTrader5") is not None
    finally:
        mt5_bridge.simulator.uninstall()

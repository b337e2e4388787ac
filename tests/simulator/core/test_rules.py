"""What the trade server refuses."""

import math
from typing import Any

import msgspec
import pytest

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import rules
from mt5_bridge.simulator.core.rules import OK, Request
from mt5_bridge.simulator.market.catalogue import FILLING_BOC, FILLING_IOC, SymbolSpec, catalogue

EURUSD = catalogue()["EURUSD"]
LEVEL = 0.0001


def spec(**changes: Any) -> SymbolSpec:
    return msgspec.structs.replace(EURUSD, **changes)


@pytest.mark.parametrize(
    ("step", "lots", "meant"),
    [
        (0.01, 0.1 * 3, 0.3),
        (0.01, 0.1 + 0.2, 0.3),
        (0.01, 0.01 - 1e-9, 0.01),
        (0.01, 0.29999999, 0.29999999),
        (0.01, 0.305, 0.305),
        (1e-8, 3e-8, 3e-8),
        (0.01, -0.3, -0.3),
        (0.01, 1e308, 1e308),
        (0.01, math.inf, math.inf),
    ],
)
def test_a_volume_means_the_step_it_is_on(step: float, lots: float, meant: float) -> None:
    symbol = spec(volume_step=step)
    assert rules.stepped(symbol, lots) == meant
    assert math.isnan(rules.stepped(symbol, math.nan))


@pytest.mark.parametrize(
    ("mode", "buy", "sell"),
    [
        (c.SYMBOL_TRADE_MODE_FULL, OK, OK),
        (c.SYMBOL_TRADE_MODE_DISABLED, c.TRADE_RETCODE_TRADE_DISABLED, c.TRADE_RETCODE_TRADE_DISABLED),
        (c.SYMBOL_TRADE_MODE_CLOSEONLY, c.TRADE_RETCODE_CLOSE_ONLY, c.TRADE_RETCODE_CLOSE_ONLY),
        (c.SYMBOL_TRADE_MODE_LONGONLY, OK, c.TRADE_RETCODE_LONG_ONLY),
        (c.SYMBOL_TRADE_MODE_SHORTONLY, c.TRADE_RETCODE_SHORT_ONLY, OK),
    ],
)
def test_trade_mode(mode: int, buy: int, sell: int) -> None:
    symbol = spec(trade_mode=mode)
    assert (rules.trade_mode(symbol, 0), rules.trade_mode(symbol, 1)) == (buy, sell)


@pytest.mark.parametrize(
    ("execution", "bits", "allowed"),
    [
        (c.SYMBOL_TRADE_EXECUTION_MARKET, 1, {0}),
        (c.SYMBOL_TRADE_EXECUTION_MARKET, 2, {1}),
        (c.SYMBOL_TRADE_EXECUTION_EXCHANGE, 1, {0, 2}),
        (c.SYMBOL_TRADE_EXECUTION_INSTANT, 0, {0, 1, 2}),
        (c.SYMBOL_TRADE_EXECUTION_REQUEST, 0, {0, 1, 2}),
    ],
)
def test_filling(execution: int, bits: int, allowed: set[int]) -> None:
    symbol = spec(execution=execution, filling_bits=bits)
    assert {mode for mode in range(5) if rules.filling(symbol, mode) == OK} == allowed


def test_pending_filling() -> None:
    limit, stop = c.ORDER_TYPE_BUY_LIMIT, c.ORDER_TYPE_BUY_STOP
    assert [rules.pending_filling(spec(filling_bits=FILLING_IOC), limit, mode) == OK for mode in range(5)] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert rules.pending_filling(spec(filling_bits=FILLING_BOC), limit, c.ORDER_FILLING_BOC) == OK
    refused = rules.pending_filling(spec(filling_bits=FILLING_BOC), stop, c.ORDER_FILLING_BOC)
    assert refused == c.TRADE_RETCODE_INVALID_FILL


@pytest.mark.parametrize(
    ("price", "deviation", "retcode"),
    [
        (1.1001, 0, OK),
        (1.1000, 10, OK),
        (1.1000, 9, c.TRADE_RETCODE_REQUOTE),
        (0.0, 10, c.TRADE_RETCODE_INVALID_PRICE),
        (-1.0, 10, c.TRADE_RETCODE_INVALID_PRICE),
    ],
)
def test_instant_execution_holds_to_the_price_within_the_deviation(price: float, deviation: int, retcode: int) -> None:
    symbol = spec(execution=c.SYMBOL_TRADE_EXECUTION_INSTANT)
    request = Request(price=price, deviation=deviation, type=c.ORDER_TYPE_BUY)
    assert rules.market_price(symbol, request, 1.1, 1.1001) == retcode


@pytest.mark.parametrize(
    ("buy", "sl", "tp", "good"),
    [
        (True, 1.0999, 1.1011, True),
        (True, 1.09991, 0.0, False),
        (True, 0.0, 1.10009, False),
        (False, 1.1003, 1.1001, True),
        (False, 1.10029, 0.0, False),
        (False, 0.0, 1.10011, False),
        (True, -1.0, 0.0, False),
    ],
)
def test_stops_keep_the_level(buy: bool, sl: float, tp: float, good: bool) -> None:
    refused = rules.stops(spec(stops_level=10), buy, sl, tp, 1.1, 1.1002)
    assert refused == (OK if good else c.TRADE_RETCODE_INVALID_STOPS)


@pytest.mark.parametrize(
    ("kind", "price", "stoplimit", "good"),
    [
        (c.ORDER_TYPE_BUY_LIMIT, 1.1001, 0.0, True),
        (c.ORDER_TYPE_BUY_LIMIT, 1.10011, 0.0, False),
        (c.ORDER_TYPE_SELL_STOP, 1.0999, 0.0, True),
        (c.ORDER_TYPE_SELL_STOP, 1.1, 0.0, False),
        (c.ORDER_TYPE_BUY_STOP_LIMIT, 1.1003, 1.1002, True),
        (c.ORDER_TYPE_BUY_STOP_LIMIT, 1.1003, 1.10025, False),
        (c.ORDER_TYPE_BUY_STOP_LIMIT, 1.1003, -1.0, False),
    ],
)
def test_pendings_keep_the_level(kind: int, price: float, stoplimit: float, good: bool) -> None:
    refused = rules.pending_price(spec(stops_level=10), kind, price, stoplimit, 1.1, 1.1002)
    assert refused == (OK if good else c.TRADE_RETCODE_INVALID_PRICE)


def test_kinds_freeze_and_expirations() -> None:
    assert rules.order_kind(spec(order_mode=4), c.ORDER_TYPE_BUY_LIMIT) == c.TRADE_RETCODE_INVALID_ORDER
    assert rules.order_kind(spec(order_mode=8), c.ORDER_TYPE_BUY_STOP_LIMIT) == OK
    assert rules.order_kind(EURUSD, c.ORDER_TYPE_BUY) == c.TRADE_RETCODE_INVALID
    assert rules.frozen(spec(freeze_level=10), LEVEL) == c.TRADE_RETCODE_FROZEN
    assert rules.frozen(spec(freeze_level=10), 2 * LEVEL) == OK
    assert rules.expiration(spec(expiration_bits=1), c.ORDER_TIME_DAY, 0, 5) == c.TRADE_RETCODE_INVALID_EXPIRATION
    assert rules.expires_at(c.ORDER_TIME_SPECIFIED_DAY, 86_400, 5) == 2 * 86_400 - 1
    assert rules.expires_at(c.ORDER_TIME_GTC, 86_400, 5) == 0

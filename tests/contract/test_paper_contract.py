"""The contract's entries that take a terminal to be seen, on the paper terminal."""

import datetime
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from contract import questions
from hypothesis import given, settings
from hypothesis import strategies as st
from support.properties import heavy

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator.functions import arguments

CONTRACT: dict[str, Any] = json.loads((Path(__file__).parent / "mt5_contract.json").read_text(encoding="utf-8"))
FUNCTIONS: dict[str, dict[str, Any]] = CONTRACT["functions"]
STRUCTS: dict[str, dict[str, Any]] = CONTRACT["structs"]["items"]
BUILTINS = [name for name in FUNCTIONS if "METH" in FUNCTIONS[name]["calling"]]
BUY = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}
PENDING = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "price": 0.9}


@pytest.fixture
def market() -> Iterator[mt5.MarketControl]:
    yield begin()
    mt5.uninstall()


def begin(**settings: Any) -> mt5.MarketControl:
    """A connected terminal with a position, a pending order and an open book."""
    market = mt5.install(clock="manual", **settings)
    assert mt5.initialize()
    assert mt5.symbol_select("EURUSD")
    market.tick("EURUSD", 1.1, 1.1001)
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.order_send(PENDING).retcode in (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED)
    assert mt5.market_book_add("EURUSD")
    return market


GOOD: dict[str, tuple[Any, ...]] = {
    "login": (5000001, "paper", "Paper-Demo"),
    "copy_ticks_from": ("EURUSD", 0, 1, -1),
    "copy_ticks_range": ("EURUSD", 0, 2**31 - 1, -1),
    "copy_rates_from": ("EURUSD", 1, 2**31 - 1, 1),
    "copy_rates_from_pos": ("EURUSD", 1, 0, 1),
    "copy_rates_range": ("EURUSD", 1, 0, 2**31 - 1),
    **dict.fromkeys(("history_orders_total", "history_deals_total"), (0, 2**31 - 1)),
    **dict.fromkeys(("history_orders_get", "history_deals_get"), (0, 2**31 - 1)),
    "order_calc_margin": (0, "EURUSD", 0.1, 1.1),
    "order_calc_profit": (0, "EURUSD", 0.1, 1.1, 1.2),
    **dict.fromkeys(("order_check", "order_send"), (BUY,)),
    **dict.fromkeys(("symbol_info", "symbol_info_tick", "symbol_select"), ("EURUSD",)),
    **dict.fromkeys(("market_book_add", "market_book_release", "market_book_get"), ("EURUSD",)),
}


def _kind(value: Any) -> str:
    """A value's type in the contract's words."""
    if isinstance(value, np.ndarray):
        return "numpy.ndarray(dtype ticks)" if "bid" in value.dtype.names else "numpy.ndarray(dtype rates)"
    if type(value) is tuple and value and type(value[0]).__name__ in STRUCTS:
        return f"tuple[{type(value[0]).__name__}]"
    if type(value) is tuple:
        return f"tuple ({','.join(type(item).__name__ for item in value)})"
    return repr(value) if value is True else type(value).__name__


@pytest.mark.parametrize("name", BUILTINS)
def test_returns_what_the_contract_says(name: str, market: mt5.MarketControl) -> None:
    if name == "history_orders_get":
        mt5.order_send({"action": 8, "order": mt5.orders_get()[0].ticket})
    value = getattr(mt5, name)(*GOOD.get(name, ()))
    wanted = FUNCTIONS[name]["returns"].replace(" (may be empty)", "")
    assert _kind(value) == wanted.split(" (retcode")[0]
    assert mt5.last_error() == (mt5.RES_S_OK, "Success")


@pytest.mark.parametrize("name", BUILTINS)
def test_every_call_but_last_error_resets_last_error(name: str, market: mt5.MarketControl) -> None:
    assert mt5.symbol_info("NOPE") is None
    before = mt5.last_error()
    getattr(mt5, name)(*GOOD.get(name, ()))
    assert mt5.last_error() == (before if name == "last_error" else (mt5.RES_S_OK, "Success"))


def _produce() -> dict[str, Any]:
    sent = mt5.order_send({**BUY, "sl": 1.0, "comment": "c"})
    return {
        "TradePosition": mt5.positions_get()[0],
        "TradeOrder": mt5.orders_get()[0],
        "TradeDeal": mt5.history_deals_get(0, 2**31 - 1)[-1],
        "TradeRequest": sent.request,
        "SymbolInfo": mt5.symbol_info("EURUSD"),
        "OrderCheckResult": mt5.order_check(BUY),
        "OrderSendResult": sent,
        "Tick": mt5.symbol_info_tick("EURUSD"),
        "TerminalInfo": mt5.terminal_info(),
        "AccountInfo": mt5.account_info(),
        "BookInfo": mt5.market_book_get("EURUSD")[0],
    }


RANGES = {
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_have_the_wheels_types_and_ranges(name: str, market: mt5.MarketControl) -> None:
    value = _produce()[name]
    assert type(value) is getattr(mt5, name)
    assert [type(field).__name__ for field in value] == STRUCTS[name]["py_types"]
    for field, c_type in zip(value, STRUCTS[name]["c_types"], strict=True):
        low, high = RANGES.get(c_type, (0, 0))
        assert c_type not in RANGES or low <= field <= high


def test_asdict_is_shallow(market: mt5.MarketControl) -> None:
    sent = mt5.order_send(BUY)
    assert sent._asdict()["request"] is sent.request
    assert type(sent.request) is mt5.TradeRequest


@pytest.mark.parametrize(
    ("kind", "ask"),
    [
        ("ticks", lambda: mt5.copy_ticks_from("EURUSD", 0, 5, -1)),
        ("ticks", lambda: mt5.copy_ticks_range("EURUSD", 0, 2**31 - 1, -1)),
        ("ticks", lambda: mt5.copy_ticks_range("EURUSD", 0, 1, -1)),
        ("rates", lambda: mt5.copy_rates_from("EURUSD", 1, 2**31 - 1, 5)),
        ("rates", lambda: mt5.copy_rates_from_pos("EURUSD", 1, 0, 5)),
        ("rates", lambda: mt5.copy_rates_range("EURUSD", 1, 0, 2**31 - 1)),
        ("rates", lambda: mt5.copy_rates_range("EURUSD", 1, 0, 1)),
    ],
)
def test_dtype(kind: str, ask: Callable[[], Any], market: mt5.MarketControl) -> None:
    want, records = CONTRACT["dtypes"][kind], ask()
    dtype = records.dtype
    assert list(dtype.names) == want["names"]
    assert [dtype[name].str for name in dtype.names] == want["formats"]
    assert [dtype.fields[name][1] for name in dtype.names] == want["offsets"]
    assert (dtype.itemsize, dtype.isalignedstruct) == (want["itemsize"], want["aligned"])
    assert (records.ndim, records.flags.owndata, records.flags.writeable) == (1, True, True)


@pytest.mark.parametrize(("code", "entry"), CONTRACT["errors"]["codes"].items())
def test_error_text(code: str, entry: dict[str, str], market: mt5.MarketControl) -> None:
    if int(code) != mt5.RES_S_OK:
        mt5.inject(function="order_send", kind="none", code=int(code), times=1)
        assert mt5.order_send(BUY) is None
    else:
        mt5.account_info()
    got, text = mt5.last_error()
    assert got == int(code) == getattr(mt5, entry["name"])
    assert text == entry["text"] or ("<detail>" in entry["text"] and text.startswith(entry["text"].split("<")[0]))


def test_only_order_send_knows_the_text_of_a_disabled_api(market: mt5.MarketControl) -> None:
    assert '"Terminal: Call failed" here' in FUNCTIONS["order_check"]["last_error_on_failure"]
    mt5.inject(function="order_check", kind="none", code=mt5.RES_E_AUTO_TRADING_DISABLED, times=1)
    assert mt5.order_check(BUY) is None
    assert mt5.last_error() == (mt5.RES_E_AUTO_TRADING_DISABLED, "Terminal: Call failed")


# Arguments.


def test_a_request_may_be_a_dict_subclass_or_keywords_and_unknown_keys_are_ignored(market: mt5.MarketControl) -> None:
    assert CONTRACT["request_parsing"]["container"] == "dict or dict subclass"
    for answer in (
        mt5.order_send(questions.Dict(BUY)),
        mt5.order_send(**BUY),
        mt5.order_send({**BUY, "nonsense": object(), 3: 4}),
        mt5.order_send({**BUY, "volume": np.float64(0.1), "magic": True}),
    ):
        assert answer.retcode == mt5.TRADE_RETCODE_DONE


def test_missing_keys_are_zero_or_empty_and_filling_means_fok(market: mt5.MarketControl) -> None:
    request = mt5.order_check({}).request
    assert set(request) == {0, ""}
    assert [type(field).__name__ for field in request] == STRUCTS["TradeRequest"]["py_types"]
    assert CONTRACT["request_parsing"]["default_type_filling"].startswith("0 = ORDER_FILLING_FOK")
    assert mt5.order_send(BUY).request.type_filling == mt5.ORDER_FILLING_FOK


def test_nan_and_inf_reach_the_server(market: mt5.MarketControl) -> None:
    for value in (math.nan, math.inf, -math.inf):
        for field in CONTRACT["request_parsing"]["float_fields"]["fields"]:
            for request in (BUY, PENDING):
                result = mt5.order_send({**request, field: value})
                assert result is not None
                assert getattr(result.request, field) == value or math.isnan(value)


def test_unknown_keywords_return_everything_and_a_ticket_wins(market: mt5.MarketControl) -> None:
    ticket = mt5.positions_get()[0].ticket
    assert len(mt5.positions_get(nonsense=1)) == len(mt5.orders_get(nonsense=1)) == 1
    assert len(mt5.positions_get(ticket=ticket, symbol="GBPUSD", group="*JPY")) == 1
    assert mt5.positions_get(symbol="GBPUSD", group="*") == ()
    assert mt5.positions_get(ticket=1) == mt5.orders_get(ticket=1) == ()
    assert mt5.last_error() == (mt5.RES_S_OK, "Success")


def test_unsold_symbols_and_bad_handles_fail_as_listed(market: mt5.MarketControl) -> None:
    calls: tuple[Callable[[], Any], ...] = (
        lambda: mt5.symbol_info("NOPE"),
        lambda: mt5.symbol_info_tick("NOPE"),
        lambda: mt5.symbol_info_tick("GBPUSD"),
        lambda: mt5.order_send({"action": 1, "symbol": "NOPE", "volume": 0.1}),
        lambda: mt5.copy_ticks_from("NOPE", 0, 1, -1),
        lambda: mt5.market_book_get("GBPUSD"),
    )
    for call in calls:
        assert call() is None
        assert mt5.last_error()[0] == mt5.RES_E_NOT_FOUND
    assert mt5.symbol_select("NOPE") is False
    assert mt5.last_error()[0] == mt5.RES_E_NOT_FOUND
    assert mt5.market_book_add("NOPE") is False
    assert mt5.last_error() == (mt5.RES_S_OK, "Success")
    assert mt5.copy_ticks_from("EURUSD", 0, -1, -1) is None
    assert mt5.copy_rates_from_pos("EURUSD", 7, 0, 1) is None
    assert mt5.last_error()[0] == mt5.RES_E_INVALID_PARAMS


def test_dates_beyond_int32_are_its_lowest() -> None:
    """`cvttsd2si` with a 32-bit target, which is what the wheel uses, gives the lowest int32 for all it cannot hold."""
    lowest = -(2**31)
    assert [arguments.seconds(value) for value in (1e300, -1e300, math.nan, math.inf, 2.0**31)] == [lowest] * 5
    assert [arguments.seconds(value) for value in (2.0**31 - 0.5, -(2.0**31) - 0.5, -1.9, 0.9)] == [
        2**31 - 1, lowest, -1, 0,
    ]  # fmt: skip
    assert arguments.seconds(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)) == 1577836800
    assert arguments.seconds(datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)) == lowest
    with pytest.raises(arguments.PendingOverflowError):
        arguments.seconds(2**31)


def test_a_date_that_is_no_local_time_raises_as_an_exception_left_pending_does(market: mt5.MarketControl) -> None:
    class Early(datetime.datetime):
        def timestamp(self) -> float:
            raise OSError(22, "Invalid argument")

    with pytest.raises(SystemError):
        mt5.copy_ticks_from("EURUSD", Early(1960, 1, 1), 1, -1)
    assert mt5.last_error() == (mt5.RES_E_INVALID_PARAMS, "Invalid arguments")


VALUES = st.sampled_from([value for value in questions.VALUES if value != "m"])
CALLS = [call for call, values in questions.calls() if len(values) > 1]


@given(call=st.sampled_from(CALLS), value=VALUES, again=VALUES)
def test_connected_it_refuses_the_same_arguments_and_raises_nothing_else(call: str, value: str, again: str) -> None:
    """What the wheel refuses without a terminal it refuses with one, in the same way; all else never raises."""
    mt5.configure({})
    apart = questions.ask(mt5, call, value)
    try:
        begin()
        near = questions.ask(mt5, call, value)
        questions.ask(mt5, call, again)
        assert mt5.account_info() is not None or "shutdown" in call
    finally:
        mt5.uninstall()
    if apart.code == mt5.RES_E_INVALID_PARAMS or apart.answer == "TypeError":
        assert near.answer == apart.answer or call.startswith(("Buy", "Sell", "Close"))
        assert near.text == apart.text or apart.answer == "TypeError"
    elif apart.answer == "SystemError":
        assert near.answer == "SystemError"
    elif apart.answer != "AttributeError":
        assert near.answer not in ("SystemError", "TypeError", "ValueError", "OverflowError", "AttributeError")
    codes = {int(code) for code in CONTRACT["errors"]["codes"]}
    assert near.code in codes


@given(call=st.sampled_from(CALLS), value=VALUES)
def test_arguments_are_read_before_any_trouble_and_use_none_up(call: str, value: str) -> None:
    mt5.configure({})
    apart = questions.ask(mt5, call, value)
    begin()
    try:
        mt5.inject(kind="none", function="*", times=1, code=mt5.RES_E_INTERNAL_FAIL_SEND)
        near = questions.ask(mt5, call, value)
        if apart.code == mt5.RES_E_INVALID_PARAMS and not call.startswith(("Buy", "Sell", "Close")):
            assert (near.answer, near.code, near.text) == (apart.answer, apart.code, apart.text)
            assert mt5.account_info() is None, "the fault is still there"
    finally:
        mt5.uninstall()


@given(
    st.dictionaries(st.sampled_from(list(questions.REQUEST)), VALUES, max_size=8),
    st.sampled_from(["order_send", "order_check"]),
)
def test_any_request_is_answered_or_refused(fields: dict[str, str], name: str) -> None:
    begin()
    try:
        request = _request(questions.REQUEST, fields)
        try:
            result = getattr(mt5, name)(request)
        except SystemError:
            result = None
        code, text = mt5.last_error()
        if result is None:
            assert (code, text.split('"')[0]) == (mt5.RES_E_INVALID_PARAMS, "Invalid ") or code == mt5.RES_E_NOT_FOUND
        else:
            assert code == mt5.RES_S_OK
            assert type(result).__name__ == ("OrderSendResult" if name == "order_send" else "OrderCheckResult")
    finally:
        mt5.uninstall()


SOUND: tuple[dict[str, str], ...] = (
    {"action": "1", "symbol": "'EURUSD'", "volume": "0.1", "comment": "'c'"},
    {"action": "5", "symbol": "'EURUSD'", "volume": "0.1", "type": "2", "price": "0.9", "comment": "'c'"},
    {"action": "6", "symbol": "'EURUSD'", "position": "50000002", "sl": "1.05", "tp": "1.2"},
    {"action": "7", "order": "50000004", "price": "0.8"},
)


@settings(max_examples=heavy(20))
@given(st.sampled_from(SOUND), st.dictionaries(st.sampled_from(list(questions.REQUEST)), VALUES, max_size=4))
def test_what_any_request_does_is_there_after_a_restart(sound: dict[str, str], fields: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        begin(data_dir=folder)
        try:
            with suppress(SystemError):
                mt5.order_send(_request(sound, fields))
            before = _shown()
            assert mt5.initialize(), mt5.last_error()
            assert _shown() == before
        finally:
            mt5.uninstall()


def _request(sound: dict[str, str], fields: dict[str, str]) -> dict[str, Any]:
    return {name: questions.value(mt5, expression) for name, expression in {**sound, **fields}.items()}


def _shown() -> str:
    """As text, in which a NaN is like another."""
    past = (mt5.history_orders_get(0, 2**31 - 1), mt5.history_deals_get(0, 2**31 - 1))
    assert None not in past, mt5.last_error()
    return repr((mt5.positions_get(), mt5.orders_get(), *past))


# Rules of the server.


def _allowed(market: mt5.MarketControl, execution: int, bits: int, filling: int) -> bool:
    feed = market.market.feeds["EURUSD"]
    feed.spec = msgspec.structs.replace(feed.spec, execution=execution, filling_bits=bits)
    checked = mt5.order_check({**BUY, "type_filling": filling, "price": 1.1001})
    return bool(checked.retcode != mt5.TRADE_RETCODE_INVALID_FILL)


@pytest.mark.parametrize("execution", CONTRACT["filling"]["allowed"])
def test_filling(execution: str, market: mt5.MarketControl) -> None:
    bits: dict[str, int] = CONTRACT["filling"]["symbol_filling_mode_bits"]
    assert CONTRACT["filling"]["violation_retcode"] == mt5.TRADE_RETCODE_INVALID_FILL
    number = getattr(mt5, f"SYMBOL_TRADE_EXECUTION_{execution}")
    for name, rule in CONTRACT["filling"]["allowed"][execution].items():
        filling = getattr(mt5, f"ORDER_FILLING_{name}")
        own = bits.get(f"SYMBOL_FILLING_{name}", 0)
        assert _allowed(market, number, 7, filling) == (rule != "never")
        assert _allowed(market, number, 7 & ~own, filling) == (rule == "always")
        assert rule != f"if bit {own}" or own


def test_pending_orders_take_return(market: mt5.MarketControl) -> None:
    assert CONTRACT["filling"]["pending_orders"] == "use ORDER_FILLING_RETURN"
    result = mt5.order_send({**PENDING, "type_filling": mt5.ORDER_FILLING_RETURN})
    assert result.retcode in (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED)


POINTS = 100
LEVEL = POINTS * 0.00001
RULES: dict[str, str] = CONTRACT["price_rules"]["stops_level"]


@pytest.mark.parametrize("near", [0, 1, -1])
@pytest.mark.parametrize("rule", RULES)
def test_stops_level(rule: str, near: int, market: mt5.MarketControl) -> None:
    """Each inequality in the contract's own words, with prices at the limit, one point beyond, and one short of it."""
    feed = market.market.feeds["EURUSD"]
    feed.spec = msgspec.structs.replace(feed.spec, stops_level=POINTS)
    bid, ask, away = 1.1, 1.1001, (POINTS + near) * 0.00001
    distance = {"buy": bid, "sell": ask}
    if rule in distance:
        sign = 1 if rule == "buy" else -1
        prices = {"sl": distance[rule] - sign * away, "tp": distance[rule] + sign * away}
        request = {**BUY, "type": getattr(mt5, f"ORDER_TYPE_{rule.upper()}")}
        attempts = [{name: price} for name, price in prices.items()]
    else:
        side, kind = rule.split("_")
        base = ask if side == "buy" else bid
        above = (side == "buy") == (kind == "stop")
        prices = {"open": base + away if above else base - away}
        request = {**PENDING, "type": getattr(mt5, f"ORDER_TYPE_{rule.upper()}")}
        attempts = [{"price": prices["open"]}]
    known = {"bid": bid, "ask": ask, "L": LEVEL - 1e-9, "sl": 0.0, "tp": 0.0, **prices}
    assert eval(RULES[rule], known) == (near >= 0)  # noqa: S307 - the contract's own words
    for attempt in attempts:
        rounded = {name: round(price, 5) for name, price in attempt.items()}
        refused = mt5.order_check({**request, **rounded}).retcode
        wrong = (mt5.TRADE_RETCODE_INVALID_STOPS, mt5.TRADE_RETCODE_INVALID_PRICE)
        assert (refused not in wrong) == (near >= 0), (attempt, refused)


def test_market_orders_trade_on_their_side(market: mt5.MarketControl) -> None:
    sides = CONTRACT["price_rules"]
    tick = mt5.symbol_info_tick("EURUSD")
    assert mt5.order_send(BUY).price == getattr(tick, sides["market_buy"])
    assert mt5.order_send({**BUY, "type": 1}).price == getattr(tick, sides["market_sell"])
    now = {position.type: position.price_current for position in mt5.positions_get()}
    assert now[mt5.POSITION_TYPE_BUY] == getattr(tick, sides["long_close_and_sl_tp"])
    assert now[mt5.POSITION_TYPE_SELL] == getattr(tick, sides["short_close_and_sl_tp"])


@pytest.mark.parametrize("kind", [kind for kind in CONTRACT["symbol_order_mode_bits"] if kind != "source"])
def test_order_mode_bit(kind: str, market: mt5.MarketControl) -> None:
    """Without the bit the server refuses what it is for."""
    requests: dict[str, dict[str, Any]] = {
        "MARKET": BUY,
        "LIMIT": PENDING,
        "STOP": {**PENDING, "type": mt5.ORDER_TYPE_BUY_STOP, "price": 1.2},
        "STOP_LIMIT": {**PENDING, "type": mt5.ORDER_TYPE_BUY_STOP_LIMIT, "price": 1.2, "stoplimit": 1.19},
        "SL": {**BUY, "sl": 1.0},
        "TP": {**BUY, "tp": 1.2},
    }
    bit: int = CONTRACT["symbol_order_mode_bits"][kind]
    feed = market.market.feeds["EURUSD"]
    if kind == "CLOSEBY":
        mt5.order_send({**BUY, "type": 1})
        one, other = mt5.positions_get()
        requests[kind] = {"action": 10, "position": one.ticket, "position_by": other.ticket}
    done = (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED)
    feed.spec = msgspec.structs.replace(feed.spec, order_mode=127 & ~bit)
    assert mt5.order_send(requests[kind]).retcode not in done
    feed.spec = msgspec.structs.replace(feed.spec, order_mode=127)
    assert mt5.order_send(requests[kind]).retcode in done


@pytest.mark.parametrize("kind", [kind for kind in CONTRACT["symbol_expiration_mode_bits"] if kind != "source"])
def test_expiration_mode_bit(kind: str, market: mt5.MarketControl) -> None:
    bit: int = CONTRACT["symbol_expiration_mode_bits"][kind]
    feed = market.market.feeds["EURUSD"]
    later = mt5.symbol_info_tick("EURUSD").time + 200_000
    request = {**PENDING, "type_time": getattr(mt5, f"ORDER_TIME_{kind}"), "expiration": later}
    feed.spec = msgspec.structs.replace(feed.spec, expiration_bits=15 & ~bit)
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_INVALID_EXPIRATION
    feed.spec = msgspec.structs.replace(feed.spec, expiration_bits=15)
    assert mt5.order_send(request).retcode in (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED)

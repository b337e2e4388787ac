"""The paper terminal against the official wheel's contract, entry by entry.

`mt5_contract.json` was read from the wheel, `mt5_wheel_answers.tsv` holds what it answered before `initialize()`.
"""

import datetime
import enum
import inspect
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import arguments

FOLDER = Path(__file__).parent
CONTRACT: dict[str, Any] = json.loads((FOLDER / "mt5_contract.json").read_text(encoding="utf-8"))
ANSWERS = [line.split("\t") for line in (FOLDER / "mt5_wheel_answers.tsv").read_text(encoding="utf-8").splitlines()[1:]]
STRUCTS: dict[str, dict[str, Any]] = CONTRACT["structs"]["items"]
FUNCTIONS: dict[str, dict[str, Any]] = CONTRACT["functions"]
PYTHON_HELPERS = ("_RawOrder", "Close", "Buy", "Sell")


class One(enum.IntEnum):
    ONE = 1


@pytest.fixture
def module() -> Iterator[Any]:
    mt5.configure({})
    yield mt5
    mt5.configure({})


@pytest.fixture
def connected(module: Any) -> Iterator[Any]:
    module.install(clock="manual")
    assert module.initialize()
    assert module.symbol_select("EURUSD")
    yield module
    module.uninstall()


@pytest.mark.parametrize(("name", "value"), CONTRACT["constants"]["values"].items())
def test_constant(name: str, value: int) -> None:
    assert getattr(mt5, name) == value


def test_there_are_no_other_constants() -> None:
    ours = {name for name, value in vars(mt5).items() if name.isupper() and isinstance(value, int)}
    assert ours == set(CONTRACT["constants"]["values"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_exists_and_takes_arguments_as_the_wheel_does(name: str, module: Any) -> None:
    function = getattr(module, name)
    if name in PYTHON_HELPERS:
        assert list(inspect.signature(function).parameters) == list(_parameters(FUNCTIONS[name]["signature"]))
        return
    calling = FUNCTIONS[name]["calling"]
    if "METH_NOARGS" in calling:
        with pytest.raises(TypeError, match="takes no arguments"):
            function(1)
    if "METH_KEYWORDS" not in calling:
        with pytest.raises(TypeError, match="takes no keyword arguments"):
            function(symbol="EURUSD")


def _parameters(signature: str) -> Iterator[str]:
    for part in signature[signature.index("(") + 1 : signature.rindex(")")].split(","):
        name = part.split("=")[0].strip()
        if name != "*":
            yield name


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in PYTHON_HELPERS])
def test_functions_do_not_bind_to_a_class(name: str, module: Any) -> None:
    holder = type("Holder", (), {"function": getattr(module, name)})
    assert holder().function is getattr(module, name)
    assert name in repr(getattr(module, name))


@pytest.mark.parametrize("name", STRUCTS)
def test_struct(name: str) -> None:
    kind = getattr(mt5, name)
    fields = STRUCTS[name]["fields"]
    value: Any = kind(range(len(fields)))
    assert kind.__match_args__ == tuple(fields)
    assert tuple in kind.__mro__
    assert value == tuple(range(len(fields)))
    assert value._asdict() == dict(zip(fields, range(len(fields)), strict=True))
    assert [getattr(value, field) for field in fields] == list(value)
    assert repr(value).startswith(f"{name}({fields[0]}=0")
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes
    assert not hasattr(kind, "_fields")
    with pytest.raises(TypeError):
        kind(**dict.fromkeys(fields, 0))
    with pytest.raises(TypeError):
        kind(range(len(fields) - 1))


@pytest.mark.parametrize("kind", ["rates", "ticks"])
def test_dtype(kind: str, connected: Any) -> None:
    want = CONTRACT["dtypes"][kind]
    records = (
        connected.copy_rates_from_pos("EURUSD", 1, 0, 1)
        if kind == "rates"
        else connected.copy_ticks_from("EURUSD", 0, 1, -1)
    )
    dtype = records.dtype
    assert list(dtype.names) == want["names"]
    assert [dtype[name].str for name in dtype.names] == want["formats"]
    assert [dtype.fields[name][1] for name in dtype.names] == want["offsets"]
    assert dtype.itemsize == want["itemsize"]
    assert len(records) == 1


@pytest.mark.parametrize(("expression", "answer", "code", "text"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_answer_without_terminal(expression: str, answer: str, code: str, text: str, module: Any) -> None:
    names = {"np": np, "D": datetime, "One": One, "m": module, **vars(module)}
    if answer == "SystemError":
        with pytest.raises(SystemError):
            eval(expression, names)  # noqa: S307 - the expressions are the test data
    else:
        assert repr(eval(expression, names)) == answer  # noqa: S307 - as above
    assert module.last_error() == (int(code), text)


def test_last_error_before_any_call_is_empty(module: Any) -> None:
    assert module.last_error() == (0, "")
    assert module.last_error() == (0, "")


def _produce(module: Any) -> dict[str, Any]:
    request = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}
    sent = module.order_send(request)
    pending = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "price": 0.9}
    module.order_send(pending)
    module.market_book_add("EURUSD")
    return {
        "TradePosition": module.positions_get()[0],
        "TradeOrder": module.orders_get()[0],
        "TradeDeal": module.history_deals_get(0, 2**31 - 1)[0],
        "TradeRequest": sent.request,
        "SymbolInfo": module.symbol_info("EURUSD"),
        "OrderCheckResult": module.order_check(request),
        "OrderSendResult": sent,
        "Tick": module.symbol_info_tick("EURUSD"),
        "TerminalInfo": module.terminal_info(),
        "AccountInfo": module.account_info(),
        "BookInfo": module.market_book_get("EURUSD")[0],
    }


def test_fields_have_the_wheels_types(connected: Any) -> None:
    for name, value in _produce(connected).items():
        assert type(value) is getattr(mt5, name)
        types = [type(field).__name__ for field in value]
        assert types == STRUCTS[name]["py_types"], name


def test_unsold_symbols_and_bad_handles_fail_as_listed(connected: Any) -> None:
    calls: tuple[Callable[[], Any], ...] = (
        lambda: connected.symbol_info("NOPE"),
        lambda: connected.symbol_info_tick("NOPE"),
        lambda: connected.symbol_info_tick("GBPUSD"),
        lambda: connected.order_send({"action": 1, "symbol": "NOPE", "volume": 0.1}),
        lambda: connected.copy_ticks_from("NOPE", 0, 1, -1),
        lambda: connected.market_book_get("EURUSD"),
    )
    for call in calls:
        assert call() is None
        assert connected.last_error()[0] == mt5.RES_E_NOT_FOUND
    assert connected.symbol_select("NOPE") is False
    assert connected.last_error()[0] == mt5.RES_E_NOT_FOUND
    assert connected.market_book_add("NOPE") is False
    assert connected.last_error() == (1, "Success")
    assert connected.positions_get(ticket=1) == ()
    assert connected.last_error() == (1, "Success")
    assert connected.copy_ticks_from("EURUSD", 0, -1, -1) is None
    assert connected.copy_rates_from_pos("EURUSD", 7, 0, 1) is None
    assert connected.last_error()[0] == mt5.RES_E_INVALID_PARAMS


def test_dates_beyond_int32_are_its_ends() -> None:
    assert arguments.seconds(1e300) == 2**31 - 1
    assert arguments.seconds(float("nan")) == -(2**31)
    assert arguments.seconds(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)) == 1577836800

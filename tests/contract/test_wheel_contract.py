"""The official wheel's contract, entry by entry, for all that needs no terminal.

`mt5_contract.json` was read from the wheel; the `.tsv` files hold what it answered before `initialize()`. The module
under test is the paper terminal, or what `CONTRACT_MODULE` names: tests/windows runs this file on the wheel itself.
"""

import copy
import importlib
import inspect
import json
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import questions

FOLDER = Path(__file__).parent
MODULE = os.environ.get("CONTRACT_MODULE", "mt5_bridge.simulator")
mt5: Any = importlib.import_module(MODULE)
# Asked for before any other call of the process, which a terminal starting anew for each test brings back.
FIRST_ERROR: tuple[int, str] = mt5.last_error()

CONTRACT: dict[str, Any] = json.loads((FOLDER / "mt5_contract.json").read_text(encoding="utf-8"))
CONSTANTS: dict[str, int] = CONTRACT["constants"]["values"]
FUNCTIONS: dict[str, dict[str, Any]] = CONTRACT["functions"]
STRUCTS: dict[str, dict[str, Any]] = CONTRACT["structs"]["items"]
PYTHON_HELPERS = ("_RawOrder", "Close", "Buy", "Sell")
BUILTINS = [name for name in FUNCTIONS if name not in PYTHON_HELPERS]


def _table(name: str) -> list[list[str]]:
    return [line.split("\t") for line in (FOLDER / name).read_text(encoding="utf-8").split("\n")[1:-1]]


ANSWERS = _table("mt5_wheel_answers.tsv")
MATRIX: dict[str, list[tuple[questions.Answer, str]]] = {}
for _call, _answer, _code, _text, _values in _table("mt5_wheel_matrix.tsv"):
    MATRIX.setdefault(_call, []).append((questions.Answer(_answer, int(_code), _text), _values))
CALLS = dict(questions.calls())


@pytest.fixture(autouse=True)
def without_terminal() -> Iterator[None]:
    """No connection, and nothing left by another test; the wheel's own process never had one."""
    if MODULE == "mt5_bridge.simulator":
        mt5.configure({})
    yield
    mt5.shutdown()


def test_the_version_is_the_contracts() -> None:
    attributes = CONTRACT["meta"]["module_attributes"]
    assert (mt5.__version__, mt5.__author__) == (attributes["__version__"], attributes["__author__"])
    assert mt5.__version__ == CONTRACT["meta"]["version"]


def test_last_error_before_any_call_is_empty() -> None:
    assert FIRST_ERROR == (0, "")


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items())
def test_constant(name: str, value: int) -> None:
    assert type(getattr(mt5, name)) is int
    assert getattr(mt5, name) == value


def test_there_are_no_other_constants() -> None:
    ours = {name for name, value in vars(mt5).items() if name.isupper() and isinstance(value, int)}
    assert ours == set(CONSTANTS)


def test_a_star_import_gives_the_official_names_and_no_more() -> None:
    names: dict[str, Any] = {}
    exec(f"from {MODULE} import *", names)  # noqa: S102 - a star import is allowed in a module only
    del names["__builtins__"]
    assert set(names) == {*CONSTANTS, *STRUCTS, *BUILTINS, "Buy", "Sell", "Close"}


@pytest.mark.parametrize("name", BUILTINS)
def test_builtin_is_described_as_the_wheels(name: str) -> None:
    function, entry = getattr(mt5, name), FUNCTIONS[name]
    assert function.__doc__ == f"{entry['signature']}\n\n{entry['doc']}"
    assert function.__name__ == name
    assert repr(function) == f"<built-in function {name}>"
    assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301 - our own bytes
    holder = type("Holder", (), {"function": function})
    assert holder().function is function, "a builtin does not bind to the class that stores it"
    with pytest.raises(AttributeError):
        function.note = 1


@pytest.mark.parametrize("name", BUILTINS)
def test_builtin_takes_arguments_as_the_wheels(name: str) -> None:
    function, calling = getattr(mt5, name), FUNCTIONS[name]["calling"]
    if "METH_NOARGS" in calling:
        with pytest.raises(TypeError, match=rf"^MetaTrader5\._core\.{name}\(\) takes no arguments \(1 given\)$"):
            function(1)
        with pytest.raises(TypeError, match=rf"^MetaTrader5\._core\.{name}\(\) takes no keyword arguments$"):
            function(symbol="EURUSD")
    elif "METH_KEYWORDS" not in calling:
        with pytest.raises(TypeError, match=rf"^{name}\(\) takes no keyword arguments$"):
            function(symbol="EURUSD")
    elif name != "initialize":  # which would look for a terminal
        assert function(nonsense=1) in (None, False)


@pytest.mark.parametrize("name", PYTHON_HELPERS)
def test_helper_has_the_wheels_parameters(name: str) -> None:
    signature = FUNCTIONS[name]["signature"]
    parameters = inspect.signature(getattr(mt5, name)).parameters.values()
    wanted = [part.strip() for part in signature[signature.index("(") + 1 : signature.rindex(")")].split(",")]
    star = wanted.index("*") if "*" in wanted else len(wanted)
    places = [*wanted[:star], *wanted[star + 1 :]]
    assert [parameter.name for parameter in parameters] == [place.split("=")[0] for place in places]
    for place, parameter in enumerate(parameters):
        optional = "=" in places[place]
        assert parameter.default is (None if optional else inspect.Parameter.empty)
        assert (parameter.kind is inspect.Parameter.KEYWORD_ONLY) == (place >= star)


GOOD: dict[str, tuple[Any, ...]] = {
    "login": (5, "p", "s"),
    "copy_ticks_from": ("EURUSD", 1, 1, -1),
    "copy_ticks_range": ("EURUSD", 1, 2, -1),
    "copy_rates_from": ("EURUSD", 1, 1, 1),
    "copy_rates_from_pos": ("EURUSD", 1, 0, 1),
    "copy_rates_range": ("EURUSD", 1, 1, 2),
    "history_orders_total": (0, 1),
    "history_deals_total": (0, 1),
    "history_orders_get": (0, 1),
    "history_deals_get": (0, 1),
    "order_calc_margin": (0, "EURUSD", 0.1, 1.1),
    "order_calc_profit": (0, "EURUSD", 0.1, 1.1, 1.2),
    "order_check": ({"action": 1},),
    "order_send": ({"action": 1},),
    **dict.fromkeys(
        ("symbol_info", "symbol_info_tick", "symbol_select"), ("EURUSD",)
    ),
    **dict.fromkeys(("market_book_add", "market_book_release", "market_book_get"), ("EURUSD",)),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in BUILTINS if name not in ("initialize", "shutdown", "last_error")])
def test_failure_value_without_a_terminal(name: str) -> None:
    """The entry's `failure`, which is a Python literal, perhaps with words after it; and of which error it tells."""
    words = FUNCTIONS["market_book_add" if name == "market_book_release" else name]["failure"]
    literal = words if words.startswith("(") else words.split()[0]
    mt5.shutdown()
    assert repr(getattr(mt5, name)(*GOOD.get(name, ()))) == literal
    if "NOT updated" in words:
        wanted = mt5.RES_S_OK
    elif name in ("symbols_get", "symbols_total"):
        wanted = mt5.RES_E_INVALID_VERSION
    else:
        wanted = mt5.RES_E_INTERNAL_FAIL_CONNECT
    assert mt5.last_error()[0] == wanted


def test_shutdown_never_fails_and_last_error_never_resets() -> None:
    assert FUNCTIONS["shutdown"]["failure"] == FUNCTIONS["last_error"]["failure"] == "never fails"
    mt5.account_info()
    assert mt5.last_error() == mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
    assert (mt5.shutdown(), mt5.shutdown()) == (True, True)
    assert mt5.last_error() == (mt5.RES_S_OK, "Success")


def test_last_error_is_the_processs() -> None:
    mt5.account_info()
    seen: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: seen.append(mt5.last_error()))
    thread.start()
    thread.join()
    assert seen == [mt5.last_error()]
    assert seen[0][0] == mt5.RES_E_INTERNAL_FAIL_CONNECT


@pytest.mark.parametrize("name", STRUCTS)
def test_struct(name: str) -> None:
    kind, fields = getattr(mt5, name), STRUCTS[name]["fields"]
    value: Any = kind(range(len(fields)))
    assert kind.__doc__ == STRUCTS[name]["doc"]
    assert (kind.__name__, kind.__module__, tuple in kind.__mro__) == (name, "builtins", True)
    assert kind.__match_args__ == tuple(fields)
    assert (kind.n_fields, kind.n_sequence_fields, kind.n_unnamed_fields) == (len(fields), len(fields), 0)
    assert [getattr(value, field) for field in fields] == list(value) == list(range(len(fields)))
    assert value == tuple(range(len(fields)))
    assert hash(value) == hash(tuple(value))
    assert value._asdict() == dict(zip(fields, range(len(fields)), strict=True))
    assert repr(value) == f"{name}({', '.join(f'{field}={place}' for place, field in enumerate(fields))})"
    assert type(value[1:]) is type(value + (1,)) is tuple  # noqa: RUF005 - adding is what is asked about


@pytest.mark.parametrize("name", STRUCTS)
def test_struct_is_built_and_copied_as_the_wheels(name: str) -> None:
    kind, count = getattr(mt5, name), len(STRUCTS[name]["fields"])
    value = kind(iter(range(count)))
    assert kind(sequence=range(count)) == kind(range(count), {}) == value
    assert value.__reduce__() == (kind, (tuple(range(count)), {}))
    assert copy.copy(value) == copy.deepcopy(value) == value
    assert type(copy.copy(value)) is kind
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(value)
    for wrong in ((), (5,), (range(count - 1),), (range(count + 1),), (range(count - 1), {"x": 1})):
        with pytest.raises(TypeError):
            kind(*wrong)
    with pytest.raises(TypeError):
        kind(**dict.fromkeys(STRUCTS[name]["fields"], 0))
    with pytest.raises(TypeError):
        type("Mine", (kind,), {})
    for field in (STRUCTS[name]["fields"][0], "note"):
        with pytest.raises(AttributeError):
            setattr(value, field, 1)
    for absent in ("_fields", "_replace", "_make", "__dict__"):
        assert not hasattr(value, absent)


def test_every_structure_and_type_is_named() -> None:
    ours = {name for name, value in vars(mt5).items() if isinstance(value, type) and issubclass(value, tuple)}
    assert ours == set(STRUCTS)
    for entry in STRUCTS.values():
        assert len(entry["fields"]) == len(entry["c_types"]) == len(entry["py_types"])


def test_error_codes_have_the_constants_names() -> None:
    codes = {entry["name"]: int(code) for code, entry in CONTRACT["errors"]["codes"].items()}
    assert codes == {name: value for name, value in CONSTANTS.items() if name.startswith("RES_")}


@pytest.mark.parametrize("text", CONTRACT["errors"]["client_side_minus2_texts"])
def test_a_call_is_known_that_gives_the_text(text: str) -> None:
    call, (_, values) = next(
        (call, row) for call, rows in MATRIX.items() for row in rows if row[0].text == text and row[0].code == -2
    )
    value = values.split(questions.SEPARATOR)[0] if values != questions.OTHERS else _others(call)[0]
    assert questions.ask(mt5, call, value).text == text


@pytest.mark.parametrize(("expression", "answer", "code", "text"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_answer_without_terminal(expression: str, answer: str, code: str, text: str) -> None:
    assert questions.ask(mt5, expression, "") == (answer, int(code), text)


def test_the_matrix_holds_every_call() -> None:
    assert list(MATRIX) == list(CALLS)
    for call, rows in MATRIX.items():
        named = [value for _, values in rows if values != questions.OTHERS for value in _split(values)]
        assert len(named) == len(set(named)), call
        assert set(named) <= set(CALLS[call]), call


def _split(values: str) -> list[str]:
    return values.split(questions.SEPARATOR)


def _others(call: str) -> list[str]:
    named = {value for _, values in MATRIX[call] if values != questions.OTHERS for value in _split(values)}
    return [value for value in CALLS[call] if value not in named]


@pytest.mark.parametrize("call", MATRIX)
def test_wrong_arguments(call: str) -> None:
    """Each value in each place gives what the wheel gave: value or exception, and `last_error`."""
    asked = 0
    for wanted, values in MATRIX[call]:
        for value in _others(call) if values == questions.OTHERS else _split(values):
            mt5.shutdown()
            assert (value, questions.ask(mt5, call, value)) == (value, wanted)
            asked += 1
    assert asked == len(CALLS[call])


@pytest.mark.parametrize("kind", ["int_fields", "float_fields", "str_fields"])
def test_request_fields_are_as_strict_as_the_contract_says(kind: str) -> None:
    """The rules in words, on every field that they name: what passes them fails for want of a terminal only."""
    good: dict[str, tuple[str, ...]] = {
        "int_fields": ("1", "True", "One.ONE"),
        "float_fields": ("1.0", "np.float64(1)", "nan", "inf"),
        "str_fields": ("'x'", "'E'*29"),
    }
    bad: dict[str, tuple[str, ...]] = {
        "int_fields": ("np.int64(1)", "1.0", "'1'", "None"),
        "float_fields": ("1", "True", "'1'", "None", "np.float32(1)"),
        "str_fields": ("1", "b'x'", "None", "'E'*30"),
    }
    for field in CONTRACT["request_parsing"][kind]["fields"]:
        for value in good[kind]:
            answer = questions.ask(mt5, f"order_send({{'{field}': _}})", value)
            assert answer == ("None", mt5.RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
        for value in bad[kind]:
            answer = questions.ask(mt5, f"order_send({{'{field}': _}})", value)
            assert answer == ("None", mt5.RES_E_INVALID_PARAMS, f'Invalid "{field}" argument')


def test_the_request_fields_are_the_structures() -> None:
    parsing = CONTRACT["request_parsing"]
    named = [field for kind in ("int_fields", "float_fields", "str_fields") for field in parsing[kind]["fields"]]
    assert sorted(named) == sorted(STRUCTS["TradeRequest"]["fields"])


def test_every_retcode_has_one_policy() -> None:
    classes = CONTRACT["retcode_policy"]["classes"]
    named = [name for members in classes.values() for name in members if not name.startswith("<")]
    assert sorted(named) == sorted(name for name in CONSTANTS if name.startswith("TRADE_RETCODE_"))

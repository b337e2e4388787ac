"""What the contract tests ask a module that claims to be `MetaTrader5`, and how the answers are kept.

Every function is asked with every argument wrong in every way of `VALUES`, with too few and too many arguments and
with unknown keywords: `_` in a call stands for the value. `mt5_wheel_matrix.tsv` holds what the official wheel answered
before `initialize()`; written anew by running this file with the wheel's Python, on Windows or under Wine:

    python tests/contract/questions.py MetaTrader5 > tests/contract/mt5_wheel_matrix.tsv

Standard library and numpy only, because the wheel's Python may have nothing else.
"""

import datetime
import decimal
import enum
import fractions
import importlib
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


class One(enum.IntEnum):
    """An enumeration as wrappers use them."""

    ONE = 1


class Int(int):
    """An int that is more than an int."""


class Str(str):
    """As above."""

    __slots__ = ()


class Float(float):
    """As above."""


class Dict(dict[str, Any]):
    """As above."""


class Index:
    """Turns into 1 where an index is wanted."""

    def __index__(self) -> int:
        return 1


class Real:
    """Turns into 1.5 where a float is wanted."""

    def __float__(self) -> float:
        return 1.5


class Whole:
    """Turns into 1 where `int()` is called."""

    def __int__(self) -> int:
        return 1


class Stamp:
    """Has a `timestamp()` that gives, or raises, anything."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def timestamp(self) -> Any:
        """The value."""
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


class Broken:
    """Raises where a number is wanted."""

    def __index__(self) -> int:
        raise ValueError("broken")

    def __float__(self) -> float:
        raise ValueError("broken")


NAMES: dict[str, Any] = {
    "np": np, "D": datetime, "Decimal": decimal.Decimal, "Fraction": fractions.Fraction, "One": One, "Int": Int,
    "Str": Str, "Float": Float, "Dict": Dict, "Index": Index, "Real": Real, "Whole": Whole, "Stamp": Stamp,
    "Broken": Broken, "UTC": datetime.UTC, "nan": float("nan"), "inf": float("inf"),
}  # fmt: skip

# Not among them, because the numpy at hand decides what they are: np.bool_ as an index, np.array([3]) as a float.
VALUES = (
    # nothing, truths, numbers and their ends
    "None", "...", "True", "False", "0", "1", "-1", "5", "2**31-1", "2**31", "-2**31-1", "2**32-1", "2**32", "2**53+1",
    "2**63-1", "2**63", "-2**63", "-2**63-1", "2**64-1", "2**64", "10**400", "-10**400", "0.0", "-0.0", "1.5", "-1.5",
    "1e300", "5e-324", "nan", "inf", "-inf", "1j", "Decimal('1.5')", "Fraction(3, 2)",
    # numpy's
    "np.int64(3)", "np.int32(3)", "np.uint8(3)", "np.int64(-3)", "np.uint64(2**64-1)",
    "np.float64(1.5)", "np.float32(1.5)", "np.float64('nan')", "np.str_('EURUSD')", "np.bytes_(b'x')",
    "np.datetime64('2020-01-01')", "np.timedelta64(1, 's')", "np.array(3)", "np.array([1.5, 2.5])",
    # texts
    "''", "'x'", "'1'", "'EURUSD'", "'E'*29", "'E'*30", "'E'*253", "'E'*254", "'E'*257", "'E'*258", "'E'*1997",
    "'E'*1998", "'\\U0001f600'*14", "'\\U0001f600'*15", "'\\ud800'", "'EUR\\0USD'", "b''", "b'EURUSD'",
    "bytearray(b'x')", "memoryview(b'x')",
    # dates
    "D.datetime(2020, 1, 1)", "D.datetime(2020, 1, 1, tzinfo=UTC)", "D.datetime(1970, 1, 1, tzinfo=UTC)",
    "D.datetime(1, 1, 1, tzinfo=UTC)", "D.datetime(9999, 12, 31, tzinfo=UTC)",
    "D.datetime(2020, 1, 1, 12, 30, 15, 999999, tzinfo=D.timezone(D.timedelta(hours=-5)))",
    "D.date(2020, 1, 1)", "D.time(1)", "D.timedelta(days=1)",
    "Stamp(1)", "Stamp(1.5)", "Stamp(nan)", "Stamp(2**70)", "Stamp('x')", "Stamp(None)", "Stamp(np.float64(2))",
    "Stamp(np.int64(2))", "Stamp(True)", "Stamp(ValueError('no'))",
    # kin of the right types, and containers
    "One.ONE", "Int(1)", "Str('EURUSD')", "Float(1.5)", "Index()", "Real()", "Whole()", "Broken()", "[]", "[1]", "()",
    "(1,)", "{}", "{'a': 1}", "set()", "object()", "int", "len", "lambda: 1", "m",
)  # fmt: skip

_POSITIONAL: dict[str, tuple[str, ...]] = {
    "copy_ticks_from": ("'EURUSD'", "1e9", "10", "-1"),
    "copy_ticks_range": ("'EURUSD'", "1e9", "2e9", "-1"),
    "copy_rates_from": ("'EURUSD'", "1", "1e9", "10"),
    "copy_rates_from_pos": ("'EURUSD'", "1", "0", "10"),
    "copy_rates_range": ("'EURUSD'", "1", "1e9", "2e9"),
    "history_orders_total": ("0", "2e9"),
    "history_deals_total": ("0", "2e9"),
    "history_orders_get": ("0", "2e9"),
    "history_deals_get": ("0", "2e9"),
    "order_calc_margin": ("0", "'EURUSD'", "0.1", "1.1"),
    "order_calc_profit": ("0", "'EURUSD'", "0.1", "1.1", "1.2"),
    "symbol_info": ("'EURUSD'",),
    "symbol_info_tick": ("'EURUSD'",),
    "symbol_select": ("'EURUSD'", "True"),
    "symbols_get": ("'*'",),
    "market_book_add": ("'EURUSD'",),
    "market_book_get": ("'EURUSD'",),
    "market_book_release": ("'EURUSD'",),
    "login": ("5", "'p'", "'s'"),
}
_KEYWORDS: dict[str, tuple[str, ...]] = {
    "login": ("login", "password", "server", "timeout"),
    "positions_get": ("symbol", "ticket", "group"),
    "orders_get": ("symbol", "ticket", "group"),
    "history_orders_get": ("ticket", "position", "group"),
    "history_deals_get": ("ticket", "position", "group"),
    "symbols_get": ("group",),
}
REQUEST = {
    "action": "1", "magic": "1", "order": "1", "symbol": "'EURUSD'", "volume": "0.1", "price": "1.1",
    "stoplimit": "1.1", "sl": "1.0", "tp": "1.2", "deviation": "1", "type": "0", "type_filling": "1", "type_time": "0",
    "expiration": "0", "comment": "'c'", "position": "1", "position_by": "1",
}  # fmt: skip
_ALONE = (
    "shutdown", "version", "terminal_info", "account_info", "positions_total", "orders_total", "symbols_total",
    "last_error",
)  # fmt: skip
_OTHERS = (
    # initialize() with good arguments looks for a terminal, which answers what this computer has: bad ones only
    *(f"initialize({call})" for call in ("login=_", "password=_", "server=_", "timeout=_", "path=_", "_", "'x', _")),
    "initialize(_, login='x')", "initialize(portable=_, login='x')", "initialize('x', 'y', login='x')",
    "login(5, password='p', server='s', timeout=_)", "login(login=_, password=_)", "login(password=_, server=_)",
    "login(server=_, timeout=_)", "login(_, login='x')", "login(5, login=_)", "login(_, login=5)",
    "login(5, _, password='x')", "login(5, 'p', _, server=3)",
    "initialize(login=_, password=_)", "initialize(password=_, server=_)", "initialize(server=_, timeout=_)",
    "initialize(timeout=_, path=_)", "initialize(_, path=1)", "initialize(_, login=None)",
    "login(5, _, server='s')", "login(5, 'p', password=_)",
    "positions_get(_)", "orders_get(_)", "positions_get(nonsense=_)", "orders_get(nonsense=_)",
    "positions_get(ticket=1, symbol=_)", "positions_get(ticket=1, group=_)", "positions_get(symbol='EURUSD', group=_)",
    "orders_get(ticket=1, symbol=_)", "orders_get(ticket=1, group=_)", "orders_get(symbol='EURUSD', group=_)",
    "history_deals_get(0, 2e9, ticket=_)", "history_deals_get(0, 2e9, position=_)", "history_deals_get(0, ticket=_)",
    "history_deals_get(0, 2e9, group=_)", "history_deals_get(_)",
    "history_deals_get(ticket=1, position=_)", "history_deals_get(nonsense=_)",
    "history_deals_get(date_from=_, date_to=_)", "history_deals_get(ticket=1, group=_)",
    "history_orders_get(0, 2e9, ticket=_)", "history_orders_get(0, 2e9, position=_)",
    "history_orders_get(0, ticket=_)", "history_orders_get(0, 2e9, group=_)",
    "history_orders_get(ticket=1, position=_)", "history_orders_get(nonsense=_)",
    "history_orders_get(_)", "history_orders_get(ticket=1, group=_)", "history_orders_get(date_from=_, date_to=_)",
    "symbols_get('*', group=_)", "symbols_get(nonsense=_)", "symbols_get(_, _)",
    "order_send(_)", "order_send(_, _)", "order_send({}, action=_)", "order_send(request=_)", "order_send({1: _})",
    "order_send({'nonsense': _})", "order_send(nonsense=_)", "order_send(Dict(action=1, volume=_))",
    "order_send(action=_)", "order_send(volume=_)", "order_send(comment=_)",
    "order_check(_)", "order_check(_, _)", "order_check({}, action=_)", "order_check(request=_)",
    "order_check({'nonsense': _})", "order_check(volume=_)",
    "Buy(_, 0.1)", "Buy('EURUSD', _)", "Buy('EURUSD', 0.1, _)", "Buy('EURUSD', 0.1, 1.1, comment=_)",
    "Buy('EURUSD', 0.1, 1.1, ticket=_)", "Buy('EURUSD', 0.1, 1.1, _)", "Buy()", "Buy('EURUSD', 0.1, nonsense=_)",
    "Sell(_, 0.1)", "Sell('EURUSD', _)", "Sell('EURUSD', 0.1, _)", "Sell('EURUSD', 0.1, 1.1, comment=_)",
    "Sell('EURUSD', 0.1, 1.1, ticket=_)", "Sell('EURUSD', 0.1, 1.1, _)", "Sell()",
    "Close(_)", "Close('EURUSD', comment=_)", "Close('EURUSD', ticket=_)", "Close('EURUSD', _)", "Close()",
    "_RawOrder(_, 'EURUSD', 0.1, 1.1)", "_RawOrder(0, _, 0.1, 1.1)", "_RawOrder(0, 'EURUSD', _, 1.1)",
    "_RawOrder(0, 'EURUSD', 0.1, _)", "_RawOrder(0, 'EURUSD', 0.1, 1.1, _)", "_RawOrder(0, 'EURUSD', 0.1, 1.1, 'c', _)",
)  # fmt: skip
_GOOD_FOR_INITIALIZE = ("True", "1", "5", "0", "False", "'", "Str(", "np.str_", "One", "Int(", "2**")
"""With these an `initialize` might go on to look for a terminal on this computer."""


SEPARATOR = " | "
OTHERS = "all others"
_MANY = len(VALUES) // 2 + 1


class Answer(NamedTuple):
    """What a call gave: its value's repr or the name of what it raised, and `last_error` afterwards."""

    answer: str
    code: int
    text: str


def calls() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every call with the values that its `_` takes; a single empty one where it has none."""
    for call in _templates():
        values: tuple[str, ...] = VALUES if "_)" in call or "=_" in call or "_," in call or "_}" in call else ("",)
        if call.startswith("initialize(") and "login='x'" not in call and "'x', _" not in call:
            values = tuple(value for value in values if not value.startswith(_GOOD_FOR_INITIALIZE))
        yield call, values


def _templates() -> Iterator[str]:
    for name, arguments in _POSITIONAL.items():
        yield from _positional(name, arguments)
    for name, keywords in _KEYWORDS.items():
        for keyword in keywords:
            yield f"{name}({keyword}=_)"
    for name in ("order_send", "order_check"):
        yield from _requests(name)
    for name in _ALONE:
        yield f"{name}()"
        yield f"{name}(_)"
        yield f"{name}(nonsense=_)"
    yield from _OTHERS


def _positional(name: str, arguments: tuple[str, ...]) -> Iterator[str]:
    # Which of two wrong arguments is complained of shows the order in which they are read.
    wrong = [(place,) for place in range(len(arguments))]
    for places in (*wrong, *itertools.combinations(range(len(arguments)), 2)):
        yield f"{name}({', '.join('_' if place in places else good for place, good in enumerate(arguments))})"
    for count in range(len(arguments)):
        yield f"{name}({', '.join(arguments[:count])})"
    yield f"{name}({', '.join((*arguments, '_'))})"
    yield f"{name}({', '.join((*arguments, 'nonsense=_'))})"
    yield f"{name}(*(1,) * 40)"


def _requests(name: str) -> Iterator[str]:
    for field, value in REQUEST.items():
        others = ", ".join(f"'{key}': {good}" for key, good in REQUEST.items() if key != field)
        yield f"{name}({{{others}, '{field}': _}})"
        yield f"{name}({{'{field}': {value}}})"
    for first, second in itertools.pairwise(REQUEST):
        yield f"{name}({{'{second}': _, '{first}': _}})"


def _names(module: Any) -> dict[str, Any]:
    return {**NAMES, **vars(module), "m": module}


def value(module: Any, expression: str) -> Any:
    """What one of `VALUES` is."""
    return eval(expression, _names(module))  # noqa: S307 - the questions are this file's


def ask(module: Any, call: str, value: str) -> Answer:
    """Calls the module. What the call raises is an answer, too."""
    names = _names(module)
    names["_value"] = eval(value, names) if value else None  # noqa: S307 - the questions are this file's
    for end in ")},":
        call = call.replace(f"_{end}", f"_value{end}")
    try:
        answer = repr(eval(call, names))  # noqa: S307 - as above
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is asked for
        answer = type(error).__name__
    code, text = module.last_error()
    return Answer(answer, code, text)


def matrix(module: Any) -> Iterator[tuple[str, Answer, list[str]]]:
    """All calls, each once per answer, with the values that gave it; most common answer last."""
    for call, values in calls():
        found: dict[Answer, list[str]] = {}
        for value in values:
            module.shutdown()
            found.setdefault(ask(module, call, value), []).append(value)
        for answer, gave in sorted(found.items(), key=lambda pair: len(pair[1])):
            yield call, answer, gave


def main(arguments: list[str]) -> int:
    """Writes the matrix of a module to standard output."""
    module = importlib.import_module(arguments[0])
    version: Mapping[str, Any] = vars(module)
    out = [
        f"# call, _ is a value\tanswer\tlast_error code\ttext: what MetaTrader5 {version['__version__']} answered in a"
        " Windows CPython 3.11 before initialize()\tvalues, in Python, of which NAMES in questions.py are known"
    ]
    for call, answer, values in matrix(module):
        gave = OTHERS if len(values) > _MANY else SEPARATOR.join(values)
        out.append("\t".join((call, answer.answer, str(answer.code), answer.text, gave)))
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    sys.stdout.write("\n".join(out) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

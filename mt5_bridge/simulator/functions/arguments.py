"""How the official package reads arguments: what it takes, and what it says where it does not.

Every rule was seen in the real wheel's answers to right and wrong calls (`tests/contract/mt5_wheel_answers.tsv` and
`mt5_wheel_matrix.tsv`). Of several wrong arguments it complains of the one it reads first: plain numbers before texts,
texts before dates.
"""

import datetime
import operator
from collections.abc import Mapping
from typing import Any

from mt5_bridge.simulator.core.rules import Request

MAX_TEXT = 29
MAX_GROUP = 1997
INVALID = "Invalid arguments"

MAX_SECRET = 253
MAX_PATH = 257
UINT32, _UINT64 = (1 << 32) - 1, (1 << 64) - 1
_INT32, INT64 = (1 << 31) - 1, (1 << 63) - 1


class ArgumentError(Exception):
    """Arguments the wheel refuses with -2. Where `system_error` is set it also raises SystemError."""

    def __init__(self, text: str = INVALID, *, system_error: bool = False) -> None:
        super().__init__(text)
        self.system_error = system_error


class PendingOverflowError(Exception):
    """A date beyond int32 was given as an int: the wheel asks the terminal all the same, with -1 in its place.

    What comes back is lost, since CPython finds the overflow still pending and raises SystemError.
    """


def exactly(args: tuple[Any, ...], count: int) -> None:
    """A fixed number of positional arguments."""
    if len(args) != count:
        raise ArgumentError


def _units(text: str) -> int:
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def text(value: Any, message: str = INVALID, limit: int = MAX_TEXT) -> str:
    """A str of at most `limit` UTF-16 units."""
    if not isinstance(value, str) or _units(value) > limit:
        raise ArgumentError(message)
    return value


def int32(value: Any) -> int:
    """Anything with `__index__`, numpy's ints included."""
    try:
        number = operator.index(value)
    except Exception:  # noqa: BLE001 - a foreign `__index__` may raise anything
        raise ArgumentError(system_error=True) from None
    if not -_INT32 - 1 <= number <= _INT32:
        raise ArgumentError(system_error=True)
    return number


def truth(value: Any) -> bool:
    """Whatever has a truth value."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - an array has none, a foreign `__bool__` may raise anything
        raise ArgumentError(system_error=True) from None


def seconds(value: Any) -> int:
    """A date as whole seconds: int, float or datetime. A float beyond int32, or none at all, is the lowest int32.

    Raises:
        ArgumentError: anything else, numpy's ints and a plain `date` included.
        PendingOverflowError: an int beyond int32.
    """
    if isinstance(value, int):
        if not -_INT32 - 1 <= value <= _INT32:
            raise PendingOverflowError
        return int(value)
    if isinstance(value, datetime.datetime):
        try:
            value = value.timestamp()
        except (OSError, OverflowError, ValueError):
            # Windows knows no local time before 1970.
            raise ArgumentError(system_error=True) from None
    if not isinstance(value, float):
        raise ArgumentError
    return int(value) if -_INT32 - 2 < value < _INT32 + 1 else -_INT32 - 1


def without_overflow(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the wheel goes on with after a `PendingOverflowError`."""
    return tuple(-1 if isinstance(v, int) and not -_INT32 - 1 <= v <= _INT32 else v for v in args)


def python_int(value: Any, message: str, most: int = _UINT64, least: int = 0) -> int:
    """Python's own int (bool and IntEnum are): numpy's are refused, one out of range leaves an error pending."""
    if not isinstance(value, int):
        raise ArgumentError(message)
    if not least <= value <= most:
        raise ArgumentError(message, system_error=True)
    return int(value)


def action(value: Any) -> int:
    """The order type of order_calc_*: a Python int and nothing else, of which the lowest 32 bits count."""
    if not isinstance(value, int):
        raise ArgumentError(system_error=True)
    return value & UINT32


def number(value: Any) -> float:
    """A float, or what turns into one; not a text."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        raise ArgumentError(system_error=True)
    try:
        return float(value)
    except Exception:  # noqa: BLE001 - a foreign `__float__` may raise anything
        raise ArgumentError(system_error=True) from None


_INT_FIELDS = {
    "action": (0, UINT32), "magic": (0, _UINT64), "order": (0, _UINT64), "deviation": (0, _UINT64),
    "type": (0, UINT32), "type_filling": (0, UINT32), "type_time": (0, UINT32),
    "expiration": (-INT64 - 1, INT64), "position": (0, _UINT64), "position_by": (0, _UINT64),
}  # fmt: skip
_FLOAT_FIELDS = frozenset({"volume", "price", "stoplimit", "sl", "tp"})


def request(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request:
    """A trade request: one dict, or its fields as keywords. Unknown fields are ignored, missing ones are zero."""
    fields: Mapping[str, Any] = kwargs
    if args:
        if len(args) > 1:
            raise ArgumentError("Invalid number of arguments")
        if kwargs:
            raise ArgumentError("Unnamed arguments not allowed")
        if not isinstance(args[0], dict):
            raise ArgumentError
        fields = args[0]
    elif not kwargs:
        raise ArgumentError("Invalid number of arguments")
    values: dict[str, Any] = {}
    for name in Request.__struct_fields__:
        if name in fields:
            values[name] = _field(name, fields[name])
    return Request(**values)


def _field(name: str, value: Any) -> Any:
    message = f'Invalid "{name}" argument'
    limits = _INT_FIELDS.get(name)
    if limits is not None:
        return python_int(value, message, limits[1], limits[0])
    if name in _FLOAT_FIELDS:
        if not isinstance(value, float):
            raise ArgumentError(message)
        return float(value)
    return text(value, message)

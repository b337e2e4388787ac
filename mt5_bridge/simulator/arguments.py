"""How the official package reads arguments: what it takes, and what it says where it does not.

Every rule was seen in the real wheel's answers to right and wrong calls (`tests/contract/mt5_wheel_answers.tsv`).
"""

import math
import operator
from collections.abc import Mapping
from typing import Any

from mt5_bridge.simulator.rules import Request

MAX_TEXT = 29
MAX_GROUP = 1997
INVALID = "Invalid arguments"

MAX_SECRET = 255
MAX_PATH = 1023
UINT32, _UINT64 = (1 << 32) - 1, (1 << 64) - 1
_INT32, INT64 = (1 << 31) - 1, (1 << 63) - 1


class ArgumentError(Exception):
    """Arguments the wheel refuses with -2. Where `system_error` is set it also raises SystemError."""

    def __init__(self, text: str = INVALID, *, system_error: bool = False) -> None:
        super().__init__(text)
        self.system_error = system_error


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
    except TypeError:
        raise ArgumentError(system_error=True) from None
    if not -_INT32 - 1 <= number <= _INT32:
        raise ArgumentError(system_error=True)
    return number


def seconds(value: Any) -> int:
    """A date as whole seconds: int, float, or what has a `timestamp()`. Kept within int32."""
    if not isinstance(value, int | float):
        timestamp = getattr(value, "timestamp", None)
        if not callable(timestamp):
            raise ArgumentError
        value = timestamp()
    if not math.isfinite(value):
        return -_INT32 - 1
    return max(-_INT32 - 1, min(int(value), _INT32))


def python_int(value: Any, message: str, most: int = _UINT64, least: int = 0) -> int:
    """Python's own int (bool and IntEnum are): numpy's are refused, one out of range leaves an error pending."""
    if not isinstance(value, int):
        raise ArgumentError(message)
    if not least <= value <= most:
        raise ArgumentError(message, system_error=True)
    return int(value)


def action(value: Any) -> int:
    """The order type of order_calc_*: a Python int and nothing else."""
    if not isinstance(value, int) or not -_INT32 - 1 <= value <= _INT32:
        raise ArgumentError(system_error=True)
    return int(value)


def number(value: Any) -> float:
    """A float, or what turns into one; not a text."""
    if isinstance(value, str | bytes):
        raise ArgumentError(system_error=True)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
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

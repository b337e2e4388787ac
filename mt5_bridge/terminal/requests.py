"""What is refused before it leaves: pure checks of requests that the terminal would misread."""

import math

from mt5_bridge.core.errors import MT5ValidationError
from mt5_bridge.core.model import Deed, OrderRequest

MAX_TEXT = 29
"""The terminal takes at most so many UTF-16 units in a comment or a symbol."""
MAX_MAGIC = (1 << 53) - 1

TIMEFRAMES: dict[str, int] = {
    "M1": 1,
    "M2": 2,
    "M3": 3,
    "M4": 4,
    "M5": 5,
    "M6": 6,
    "M10": 10,
    "M12": 12,
    "M15": 15,
    "M20": 20,
    "M30": 30,
    "H1": 16385,
    "H2": 16386,
    "H3": 16387,
    "H4": 16388,
    "H6": 16390,
    "H8": 16392,
    "H12": 16396,
    "D1": 16408,
    "W1": 32769,
    "MN1": 49153,
}

_NUMBERS = ("volume", "price", "stop_limit_price", "stop_loss", "take_profit")
_WHOLE = ("deviation_points", "expiration_msc", "magic", "position", "position_by", "order")


def timeframe(name: str) -> int:
    """The terminal's number of a timeframe.

    Raises:
        MT5ValidationError: there is no such timeframe.
    """
    code = TIMEFRAMES.get(name)
    if code is None:
        raise MT5ValidationError(f"unknown timeframe {name}: use one of {' '.join(TIMEFRAMES)}")
    return code


def validate(request: OrderRequest) -> None:
    """Refuse what the terminal lets through or answers with a bare -2: NaN, infinity, wrong types, long texts.

    Raises:
        MT5ValidationError: naming the field.
    """
    for name in _NUMBERS:
        value = getattr(request, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
            raise MT5ValidationError(f"{name} must be a finite number of at least 0, not {value!r}")
    for name in _WHOLE:
        value = getattr(request, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise MT5ValidationError(f"{name} must be a whole number of at least 0, not {value!r}")
    if request.magic > MAX_MAGIC:
        raise MT5ValidationError(f"magic must stay below 2^53, not {request.magic}")
    for name in ("symbol", "comment"):
        if len(getattr(request, name).encode("utf-16-le")) > 2 * MAX_TEXT:
            raise MT5ValidationError(f"{name} is longer than {MAX_TEXT} UTF-16 units")
    _require(request)


def _require(request: OrderRequest) -> None:
    needs = {
        Deed.DEAL: ("symbol", "volume"),
        Deed.PENDING: ("symbol", "volume", "price"),
        Deed.SLTP: ("symbol", "position"),
        Deed.MODIFY: ("order", "price"),
        Deed.REMOVE: ("order",),
        Deed.CLOSE_BY: ("position", "position_by"),
    }[request.deed]
    for name in needs:
        if not getattr(request, name):
            raise MT5ValidationError(f"{request.deed.value} needs {name}")

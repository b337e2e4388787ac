import math
from typing import Any

import msgspec
import pytest

from mt5_bridge.core.errors import MT5ValidationError
from mt5_bridge.core.model import Deed, OrderRequest
from mt5_bridge.terminal.requests import TIMEFRAMES, timeframe, validate

GOOD = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, magic=(1 << 53) - 1, comment="c" * 29)


def test_a_good_request_passes() -> None:
    validate(GOOD)
    validate(OrderRequest(deed=Deed.REMOVE, order=5))
    validate(OrderRequest(deed=Deed.CLOSE_BY, position=5, position_by=6))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("volume", math.nan),
        ("volume", -0.1),
        ("volume", True),
        ("price", math.inf),
        ("stop_loss", -math.inf),
        ("take_profit", "1.1"),
        ("stop_limit_price", None),
        ("magic", 1 << 53),
        ("magic", 1.0),
        ("position", -1),
        ("deviation_points", True),
        ("comment", "c" * 30),
        ("comment", "😀" * 15),
        ("symbol", "S" * 30),
        ("symbol", ""),
        ("volume", 0.0),
    ],
)
def test_what_the_terminal_would_misread_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(MT5ValidationError, match=field):
        validate(msgspec.structs.replace(GOOD, **{field: value}))


@pytest.mark.parametrize(
    ("deed", "missing"),
    [
        (Deed.PENDING, "price"),
        (Deed.SLTP, "position"),
        (Deed.MODIFY, "order"),
        (Deed.REMOVE, "order"),
        (Deed.CLOSE_BY, "position"),
    ],
)
def test_each_deed_needs_its_fields(deed: Deed, missing: str) -> None:
    with pytest.raises(MT5ValidationError, match=f"{deed.value} needs {missing}"):
        validate(OrderRequest(deed=deed, symbol="EURUSD", volume=0.1))


def test_timeframes() -> None:
    assert timeframe("H4") == 16388
    assert len(TIMEFRAMES) == 21
    with pytest.raises(MT5ValidationError, match="M7"):
        timeframe("M7")

"""UTC milliseconds to ISO-8601 and back, at the ends of the calendar too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.times import from_iso, iso, moment, parse_time

FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999


@pytest.mark.parametrize(
    ("msc", "text"),
    [
        (1_577_836_800_123, "2020-01-01T00:00:00.123Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (FIRST, "0001-01-01T00:00:00.000Z"),
        (FIRST - 1, "0001-01-01T00:00:00.000Z"),
        (LAST, "9999-12-31T23:59:59.999Z"),
        (LAST + 1, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_iso(msc: int, text: str) -> None:
    assert iso(msc) == text


@pytest.mark.parametrize(
    ("value", "msc"),
    [
        ("2020-01-01T00:00:00.123Z", 1_577_836_800_123),
        (" 2020-01-01T00:00:00 ", 1_577_836_800_000),
        ("2020-01-01", 1_577_836_800_000),
        ("2020-01-01T02:00:00+02:00", 1_577_836_800_000),
        ("2020-01-01T00:00:00.1239Z", 1_577_836_800_123),
        (1_577_836_800, 1_577_836_800_000),
        (1_577_836_800.5, 1_577_836_800_500),
        (1_577_836_800_123, 1_577_836_800_123),
        (0, 0),
        (-1.5, -1_500),
    ],
)
def test_times_as_backends_write_them(value: str | int | float, msc: int) -> None:
    assert parse_time(value) == msc


@pytest.mark.parametrize(
    "value", ["", "soon", "2020-13-01", float("nan"), float("inf"), float("-inf"), 1e300, LAST + 1, 10**400]
)
def test_what_is_no_time(value: str | int | float) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(value)


@given(st.integers(FIRST, LAST))
def test_there_and_back(msc: int) -> None:
    assert from_iso(iso(msc)) == msc
    assert len(iso(msc)) == 24
    assert moment(msc).tzinfo is not None

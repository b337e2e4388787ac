"""UTC milliseconds to the wire's ISO-8601 and back."""

import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = -62_135_596_800_000  # year 1
_LAST = 253_402_300_799_999  # year 9999
_SECONDS_END = 100_000_000_000  # a plain number below is seconds (until the year 5138), above it milliseconds


@lru_cache(maxsize=64)  # a batch of messages has one time or a few, and writing them out is half its cost
def iso(msc: int) -> str:
    """`1577836800123` → `2020-01-01T00:00:00.123Z`. Times no calendar holds become the nearest one that does."""
    return f"{moment(msc).isoformat(timespec='milliseconds')[:23]}Z"


def moment(msc: int) -> datetime:
    """UTC ms as a datetime, to the nearest time a calendar holds. `fromtimestamp` would not do: on Windows it refuses
    times before 1970 and after 3000.
    """
    return _EPOCH + timedelta(milliseconds=min(max(msc, _FIRST), _LAST))


def from_iso(text: str) -> int:
    """ISO-8601 to UTC ms; a time without zone is UTC.

    Raises:
        ValueError: not ISO-8601.
    """
    when = datetime.fromisoformat(text.strip())
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    delta = when - _EPOCH
    return delta.days * DAY + delta.seconds * SECOND + delta.microseconds // 1000


def parse_time(value: str | int | float) -> int:
    """A time as backends write it, to UTC ms: ISO-8601 text, seconds or milliseconds since the epoch.

    Raises:
        ValueError: none of these, or outside the years 1 to 9999.
    """
    if isinstance(value, str):
        return from_iso(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a time")
    msc = int(value if abs(value) >= _SECONDS_END else value * 1000)
    if not _FIRST <= msc <= _LAST:
        raise ValueError(f"{value} is not a time")
    return msc

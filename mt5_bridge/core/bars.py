"""Bars out: when one is over, and which of those the terminal shows are to be told. Pure.

What was told of a series (one symbol and timeframe) is a `Ledger`: all bars up to a floor, and a mark of each one
since. A bar is noted in it before it leaves (`promised`) and again when it has arrived (`kept`). Whoever reads the
ledger after a crash knows which bars may have left: these leave again, as they were or as corrected.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

import msgspec

from mt5_bridge.core.model import Bar
from mt5_bridge.core.times import DAY, HOUR, MINUTE, moment

LENGTHS = {
    **{f"M{n}": n * MINUTE for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)},
    **{f"H{n}": n * HOUR for n in (1, 2, 3, 4, 6, 8, 12)},
    "D1": DAY,
    "W1": 7 * DAY,
    "MN1": 28 * DAY,
}
"""The terminal's timeframes and how long a bar of each is at least, in ms."""

KEPT = 32
"""So many bars of a series are held against what the terminal shows later: of older ones no change is noticed."""

_SUNDAY = 3 * DAY
_VALUES = Struct("<4d3q")


class Mark(IntEnum):
    """How far a bar has come."""

    TOLD = 0
    MAY_BE_TOLD = 1
    """It was about to leave for the first time."""
    MAY_BE_CORRECTED = 2
    """It was about to leave as corrected."""


class Noted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One bar of the ledger: the UTC time it opened, a digest of its values, its mark."""

    time_msc: int
    digest: bytes
    mark: Mark


class Ledger(msgspec.Struct, frozen=True, array_like=True):
    """What was told of a series: all bars up to `floor_msc`, or they are none of ours, and those in `noted`."""

    floor_msc: int
    noted: tuple[Noted, ...] = ()

    @property
    def newest_msc(self) -> int:
        """When the newest bar opened that left, or may have."""
        return self.noted[-1].time_msc if self.noted else self.floor_msc

    @property
    def told_msc(self) -> int:
        """When the newest bar opened before which, and with which, all have arrived."""
        last = self.floor_msc
        for noted in self.noted:
            if noted.mark is not Mark.TOLD:
                break
            last = noted.time_msc
        return last


class Telling(NamedTuple):
    """A bar to be told; `corrected`: another version of it was told before."""

    bar: Bar
    corrected: bool


def opening(raw_msc: int, timeframe: str) -> int:
    """When the bar that holds `raw_msc` opened; both on the broker's clock, by which the terminal makes its bars."""
    if timeframe == "MN1":
        when = moment(raw_msc)
        into = timedelta(days=when.day - 1, hours=when.hour, minutes=when.minute, seconds=when.second)
        return raw_msc - into // timedelta(milliseconds=1) - when.microsecond // 1000
    origin = _SUNDAY if timeframe == "W1" else 0
    return (raw_msc - origin) // LENGTHS[timeframe] * LENGTHS[timeframe] + origin


def ending(raw_msc: int, timeframe: str) -> int:
    """When the bar that holds `raw_msc` is over and the next one opens; both on the broker's clock."""
    opened = opening(raw_msc, timeframe)
    if timeframe == "MN1":
        return opening(opened + 31 * DAY, timeframe)
    return opened + LENGTHS[timeframe]


def digest(bar: Bar) -> bytes:
    """What tells two versions of a bar apart.

    Raises:
        struct.error: a volume that is no 64-bit number.
    """
    prices = (bar.open, bar.high, bar.low, bar.close)
    packed = _VALUES.pack(*prices, bar.tick_volume, bar.spread, bar.real_volume)
    return hashlib.blake2b(packed, digest_size=8).digest()


def to_tell(ledger: Ledger, bars: Iterable[Bar]) -> list[Telling]:
    """Which bars are to be told, oldest first.

    Args:
        ledger: what was told.
        bars: of its series, all of them over.
    """
    known = {noted.time_msc: noted for noted in ledger.noted}
    found = []
    for bar in sorted(bars, key=lambda bar: bar.time_msc):
        if bar.time_msc <= ledger.floor_msc:
            continue
        noted = known.get(bar.time_msc)
        if noted is None:
            found.append(Telling(bar, corrected=False))
        elif noted.digest != digest(bar):
            found.append(Telling(bar, corrected=True))
        elif noted.mark is not Mark.TOLD:
            found.append(Telling(bar, corrected=noted.mark is Mark.MAY_BE_CORRECTED))
    return found


def promised(ledger: Ledger, tellings: Sequence[Telling]) -> Ledger:
    """The ledger to be durable before they leave."""
    marks = (Mark.MAY_BE_TOLD, Mark.MAY_BE_CORRECTED)
    return _with(ledger, [Noted(t.bar.time_msc, digest(t.bar), marks[t.corrected]) for t in tellings])


def kept(ledger: Ledger, tellings: Sequence[Telling]) -> Ledger:
    """The ledger once they have arrived; beyond `KEPT` the oldest are forgotten, and the floor rises."""
    ledger = _with(ledger, [Noted(t.bar.time_msc, digest(t.bar), Mark.TOLD) for t in tellings])
    over = len(ledger.noted) - KEPT
    return Ledger(ledger.noted[over - 1].time_msc, ledger.noted[over:]) if over > 0 else ledger


def _with(ledger: Ledger, news: Sequence[Noted]) -> Ledger:
    noted = {each.time_msc: each for each in (*ledger.noted, *news)}
    return Ledger(ledger.floor_msc, tuple(noted[time] for time in sorted(noted)))

"""The lines of tick files, by form. Pure: text in, rows out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

EST = timezone(timedelta(hours=-5))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MINUTE_MSC = 60_000
_STEPS = 4
_TRADED = 8 | 16
"""TICK_FLAG_LAST, TICK_FLAG_VOLUME."""
_MOST = 1 << 31


class Row(NamedTuple):
    """A tick: time (UTC, ms), prices, of a trade its price and volume (0 without), and for how many ticks it stands."""

    msc: int
    bid: float
    ask: float
    last: float = 0.0
    volume: float = 0.0
    weight: int = 1


class Bar(NamedTuple):
    """A one-minute bar of one side: time it opened (UTC, ms), prices, ticks, real volume, spread in points."""

    msc: int
    open: float
    high: float
    low: float
    close: float
    ticks: int = _STEPS
    volume: float = 0.0
    spread: int = 1


class Lines:
    """The lines of a text file. `number` is that of the line being read, from 1; before, and without one, 0.

    Raises:
        ValueError: it is no text.
    """

    def __init__(self, content: bytes) -> None:
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        self._text = content.decode("utf-16" if wide else "utf-8-sig").splitlines()
        self.number = 0

    @property
    def head(self) -> str:
        """The first line, in small letters."""
        return self._text[0].strip().lower() if self._text else ""

    def rows(self, separator: str, least: int, *, after: int = 1) -> Iterator[list[str]]:
        """The fields of each line after the first so many; empty lines are passed over.

        Raises:
            ValueError: fewer than `least` fields.
        """
        for number, line in enumerate(self._text[after:], after + 1):
            if not line:
                continue
            self.number = number
            fields = line.split(separator)
            if len(fields) < least:
                raise ValueError(f"{len(fields)} fields, at least {least} belong here")
            yield fields


class Form(NamedTuple):
    """How lines are read: as ticks, or as bars; the other gives nothing. Both raise ValueError at a wrong line."""

    ticks: Callable[[Lines], Iterator[Row]]
    bars: Callable[[Lines], Iterator[Bar]]


def form(lines: Lines) -> Form:
    """Finds the form by the first line.

    Raises:
        ValueError: none is known.
    """
    head = lines.head
    if head.startswith("timestamp,open,high,low,close"):
        return Form(_nothing, _bars)
    if head.startswith("timestamp,bid,ask"):
        return Form(_iso, _nothing)
    if head.startswith("<date>") and "<open>" in head:
        return Form(_nothing, _exported_bars)
    if head.startswith("<date>") and "<bid>" in head:
        return Form(_exported, _nothing)
    if len(head) > 18 and head[8] == " " and head[18] == ",":
        return Form(_histdata, _nothing)
    raise ValueError("the format is not known")


def ticks_of(bid: Bar, ask: Bar, point: float) -> Iterator[Row]:
    """Four ticks of a minute: open, the nearer extreme, the other, close. Of one side only, the bar's spread counts.

    A bar with volume is one of trades: each of the four is a trade, so that bars of trades have its prices.
    """
    order = (1, 3, 2, 4) if bid.close >= bid.open else (1, 2, 3, 4)
    spread = bid.spread * point if bid is ask else point
    quarter = bid.volume // _STEPS or bid.volume / _STEPS
    stood = 0
    for step, place in enumerate(order, 1):
        low = bid[place]
        high = max(ask[place], low + spread)
        # The first ones stand for what does not divide by four, so that no bar begins without a tick.
        weight = -(-bid.ticks * step // _STEPS) - stood
        stood += weight
        volume = quarter if step < _STEPS else bid.volume - (_STEPS - 1) * quarter
        yield Row(bid.msc + (step - 1) * _MINUTE_MSC // _STEPS, low, high, low if volume else 0.0, volume, weight)


def table(columns: Mapping[str, Sequence[Any]]) -> Iterator[Row]:
    """Rows of a table with columns as in the ISO form, or named as `copy_ticks_from` names them.

    Times are texts, or numbers: seconds in `time`, milliseconds elsewhere. Where there are `flags`, they tell trades
    from ticks that show the newest one.

    Raises:
        ValueError: a column is missing, or a field is empty.
        TypeError: a field is neither text nor number.
    """
    name = next((name for name in ("time_msc", "timestamp", "time") if name in columns), None)
    if name is None or "bid" not in columns or "ask" not in columns:
        raise ValueError("the table has no columns timestamp, bid and ask")
    stamps = columns[name]
    nothing = [0.0] * len(stamps)
    prices = columns["bid"], columns["ask"], columns.get("last", nothing)
    volumes = columns.get("volume_real", columns.get("volume", nothing))
    flags = columns.get("flags", [_TRADED] * len(stamps))
    for stamp, bid, ask, last, volume, flag in zip(stamps, *prices, volumes, flags, strict=True):
        if None in (stamp, bid, ask):
            raise ValueError("the table has empty fields")
        when = iso_msc(stamp) if isinstance(stamp, str) else round(stamp * (1000 if name == "time" else 1))
        traded = volume if int(flag or 0) & _TRADED else 0
        yield Row(when, float(bid), float(ask), float(last or 0), float(traded or 0))


def iso_msc(text: str) -> int:
    """An ISO time as UTC in ms; without a zone it is UTC.

    Raises:
        ValueError: it is no such time.
    """
    return _msc(datetime.fromisoformat(text))


def _msc(when: datetime) -> int:
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - _EPOCH) // _MILLISECOND


def _nothing(_: Lines) -> Iterator[Any]:
    return iter(())


def _iso(lines: Lines) -> Iterator[Row]:
    trades = lines.head.startswith("timestamp,bid,ask,last,volume")
    last = 0.0
    for fields in lines.rows(",", 5 if trades else 3):
        volume = 0.0
        if trades:
            volume = float(fields[4] or 0)
            last = float(fields[3] or 0) or last
        yield Row(iso_msc(fields[0]), float(fields[1]), float(fields[2]), last, volume)


def _histdata(lines: Lines) -> Iterator[Row]:
    midnights: dict[str, int] = {}
    for stamp, bid, ask, *_ in lines.rows(",", 3, after=0):
        day, _, clock = stamp.partition(" ")
        midnight = midnights.get(day)
        if midnight is None:
            when = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=EST)
            midnight = midnights[day] = _msc(when)
        yield Row(midnight + _of_day(clock), float(bid), float(ask))


def _of_day(clock: str) -> int:
    """The milliseconds of `170000065`."""
    hour, minute, second = clock[:2], clock[2:4], clock[4:6]
    if len(clock) != 9 or not (clock.isdecimal() and hour < "24" and minute < "60" and second < "60"):
        raise ValueError(f"{clock!r} is no time of day in hours, minutes, seconds and milliseconds")
    return ((int(hour) * 60 + int(minute)) * 60 + int(second)) * 1000 + int(clock[6:])


def _exported(lines: Lines) -> Iterator[Row]:
    """The terminal's export of ticks: a field that did not change is empty."""
    bid = ask = last = 0.0
    for date, clock, *fields in lines.rows("\t", 2):
        new_bid, new_ask, new_last, volume = (float(field or 0) for field in [*fields[:4], *"0000"][:4])
        if 0 < new_ask < new_bid:
            raise ValueError(f"an ask of {new_ask} below its bid of {new_bid}")
        if len(fields) > 4 and not int(fields[4] or 0) & _TRADED:
            volume = 0.0
        bid, ask, last = new_bid or bid, new_ask or ask, new_last or last
        if bid and ask:
            # A price that is carried on may be passed by the other one.
            yield Row(_exported_msc(date, clock), bid, max(ask, bid), last, volume)


def _bars(lines: Lines) -> Iterator[Bar]:
    for stamp, *fields in lines.rows(",", 5):
        opened, high, low, close = (float(field) for field in fields[:4])
        yield _checked(Bar(iso_msc(stamp), opened, high, low, close))


def _exported_bars(lines: Lines) -> Iterator[Bar]:
    for date, clock, *fields in lines.rows("\t", 6):
        opened, high, low, close = (float(field) for field in fields[:4])
        ticks, volume, spread = (int(field) for field in [*fields[4:7], *"001"[len(fields[4:7]) :]])
        when = _exported_msc(date, clock)
        yield _checked(Bar(when, opened, high, low, close, ticks or _STEPS, float(volume), spread))


def _checked(bar: Bar) -> Bar:
    if not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high:
        raise ValueError(f"a bar's open or close outside its low of {bar.low} and high of {bar.high}")
    if not 0 <= min(bar.ticks, bar.volume, bar.spread) <= max(bar.ticks, bar.volume, bar.spread) < _MOST:
        raise ValueError("a bar's ticks, volume or spread below 0, or beyond all bounds")
    return bar


def _exported_msc(date: str, clock: str) -> int:
    return iso_msc(f"{date.replace('.', '-')} {clock}")

"""The lines of tick files, by form. Pure: text in, rows out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

EST = timezone(timedelta(hours=-5))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MINUTE_MSC = 60_000
_STEPS = 4


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
    spread: int = 0


class Form(NamedTuple):
    """How lines are read: as ticks, or as bars. The other gives nothing."""

    ticks: Callable[[Sequence[str]], Iterator[Row]]
    bars: Callable[[Sequence[str]], Iterator[Bar]]
    of_bars: bool


def lines(content: bytes) -> list[str]:
    """The text's lines.

    Raises:
        ValueError: it is no text.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16").splitlines()
    return content.decode("utf-8-sig").splitlines()


def form(text: Sequence[str]) -> Form:
    """Finds the form by the first line.

    Raises:
        ValueError: none is known.
    """
    head = text[0].strip().lower() if text else ""
    if head.startswith("timestamp,open,high,low,close"):
        return Form(_nothing, _bars, of_bars=True)
    if head.startswith("timestamp,bid,ask"):
        return Form(_iso, _nothing, of_bars=False)
    if head.startswith("<date>") and "<open>" in head:
        return Form(_nothing, _exported_bars, of_bars=True)
    if head.startswith("<date>") and "<bid>" in head:
        return Form(_exported, _nothing, of_bars=False)
    if len(head) > 18 and head[8] == " " and head[18] == ",":
        return Form(_histdata, _nothing, of_bars=False)
    raise ValueError("the format is not known")


def ticks_of(bid: Bar, ask: Bar, point: float) -> Iterator[Row]:
    """Four ticks of a minute: open, the nearer extreme, the other, close. Of one side only, the bar's spread counts."""
    order = (1, 3, 2, 4) if bid.close >= bid.open else (1, 2, 3, 4)
    spread = max(bid.spread, 1) * point if bid is ask else point
    total = max(bid.ticks, _STEPS)
    for step, place in enumerate(order):
        low = bid[place]
        high = max(ask[place], low + spread)
        # What does not divide by four falls to the last tick; so does all volume.
        weight = total // _STEPS + (total % _STEPS if step == _STEPS - 1 else 0)
        volume = bid.volume if step == _STEPS - 1 else 0.0
        yield Row(bid.msc + step * _MINUTE_MSC // _STEPS, low, high, low if bid.volume else 0.0, volume, weight)


def table(columns: Mapping[str, Sequence[Any]]) -> Iterator[Row]:
    """Rows of a table with columns as in the ISO form, or named as `copy_ticks_from` names them.

    Times are texts, or numbers: seconds in `time`, milliseconds elsewhere.

    Raises:
        ValueError: a column is missing, or a field is empty.
    """
    name = next((name for name in ("time_msc", "timestamp", "time") if name in columns), None)
    if name is None or "bid" not in columns or "ask" not in columns:
        raise ValueError("the table has no columns timestamp, bid and ask")
    stamps = columns[name]
    nothing = [0.0] * len(stamps)
    lasts, volumes = columns.get("last", nothing), columns.get("volume_real", columns.get("volume", nothing))
    for stamp, bid, ask, last, volume in zip(stamps, columns["bid"], columns["ask"], lasts, volumes, strict=True):
        if None in (stamp, bid, ask):
            raise ValueError("the table has empty fields")
        when = iso_msc(stamp) if isinstance(stamp, str) else round(stamp * (1000 if name == "time" else 1))
        yield Row(when, float(bid), float(ask), float(last or 0), float(volume or 0))


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


def _nothing(_: Sequence[str]) -> Iterator[Any]:
    return iter(())


def _iso(text: Sequence[str]) -> Iterator[Row]:
    trades = text[0].strip().lower().startswith("timestamp,bid,ask,last,volume")
    last = 0.0
    for line in filter(None, text[1:]):
        fields = line.split(",")
        volume = 0.0
        if trades:
            volume = float(fields[4] or 0)
            last = float(fields[3] or 0) or last
        yield Row(iso_msc(fields[0]), float(fields[1]), float(fields[2]), last, volume)


def _histdata(text: Sequence[str]) -> Iterator[Row]:
    midnights: dict[str, int] = {}
    for line in filter(None, text):
        stamp, bid, ask = line.split(",")[:3]
        day, clock = stamp.split(" ")
        midnight = midnights.get(day)
        if midnight is None:
            when = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=EST)
            midnight = midnights[day] = _msc(when)
        late = ((int(clock[:2]) * 60 + int(clock[2:4])) * 60 + int(clock[4:6])) * 1000 + int(clock[6:9])
        yield Row(midnight + late, float(bid), float(ask))


def _exported(text: Sequence[str]) -> Iterator[Row]:
    """The terminal's export of ticks: a field that did not change is empty."""
    bid = ask = last = 0.0
    for line in filter(None, text[1:]):
        date, clock, *fields = line.split("\t")
        prices = [*(float(field or 0) for field in fields[:4]), 0.0, 0.0, 0.0, 0.0]
        bid, ask, last = prices[0] or bid, prices[1] or ask, prices[2] or last
        if bid and ask:
            yield Row(_exported_msc(date, clock), bid, max(ask, bid), last, prices[3])


def _bars(text: Sequence[str]) -> Iterator[Bar]:
    for line in filter(None, text[1:]):
        stamp, *fields = line.split(",")
        opened, high, low, close = (float(field) for field in fields[:4])
        yield Bar(iso_msc(stamp), opened, high, low, close)


def _exported_bars(text: Sequence[str]) -> Iterator[Bar]:
    for line in filter(None, text[1:]):
        date, clock, *fields = line.split("\t")
        opened, high, low, close = (float(field) for field in fields[:4])
        ticks, volume, spread = (int(field) for field in [*fields[4:7], *"000"][:3])
        yield Bar(_exported_msc(date, clock), opened, high, low, close, ticks or _STEPS, float(volume), spread)


def _exported_msc(date: str, clock: str) -> int:
    return iso_msc(f"{date.replace('.', '-')} {clock}")

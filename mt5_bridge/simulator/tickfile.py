"""Reads recorded ticks. The format is found by content, gzip by its first bytes.

- ISO ticks: a header `timestamp,bid,ask`, then `2013-01-01 22:00:00.295000+00:00,86.655,86.728`.
- HistData ticks: `20200101 170000065,1.121200,1.121720,0`, in EST (UTC-5 all year).
- One-minute bars: a header `timestamp,open,high,low,close`; the file whose name says `ask` holds the other side of the
  one that says `bid`, and each bar becomes four ticks.
- The packed form shipped with the package, made by `scripts/pack_ticks.py`: a line of JSON, then three columns of
  little-endian int32: steps of time (ms) and of the bid, and spreads (points).
"""

import gzip
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import numpy as np

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator.sources import Ticks

EST = timezone(timedelta(hours=-5))
SHIPPED = Path(__file__).parent / "ticks"
PACKED_MAGIC = b'{"format":"ticks/1"'
_MAX_DIGITS = 8
_BAR_STEP_MSC = 15_000

_Row = tuple[int, float, float]


class Recording(msgspec.Struct, frozen=True):
    """The ticks of one symbol, in points of `digits` decimals."""

    digits: int
    ticks: Ticks


class _Head(msgspec.Struct):
    symbol: str
    digits: int
    start_msc: int
    bid: int
    count: int


def shipped() -> dict[str, Path]:
    """The recordings that come with the package, by symbol."""
    return {path.name.split("-")[0].upper(): path for path in sorted(SHIPPED.glob("*.ticks.gz"))}


def read(paths: Sequence[Path], digits: int | None = None) -> Recording:
    """Reads one symbol's files: one of ticks, or one-minute bars of one or both sides.

    Args:
        paths: the files, in order of time, or the two sides of bars.
        digits: decimals of a price; None: as many as the file uses.

    Raises:
        SettingsError: a file is missing, unreadable or of no known format.
    """
    contents = [_content(path) for path in paths]
    if contents[0].startswith(PACKED_MAGIC):
        return _unpack(contents[0])
    try:
        rows = list(_rows(paths, contents, 10.0 ** -(digits if digits is not None else 5)))
    except ValueError as error:
        raise SettingsError(f"PAPER_TICKS: {paths[0]}: {error}; use a format of docs/paper-terminal.md") from error
    if not rows:
        raise SettingsError(f"PAPER_TICKS: {paths[0]} holds no ticks; give a file that does")
    rows.sort(key=lambda row: row[0])
    if digits is None:
        digits = _digits(rows)
    scale = 10**digits
    times = np.array([row[0] for row in rows], np.int64)
    bids = np.rint(np.array([row[1] for row in rows]) * scale).astype(np.int64)
    asks = np.rint(np.array([row[2] for row in rows]) * scale).astype(np.int64)
    if int(bids.min()) <= 0 or int((asks - bids).min()) < 0:
        raise SettingsError(f"PAPER_TICKS: {paths[0]} holds a price of 0 or less, or an ask below its bid; mend it")
    return Recording(digits, (times, bids, asks))


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as error:
        raise SettingsError(f"PAPER_TICKS: {path} cannot be read ({error}); name a file that can") from error


def _unpack(data: bytes) -> Recording:
    line, _, body = data.partition(b"\n")
    head = msgspec.json.decode(line, type=_Head)
    steps, moves, spreads = np.frombuffer(body, "<i4").reshape(3, head.count).astype(np.int64)
    times = head.start_msc + np.cumsum(steps)
    bids = head.bid + np.cumsum(moves)
    return Recording(head.digits, (times, bids, bids + spreads))


def _rows(paths: Sequence[Path], contents: Sequence[bytes], point: float) -> Iterator[_Row]:
    texts = [content.decode("utf-8-sig").splitlines() for content in contents]
    first = texts[0][0].strip().lower() if texts[0] else ""
    if first.startswith("timestamp,open,high,low,close"):
        yield from _bar_rows(paths, texts, point)
        return
    for lines in texts:
        head = lines[0].strip().lower() if lines else ""
        if head.startswith("timestamp,bid,ask"):
            yield from map(_iso_row, filter(None, lines[1:]))
        elif len(head) > 18 and head[8] == " " and head[18] == ",":
            yield from map(_histdata_row, filter(None, lines))
        else:
            raise ValueError("the format is not known")


def _iso_row(line: str) -> _Row:
    fields = line.split(",")
    return _iso_msc(fields[0]), float(fields[1]), float(fields[2])


def _iso_msc(text: str) -> int:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - _EPOCH) // _MILLISECOND


def _histdata_row(line: str) -> _Row:
    stamp, bid, ask = line.split(",")[:3]
    day, clock = stamp.split(" ")
    midnight = _MIDNIGHTS.get(day)
    if midnight is None:
        when = datetime(int(day[:4]), int(day[4:6]), int(day[6:]), tzinfo=EST)
        midnight = _MIDNIGHTS[day] = (when - _EPOCH) // _MILLISECOND
    msc = ((int(clock[:2]) * 60 + int(clock[2:4])) * 60 + int(clock[4:6])) * 1000 + int(clock[6:9])
    return midnight + msc, float(bid), float(ask)


def _bar_rows(paths: Sequence[Path], texts: Sequence[list[str]], point: float) -> Iterator[_Row]:
    sides: dict[str, dict[str, list[float]]] = {"bid": {}, "ask": {}}
    for path, lines in zip(paths, texts, strict=True):
        side = "ask" if "ask" in path.name.lower() else "bid"
        for line in filter(None, lines[1:]):
            stamp, *prices = line.split(",")
            sides[side][stamp] = [float(price) for price in prices[:4]]
    one_side = not (sides["bid"] and sides["ask"])
    for stamp, bar in (sides["bid"] or sides["ask"]).items():
        other = bar if one_side else sides["ask"].get(stamp)
        if other is None:
            continue
        start = _iso_msc(stamp)
        order = (0, 2, 1, 3) if bar[3] >= bar[0] else (0, 1, 2, 3)
        for step, place in enumerate(order):
            bid, ask = bar[place], other[place]
            yield start + step * _BAR_STEP_MSC, bid, max(ask, bid + point)


def _digits(rows: Sequence[_Row]) -> int:
    most = 0
    for _, bid, ask in rows[:2000]:
        for price in (bid, ask):
            text = f"{price:.{_MAX_DIGITS}f}".rstrip("0")
            most = max(most, len(text) - text.index(".") - 1)
    return most


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MIDNIGHTS: dict[str, int] = {}

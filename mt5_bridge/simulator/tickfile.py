"""Reads recorded ticks. The format is found by content, gzip by its first bytes.

- ISO ticks: a header `timestamp,bid,ask`, then `2013-01-01 22:00:00.295000+00:00,86.655,86.728`; with two more columns,
  `last,volume`, the trades of an exchange.
- HistData ticks: `20200101 170000065,1.121200,1.121720,0`, in EST (UTC-5 all year).
- What the terminal exports: `<DATE> <TIME> <BID> <ASK> <LAST> <VOLUME> <FLAGS>`, separated by tabs; a field that is
  empty stays as it was. And its one-minute bars, `<DATE> <TIME> <OPEN> <HIGH> <LOW> <CLOSE> <TICKVOL> <VOL> <SPREAD>`.
- One-minute bars: a header `timestamp,open,high,low,close`; the file whose name says `ask` holds the other side of the
  one that says `bid`.
- Parquet, where pyarrow is installed: columns as in the ISO form.
- The packed form shipped with the package, made by `scripts/pack_ticks.py`: a line of JSON, then three columns of
  little-endian int32: steps of time (ms) and of the bid, and spreads (points).

Each bar becomes four ticks. Files of bars beside files of ticks are the past: what was before the first tick.
"""

import gzip
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import tickrows
from mt5_bridge.simulator.sources import Extra, Ticks
from mt5_bridge.simulator.tickrows import Row

SHIPPED = Path(__file__).parent / "ticks"
PACKED_MAGIC = b'{"format":"ticks/1"'
PARQUET_MAGIC = b"PAR1"
_MAX_DIGITS = 8
_MINUTE_MSC = 60_000


class Recording(msgspec.Struct, frozen=True):
    """The ticks of one symbol, in points of `digits` decimals. `past` counts its times back from the first of them."""

    digits: int
    ticks: Ticks
    extra: Extra | None = None
    past: Ticks | None = None
    past_extra: Extra | None = None
    of_bars: bool = False
    """The ticks were made from one-minute bars: minutes should begin with minutes."""


class _Head(msgspec.Struct):
    symbol: str
    digits: int
    start_msc: int
    bid: int
    count: int


class _File(msgspec.Struct):
    """A file read as text: its lines, and which rows they hold."""

    path: Path
    lines: list[str]
    form: tickrows.Form


def shipped() -> dict[str, Path]:
    """The recordings that come with the package, by symbol."""
    return {path.name.split("-")[0].upper(): path for path in sorted(SHIPPED.glob("*.ticks.gz"))}


def read(paths: Sequence[Path], digits: int | None = None) -> Recording:
    """Reads one symbol's files: ticks, one-minute bars of one or both sides, or ticks and the bars before them.

    Args:
        paths: the files, in order of time, or the two sides of bars.
        digits: decimals of a price; None: as many as the file uses.

    Raises:
        SettingsError: a file is missing, unreadable or of no known format.
    """
    contents = [_content(path) for path in paths]
    if contents[0].startswith(PACKED_MAGIC):
        return _unpack(contents[0])
    point = 10.0 ** -(digits if digits is not None else 5)
    ticks: list[Row] = []
    texts: list[_File] = []
    try:
        for path, content in zip(paths, contents, strict=True):
            if content.startswith(PARQUET_MAGIC):
                ticks.extend(_parquet(path, content))
            else:
                lines = tickrows.lines(content)
                texts.append(_File(path, lines, tickrows.form(lines)))
        for text in texts:
            ticks.extend(text.form.ticks(text.lines))
        sides = [text for text in texts if text.form.of_bars]
        bars = list(_bar_rows(sides, point)) if sides else []
    except (ValueError, IndexError) as error:
        raise SettingsError(f"PAPER_TICKS: {paths[0]}: {error}; use a format of docs/paper-terminal.md") from error
    return _recording(paths[0], ticks, bars, digits)


def _recording(path: Path, ticks: list[Row], bars: list[Row], digits: int | None) -> Recording:
    rows = ticks or bars
    if not rows:
        raise SettingsError(f"PAPER_TICKS: {path} holds no ticks; give a file that does")
    if digits is None:
        digits = _digits(rows)
    first, extra = _columns(path, rows, digits)
    if not ticks or not bars:
        return Recording(digits, first, extra, of_bars=not ticks)
    past, past_extra = _columns(path, bars, digits)
    # The past ends where the recording begins, whatever the dates in the files say.
    end = int(past[0][-1]) // _MINUTE_MSC * _MINUTE_MSC + _MINUTE_MSC
    return Recording(digits, first, extra, (past[0] - end, past[1], past[2]), past_extra)


def _columns(path: Path, rows: list[Row], digits: int) -> tuple[Ticks, Extra | None]:
    rows.sort(key=lambda row: row.msc)
    scale = 10**digits
    times = np.array([row.msc for row in rows], np.int64)
    bids, asks, lasts = (_points([row[place] for row in rows], scale) for place in (1, 2, 3))
    if int(bids.min()) <= 0 or int((asks - bids).min()) < 0:
        raise SettingsError(f"PAPER_TICKS: {path} holds a price of 0 or less, or an ask below its bid; mend it")
    volumes = np.array([row.volume for row in rows], np.float64)
    weights = np.array([row.weight for row in rows], np.int64)
    traded = (volumes > 0) & (lasts > 0)
    if not traded.any() and bool((weights == 1).all()):
        return (times, bids, asks), None
    newest = np.maximum.accumulate(np.where(traded, np.arange(len(rows)), -1))
    some = newest >= 0
    carried = np.where(some, lasts[newest], 0), np.where(some, volumes[newest], 0.0)
    return (times, bids, asks), Extra(*carried, traded, weights)


def _points(prices: Sequence[float], scale: int) -> NDArray[np.int64]:
    points: NDArray[np.int64] = np.rint(np.array(prices) * scale).astype(np.int64)
    return points


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


def _parquet(path: Path, data: bytes) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise SettingsError(
            f"PAPER_TICKS: {path} is a Parquet file, and pyarrow is not installed; run pip install pyarrow, or give CSV"
        ) from error
    try:
        columns = parquet.read_table(pyarrow.BufferReader(data)).to_pydict()
    except pyarrow.ArrowException as error:
        raise ValueError(f"no readable Parquet file ({error})") from error
    return parquet_rows(columns)


def parquet_rows(columns: dict[str, list[Any]]) -> Iterator[Row]:
    """Rows of a table with columns as in the ISO form, or as `copy_ticks_from` names them.

    Raises:
        ValueError: a column is missing, or a value is none.
    """
    named = {name.lower(): values for name, values in columns.items()}
    stamps = next((named[name] for name in ("timestamp", "time_msc", "time") if name in named), None)
    if stamps is None or "bid" not in named or "ask" not in named:
        raise ValueError("the table has no columns timestamp, bid and ask")
    seconds = "timestamp" not in named and "time_msc" not in named
    nothing = [0.0] * len(stamps)
    trades = named.get("last", nothing), named.get("volume_real", named.get("volume", nothing))
    for stamp, bid, ask, last, volume in zip(stamps, named["bid"], named["ask"], *trades, strict=True):
        if None in (stamp, bid, ask):
            raise ValueError("the table has empty fields")
        yield Row(_stamp_msc(stamp, seconds), float(bid), float(ask), float(last or 0), float(volume or 0))


def _stamp_msc(stamp: Any, seconds: bool) -> int:
    """A time as Parquet holds it: a text, a moment (without a zone UTC), or a number."""
    if isinstance(stamp, str):
        return tickrows.iso_msc(stamp)
    if isinstance(stamp, datetime):
        return tickrows.msc(stamp)
    if isinstance(stamp, int | float):
        return round(stamp * 1000) if seconds else int(stamp)
    raise ValueError(f"{stamp!r} is no time")


def _bar_rows(files: Sequence[_File], point: float) -> Iterator[Row]:
    sides: dict[str, dict[int, tickrows.Bar]] = {"bid": {}, "ask": {}}
    for file in files:
        side = "ask" if "ask" in file.path.name.lower() else "bid"
        sides[side].update((bar.msc, bar) for bar in file.form.bars(file.lines))
    one_side = not (sides["bid"] and sides["ask"])
    for start, bar in (sides["bid"] or sides["ask"]).items():
        other = bar if one_side else sides["ask"].get(start)
        if other is not None:
            yield from tickrows.ticks_of(bar, other, point)


def _digits(rows: Sequence[Row]) -> int:
    most = 0
    for row in rows[:2000]:
        for price in (row.bid, row.ask):
            text = f"{price:.{_MAX_DIGITS}f}".rstrip("0")
            most = max(most, len(text) - text.index(".") - 1)
    return most

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
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator.market import tickrows
from mt5_bridge.simulator.market.sources import Extra, Ticks
from mt5_bridge.simulator.market.tickrows import Row

SHIPPED = Path(__file__).parent.parent / "ticks"
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
            f"PAPER_TICKS: {path} is Parquet, and pyarrow is not installed; pip install pyarrow, or give CSV"
        ) from error
    try:
        table = parquet.read_table(pyarrow.BufferReader(data))
    except pyarrow.ArrowException as error:
        raise ValueError(f"no readable Parquet file ({error})") from error
    columns: dict[str, list[Any]] = {}
    for name in table.column_names:
        column, key = table[name], name.lower()
        if pyarrow.types.is_timestamp(column.type):
            column, key = column.cast(pyarrow.timestamp("ms"), safe=False).cast(pyarrow.int64()), "time_msc"
        columns[key] = column.to_pylist()
    return tickrows.table(columns)


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

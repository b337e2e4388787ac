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
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator.market import tickrows
from mt5_bridge.simulator.market.sources import Extra, Ints, Ticks
from mt5_bridge.simulator.market.tickrows import Row

Floats = NDArray[np.float64]

SHIPPED = Path(__file__).parent.parent / "ticks"
PACKED_MAGIC = b'{"format":"ticks/1"'
PARQUET_MAGIC = b"PAR1"
_MAX_DIGITS = 8
_MINUTE_MSC = 60_000
_EXACT = 1 << 53
"""Points and volumes below this are exact as floats."""
_FAR_MSC = 62_135_596_800_000
"""Times are closer to 1970 than the first day of all is."""


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


class _Table(NamedTuple):
    """Ticks as a file has them, by column: prices in units, volumes in lots."""

    times: Ints
    bids: Floats
    asks: Floats
    lasts: Floats
    volumes: Floats
    weights: Ints


class _File(NamedTuple):
    """What a file holds: ticks or bars, and to how many decimals it says that it keeps prices."""

    path: Path
    ticks: _Table
    bars: list[tickrows.Bar]
    digits: int = 0


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
    return _recording([_file(path) for path in paths], digits)


def _file(path: Path) -> _File:
    content = _content(path)
    lines = None
    try:
        if content.startswith(PACKED_MAGIC):
            return _unpack(path, content)
        if content.startswith(PARQUET_MAGIC):
            return _File(path, _table(_parquet(path, content)), [])
        lines = tickrows.Lines(content)
        form = tickrows.form(lines)
        return _File(path, _table(form.ticks(lines)), list(form.bars(lines)))
    except (ValueError, OverflowError, msgspec.DecodeError) as error:
        place = f", line {lines.number}" if lines is not None and lines.number else ""
        raise SettingsError(f"PAPER_TICKS: {path}{place}: {error}; use a format of docs/paper-terminal.md") from error


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise SettingsError(f"PAPER_TICKS: {path} cannot be read ({error}); name a file that can") from error


def _table(rows: Iterable[Row]) -> _Table:
    times, *prices, weights = list(zip(*rows, strict=True)) or [()] * len(Row._fields)
    bids, asks, lasts, volumes = (np.array(column, np.float64) for column in prices)
    return _Table(np.array(times, np.int64), bids, asks, lasts, volumes, np.array(weights, np.int64))


def _unpack(path: Path, data: bytes) -> _File:
    line, _, body = data.partition(b"\n")
    head = msgspec.json.decode(line, type=_Head)
    if head.count < 1 or len(body) != 12 * head.count or not 0 <= head.digits <= _MAX_DIGITS:
        raise ValueError("the packed file is damaged")
    steps, moves, spreads = np.frombuffer(body, "<i4").reshape(3, head.count).astype(np.int64)
    times, bids = np.cumsum(steps) + np.int64(head.start_msc), np.cumsum(moves) + np.int64(head.bid)
    scale, nothing = 10**head.digits, np.zeros(head.count)
    ticks = _Table(times, bids / scale, (bids + spreads) / scale, nothing, nothing, np.ones(head.count, np.int64))
    return _File(path, ticks, [], head.digits)


def _recording(files: Sequence[_File], digits: int | None) -> Recording:
    path = files[0].path
    ticks = _Table(*(np.concatenate(columns) for columns in zip(*(file.ticks for file in files), strict=True)))
    prices = np.array([bar[1:5] for file in files for bar in file.bars], np.float64)
    if digits is None:
        found = (_decimals(column) for column in (ticks.bids, ticks.asks, prices))
        digits = max(*found, *(file.digits for file in files))
    bars = _table(_bar_rows(files, 10.0**-digits))
    if not len(ticks.times) and not len(bars.times):
        raise SettingsError(f"PAPER_TICKS: {path} holds no ticks; give a file that does")
    if not len(ticks.times) or not len(bars.times):
        only = ticks if len(ticks.times) else bars
        return Recording(digits, *_columns(path, only, digits), of_bars=only is bars)
    past, past_extra = _columns(path, bars, digits)
    # The past ends where the recording begins, whatever the dates in the files say.
    end = int(past[0][-1]) // _MINUTE_MSC * _MINUTE_MSC + _MINUTE_MSC
    return Recording(digits, *_columns(path, ticks, digits), (past[0] - end, past[1], past[2]), past_extra)


def _columns(path: Path, table: _Table, digits: int) -> tuple[Ticks, Extra | None]:
    order = np.argsort(table.times, kind="stable")
    times, weights, volumes = table.times[order], table.weights[order], table.volumes[order]
    prices = [column[order] for column in (table.bids, table.asks, table.lasts)]
    # As floats: what is no number, or none that an int64 holds, would be cast to anything.
    with np.errstate(over="ignore", invalid="ignore"):
        bids, asks, lasts = (np.rint(column * 10**digits) for column in prices)
    good = (bids >= 1) & (bids <= asks) & (asks < _EXACT) & (lasts >= 0) & (lasts < _EXACT)
    good &= (volumes >= 0) & (volumes < _EXACT) & (times > -_FAR_MSC) & (times < _FAR_MSC)
    if not good.all():
        place = int(np.argmin(good))
        tick = f"bid {prices[0][place]}, ask {prices[1][place]} at {_shown(int(times[place]))}"
        raise SettingsError(
            f"PAPER_TICKS: {path} holds a price or volume that is none, or an ask below its bid ({tick}); mend it"
        )
    ticks = times, bids.astype(np.int64), asks.astype(np.int64)
    traded = (volumes > 0) & (lasts > 0)
    if not traded.any() and bool((weights == 1).all()):
        return ticks, None
    newest = np.maximum.accumulate(np.where(traded, np.arange(len(times)), -1))
    some = newest >= 0
    carried = np.where(some, lasts[newest], 0).astype(np.int64), np.where(some, volumes[newest], 0.0)
    return ticks, Extra(*carried, traded, weights)


def _shown(msc: int) -> str:
    """The time as a date, where it is one."""
    if not -_FAR_MSC < msc < _FAR_MSC:
        return f"{msc} ms"
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=msc):%Y-%m-%d %H:%M:%S}"


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
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"no readable Parquet file ({error})") from error
    columns: dict[str, list[Any]] = {}
    for name in table.column_names:
        column, key = table[name], name.lower()
        if pyarrow.types.is_timestamp(column.type):
            column, key = column.cast(pyarrow.timestamp("ms"), safe=False).cast(pyarrow.int64()), "time_msc"
        columns[key] = column.to_pylist()
    try:
        yield from tickrows.table(columns)
    except TypeError as error:
        raise ValueError(f"a column holds neither texts nor numbers ({error})") from error


def _bar_rows(files: Sequence[_File], point: float) -> Iterator[Row]:
    sides: dict[str, dict[int, tickrows.Bar]] = {"bid": {}, "ask": {}}
    for file in files:
        side = "ask" if "ask" in file.path.name.lower() else "bid"
        sides[side].update((bar.msc, bar) for bar in file.bars)
    one_side = not (sides["bid"] and sides["ask"])
    for start, bar in (sides["bid"] or sides["ask"]).items():
        other = bar if one_side else sides["ask"].get(start)
        if other is not None:
            yield from tickrows.ticks_of(bar, other, point)


def _decimals(prices: Floats) -> int:
    """How many decimals the prices use."""
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.round(prices, _MAX_DIGITS)
        return next((n for n in range(_MAX_DIGITS) if np.array_equal(np.round(prices, n), whole)), _MAX_DIGITS)

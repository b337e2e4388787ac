"""Ticks on the wire, at speed: the JSON of `tick_data`, and records of it just as a broker stores them.

Written out by hand because ticks are by far the most there is: no object per tick, one format. What repeats (prices,
quotes, numbers of a few digits) is turned into text once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from math import isfinite
from struct import Struct
from typing import TypeVar

import msgspec

from mt5_bridge.core.model import TICK_RECORD_SIZE
from mt5_bridge.core.times import MINUTE, SECOND, iso

BATCH_BYTES = 250_000
"""About the size of a framed batch: small enough for any broker's limit and for the processor's cache."""

K = TypeVar("K")
_REMEMBERED = 5_000
_NO_VOLUME = b"\0" * 8
_RECORD = Struct("<8x32sqI8s")
"""A packed tick as (bid, ask, last and volume still packed), time_msc, flags, (volume_real still packed)."""
_QUOTE = Struct("<dddQ")
_REAL = Struct("<d")
_TWO = tuple(f"{n:02d}" for n in range(60))
_THREE = tuple(f"{n:03d}" for n in range(1000))


class _Memo(dict[K, str]):
    """Texts made once, forgotten all together when they are many."""

    def __init__(self, make: Callable[[K], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        text = self[key] = self._make(key)
        return text


def _number(value: float) -> str:
    if not isfinite(value):
        raise ValueError(f"{value} is no number that JSON can carry")
    return repr(float(value))


def varint(number: int) -> bytes:
    """A whole number in Kafka's zigzag encoding."""
    rest = number * 2 if number >= 0 else -number * 2 - 1
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_numbers: _Memo[float] = _Memo(_number)
_minutes: _Memo[int] = _Memo(lambda minute: iso(minute * MINUTE)[:17])
_varints: _Memo[int] = _Memo(lambda number: varint(number).decode("latin-1"))
_SMALL = tuple(varint(number).decode("latin-1") for number in range(8192))
"""All of one or two bytes."""
_MORE = tuple(chr(0x80 | low) for low in range(0x80))
_LONGEST_VALUE = 1000


def _large(number: int) -> str:
    """A number beyond `_SMALL`, negative ones too, without a loop where three bytes do (17 minutes in ms)."""
    rest = number * 2
    if 1 << 14 <= rest < 1 << 21:
        return _MORE[rest & 0x7F] + _MORE[rest >> 7 & 0x7F] + chr(rest >> 14)
    return varint(number).decode("latin-1")


class Framed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Records as a broker stores them: Kafka's record batch (format 2, uncompressed) without its head.

    Attributes:
        count: how many.
        first_ms: the time, UTC ms, that the records' own are counted from.
        last_ms: the newest record's time, UTC ms.
        body: the records, one behind the other.
    """

    count: int
    first_ms: int
    last_ms: int
    body: bytes


class Label(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What all ticks of one symbol have in common: its name (also the key), its point, the records' headers."""

    symbol: str
    point: float
    headers: list[tuple[str, bytes]] = []


def encode_ticks(
    symbol: str,
    point: float,
    rows: Iterable[tuple[int, int, float, float, float, float, int]],
    *,
    now_msc: int,
) -> list[tuple[int, bytes]]:
    """tick_data records of one symbol: `(record timestamp = UTC ms of the tick, value)`.

    Args:
        symbol: the terminal's symbol name.
        point: the symbol's point, for the spread.
        rows: `(time_msc UTC, seq, bid, ask, last, volume, flags)`.
        now_msc: when the batch was made: the envelope's timestamp.

    Raises:
        ValueError, OverflowError: a price or volume is not finite.
    """
    head = _head(symbol, now_msc)
    per_point = 1.0 / point
    text, two, three = _numbers, _TWO, _THREE
    records: list[tuple[int, bytes]] = []
    append = records.append
    begin, minute = 0, ""
    for time_msc, seq, bid, ask, last, volume, flags in rows:
        if not minute or not 0 <= time_msc - begin < MINUTE:
            begin = time_msc // MINUTE * MINUTE
            minute = _minutes[begin // MINUTE]
        second, ms = divmod(time_msc - begin, SECOND)
        append(
            (
                time_msc,
                f'{head}{text[bid]},"ask":{text[ask]},"last":{text[last]},"volume":{text[volume]},'
                f'"spread":{round((ask - bid) * per_point)},"time":"{minute}{two[second]}.{three[ms]}Z",'
                f'"time_msc":{time_msc},"flags":{flags},"seq":{seq}}}}}'.encode(),
            )
        )
    return records


_names: _Memo[str] = _Memo(lambda symbol: msgspec.json.encode(symbol).decode())


@lru_cache(maxsize=4)  # all symbols of one poll are stamped with the same time
def _stamp(msc: int) -> str:
    minute, rest = divmod(msc, MINUTE)
    second, ms = divmod(rest, SECOND)
    return f"{_minutes[minute]}{_TWO[second]}.{_THREE[ms]}Z"


def _head(symbol: str, now_msc: int) -> str:
    return f'{{"type":"tick_data","timestamp":"{_stamp(now_msc)}","data":{{"symbol":{_names[symbol]},"bid":'


class TickFramer:
    """Frames packed ticks of one symbol; their numbering within a ms goes on from call to call.

    Args:
        label: what they have in common.
        first_seq: how many ticks with the first one's time came before it.
        now_msc: when the page was made: the envelope's timestamp.

    Attributes:
        unusable: ticks left out because a price is no number: JSON cannot carry them.
    """

    def __init__(self, label: Label, *, first_seq: int, now_msc: int) -> None:
        self.unusable = 0
        # Text as bytes read as Latin-1: one f-string makes a whole record, the binary numbers around its value too.
        head = _latin(_head(label.symbol, now_msc))
        key = label.symbol.encode()
        self._key = (varint(len(key)) + key).decode("latin-1")
        self._headers = _headers(label.headers)
        # Nothing here refers back to the framer: a host with no other garbage collects no cycles for hours.
        self._quotes: _Memo[bytes] = _Memo(partial(_quote, head, 1.0 / label.point))
        self._seq = first_seq - 1
        self._time: int | None = None
        room = len(head) + len(self._key) + len(self._headers) + 160
        self._step = min(max(1, BATCH_BYTES // room), len(_SMALL)) * TICK_RECORD_SIZE

    def frame(self, data: bytes, offset_ms: int) -> Iterator[Framed]:
        """Batches of about `BATCH_BYTES`.

        Args:
            data: packed ticks (`TICK_RECORD`), oldest first, in raw broker time.
            offset_ms: what broker time is ahead of UTC at all of them.
        """
        for start in range(0, len(data), self._step):
            batch = self._batch(data[start : start + self._step], offset_ms)
            if batch is not None:
                yield batch

    def _batch(self, data: bytes, offset_ms: int) -> Framed | None:
        quotes, small, three = self._quotes, _SMALL, _THREE
        key, headers = self._key, self._headers
        sizes = small if len(key) + len(headers) + _LONGEST_VALUE < len(small) else _varints
        around = 2 * 3 - len(headers)  # a value is as long as its text, what stands around the ms, and twice the ms
        first = _RECORD.unpack_from(data)[1]
        before, seq = first if self._time is None else self._time, self._seq
        begin, second, middle, tail, width, flagged, numbered = first + SECOND, "", "", "", 0, -1, -1
        count, few = 0, len(small)
        parts: list[str] = []
        append = parts.append
        for quote, raw, flags, real in _RECORD.iter_unpack(data):
            if raw == before:
                seq += 1
            else:
                before, seq = raw, 0
            text = quotes[quote if real == _NO_VOLUME else quote + real]
            if flags != flagged or seq != numbered:
                flagged, numbered = flags, seq
                tail = f',"flags":{flags},"seq":{seq}}}}}{headers}'
                width = len(second) + len(middle) + len(tail) + around
            past = raw - begin
            if not 0 <= past < SECOND:
                begin, second, middle = _second(raw - offset_ms)
                begin += offset_ms
                past = raw - begin
                width = len(second) + len(middle) + len(tail) + around
            if not text or not second:
                self.unusable += 1
                continue
            ms = three[past]
            length = sizes[len(text) + width]
            after = raw - first
            since = small[after] if 0 <= after < few else _large(after)
            record = f"\0{since}{small[count]}{key}{length}{text}{second}{ms}{middle}{ms}{tail}"
            count += 1
            append(sizes[len(record)])
            append(record)
        self._time, self._seq = before, seq
        if not count:
            return None
        return Framed(count, first - offset_ms, before - offset_ms, "".join(parts).encode("latin-1"))


def _quote(head: str, per_point: float, packed: bytes) -> str:
    """The JSON up to the time; empty where a price or the volume is no number."""
    bid, ask, last, volume = _QUOTE.unpack_from(packed)
    exact = _REAL.unpack_from(packed, _QUOTE.size)[0] if len(packed) > _QUOTE.size else volume
    text = _numbers
    try:
        return (
            f'{head}{text[bid]},"ask":{text[ask]},"last":{text[last]},"volume":{text[exact]},'
            f'"spread":{round((ask - bid) * per_point)},"time":"'
        )
    except (ValueError, OverflowError):
        return ""


def _second(time_msc: int) -> tuple[int, str, str]:
    """Where a time's second begins, and what stands before and between the ms of all ticks in it.

    Both are empty before 1970: no market was.
    """
    seconds = time_msc // SECOND
    if seconds <= 0:
        return seconds * SECOND, "", ""
    minute, second = divmod(seconds, 60)
    return seconds * SECOND, f"{_minutes[minute]}{_TWO[second]}.", f'Z","time_msc":{seconds}'


def _latin(text: str) -> str:
    return text.encode().decode("latin-1")


def _headers(headers: Sequence[tuple[str, bytes]]) -> str:
    parts = [varint(len(headers))]
    for name, content in headers:
        title = name.encode()
        parts += [varint(len(title)), title, varint(len(content)), content]
    return b"".join(parts).decode("latin-1")

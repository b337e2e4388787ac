"""Ticks on the wire: valid JSON with their own numbers, and framed just as a client of the broker would frame them."""

import json
import struct
import weakref
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core import ticks
from mt5_bridge.core.model import TICK_RECORD
from mt5_bridge.core.ticks import Framed, Label, TickFramer, encode_ticks, varint

NOW = 1_700_000_000_123
HEADERS = [("schema", b"tick_data/1"), ("account", b"\xff\x00")]
LABEL = Label("EURUSD", 0.00001, HEADERS)
Packed = tuple[float, float, float, int, int, int, float]
"""bid, ask, last, volume, raw time, flags, volume_real"""

TICK_FIELDS = ["symbol", "bid", "ask", "last", "volume", "spread", "time", "time_msc", "flags", "seq"]


def test_ticks_on_the_wire() -> None:
    rows = [
        (NOW, 0, 1.1, 1.10012, 0.0, 0.0, 6),
        (NOW, 1, 1.1, 1.1, 1.1, 3.0, 2),
        (NOW + 1000, 0, 1e-05, 2e-05, 0.0, 0.0, 6),
    ]
    records = encode_ticks('A"B', 0.00001, rows, now_msc=NOW + 5)
    assert [at for at, _ in records] == [NOW, NOW, NOW + 1000]
    messages = [json.loads(value) for _, value in records]
    assert all(list(message) == ["type", "timestamp", "data"] for message in messages)
    assert all(message["type"] == "tick_data" for message in messages)
    assert all(list(message["data"]) == TICK_FIELDS for message in messages)
    assert messages[0]["data"] == {
        "symbol": 'A"B',
        "bid": 1.1,
        "ask": 1.10012,
        "last": 0.0,
        "volume": 0.0,
        "spread": 12,
        "time": "2023-11-14T22:13:20.123Z",
        "time_msc": NOW,
        "flags": 6,
        "seq": 0,
    }
    assert [message["data"]["seq"] for message in messages] == [0, 1, 0]
    assert messages[2]["data"]["time"] == "2023-11-14T22:13:21.123Z"
    assert messages[2]["data"]["bid"] == 1e-05


def test_no_ticks_no_records() -> None:
    assert encode_ticks("EURUSD", 0.00001, [], now_msc=NOW) == []


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4_000_000_000_000),
            st.integers(0, 50),
            *(st.floats(0, 1e6) for _ in range(4)),
            st.integers(0, 4095),
        ),
        max_size=5,
    )
)
def test_every_tick_is_valid_json_with_its_own_numbers(
    rows: list[tuple[int, int, float, float, float, float, int]],
) -> None:
    for row, (at, value) in zip(rows, encode_ticks("X", 0.01, rows, now_msc=NOW), strict=True):
        tick = json.loads(value)["data"]
        assert at == row[0] == tick["time_msc"]
        assert (tick["seq"], tick["bid"], tick["ask"], tick["last"], tick["volume"], tick["flags"]) == row[1:]


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [2, 3, 4, 5])
def test_what_is_no_number_is_refused(fault: float, place: int) -> None:
    row = [NOW, 0, 1.1, 1.2, 0.0, 0.0, 6]
    row[place] = fault
    with pytest.raises((ValueError, OverflowError)):
        encode_ticks("EURUSD", 0.00001, [tuple(row)], now_msc=NOW)  # type: ignore[list-item]  # built in place


def test_zero_reads_the_same_whoever_came_first() -> None:
    (whole,) = encode_ticks("X", 0.01, [(NOW, 0, 1.0, 1.0, 0.0, 0, 6)], now_msc=NOW)
    assert b'"bid":1.0,"ask":1.0,"last":0.0,"volume":0.0,' in whole[1]


def packed(*records: Packed) -> bytes:
    pack = struct.Struct(TICK_RECORD).pack
    return b"".join(pack(t // 1000, bid, ask, last, v, t, flags, real) for bid, ask, last, v, t, flags, real in records)


def quick(*times: int) -> bytes:
    return packed(*((1.1, 1.2, 0.0, 0, time, 6, 0.0) for time in times))


def unframed(batch: Framed) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    """(time, key, value, headers still encoded) of each record."""
    body, at = batch.body, 0

    def number() -> int:
        nonlocal at
        shift = found = 0
        while True:
            byte = body[at]
            at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (found >> 1) ^ -(found & 1)

    def some(size: int) -> bytes:
        nonlocal at
        at += size
        return body[at - size : at]

    for index in range(batch.count):
        size = number()
        end = at + size
        assert some(1) == b"\0"
        time = batch.first_ms + number()
        assert number() == index
        yield time, some(number()), some(number()), some(end - at)
    assert at == len(body)


def values(batches: Sequence[Framed]) -> list[tuple[int, dict[str, object]]]:
    return [(time, json.loads(value)["data"]) for batch in batches for time, _, value, _ in unframed(batch)]


finite = st.floats(0, 1e6)


@given(
    st.lists(
        st.tuples(finite, finite, finite, st.integers(0, 99), st.integers(0, 400_000), st.integers(0, 4095), finite),
        max_size=6,
    ),
    st.integers(0, 3),
    st.sampled_from([0, 7_200_000, -3_600_000]),
)
def test_framed_ticks_are_the_encoded_ones(records: list[Packed], first_seq: int, offset: int) -> None:
    records = [(*record[:4], NOW + offset + record[4], *record[5:]) for record in records]
    rows, seq, before = [], first_seq - 1, None
    for bid, ask, last, volume, raw, flags, real in records:
        seq = seq + 1 if before in (None, raw) else 0
        before = raw
        rows.append((raw - offset, seq, bid, ask, last, real or float(volume), flags))
    framer = TickFramer(LABEL, first_seq=first_seq, now_msc=NOW)
    batches = list(framer.frame(packed(*records), offset))
    found = [(time, value) for batch in batches for time, _, value, _ in unframed(batch)]
    assert found == encode_ticks("EURUSD", 0.00001, rows, now_msc=NOW)
    assert framer.unusable == 0


def test_records_carry_key_and_headers() -> None:
    (batch,) = TickFramer(Label("ÖL.m", 0.01, HEADERS), first_seq=0, now_msc=NOW).frame(quick(NOW), 0)
    ((time, key, value, headers),) = unframed(batch)
    assert (time, key) == (NOW, "ÖL.m".encode())
    assert json.loads(value)["data"]["symbol"] == "ÖL.m"
    assert headers == b"\x04\x0cschema\x16tick_data/1\x0eaccount\x04\xff\x00"
    assert (batch.count, batch.first_ms, batch.last_ms) == (1, NOW, NOW)


def test_the_numbering_goes_on_from_run_to_run_and_batch_to_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "BATCH_BYTES", 1)
    framer = TickFramer(LABEL, first_seq=2, now_msc=NOW)
    batches = [*framer.frame(quick(NOW, NOW), 0), *framer.frame(quick(NOW, NOW + 1), 0)]
    assert len(batches) == 4
    assert [tick["seq"] for _, tick in values(batches)] == [2, 3, 4, 0]


def test_batches_stay_near_their_size() -> None:
    data = quick(*range(NOW, NOW + 3000))
    batches = list(TickFramer(LABEL, first_seq=0, now_msc=NOW).frame(data, 0))
    assert sum(batch.count for batch in batches) == 3000
    assert all(0.8 * ticks.BATCH_BYTES < len(batch.body) < 1.2 * ticks.BATCH_BYTES for batch in batches[:-1])


def test_long_headers_make_long_records() -> None:
    label = Label("EURUSD", 0.00001, [("bridge", b"x" * 10_000)])
    (batch,) = TickFramer(label, first_seq=0, now_msc=NOW).frame(quick(NOW, NOW + 1), 0)
    assert [time for time, *_ in unframed(batch)] == [NOW, NOW + 1]


def test_ticks_without_a_price_are_left_out_and_counted() -> None:
    bad = packed((float("nan"), 1.2, 0.0, 0, NOW, 6, 0.0), (1.1, 1.2, 0.0, 0, NOW, 6, float("inf")))
    framer = TickFramer(LABEL, first_seq=0, now_msc=NOW)
    assert list(framer.frame(bad, 0)) == []
    assert [tick["seq"] for _, tick in values(list(framer.frame(bad + quick(NOW), 0)))] == [4]
    assert framer.unusable == 4


def test_ticks_from_before_any_market_are_left_out() -> None:
    framer = TickFramer(LABEL, first_seq=0, now_msc=NOW)
    (batch,) = framer.frame(quick(-5, 0, 999, 7_200_000, 7_201_000, NOW), 7_200_000)
    assert [(time, tick["time"]) for time, tick in values([batch])] == [
        (1000, "1970-01-01T00:00:01.000Z"),
        (NOW - 7_200_000, "2023-11-14T20:13:20.123Z"),
    ]
    assert framer.unusable == 4


def test_what_is_remembered_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "_REMEMBERED", 10)
    rows = [(NOW + n, 0, n / 7, n / 3, 0.0, 0.0, 6) for n in range(50)]
    decoded = [json.loads(value)["data"]["bid"] for _, value in encode_ticks("X", 0.01, rows, now_msc=NOW)]
    assert decoded == [n / 7 for n in range(50)]
    assert len(ticks._numbers) <= 10


def test_a_framer_is_gone_with_its_page() -> None:
    framer = TickFramer(LABEL, first_seq=0, now_msc=NOW)
    quotes = weakref.ref(framer._quotes)
    list(framer.frame(struct.pack(TICK_RECORD, NOW // 1000, 1.1, 1.2, 0.0, 0, NOW, 6, 0.0), 0))
    del framer
    assert quotes() is None, "no cycle keeps it until the collector comes by"


def test_numbers_in_kafkas_zigzag() -> None:
    known = {0: "00", -1: "01", 1: "02", 63: "7e", -65: "8101", 300: "d804"}
    assert {number: varint(number).hex() for number in known} == known

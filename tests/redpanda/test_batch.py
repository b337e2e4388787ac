"""Batches are what aiokafka's own builder makes of the same records, and stop where they are full."""

import struct

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.model import TICK_RECORD
from mt5_bridge.core.ticks import Label, TickFramer, encode_ticks
from mt5_bridge.redpanda.batch import FramedBatch, Record, RecordBatch, keyed, split, stored, weight

HEADERS = [("schema", b"tick_data/1"), ("account", b"\xff")]
RECORDS = st.lists(st.tuples(st.integers(0, 2**41), st.none() | st.binary(max_size=300)), min_size=1, max_size=50)


@given(RECORDS, st.binary(min_size=1, max_size=20))
def test_a_run_is_encoded_like_single_records(records: list[Record], key: bytes) -> None:
    mine, theirs = RecordBatch(1 << 20), BatchBuilder(1 << 20, 0)
    assert mine.extend(HEADERS, keyed(key, records), 0) == len(records)
    for time_ms, value in records:
        theirs.append(timestamp=time_ms, key=key, value=value, headers=HEADERS)
    for batch in (mine, theirs):
        batch.close()
        batch._set_producer_state(7, 1, 5)
    assert bytes(mine._build()) == bytes(theirs._build())
    assert mine.record_count() == len(records)


@given(RECORDS, st.integers(1, 3_000))
def test_nothing_is_left_out_and_the_limit_holds(records: list[Record], limit: int) -> None:
    start, taken = 0, 0
    while start < len(records):
        batch = RecordBatch(limit)
        end = batch.extend(HEADERS, keyed(b"k", records), start)
        assert end > start  # the first is always taken
        taken += batch.record_count()
        heaviest = sum(weight(b"k", HEADERS, value) for _, value in records[start:end])
        batch.close()
        size = len(bytes(batch._build()))
        assert size <= max(limit, heaviest if end - start == 1 else 0) + 61
        assert size <= heaviest
        start = end
    assert taken == len(records)


def test_a_full_batch_takes_no_second_run() -> None:
    batch = RecordBatch(200)
    assert batch.extend([], [(1, b"x" * 500, b"k")], 0) == 1
    assert batch.extend([], [(1, b"y", b"k")], 0) == 0


@given(st.lists(st.tuples(st.integers(0, 100_000), st.floats(0, 10)), min_size=1, max_size=80))
def test_framed_ticks_are_stored_as_the_same_ticks_in_a_batch_filled_here(ticks: list[tuple[int, float]]) -> None:
    times = [1_700_000_000_000 + sum(gap + 1 for gap, _ in ticks[: n + 1]) for n in range(len(ticks))]
    pack = struct.Struct(TICK_RECORD).pack
    data = b"".join(pack(0, bid, bid, 0.0, 0, t, 6, 0.0) for t, (_, bid) in zip(times, ticks, strict=True))
    rows = [(t, 0, bid, bid, 0.0, 0.0, 6) for t, (_, bid) in zip(times, ticks, strict=True)]
    (framed,) = TickFramer(Label("EURUSD", 0.01, HEADERS), first_seq=0, now_msc=1).frame(data, 0)
    theirs = RecordBatch(1 << 20)
    theirs.extend(HEADERS, keyed(b"EURUSD", encode_ticks("EURUSD", 0.01, rows, now_msc=1)), 0)
    mine = FramedBatch(framed)
    for batch in (mine, theirs):
        batch.close()
        batch._set_producer_state(7, 1, 5)
    assert mine.size() == len(mine._build())
    assert bytes(mine._build()) == bytes(theirs._build())
    assert mine.record_count() == len(ticks)
    assert mine.closed()


@given(st.lists(st.tuples(st.integers(0, 100_000), st.floats(0, 10)), min_size=2, max_size=300))
def test_halves_are_stored_as_batches_of_their_own_records(ticks: list[tuple[int, float]]) -> None:
    times = [1_700_000_000_000 + sum(gap + 1 for gap, _ in ticks[: n + 1]) for n in range(len(ticks))]
    pack = struct.Struct(TICK_RECORD).pack
    data = b"".join(pack(0, bid, bid, 0.0, 0, t, 6, 0.0) for t, (_, bid) in zip(times, ticks, strict=True))
    (framed,) = TickFramer(Label("EURUSD", 0.01, HEADERS), first_seq=0, now_msc=1).frame(data, 0)
    front, back = split(framed)
    assert (front.count, back.count) == (len(ticks) // 2, len(ticks) - len(ticks) // 2)
    assert [front.last_ms, back.last_ms] == [times[front.count - 1], times[-1]]
    whole = list(DefaultRecordBatch(stored(framed)))
    halves = [row for half in (front, back) for row in DefaultRecordBatch(stored(half))]
    assert [row.offset for row in halves] == [*range(front.count), *range(back.count)]
    assert [(r.timestamp, r.key, r.value, r.headers) for r in halves] == [
        (r.timestamp, r.key, r.value, r.headers) for r in whole
    ]
    assert all(DefaultRecordBatch(stored(half)).validate_crc() for half in (front, back))

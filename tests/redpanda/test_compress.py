"""Compressed batches hold the same records, for every reader of Kafka's format."""

import random
import struct
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.core.model import TICK_RECORD
from mt5_bridge.core.ticks import Framed, Label, TickFramer
from mt5_bridge.redpanda import Producer, RedpandaConfig
from mt5_bridge.redpanda.batch import FramedBatch, Record, RecordBatch, keyed, stored
from mt5_bridge.redpanda.compress import codec

HEADERS = [("schema", b"tick_data/1"), ("account", b"\xff")]
RECORDS = st.lists(st.tuples(st.integers(0, 2**41), st.none() | st.binary(max_size=300)), min_size=1, max_size=50)
Seen = list[tuple[int, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]


def seen(batch: bytes) -> Seen:
    found = DefaultRecordBatch(bytes(batch))
    assert found.validate_crc()
    return [(r.timestamp, r.key, r.value, tuple(r.headers)) for r in found]


def ticks(count: int) -> Framed:
    chance, pack = random.Random(1), struct.Struct(TICK_RECORD).pack
    at = [1_700_000_000_000 + n * 90 + chance.randint(0, 80) for n in range(count)]
    data = b"".join(pack(t // 1000, 1.1 + chance.randint(-9, 9) / 1e5, 1.2, 0.0, 0, t, 6, 0.0) for t in at)
    (framed,) = TickFramer(Label("EURUSD", 0.00001, HEADERS), first_seq=0, now_msc=at[-1]).frame(data, 0)
    return framed


@pytest.mark.parametrize("name", ["lz4", "zstd"])
@given(RECORDS)
def test_the_same_records_however_they_travel(name: str, records: list[Record]) -> None:
    plain, small = RecordBatch(1 << 20), RecordBatch(1 << 20, codec(name))
    for batch in (plain, small):
        batch.extend(HEADERS, keyed(b"EURUSD", records), 0)
        batch.close()
        batch._set_producer_state(7, 1, 5)
    assert seen(bytes(small._build())) == seen(bytes(plain._build()))
    assert small._build() is small._build()
    assert len(small._build()) <= len(plain._build())
    assert small.record_count() == len(records)


@pytest.mark.parametrize("name", ["lz4", "zstd"])
def test_ticks_framed_elsewhere_shrink_to_a_fraction(name: str) -> None:
    framed = ticks(400)
    batch = FramedBatch(framed, codec(name))
    batch._set_producer_state(7, 1, 5)
    assert seen(bytes(batch._build())) == seen(bytes(stored(framed)))
    assert len(batch._build()) < len(framed.body) / 5


def test_what_compression_makes_no_smaller_stays_as_it_is() -> None:
    noise = [(1, random.Random(2).randbytes(50))]
    plain, small = RecordBatch(1 << 20), RecordBatch(1 << 20, codec("lz4"))
    for batch in (plain, small):
        batch.extend([], keyed(None, noise), 0)
        batch.close()
    assert bytes(small._build()) == bytes(plain._build())


def test_wrong_settings_say_what_to_do() -> None:
    assert codec("none") is None
    with pytest.raises(SettingsError, match=r"REDPANDA_COMPRESSION: 'gzip' is unknown; use one of none, lz4, zstd"):
        codec("gzip")


@pytest.mark.parametrize("name", ["lz4", "zstd"])
async def test_a_broker_takes_them_and_a_consumer_reads_them(
    bootstrap: str, new_topic: Callable[[], str], name: str
) -> None:
    topic = new_topic()
    producer = Producer(RedpandaConfig(bootstrap=bootstrap, compression=name))
    producer.start()
    try:
        await producer.wait_connected()
        await producer.publish(topic, b"k", [(n, b"value " * 50) for n in range(1, 20)], HEADERS)
        await producer.publish_framed(topic, b"EURUSD", [ticks(100)])
    finally:
        assert await producer.stop(10)
    reader = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await reader.start()
    try:
        got = [await reader.getone() for _ in range(119)]
    finally:
        await reader.stop()
    by_key = {key: [r for r in got if r.key == key] for key in (b"k", b"EURUSD")}
    assert [len(by_key[key]) for key in (b"k", b"EURUSD")] == [19, 100]
    assert {r.value for r in by_key[b"k"]} == {b"value " * 50}

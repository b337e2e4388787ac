"""Decoding what a broker answers: damaged batches are skipped, not stumbled over for ever."""

from collections.abc import Sequence

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from mt5_bridge.redpanda import RedpandaConfig
from mt5_bridge.redpanda.reader import Reader
from mt5_bridge.redpanda.security import client_options


def batch(*values: bytes, headers: Sequence[tuple[str, bytes | None]] = ()) -> bytearray:
    builder = BatchBuilder(1 << 20, 0)
    for value in values:
        builder.append(timestamp=1, key=None, value=value, headers=list(headers) if value == b"with" else [])
    return bytearray(builder._build())


def forged(data: bytearray, old: bytes, new: bytes) -> bytearray:
    """With other bytes of the same length within, and the sum that says they are meant."""
    assert old in data
    data = data.replace(old, new)
    data[17:21] = int(calc_crc32c(bytes(data[21:]))).to_bytes(4, "big")
    return data


def renumber(data: bytearray, base_offset: int) -> bytearray:
    data[:8] = base_offset.to_bytes(8, "big")
    return data


async def test_a_damaged_batch_is_passed_after_the_sound_one_before_it() -> None:
    reader = Reader(client_options(RedpandaConfig()), "t")
    sound, damaged = batch(b"0", b"1"), renumber(batch(b"2", b"3"), 2)
    damaged[-1] ^= 0xFF
    row: tuple[object, ...] = (5, 0, 4, 4, [], bytes(sound + damaged))
    first = reader._decode(4, row, 0)
    assert [record.value for record in first.records] == [b"0", b"1"]
    assert (first.partition, bool(first.corrupt), first.next_offset) == (5, True, 2)
    second = reader._decode(4, (5, 0, 4, 4, [], bytes(damaged)), 2)
    assert (second.records, bool(second.corrupt), second.next_offset) == ([], True, 3)
    await reader.close()


async def test_what_is_sound_behind_a_damaged_batch_is_read() -> None:
    reader = Reader(client_options(RedpandaConfig()), "t")
    damaged = renumber(batch(b"2", b"3"), 2)
    damaged[-1] ^= 0xFF
    data = bytes(damaged + renumber(batch(b"4", b"5"), 4))
    first = reader._decode(4, (0, 0, 6, 6, [], data), 2)
    assert (first.records, bool(first.corrupt), first.next_offset) == ([], True, 4)
    second = reader._decode(4, (0, 0, 6, 6, [], data[len(damaged) :]), first.next_offset)
    assert [record.value for record in second.records] == [b"4", b"5"]
    await reader.close()


async def test_a_header_without_a_value_has_an_empty_one() -> None:
    reader = Reader(client_options(RedpandaConfig()), "t")
    data = batch(b"with", headers=[("signature", None), ("trace", b"x")])
    (record,) = reader._decode(4, (0, 0, 1, 1, [], bytes(data)), 0).records
    assert record.headers == (("signature", b""), ("trace", b"x"))
    await reader.close()


async def test_what_was_made_unreadable_is_passed_over_with_its_batch() -> None:
    """Its sum is right, so no broker refuses it and no fetch mends it."""
    reader = Reader(client_options(RedpandaConfig()), "t")
    evil = forged(renumber(batch(b"2", b"with", b"4", headers=[("zz", b"x")]), 2), b"zz", b"\xff\xfe")
    batches = [(0, batch(b"0", b"1")), (2, evil), (5, renumber(batch(b"5"), 5))]
    heard: list[tuple[int, bytes | None]] = []
    position, corrupt = 0, []
    while position < 6:
        # A broker answers from the batch on that holds the offset asked for.
        first = max(begin for begin, _ in batches if begin <= position)
        data = b"".join(bytes(each) for begin, each in batches if begin >= first)
        fetched = reader._decode(4, (0, 0, 9, 9, [], data), position)
        heard += [(record.offset, record.value) for record in fetched.records]
        corrupt.append(fetched.corrupt.partition(":")[0])
        assert fetched.next_offset > position
        position = fetched.next_offset
    assert heard == [(0, b"0"), (1, b"1"), (2, b"2"), (5, b"5")]
    assert corrupt == ["UnicodeDecodeError", "UnicodeDecodeError", ""]
    await reader.close()


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 7])
async def test_what_does_not_decompress_is_passed_over(codec: int) -> None:
    """Gzip, snappy, lz4, zstd, and none that there is: whether a library is there for it or not."""
    reader = Reader(client_options(RedpandaConfig()), "t")
    data = batch(b"zz")
    data[21:23] = codec.to_bytes(2, "big")
    fetched = reader._decode(4, (0, 0, 9, 9, [], bytes(forged(data, b"zz", b"xx"))), 0)
    assert (fetched.records, fetched.next_offset) == ([], 1)
    assert fetched.corrupt
    await reader.close()


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_of_kafkas_is_read(codec: int) -> None:
    """Some clients compress unless told otherwise."""
    made = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=100_000,
    )  # fmt: skip
    made.append(0, timestamp=1, key=b"k", value=b"a signal" * 100, headers=[])
    reader = Reader(client_options(RedpandaConfig()), "t")
    fetched = reader._decode(4, (0, 0, 9, 9, [], bytes(made.build())), 0)
    assert [record.value for record in fetched.records] == [b"a signal" * 100]
    await reader.close()


async def test_what_is_no_batch_at_all_is_passed_over() -> None:
    reader = Reader(client_options(RedpandaConfig()), "t")
    for rubbish in (b"\x00" * 61, b"rubbish, and not a little of it, " * 4):
        fetched = reader._decode(4, (0, 0, 9, 9, [], rubbish), 7)
        assert not fetched.records
        assert fetched.next_offset in (7, 8)
        assert bool(fetched.corrupt) == (fetched.next_offset == 8)
    await reader.close()


async def test_every_version_of_the_answer_is_understood() -> None:
    reader = Reader(client_options(RedpandaConfig()), "t")
    data = bytes(batch(b"0"))
    for version, rest in ((0, [data]), (4, [1, [], data]), (5, [1, 0, [], data]), (11, [1, 0, None, -1, data])):
        fetched = reader._decode(version, (0, 0, 1, *rest), 0)
        assert [record.value for record in fetched.records] == [b"0"]
        assert fetched.next_offset == 1
    assert reader._decode(11, (0, 6, -1, -1, 0, None, -1, b""), 7).error == 6
    await reader.close()

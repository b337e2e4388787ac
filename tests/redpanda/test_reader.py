"""Decoding what a broker answers: damaged batches are skipped, not stumbled over for ever."""

from aiokafka.producer.message_accumulator import BatchBuilder

from mt5_bridge.redpanda import RedpandaConfig
from mt5_bridge.redpanda.reader import Reader
from mt5_bridge.redpanda.security import client_options


def batch(*values: bytes) -> bytearray:
    builder = BatchBuilder(1 << 20, 0)
    for value in values:
        builder.append(timestamp=1, key=None, value=value)
    return bytearray(builder._build())


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
    assert (first.partition, first.corrupt, first.next_offset) == (5, True, 2)
    second = reader._decode(4, (5, 0, 4, 4, [], bytes(damaged)), 2)
    assert (second.records, second.corrupt, second.next_offset) == ([], True, 3)
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

"""The three lanes of what waits to be sent."""

import asyncio

import pytest

from mt5_bridge.control.outbound import SPARE_BYTES, SPARE_FRAMES, Outbound, Parcel
from mt5_bridge.core.errors import ChannelClosedError


def lanes(max_frames: int = 3, max_bytes: int = 100, max_urgent: int = 1, max_slots: int = 2) -> Outbound:
    return Outbound(max_frames=max_frames, max_bytes=max_bytes, max_urgent=max_urgent, max_slots=max_slots)


def sent(outbound: Outbound, limit: int = 100) -> list[bytes]:
    return [parcel.frame for parcel in outbound.take(limit, 1 << 30)]


async def test_urgent_first_then_in_order_then_the_newest_of_each_slot() -> None:
    outbound = lanes()
    outbound.put_latest("EURUSD", b"quote")
    outbound.put(Parcel(b"one"))
    outbound.put(Parcel(b"two"))
    outbound.put(Parcel(b"stop"), urgent=True)
    assert len(outbound) == 4
    assert sent(outbound) == [b"stop", b"one", b"two", b"quote"]
    assert outbound.ordered_empty


async def test_a_full_lane_refuses_the_newest() -> None:
    outbound = lanes()
    assert [outbound.put(Parcel(b"%d" % n)) for n in range(5)] == [True, True, True, False, False]
    assert outbound.stats.refused == 2
    assert sent(outbound) == [b"0", b"1", b"2"]


async def test_the_lane_is_bounded_in_bytes_too() -> None:
    outbound = lanes(max_bytes=10)
    assert outbound.put(Parcel(b"12345678"))
    assert not outbound.put(Parcel(b"123"))
    assert sent(outbound) == [b"12345678"]
    assert outbound.put(Parcel(b"123"))


async def test_too_much_urgent_takes_the_ordered_lane() -> None:
    outbound = lanes()
    outbound.put(Parcel(b"a"), urgent=True)
    outbound.put(Parcel(b"b"))
    outbound.put(Parcel(b"c"), urgent=True)
    assert sent(outbound) == [b"a", b"b", b"c"]


async def test_a_slot_keeps_only_the_newest_and_its_place() -> None:
    outbound = lanes()
    for slot, frame in [("A", b"a1"), ("B", b"b1"), ("A", b"a2")]:
        outbound.put_latest(slot, frame)
    assert outbound.stats.conflated == 1
    assert sent(outbound) == [b"a2", b"b1"]


async def test_too_many_slots_drop_the_oldest() -> None:
    outbound = lanes()
    for slot in "ABC":
        outbound.put_latest(slot, slot.encode())
    assert outbound.stats.evicted == 1
    assert sent(outbound) == [b"B", b"C"]


async def test_a_lost_connection_takes_the_ordered_frames_and_leaves_the_newest_values() -> None:
    outbound = lanes()
    waiting: asyncio.Future[asyncio.Future[float]] = asyncio.get_running_loop().create_future()
    outbound.put(Parcel(b"result", waiting))
    outbound.put(Parcel(b"answer"), urgent=True)
    outbound.put_latest("account", b"account")
    outbound.connection_lost("gone")
    assert outbound.stats.lost == 2
    with pytest.raises(ChannelClosedError, match="gone"):
        await waiting
    assert sent(outbound) == [b"account"]


async def test_waits_until_something_is_there() -> None:
    outbound = lanes()
    assert sent(outbound) == []
    waiter = asyncio.create_task(outbound.filled())
    await asyncio.sleep(0)
    assert not waiter.done()
    outbound.put_latest("A", b"a")
    await waiter


async def test_takes_no_more_than_asked() -> None:
    outbound = lanes()
    outbound.put(Parcel(b"1"))
    outbound.put(Parcel(b"2"))
    assert sent(outbound, 1) == [b"1"]
    await outbound.filled()
    assert sent(outbound, 1) == [b"2"]


async def test_a_go_ends_with_the_frame_that_makes_it_large() -> None:
    outbound = lanes(max_frames=9)
    for n in range(4):
        outbound.put(Parcel(b"%d" % n * 10))
    assert [len(outbound.take(9, 15)), len(outbound.take(9, 1)), len(outbound.take(1, 99))] == [2, 1, 1]


async def test_the_newest_values_wait_while_some_are_on_their_way() -> None:
    outbound = lanes()
    outbound.put_latest("A", b"a1")
    assert sent(outbound) == [b"a1"]
    outbound.hold_latest()
    outbound.put_latest("A", b"a2")
    outbound.put(Parcel(b"result"))
    assert sent(outbound) == [b"result"]
    outbound.put_latest("A", b"a3")
    assert sent(outbound) == []
    outbound.open_latest()
    await asyncio.wait_for(outbound.filled(), 1)
    assert sent(outbound) == [b"a3"]


async def test_a_few_words_find_room_in_a_full_lane_up_to_a_bound() -> None:
    outbound = lanes(max_frames=1, max_bytes=5, max_urgent=0)
    assert outbound.put(Parcel(b"12345"))
    assert not outbound.put(Parcel(b"6"))
    assert all(outbound.put(Parcel(b"too much"), brief=True) for _ in range(SPARE_FRAMES - 1))
    assert outbound.put(Parcel(b"stopped"), urgent=True)
    assert not outbound.put(Parcel(b"too much"), brief=True)


async def test_many_words_are_not_a_few() -> None:
    outbound = lanes(max_frames=1, max_bytes=5, max_urgent=0)
    assert not outbound.put(Parcel(b"x" * (SPARE_BYTES + 1)), brief=True)
    assert outbound.put(Parcel(b"x" * SPARE_BYTES), brief=True)

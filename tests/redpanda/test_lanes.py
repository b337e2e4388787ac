"""Order within a lane, whatever fails."""

import asyncio
import struct

from mt5_bridge.core.errors import BrokerError
from mt5_bridge.core.model import TICK_RECORD
from mt5_bridge.core.ticks import Framed, Label, TickFramer
from mt5_bridge.redpanda.lanes import Lane, arrive, fail

LIMIT = 10_000


def framed(count: int) -> Framed:
    return Framed(count, 1, 1, b"x" * count)


def framed_ticks(count: int) -> Framed:
    """Records as they are framed in earnest, which can be split."""
    pack = struct.Struct(TICK_RECORD).pack
    data = b"".join(pack(0, 1.1, 1.2, 0.0, 0, 1_700_000_000_000 + n, 6, 0.0) for n in range(count))
    (whole,) = TickFramer(Label("EURUSD", 0.01, []), first_seq=0, now_msc=1_700_000_000_000).frame(data, 0)
    return whole


def future() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


async def test_parcels_share_a_batch_and_a_large_one_takes_several() -> None:
    lane = Lane("t", 0)
    small, large, last = future(), future(), future()
    lane.add([(1, b"a", b"k")], (), small)
    lane.add([(1, b"x" * 900, b"k")] * 20, (), large)
    lane.add([(1, b"z", b"k")], (), last)
    batches = []
    while (taken := lane.take(LIMIT))[1]:
        batches.append(taken)
    assert len(batches) == 2
    assert (batches[0][1][0].start, batches[0][1][0].end) == (0, 1)
    arrive(batches[0][1])
    assert small.done()
    assert not large.done()
    arrive(batches[1][1])
    assert large.done()
    assert last.done()
    assert not lane.waiting


async def test_what_failed_goes_back_to_its_place() -> None:
    lane = Lane("t", 0)
    futures = [future() for _ in range(3)]
    for each in futures:
        lane.add([(1, b"x" * 900, b"k")] * 10, (), each)
    first, second = lane.take(LIMIT)[1], lane.take(LIMIT)[1]
    lane.put_back(second)
    lane.put_back(first)
    assert [parcel.serial for parcel in lane.waiting] == [1, 2, 3]
    assert [parcel.taken for parcel in lane.waiting] == [0, 0, 0]
    while taken := lane.take(LIMIT)[1]:
        arrive(taken)
    assert all(each.done() for each in futures)


async def test_a_part_that_arrived_counts_although_a_part_before_it_is_sent_again() -> None:
    lane = Lane("t", 0)
    done = future()
    lane.add([(1, b"x" * 900, b"k")] * 20, (), done)
    first, second = lane.take(LIMIT)[1], lane.take(LIMIT)[1]
    arrive(second)
    lane.put_back(first)
    while taken := lane.take(LIMIT)[1]:
        arrive(taken)
    assert done.done()


async def test_what_was_put_back_with_a_part_before_it_counts_once() -> None:
    """The second of three parts arrives, the first does not: acknowledged are all three only when the third is."""
    lane = Lane("t", 0)
    done = future()
    lane.add([(1, b"x" * 900, b"k")] * 30, (), done)
    first, second, third = (lane.take(LIMIT)[1] for _ in range(3))
    lane.put_back(first)
    arrive(second)
    lane.put_back(third)
    starts = []
    while taken := lane.take(LIMIT)[1]:
        assert not done.done()
        starts.append(taken[0].start)
        arrive(taken)
    assert starts == [share.start for shares in (first, second, third) for share in shares]
    assert done.done()


async def test_a_part_that_moved_when_one_before_it_was_split_is_not_counted_for_another() -> None:
    lane = Lane("t", 0)
    done = future()
    data = framed_ticks(8)
    lane.add_framed([data, framed(1), framed(1)], done)
    first, second = lane.take(LIMIT)[1], lane.take(LIMIT)[1]
    lane.put_back(first)
    counts = [lane.take(len(data.body))[0].record_count()]  # half of it, the other half is where the second was
    arrive(second)
    while (taken := lane.take(len(data.body)))[1]:
        assert not done.done()
        counts.append(taken[0].record_count())
    assert counts == [4, 4, 1, 1]
    assert not done.done()


async def test_those_marked_alone_travel_alone() -> None:
    lane = Lane("t", 0)
    futures = [future() for _ in range(4)]
    parcels = [lane.add([(1, b"x", b"k")], (), each) for each in futures]
    parcels[1].alone = True
    sizes = []
    while taken := lane.take(LIMIT)[1]:
        sizes.append(len(taken))
    assert sizes == [1, 1, 2]


async def test_the_failed_and_the_cancelled_are_left_out() -> None:
    lane = Lane("t", 0)
    cancelled, failed, fine = future(), future(), future()
    lane.add([(1, b"1", b"k")], (), cancelled)
    lane.add([(1, b"2", b"k")], (), failed)
    lane.add([(1, b"3", b"k")], (), fine)
    shares = lane.take(LIMIT)[1]
    cancelled.cancel()
    fail(shares[1:2], BrokerError("no"))
    fail(shares[:1], BrokerError("no"))
    assert isinstance(failed.exception(), BrokerError)
    lane.put_back(shares)
    assert [share.parcel.serial for share in lane.take(LIMIT)[1]] == [3]
    arrive(shares)
    late = future()
    lane.add([(1, b"4", b"k")], (), late)
    late.cancel()
    assert lane.take(LIMIT)[1] == []


async def test_framed_batches_travel_as_they_are_and_let_the_rest_pass() -> None:
    lane = Lane("t", 0)
    before, whole, after = future(), future(), future()
    lane.add([(1, b"a", b"k")], (), before)
    lane.add_framed([framed(3), framed(4)], whole)
    lane.add([(1, b"z", b"k")], (), after)
    assert len(lane) == 3
    batches = [lane.take(LIMIT) for _ in range(3)]
    assert not lane.take(LIMIT)[1]
    assert [batch.record_count() for batch, _ in batches] == [2, 3, 4]
    assert [share.count for _, shares in batches for share in shares] == [1, 1, 3, 4]
    lane.put_back(batches[2][1])
    arrive(batches[1][1])
    assert not whole.done()
    live = future()
    lane.add([(1, b"y", b"k")], (), live)
    assert lane.take(LIMIT)[0].record_count() == 1, "what is live does not wait for the past"
    again, shares = lane.take(LIMIT)
    assert again.record_count() == 4
    arrive(shares)
    assert whole.done()
    rest = future()
    lane.add_framed([framed(2)], rest)
    lane.fail(BrokerError("gone"))
    assert not len(lane)
    assert isinstance(rest.exception(), BrokerError)

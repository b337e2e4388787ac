import json
import struct

from aiokafka.record.default_records import DefaultRecordBatch

from mt5_bridge.core.model import TICK_RECORD, TickBlock
from mt5_bridge.core.ticks import Label
from mt5_bridge.redpanda.batch import stored
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.clock import BrokerClock, Segment
from mt5_bridge.terminal.host_pages import framed
from mt5_bridge.terminal.raw import PageArgs, RawBlock, RawPage

HOUR = 3_600_000
RAW = 1_700_000_000_000
TIMELINE = (Segment(0, 0, 2 * HOUR), Segment(0, RAW + 10, 3 * HOUR))
LABEL = Label("EURUSD", 0.00001, [("schema", b"tick_data/1")])


def block(*times: int, first_seq: int = 0) -> RawBlock:
    pack = struct.Struct(TICK_RECORD).pack
    data = b"".join(pack(t // 1000, 1.1, 1.2, 0.0, 0, t, 6, 0.0) for t in times)
    last = times[-1] if times else RAW
    return RawBlock("EURUSD", data, first_seq, True, last, times.count(last) or 4)


def args(*, latest_only: bool = False, timezone: str | None = None) -> PageArgs:
    return PageArgs(LABEL, timezone, () if timezone else TIMELINE, 0, RAW, latest_only)


def ticks(page: RawPage) -> list[tuple[int, int]]:
    """(record time, seq) of what is framed."""
    records = [record for batch in page.batches for record in DefaultRecordBatch(bytes(stored(batch)))]
    assert all(list(record.headers) == LABEL.headers for record in records)
    return [(record.timestamp, json.loads(record.value)["data"]["seq"]) for record in records]


def test_each_tick_has_the_time_the_daemons_clock_gives_it() -> None:
    times = (RAW, RAW, RAW + 9, RAW + 10, RAW + 10, RAW + 20)
    page = framed(block(*times, first_seq=3), args())
    same = convert.ticks(TickBlock("EURUSD", block(*times).data, 3), BrokerClock(timeline=TIMELINE))
    assert ticks(page) == [tick[:2] for tick in same]
    assert len(page.batches) == 2
    assert (page.ticks, page.unusable, page.newest_msc) == (6, 0, RAW + 20 - 3 * HOUR)
    assert (page.more, page.time_msc, page.count) == (True, RAW + 20, 1)


def test_a_time_zone_alone_gives_the_times_too() -> None:
    page = framed(block(RAW), args(timezone="Asia/Tokyo"))
    assert ticks(page) == [(RAW - 9 * HOUR, 0)]


def test_only_the_newest_with_its_number() -> None:
    page = framed(block(RAW, RAW + 1, RAW + 1, RAW + 1), args(latest_only=True))
    assert ticks(page) == [(RAW + 1 - 2 * HOUR, 2)]
    assert page.ticks == 4


def test_nothing_read_is_nothing_framed() -> None:
    page = framed(block(), args(latest_only=True))
    assert (page.batches, page.ticks, page.newest_msc, page.count) == ([], 0, None, 4)

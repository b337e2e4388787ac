"""Where reading begins."""

from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.redpanda.position import LOOK_BACK, Bounds, Start, choose


def test_the_stored_offset_counts_while_the_partition_has_it() -> None:
    for stored in (10, 15, 20):
        assert choose(stored, Bounds(10, 20, 12)) == Start(stored)


def test_otherwise_the_first_young_record() -> None:
    assert choose(None, Bounds(10, 20, 12)) == Start(12, "first_time")
    assert choose(9, Bounds(10, 20, 12)) == Start(12, "expired")
    assert choose(21, Bounds(10, 20, 12)) == Start(12, "topic_made_anew")


def test_without_a_look_up_by_time_the_last_ones_are_read_again() -> None:
    assert choose(None, Bounds(10, 20, None)) == Start(10, "first_time", 20)
    assert choose(None, Bounds(0, 50_000, None)) == Start(50_000 - LOOK_BACK, "first_time", 50_000)


@given(st.none() | st.integers(0, 100), st.integers(0, 100), st.integers(0, 5_000), st.data())
def test_reading_never_begins_outside_the_partition(
    stored: int | None, begin: int, length: int, data: st.DataObject
) -> None:
    end = begin + length
    by_time = data.draw(st.none() | st.integers(begin, end))
    start = choose(stored, Bounds(begin, end, by_time))
    assert begin <= start.offset <= end
    assert (start.why is None) == (start.offset == stored and stored is not None and begin <= stored <= end)

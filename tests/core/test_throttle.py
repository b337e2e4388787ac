"""The rate of orders, and the latch behind it (P10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.throttle import Throttle, ThrottleLatch, capacity, count_denial, record, wait_ms


@pytest.mark.parametrize(
    ("rate", "room", "window"), [(5.0, 5, 1000.0), (1.0, 1, 1000.0), (0.5, 1, 2000.0), (2.5, 2, 800.0)]
)
def test_capacity(rate: float, room: int, window: float) -> None:
    assert capacity(rate) == (room, window)


def test_a_burst_up_to_the_rate_then_a_wait_until_the_oldest_leaves_the_window() -> None:
    throttle = Throttle()
    for at in (0, 10, 20, 30, 40):
        assert wait_ms(throttle, at, 5) == 0
        throttle = record(throttle, at, 5)
    assert wait_ms(throttle, 50, 5) == 950
    assert wait_ms(throttle, 1000, 5) == 0
    throttle = record(throttle, 1000, 5)
    assert len(throttle.sent) == 5
    assert wait_ms(throttle, 1000, 5) == 10


def test_without_a_rate_nothing_waits_or_is_remembered() -> None:
    assert wait_ms(Throttle((1, 2, 3)), 3, None) == 0
    assert record(Throttle(), 3, None) == Throttle()


def test_a_clock_that_steps_back_costs_at_most_one_window() -> None:
    assert wait_ms(Throttle((1_000_000,)), 5, 1) == 1000


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40), st.sampled_from([0.4, 1.0, 3.0, 5.0, 7.3]))
def test_no_window_ever_holds_more_than_the_rate(asked: list[int], rate: float) -> None:
    throttle, sent = Throttle(), []
    for at in sorted(asked):
        if wait_ms(throttle, at, rate) == 0:
            throttle = record(throttle, at, rate)
            sent.append(at)
    room, window = capacity(rate)
    assert all(later - earlier >= window for earlier, later in zip(sent, sent[room:], strict=False))


@given(
    st.lists(st.integers(0, 2000), max_size=12),
    st.integers(0, 3000),
    st.sampled_from([0.5, 1.0, 3.0, 5.0]),
    st.integers(0, 12),
)
def test_who_has_others_ahead_waits_until_they_are_gone(asked: list[int], now: int, rate: float, ahead: int) -> None:
    throttle = Throttle()
    for at in sorted(at for at in asked if at <= now):
        if wait_ms(throttle, at, rate) == 0:
            throttle = record(throttle, at, rate)
    foretold, at = wait_ms(throttle, now, rate, ahead), now
    for _ in range(ahead):
        at += wait_ms(throttle, at, rate)
        throttle = record(throttle, at, rate)
    assert foretold == at + wait_ms(throttle, at, rate) - now


def test_the_latch_counts_distinct_signals_within_a_minute() -> None:
    latch, reached = ThrottleLatch(), False
    for number in (1, 2, 2, 2):
        latch, reached = count_denial(latch, f"s{number}", 1000 * number, 3)
        assert not reached
    late, reached = count_denial(latch, "s3", 61_000, 3)
    assert not reached
    assert late.denied == ((2000, "s2"), (61_000, "s3"))
    _, reached = count_denial(latch, "s3", 60_999, 3)
    assert reached


def test_the_latch_can_be_off() -> None:
    assert count_denial(ThrottleLatch(), "s", 0, None) == (ThrottleLatch(), False)

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.backoff import Backoff, BackoffPolicy, ceiling, delay, delays

POLICY = BackoffPolicy(first=1.0, factor=2.0, cap=8.0, floor=0.1, min_uptime=10.0)


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    assert [ceiling(POLICY, n) for n in range(7)] == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_full_jitter_spans_from_floor_to_ceiling() -> None:
    assert delay(POLICY, 3, 0.0) == 0.1
    assert delay(POLICY, 3, 0.5) == 2.0
    assert delay(POLICY, 3, 0.999) == pytest.approx(4.0, rel=0.01)


def test_without_a_failure_there_is_nothing_to_wait_for() -> None:
    assert delay(POLICY, 0, 0.9) == 0.0
    assert Backoff(POLICY).delay(0.9) == 0.0


def test_delays_follow_the_row_of_failures() -> None:
    assert list(islice(delays(POLICY, lambda: 0.5), 6)) == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_a_connection_that_dies_young_does_not_reset() -> None:
    backoff = Backoff(POLICY).failed().failed()
    assert backoff.ended(9.9).failures == 3
    assert backoff.ended(10.0).failures == 1


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_always_bounded(failures: int, random: float) -> None:
    assert 0.0 <= delay(POLICY, failures, random) <= POLICY.cap

import time

from mt5_bridge.flows.clock import Clock, wall_ms


def test_the_wall_clock_is_utc_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= wall_ms() <= time.time_ns() // 1_000_000


def test_monotonic_never_steps_back() -> None:
    clock = Clock()
    first = clock.monotonic()
    assert clock.monotonic() >= first
    assert clock.now_ms is wall_ms


def test_loops_of_one_period_wake_together() -> None:
    clock = Clock(monotonic=lambda: 10.25)
    assert clock.until_beat(0.5) == 0.25
    assert clock.until_beat(0.25) == 0.25, "a whole period on the beat"


def test_a_timer_that_was_early_by_a_trifle_does_not_wake_twice() -> None:
    assert Clock(monotonic=lambda: 9.75).until_beat(10.0) == 10.25

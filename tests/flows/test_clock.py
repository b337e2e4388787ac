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

from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.terminal.breaker import BreakerState, CircuitBreaker


def state(breaker: CircuitBreaker) -> BreakerState:
    """Keeps mypy from believing that a state seen once stays."""
    return breaker.state


def opened() -> CircuitBreaker:
    breaker = CircuitBreaker(threshold=3, cooldown=10.0)
    for _ in range(3):
        breaker.failed(100.0)
    return breaker


def test_it_opens_after_failures_in_a_row_and_refuses() -> None:
    breaker = CircuitBreaker(threshold=3, cooldown=10.0)
    breaker.failed(0.0)
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(0.0)
    breaker.failed(0.0)
    assert breaker.admit(0.0)
    breaker.failed(0.0)
    assert state(breaker) is BreakerState.OPEN
    assert breaker.trips == 1
    assert not breaker.admit(9.9)
    assert breaker.retry_in(4.0) == 6.0


def test_one_probe_passes_after_the_cooldown_and_closes_it() -> None:
    breaker = opened()
    assert breaker.admit(110.0)
    assert state(breaker) is BreakerState.HALF_OPEN
    assert not breaker.admit(110.0)
    breaker.succeeded()
    assert state(breaker) is BreakerState.CLOSED
    assert breaker.retry_in(110.0) == 0.0


def test_a_failed_probe_opens_it_again() -> None:
    breaker = opened()
    assert breaker.admit(110.0)
    breaker.failed(111.0)
    assert state(breaker) is BreakerState.OPEN
    assert breaker.trips == 2
    assert breaker.retry_in(111.0) == 10.0


def test_a_critical_call_passes_while_open_and_is_the_probe() -> None:
    breaker = opened()
    assert breaker.admit(100.0, critical=True)
    assert state(breaker) is BreakerState.HALF_OPEN
    assert breaker.admit(100.0, critical=True)
    breaker.succeeded()
    assert breaker.admit(100.0)


def test_a_probe_that_never_left_says_nothing() -> None:
    breaker = opened()
    breaker.admit(110.0)
    breaker.withdrawn()
    assert state(breaker) is BreakerState.OPEN
    assert breaker.admit(110.0)
    breaker.reset()
    breaker.withdrawn()
    assert state(breaker) is BreakerState.CLOSED


@given(st.lists(st.sampled_from(["fail", "ok", "call", "critical", "withdraw", "reset"]), max_size=60))
def test_a_critical_call_is_never_refused(events: list[str]) -> None:
    breaker = CircuitBreaker(threshold=2, cooldown=5.0)
    for now, event in enumerate(events):
        match event:
            case "fail":
                breaker.failed(float(now))
            case "ok":
                breaker.succeeded()
            case "call":
                breaker.admit(float(now))
            case "withdraw":
                breaker.withdrawn()
            case "reset":
                breaker.reset()
            case _:
                assert breaker.admit(float(now), critical=True)
        assert 0.0 <= breaker.retry_in(float(now)) <= 5.0

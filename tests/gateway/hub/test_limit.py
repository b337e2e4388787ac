from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.gateway.hub.limit import Allowance


def test_a_second_s_worth_may_come_at_once_and_then_no_more() -> None:
    allowance = Allowance(3, now=10.0)
    assert [allowance.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert allowance.take(10.34)
    assert not allowance.take(10.34)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    allowance = Allowance(1, now=10.0)
    assert allowance.take(10.0)
    assert not allowance.take(5.0)


@given(st.integers(1, 50), st.lists(st.floats(0, 2), max_size=300))
def test_never_more_than_the_rate_and_one_burst(per_s: int, pauses: list[float]) -> None:
    allowance, now, taken = Allowance(per_s, now=0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += allowance.take(now)
    assert taken <= per_s + now * per_s + 1e-6

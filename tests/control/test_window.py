from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.control.window import FIRST, LEAST, MOST, Window


def test_grows_with_a_quick_backend_and_shrinks_with_a_slow_one() -> None:
    window = Window()
    assert window.size == FIRST
    window.answered(0.01)
    assert window.size == 2 * FIRST
    window.answered(0.5)
    assert window.size == 2 * FIRST
    for _ in range(20):
        window.answered(3.0)
    assert window.size == LEAST
    for _ in range(20):
        window.answered(0.0)
    assert window.size == MOST


@given(st.lists(st.floats(0, 100)))
def test_stays_within_its_bounds(seconds: list[float]) -> None:
    window = Window()
    for each in seconds:
        window.answered(each)
        assert LEAST <= window.size <= MOST

"""Distances in points are the decimals a person would write, whatever the floats are."""

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.guards.terms import points

POINTS = st.sampled_from([1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001])


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**7), POINTS)
def test_a_whole_number_of_points_is_found_between_any_two_prices(away: int, at: int, point: float) -> None:
    price, other = (float(Decimal(count) * Decimal(repr(point))) for count in (at, at + away))
    assert points(other - price, point) == away


@given(st.floats(-1e300, 1e300), POINTS)
def test_any_distance_has_an_answer(distance: float, point: float) -> None:
    assert math.isclose(points(distance, point), distance / point, rel_tol=1e-9, abs_tol=1e-4)


def test_what_is_no_finite_number_stays_so() -> None:
    assert points(math.inf, 0.1) == math.inf
    assert points(1e308, 1e-5) == math.inf
    assert math.isnan(points(math.nan, 0.1))

"""Buckets hold exactly what was observed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.histogram import AGE_S, LATENCY_S, Histogram

VALUES = st.floats(min_value=-10, max_value=1e6, allow_nan=False)


@given(st.lists(VALUES, max_size=50), st.sampled_from([LATENCY_S, AGE_S, (1.0,)]))
def test_each_value_is_in_the_first_bucket_that_holds_it(values: list[float], bounds: tuple[float, ...]) -> None:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    seen = [max(value, 0.0) for value in values]
    assert histogram.cumulative() == tuple(
        (bound, sum(value <= bound for value in seen)) for bound in (*bounds, math.inf)
    )
    assert histogram.count == len(values)
    assert math.isclose(histogram.sum, sum(seen), rel_tol=1e-9, abs_tol=1e-9)


@given(st.lists(VALUES, min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_no_less_than_the_true_one(values: list[float], part: float) -> None:
    histogram = Histogram((0.1, 1.0, 10.0, 100.0))
    for value in values:
        histogram.observe(value)
    bound = histogram.quantile(part)
    assert bound is not None
    ordered = sorted(max(value, 0.0) for value in values)
    assert bound >= ordered[max(math.ceil(part * len(ordered)) - 1, 0)]


def test_nothing_is_known_of_nothing() -> None:
    histogram = Histogram()
    histogram.observe(math.nan)
    assert (histogram.count, histogram.sum, histogram.quantile(0.5)) == (0, 0.0, None)


def test_above_the_last_bound_there_is_no_limit() -> None:
    histogram = Histogram((1.0,))
    histogram.observe(math.inf)
    assert histogram.quantile(1.0) == math.inf


@pytest.mark.parametrize("bounds", [(), (1.0, 1.0), (2.0, 1.0)])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        Histogram(bounds)

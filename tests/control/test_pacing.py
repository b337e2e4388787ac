"""The pace of reconnecting: bounded whatever the server does."""

from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.control.pacing import MAX_IN_WINDOW, WINDOW, Pace, retry_after_seconds

NOON = 1_577_880_000_000  # 2020-01-01T12:00:00Z


def most_jitter() -> float:
    return 0.999_999


def test_failures_wait_longer_and_longer_up_to_ten_seconds() -> None:
    pace = Pace(most_jitter)
    waits = [pace.after_failure() for _ in range(12)]
    assert waits == sorted(waits)
    assert 9 < waits[-1] <= 10


def test_a_refused_token_is_tried_again_after_4_8_16_30_seconds() -> None:
    pace = Pace(most_jitter)
    assert [pace.after_refusal() for _ in range(6)] == [4, 8, 16, 30, 30, 30]


def test_another_outcome_ends_the_row_of_refusals() -> None:
    pace = Pace(most_jitter)
    pace.after_refusal()
    pace.after_failure()
    assert pace.after_refusal() == 4


def test_only_a_connection_that_lived_resets_the_backoff() -> None:
    pace = Pace(most_jitter)
    young = [pace.after_session(uptime=1.0) for _ in range(5)]
    assert young[-1] > young[0] * 10
    assert pace.after_session(uptime=10.0) <= young[0]


def test_retry_after_is_the_least_wait() -> None:
    assert Pace(lambda: 0.0).after_busy(7.0) == 7.0
    assert Pace(most_jitter).after_busy(None) > 0.4
    assert Pace(most_jitter).after_busy(1e9) == 3600


@given(
    lives=st.lists(st.floats(0, 30), min_size=20, max_size=80),
    jitters=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=7),
    kinds=st.lists(st.sampled_from(["failure", "session", "busy"]), min_size=1, max_size=9),
)
def test_never_more_than_ten_connections_in_ten_seconds(
    lives: list[float], jitters: list[float], kinds: list[str]
) -> None:
    numbers = iter(jitters * 100)
    pace = Pace(lambda: next(numbers))
    now, starts = 0.0, list[float]()
    for turn, life in enumerate(lives):
        now += pace.wait(now)
        pace.started(now)
        starts.append(now)
        kind = kinds[turn % len(kinds)]
        if kind == "session":
            now += life
            now += pace.after_session(life)
        else:
            now += pace.after_failure() if kind == "failure" else pace.after_busy(0.0)
    for first, after_ten in zip(starts, starts[MAX_IN_WINDOW:], strict=False):
        assert after_ten - first >= WINDOW - 1e-6


def test_retry_after_reads_seconds_and_dates() -> None:
    assert retry_after_seconds(None, NOON) is None
    assert retry_after_seconds(" 30 ", NOON) == 30
    assert retry_after_seconds("Wed, 01 Jan 2020 12:00:09 GMT", NOON) == 9
    assert retry_after_seconds("Wed, 01 Jan 2020 12:00:09 -0000", NOON) == 9
    assert retry_after_seconds("Wed, 01 Jan 2020 11:00:00 GMT", NOON) == 0
    assert retry_after_seconds("soon", NOON) is None

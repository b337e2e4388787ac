"""What came of an order, as HTTP: 2xx only for what is or may be done, repeatable codes only where nothing was sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.messages import Reason, Status
from mt5_bridge.gateway import statuses

DONE = {"filled", "partial", "placed", "modified", "cancelled", "closed", "simulated"}
reasons = st.none() | st.sampled_from([str(reason) for reason in Reason]) | st.text(max_size=20)


def test_every_published_reason_has_a_status() -> None:
    assert set(statuses.OF_REASON) == set(Reason)
    assert set(statuses.OF_REASON.values()) <= {403, 404, 409, 422, 429, 503}


@given(status=st.sampled_from(list(Status)), reason=reasons)
def test_what_may_have_reached_the_market_is_never_to_be_repeated(status: Status, reason: str | None) -> None:
    http = statuses.of_result(status.value, reason)
    if status in (Status.DENIED, Status.REJECTED):
        assert 400 <= http < 600
    else:
        assert http in (200, 202, 409)
        assert statuses.retry_after_s(http) is None
    assert (http == 200) == (status.value in DONE)


@given(reasons)
def test_what_was_not_sent_and_only_that_says_when_to_try_again(reason: str | None) -> None:
    http = statuses.of_result("denied", reason)
    assert (statuses.retry_after_s(http) is not None) == (http in (429, 503))


@pytest.mark.parametrize(
    ("status", "reason", "http", "code"),
    [
        ("filled", None, 200, "filled"),
        ("partial", None, 200, "partial"),
        ("simulated", None, 200, "simulated"),
        ("unknown", "unknown_outcome", 202, "unknown"),
        ("abandoned", "not_found", 409, "abandoned"),
        ("denied", "halted", 409, "halted"),
        ("denied", "unknown_outcome", 409, "unknown_outcome"),
        ("denied", "no_stop_loss", 422, "no_stop_loss"),
        ("denied", "throttled", 429, "throttled"),
        ("denied", "not_ready", 503, "not_ready"),
        ("denied", "not_found", 404, "not_found"),
        ("rejected", "terminal_refused", 409, "terminal_refused"),
        ("rejected", "market_closed", 409, "market_closed"),
        ("rejected", "terminal_unavailable", 503, "terminal_unavailable"),
        ("rejected", None, 409, "rejected"),
    ],
)
def test_results(status: str, reason: str | None, http: int, code: str) -> None:
    assert statuses.of_result(status, reason) == http
    assert statuses.code_of_result(status, reason) == code


@pytest.mark.parametrize(
    ("code", "http"),
    [("survivors", 409), ("invalid_params", 422), ("other_account", 403), ("never heard of", 409), ("not_found", 404)],
)
def test_refusals(code: str, http: int) -> None:
    assert statuses.of_code(code) == http

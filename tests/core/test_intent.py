"""The life of an intent, its magic and its comment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.intent import (
    DONE,
    MAGIC_BASE_MAX,
    MAGIC_LOW_MASK,
    IntentState,
    comment_for,
    low_half,
    magic_base,
    magic_for,
    may_move,
)
from mt5_bridge.core.messages import Status


def test_an_unknown_is_never_sent_again() -> None:
    assert not any(may_move(state, IntentState.SENDING) for state in IntentState)


def test_a_final_state_stays() -> None:
    for state in DONE | {IntentState.REJECTED, IntentState.SIMULATED}:
        assert not any(may_move(state, to) for to in IntentState)


@pytest.mark.parametrize("to", sorted(DONE))
def test_the_truth_may_turn_up_late(to: IntentState) -> None:
    assert may_move(IntentState.SENDING, to)
    assert may_move(IntentState.UNKNOWN, to)
    assert may_move(IntentState.ABANDONED, to)


def test_only_an_unknown_is_abandoned() -> None:
    assert [state for state in IntentState if may_move(state, IntentState.ABANDONED)] == [IntentState.UNKNOWN]
    assert [state for state in IntentState if may_move(state, IntentState.UNKNOWN)] == [IntentState.SENDING]


def test_what_is_not_known_yet_counts_as_open() -> None:
    assert {state for state in IntentState if state.open} == {IntentState.SENDING, IntentState.UNKNOWN}


def test_states_are_the_words_of_order_result() -> None:
    assert {state.value for state in IntentState} - {"sending"} <= {status.value for status in Status}


def test_a_magic_is_reproducible_and_told_apart_by_leg() -> None:
    assert magic_for(235, "s1", 0) == magic_for(235, "s1", 0)
    assert magic_for(235, "s1", 0) != magic_for(235, "s1", 1)
    assert magic_base(magic_for(235, "s1", 0)) == 235


@given(st.integers(1, MAGIC_BASE_MAX), st.text(max_size=200), st.integers(0, 50))
def test_every_magic_fits_a_javascript_number(base: int, signal_id: str, leg: int) -> None:
    magic = magic_for(base, signal_id, leg)
    assert 0 < magic < 2**53
    assert magic_base(magic) == base


@given(st.text(max_size=20), st.integers(1, 5))
def test_a_taken_magic_gives_way_to_the_next_free_one(signal_id: str, times: int) -> None:
    taken: set[int] = set()
    for _ in range(times):
        magic = magic_for(235, signal_id, 0, taken)
        assert magic not in taken
        taken.add(magic)
    assert len(taken) == times


class FromOn(set[int]):
    """A set that holds every number from a first one on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def __contains__(self, magic: object) -> bool:
        return isinstance(magic, int) and magic >= self.first


def test_the_next_free_magic_wraps_within_its_base() -> None:
    # Search for an id whose hash is near the end of the range, so that the walk to it is short.
    signal_id = next(s for s in map(str, range(10**9)) if magic_for(1, s, 0) & MAGIC_LOW_MASK > MAGIC_LOW_MASK - 2**18)
    assert magic_for(1, signal_id, 0, FromOn(magic_for(1, signal_id, 0))) == 1 << 32


@pytest.mark.parametrize("base", [0, -1, MAGIC_BASE_MAX + 1])
def test_a_base_out_of_range_is_refused(base: int) -> None:
    with pytest.raises(ValueError, match="MT5_MAGIC"):
        magic_for(base, "s", 0)


@pytest.mark.parametrize(
    ("signal_id", "wish", "comment"),
    [
        ("s1", None, "s1"),
        ("s1", "", "s1"),
        ("s1", "breakout", "breakout"),
        ("s1", "Kauf für Zoë\n", "Kauf f?r Zo??"),
        ("x" * 40, None, "x" * 25),
    ],
)
def test_comments_are_ascii_and_short(signal_id: str, wish: str | None, comment: str) -> None:
    assert comment_for(signal_id, wish) == comment


@given(st.integers(1, MAGIC_BASE_MAX), st.integers(1, MAGIC_BASE_MAX), st.text(max_size=20), st.integers(0, 63))
def test_the_low_half_tells_the_signal_whatever_the_base_was(one: int, other: int, signal: str, leg: int) -> None:
    assert low_half(magic_for(one, signal, leg)) == low_half(magic_for(other, signal, leg))

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.deadman import Pulse, Report, report_name

REPORT: dict[str, Any] = {
    "id": "r1", "action": "flatten", "why": "it was silent", "login": 1, "server": "S", "began_msc": 0,
}  # fmt: skip


def test_silence_is_counted_in_turns_that_went_normally() -> None:
    pulse = Pulse(8.0)
    assert pulse.turn_s == 1.0
    assert [pulse.turned(0, 1.0) for _ in range(8)] == [False] * 7 + [True]


def test_anything_read_begins_the_count_anew() -> None:
    pulse = Pulse(2.0)
    assert not any(pulse.turned(0, 0.25) for _ in range(7))
    assert not pulse.turned(1, 0.25)
    assert [pulse.turned(1, 0.25) for _ in range(8)] == [False] * 7 + [True]


def test_a_gap_in_its_own_loop_begins_the_count_anew() -> None:
    """The PC slept for an hour, and the daemon with it: what it wrote when it woke has not been read yet."""
    pulse = Pulse(2.0)
    assert not any(pulse.turned(0, 0.25) for _ in range(7))
    assert not pulse.turned(0, 3600.0)
    assert [pulse.turned(0, 0.25) for _ in range(8)] == [False] * 7 + [True]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=60), st.floats(0.5, 60))
def test_never_dead_without_that_much_silence_in_a_row(turns: list[tuple[bool, float]], after: float) -> None:
    pulse, reads, silent = Pulse(after), 0, 0.0
    for heard, seconds in turns:
        reads += heard
        silent = 0.0 if heard else silent + seconds
        if pulse.turned(reads, seconds):
            assert silent >= after


@pytest.mark.parametrize(("after", "turn"), [(0.1, 0.05), (4.0, 0.5), (3600.0, 1.0)])
def test_turns_are_short_and_few(after: float, turn: float) -> None:
    assert Pulse(after).turn_s == turn


def test_where_silence_says_nothing_it_is_waited_for_ever() -> None:
    pulse = Pulse(None)
    assert pulse.turn_s is None
    assert not pulse.turned(0, 1e9)


def test_a_report_says_what_is_left_and_why() -> None:
    report = Report(**REPORT, left={7: "Market is closed (10018)", 8: ""}, fault="no pipe", ended_msc=1)
    assert report.detail == "7: Market is closed (10018); the account could not be read: no pipe"
    assert Report(**REPORT, ended_msc=1).detail == ""
    assert "cut off" in Report(**REPORT).detail
    assert report.key == "deadman-r1"
    assert report_name(report.id) == "deadman-r1.json"


def test_its_orders_have_magics_of_their_own() -> None:
    report = Report(**{**REPORT, "id": "fffffffe" + "0" * 24})
    magics = [report.magic(235, leg) for leg in range(1, 4)]
    assert magics == [235 << 32 | low for low in (0xFFFFFFFF, 0, 1)]

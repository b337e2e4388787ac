import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core import bars
from mt5_bridge.core.bars import KEPT, LENGTHS, Ledger, Mark, Telling
from mt5_bridge.core.model import Bar
from mt5_bridge.core.times import DAY, HOUR, MINUTE, from_iso, moment
from mt5_bridge.terminal import requests

times = st.integers(0, from_iso("2100-01-01"))


def bar(time: int, close: float = 1.1, **values: Any) -> Bar:
    plain = {"open": 1.1, "high": 1.2, "low": 1.0, "tick_volume": 7, "spread": 10, "real_volume": 0} | values
    return Bar(symbol="EURUSD", timeframe="M1", time_msc=time, close=close, **plain)


# --- when a bar is over


def test_the_timeframes_are_the_terminals() -> None:
    assert list(LENGTHS) == list(requests.TIMEFRAMES)


@given(times, st.sampled_from(list(LENGTHS)))
def test_bars_follow_one_another_without_gap(now: int, timeframe: str) -> None:
    opened, ended = bars.opening(now, timeframe), bars.ending(now, timeframe)
    assert opened <= now < ended
    assert bars.opening(opened, timeframe) == opened == bars.opening(ended - 1, timeframe)
    assert bars.opening(ended, timeframe) == ended
    assert bars.ending(opened, timeframe) == ended
    assert LENGTHS[timeframe] <= ended - opened <= LENGTHS[timeframe] + 3 * DAY


@pytest.mark.parametrize(
    ("timeframe", "opened", "ended"),
    [
        ("M1", "2026-01-15T13:37:00", "2026-01-15T13:38:00"),
        ("M15", "2026-01-15T13:30:00", "2026-01-15T13:45:00"),
        ("H4", "2026-01-15T12:00:00", "2026-01-15T16:00:00"),
        ("D1", "2026-01-15", "2026-01-16"),
        ("W1", "2026-01-11", "2026-01-18"),
        ("MN1", "2026-01-01", "2026-02-01"),
    ],
)
def test_where_bars_begin_and_end(timeframe: str, opened: str, ended: str) -> None:
    now = from_iso("2026-01-15T13:37:59.999")
    assert (bars.opening(now, timeframe), bars.ending(now, timeframe)) == (from_iso(opened), from_iso(ended))


@given(times)
def test_months_and_weeks_begin_where_the_calendar_says(now: int) -> None:
    month, week = moment(bars.opening(now, "MN1")), moment(bars.opening(now, "W1"))
    assert (month.day, month.time()) == (1, moment(0).time())
    assert (week.isoweekday(), week.time()) == (7, moment(0).time()) or week.year < 1970


# --- what is told


def test_each_bar_is_told_once() -> None:
    ledger = Ledger(10)
    shown = [bar(10), bar(20), bar(30)]
    tellings = bars.to_tell(ledger, shown)
    assert tellings == [Telling(bar(20), False), Telling(bar(30), False)]
    ledger = bars.kept(bars.promised(ledger, tellings), tellings)
    assert bars.to_tell(ledger, shown) == []
    assert (ledger.newest_msc, ledger.told_msc) == (30, 30)


FIELDS = ("open", "high", "low", "close", "tick_volume", "spread", "real_volume")


@pytest.mark.parametrize("field", FIELDS)
def test_whatever_of_a_bar_changes_it_is_told_as_corrected(field: str) -> None:
    ledger = bars.kept(Ledger(10), [Telling(bar(20), False)])
    changed = bar(20, **{field: 3})
    assert bars.to_tell(ledger, [changed]) == [Telling(changed, True)]


def test_a_bar_that_may_have_left_is_told_again_as_it_was_or_as_corrected() -> None:
    ledger = bars.promised(Ledger(10), [Telling(bar(20), False)])
    assert (ledger.newest_msc, ledger.told_msc) == (20, 10)
    assert bars.to_tell(ledger, [bar(20)]) == [Telling(bar(20), False)]
    assert bars.to_tell(ledger, [bar(20, 1.15)]) == [Telling(bar(20, 1.15), True)]
    ledger = bars.promised(ledger, [Telling(bar(20, 1.15), True)])
    assert bars.to_tell(ledger, [bar(20, 1.15)]) == [Telling(bar(20, 1.15), True)]


def test_a_bar_that_is_filled_in_later_is_told_where_the_ledger_still_reaches() -> None:
    ledger = bars.kept(Ledger(0), [Telling(bar(time), False) for time in (10, 30)])
    assert bars.to_tell(ledger, [bar(10), bar(20), bar(30)]) == [Telling(bar(20), False)]


def test_of_many_the_newest_are_kept_and_the_others_are_not_told_again() -> None:
    tellings = [Telling(bar(time), False) for time in range(1, KEPT + 11)]
    ledger = bars.kept(Ledger(0), tellings)
    assert (ledger.floor_msc, len(ledger.noted), ledger.newest_msc) == (10, KEPT, KEPT + 10)
    assert bars.to_tell(ledger, [bar(time, 1.15) for time in range(1, 11)]) == []


# --- any story

story = st.lists(
    st.tuples(
        st.sampled_from(["opens", "corrects", "fills in", "look"]),
        st.integers(0, 5),
        st.sampled_from(["", "before", "unsent", "unkept"]),
    ),
    max_size=80,
)


class Told:
    """A terminal's bars, and lives that tell them and may be cut short."""

    def __init__(self) -> None:
        self.shown: dict[int, Bar] = {}
        self.told: list[Telling] = []
        self.ledger = Ledger(0)
        self.now = self.deaths = 0
        self._versions = itertools.count(1)

    def happen(self, what: str, number: int) -> None:
        if what == "opens":
            self.now += MINUTE * (1 + (number == 5))
            self.shown[self.now] = bar(self.now)
        elif what == "corrects" and (recent := sorted(self.shown)[-6:]):
            time = recent[number % len(recent)]
            self.shown[time] = bar(time, 1.1 + next(self._versions) / 1e4)
        elif what == "fills in" and (time := self.now - number * MINUTE) > 0:
            self.shown.setdefault(time, bar(time))

    def look(self, death: str) -> None:
        tellings = bars.to_tell(self.ledger, self.shown.values())
        self.deaths += bool(tellings and death)
        if death == "before":
            return
        self.ledger = bars.promised(self.ledger, tellings)
        if death == "unsent":
            return
        self.told += tellings
        if death == "unkept":
            return
        self.ledger = bars.kept(self.ledger, tellings)
        assert all(noted.mark is Mark.TOLD for noted in self.ledger.noted)


@given(story)
def test_whatever_happens_every_bar_is_told_and_each_version_is_called_what_it_is(story: list[Any]) -> None:
    """A life may end before the promise, before the sending, or before the arrival is noted."""
    world = Told()
    for what, number, death in [*story, ("look", 0, "")]:
        world.happen(what, number)
        if what == "look":
            world.look(death)
    last: dict[int, Bar] = {}
    repeated = 0
    for telling in world.told:
        before = last.get(telling.bar.time_msc)
        assert telling.corrected or before in (None, telling.bar)
        repeated += before == telling.bar
        last[telling.bar.time_msc] = telling.bar
    floor = world.ledger.floor_msc
    assert {time: last.get(time) for time in world.shown if time > floor} == {
        time: each for time, each in world.shown.items() if time > floor
    }
    first = {telling.bar.time_msc: telling for telling in reversed(world.told)}
    assert world.deaths or not (repeated or any(telling.corrected for telling in first.values()))


def test_looking_twice_at_an_hour_of_minutes() -> None:
    shown = [bar(time) for time in range(MINUTE, HOUR, MINUTE)]
    ledger = Ledger(0)
    for end in range(1, len(shown) + 1):
        tellings = bars.to_tell(ledger, shown[:end])
        assert [telling.bar for telling in tellings] == [shown[end - 1]]
        ledger = bars.kept(bars.promised(ledger, tellings), tellings)

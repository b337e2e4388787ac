from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.terminal.clock import GRAIN_MS, BrokerClock, Segment

HOUR = 3_600_000
NOW = 1_700_000_000_000


def live(clock: BrokerClock, offset: int, now: int, count: int = 6, symbol: str = "EURUSD") -> int:
    """Advancing ticks, ten a second. Returns the time after them."""
    for i in range(count):
        clock.observe(symbol, now + offset + i * 100, now + i * 100 + 20)
    return now + count * 100


def test_the_offset_is_inferred_from_advancing_ticks_and_rounded() -> None:
    clock = BrokerClock()
    assert clock.offset_ms is None
    live(clock, 2 * HOUR, NOW)
    assert clock.offset_ms == 2 * HOUR
    assert clock.to_utc(NOW + 2 * HOUR) == NOW
    assert clock.to_broker(NOW) == NOW + 2 * HOUR
    assert clock.skew_ms == -20


@pytest.mark.parametrize("offset", [0, -5 * HOUR, 3 * HOUR, 5 * HOUR + HOUR // 2, 12 * HOUR + 3 * GRAIN_MS])
def test_any_zone_is_found_in_spite_of_a_wrong_pc_clock(offset: int) -> None:
    clock = BrokerClock()
    live(clock, offset + 130_000, NOW)
    assert clock.offset_ms == offset
    assert clock.skew_ms == pytest.approx(130_000, abs=50)


def test_weekend_leftovers_say_nothing() -> None:
    clock = BrokerClock()
    friday = NOW - 40 * HOUR
    for i in range(20):
        clock.observe("EURUSD", friday, NOW + i * 1000)
        clock.observe("GBPUSD", 0, NOW + i * 1000)
    clock.observe("GBPUSD", friday, NOW + 30_000)
    assert clock.offset_ms is None


def test_a_symbol_not_looked_at_for_long_says_nothing() -> None:
    clock = BrokerClock()
    for i in range(10):
        clock.observe("EURUSD", NOW + i * 300_000, NOW + i * 300_000)
    assert clock.offset_ms is None


def test_implausible_ticks_say_nothing() -> None:
    clock = BrokerClock()
    live(clock, 15 * HOUR, NOW)
    live(clock, 2 * HOUR + 7 * 60_000, NOW + 10_000, symbol="GBPUSD")
    assert clock.offset_ms is None


def test_one_strange_tick_changes_nothing() -> None:
    clock = BrokerClock(offset_ms=2 * HOUR)
    now = live(clock, 2 * HOUR, NOW)
    clock.observe("EURUSD", now + 3 * HOUR, now)
    clock.observe("EURUSD", now + 2 * HOUR, now + 100)
    clock.observe("EURUSD", now + 3 * HOUR + 200, now + 200)
    assert clock.offset_ms == 2 * HOUR


def test_a_step_forward_keeps_the_epoch_and_old_ticks_their_offset() -> None:
    changes: list[tuple[Segment, ...]] = []
    clock = BrokerClock(on_change=changes.append)
    now = live(clock, 2 * HOUR, NOW)
    before = now + 2 * HOUR - 100
    live(clock, 3 * HOUR, now)
    assert clock.offset_ms == 3 * HOUR
    assert clock.epoch == 0
    assert clock.to_utc(before) == now - 100
    assert clock.to_utc(now + 3 * HOUR) == now
    assert len(changes) == 2
    assert clock.timeline == changes[-1]


def test_a_step_back_begins_an_epoch() -> None:
    clock = BrokerClock()
    now = live(clock, 3 * HOUR, NOW)
    live(clock, 2 * HOUR, now)
    assert clock.offset_ms == 2 * HOUR
    assert clock.epoch == 1
    raw = now + 2 * HOUR
    assert clock.epoch_begins(1) <= raw
    assert clock.to_utc(raw) == now
    assert clock.to_utc(raw, epoch=0) == now - HOUR


FRIDAY, SUNDAY, MONDAY = (1_700_000_000_000 // 86_400_000 * 86_400_000 + day * 86_400_000 for day in (3, 5, 6))
"""The 17th of November 2023 and the days after it, midnight UTC."""


@pytest.mark.parametrize("to", [1, 3])
def test_a_clock_that_changed_over_the_weekend_is_doubted_at_the_first_tick(to: int) -> None:
    clock = BrokerClock(offset_ms=2 * HOUR)
    evening = live(clock, 2 * HOUR, FRIDAY + 21 * HOUR)
    opening = SUNDAY + 22 * HOUR
    clock.observe("EURUSD", opening + to * HOUR, opening + 20)
    assert not clock.settled, "that tick must not leave with Friday's offset"
    live(clock, to * HOUR, opening + 100)
    assert clock.settled
    assert clock.to_utc(opening + to * HOUR) == opening
    assert clock.to_utc(evening + 2 * HOUR) == evening
    assert clock.epoch == 0, "no time was shown twice"


def friday() -> BrokerClock:
    """Two hours ahead of UTC, and heard last on a Friday evening."""
    clock = BrokerClock(offset_ms=2 * HOUR)
    live(clock, 2 * HOUR, FRIDAY + 21 * HOUR)
    return clock


def test_behind_a_weekend_a_leftover_of_an_hour_ago_is_doubted_until_a_tick_comes() -> None:
    clock = friday()
    clock.observe("GBPUSD", MONDAY + HOUR, MONDAY)
    assert not clock.settled
    live(clock, 2 * HOUR, MONDAY, count=2)
    assert (clock.settled, clock.offset_ms) == (True, 2 * HOUR)
    clock.observe("USDJPY", MONDAY + 3 * HOUR, MONDAY + 2 * HOUR)
    assert clock.settled, "what has been heard since proves the offset right"


def test_on_the_evening_of_a_day_an_hour_old_means_an_hour_old() -> None:
    """Else all that is left to publish would wait for the market to open."""
    clock = friday()
    for number, symbol in enumerate(("GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "GBPUSD")):
        now = FRIDAY + 22 * HOUR + number * 100_000
        clock.observe(symbol, FRIDAY + 23 * HOUR + number * 1000, now)
        assert (clock.settled, clock.offset_ms) == (True, 2 * HOUR)
    again = BrokerClock()
    again.restore([Segment(0, 0, 2 * HOUR)], FRIDAY + 20 * HOUR)
    again.observe("EURUSD", FRIDAY + 23 * HOUR, FRIDAY + 22 * HOUR)
    assert again.settled


def test_a_tick_from_the_future_is_doubted_however_old_it_may_be() -> None:
    clock = friday()
    clock.observe("GBPUSD", MONDAY - HOUR // 2 + 3 * HOUR, MONDAY)
    assert not clock.settled
    live(clock, 3 * HOUR, MONDAY + 1000)
    assert (clock.settled, clock.offset_ms) == (True, 3 * HOUR)


def test_among_the_first_looks_a_leftover_settles_nothing() -> None:
    clock = BrokerClock()
    clock.restore([Segment(0, 0, 2 * HOUR)], FRIDAY)
    clock.observe("EURUSD", MONDAY + 3 * HOUR, MONDAY)
    clock.observe("GBPUSD", MONDAY - HOUR + 3 * HOUR, MONDAY)
    clock.observe("USDJPY", MONDAY - HOUR // 2 + 3 * HOUR, MONDAY)
    assert not clock.settled


def test_first_looks_prove_nothing_however_far_apart() -> None:
    clock = friday()
    clock.observe("GBPUSD", MONDAY + 3 * HOUR, MONDAY)
    for number, offset in enumerate((3, 3, 3, 2), 1):
        now = MONDAY + number * 120_000
        clock.observe(f"S{number}", now + offset * HOUR, now)
        assert (clock.settled, clock.offset_ms) == (False, 2 * HOUR)


@pytest.mark.parametrize("offsets", [(1, 1, 1, 1), (3, 2, 2)])
def test_leftovers_that_come_all_at_once_prove_nothing(offsets: tuple[int, ...]) -> None:
    """As when a terminal has its connection again."""
    clock = BrokerClock(offset_ms=2 * HOUR)
    for number in range(len(offsets)):
        live(clock, 2 * HOUR, FRIDAY + 21 * HOUR, symbol=f"S{number}")
    for number, offset in enumerate(offsets):
        clock.observe(f"S{number}", MONDAY + offset * HOUR, MONDAY + number)
    assert (clock.settled, clock.offset_ms) == (False, 2 * HOUR)


def test_a_late_tick_that_fits_is_the_first_one_behind_the_weekend() -> None:
    clock = friday()
    clock.observe("EURUSD", MONDAY + 2 * HOUR, MONDAY)
    clock.observe("GBPUSD", MONDAY + 2 * HOUR, MONDAY + HOUR)
    assert clock.settled


def test_a_tick_in_disorder_clears_no_doubt_up() -> None:
    clock = friday()
    clock.observe("GBPUSD", MONDAY + 3 * HOUR, MONDAY)
    clock.observe("GBPUSD", MONDAY + 3 * HOUR - 7 * 60_000, MONDAY + 100)
    assert not clock.settled


def test_a_tick_looked_at_again_raises_no_doubt() -> None:
    clock = friday()
    for minutes in (20, 60):
        clock.observe("EURUSD", MONDAY + 2 * HOUR, MONDAY + minutes * 60_000)
        assert clock.settled, "somebody asked for a price"


def test_a_step_back_that_nearly_meets_the_last_tick_begins_an_epoch() -> None:
    clock = friday()
    last = FRIDAY + 21 * HOUR
    live(clock, HOUR, last + HOUR + 5 * 60_000)
    assert (clock.offset_ms, clock.epoch) == (HOUR, 1)


@pytest.mark.parametrize("to", [2, 3])
def test_of_a_symbol_that_ticks_every_few_minutes_several_must_agree(to: int) -> None:
    clock = friday()
    clock.observe("GBPUSD", MONDAY + HOUR if to == 2 else MONDAY + 3 * HOUR, MONDAY)
    for number in range(1, 4):
        assert (clock.settled, clock.offset_ms) == (to == 2 and number > 1, 2 * HOUR)
        now = MONDAY + number * 150_000
        clock.observe("GBPUSD", now + to * HOUR, now)
    assert (clock.settled, clock.offset_ms) == (True, to * HOUR)


def test_with_a_time_zone_there_is_nothing_to_doubt() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    live(clock, 2 * HOUR, FRIDAY + 21 * HOUR)
    clock.observe("GBPUSD", MONDAY + HOUR, MONDAY)
    assert clock.settled


@pytest.mark.parametrize("to", [1, 2, 3])
def test_what_came_while_no_bridge_ran_is_converted_when_a_look_has_told_how(to: int) -> None:
    clock = BrokerClock()
    heard = FRIDAY + 12 * HOUR
    clock.restore([Segment(0, 0, 2 * HOUR)], heard + 2 * HOUR)
    assert clock.offset_ms == 2 * HOUR
    assert not clock.settled, "nothing has been looked at yet"
    clock.observe("EURUSD", MONDAY + to * HOUR - 50, MONDAY)
    assert clock.settled is (to == 2)
    live(clock, to * HOUR, MONDAY + 100)
    assert clock.settled
    for at in (FRIDAY + 20 * HOUR, SUNDAY + 22 * HOUR, MONDAY):
        assert clock.to_utc(at + (to if at > SUNDAY else 2) * HOUR) == at
    assert clock.epoch == 0


def test_a_step_back_over_what_an_earlier_run_had_read_begins_an_epoch() -> None:
    clock = BrokerClock()
    clock.restore([Segment(0, 0, 3 * HOUR)], NOW + 3 * HOUR)
    live(clock, 2 * HOUR, NOW + HOUR // 2)
    assert (clock.offset_ms, clock.epoch) == (2 * HOUR, 1)


def test_times_that_a_step_back_shows_again() -> None:
    back = 1_700_000_000_000
    clock = BrokerClock(timeline=[Segment(0, 0, HOUR), Segment(1, back, 0), Segment(1, back + 9 * HOUR, HOUR)])
    assert (clock.epoch_begins(0), clock.epoch_begins(1), clock.epoch_begins(7)) == (0, back, 0)
    assert clock.shown_twice(back + HOUR - 1, 1)
    assert not clock.shown_twice(back + 2 * HOUR, 1), "beyond what had been shown when it stepped back"
    assert not clock.shown_twice(back + 1, 0), "the first time"


def test_an_earlier_run_is_remembered_and_corrected() -> None:
    timeline = [Segment(0, 0, 3 * HOUR)]
    clock = BrokerClock(timeline=timeline)
    assert clock.offset_ms == 3 * HOUR
    live(clock, 2 * HOUR, NOW)
    assert clock.offset_ms == 2 * HOUR
    assert clock.epoch == 1


def test_restore_yields_to_what_ticks_have_shown() -> None:
    seen: list[object] = []
    clock = BrokerClock()
    clock.on_change(seen.append)
    clock.restore([Segment(0, 0, HOUR)])
    assert clock.offset_ms == HOUR
    live(clock, 2 * HOUR, NOW)
    clock.restore([Segment(0, 0, HOUR)])
    assert clock.offset_ms == 2 * HOUR
    assert seen


def test_never_stays_never() -> None:
    assert BrokerClock(offset_ms=HOUR).to_utc(0) == 0
    assert BrokerClock().to_utc(5) == 5


def utc(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type,misc]


def test_a_time_zone_knows_the_offset_at_once_and_the_past_too() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    winter, summer = utc(2024, 1, 15, 12), utc(2024, 7, 15, 12)
    assert clock.observe("EURUSD", winter + 2 * HOUR, winter)
    assert clock.offset_ms == 2 * HOUR
    assert clock.to_utc(winter + 2 * HOUR) == winter
    assert clock.offset_at(summer + 3 * HOUR - 365 * 24 * HOUR) == 3 * HOUR


def test_a_time_zone_leaves_summer_time_in_a_new_epoch() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    step = utc(2024, 10, 27, 1)
    for now in range(step - HOUR // 2, step + HOUR, 60_000):
        offset = 3 * HOUR if now < step else 2 * HOUR
        clock.observe("EURUSD", now + offset, now)
        assert clock.to_utc(now + offset) == now
    assert clock.epoch == 1
    assert clock.skew_ms == 0


def test_a_time_zone_enters_summer_time_in_the_same_epoch() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    step = utc(2024, 3, 31, 1)
    for now in range(step - HOUR // 2, step + HOUR, 60_000):
        offset = 2 * HOUR if now < step else 3 * HOUR
        clock.observe("EURUSD", now + offset, now)
        assert clock.to_utc(now + offset) == now
    assert clock.epoch == 0


def quiet(clock: BrokerClock, offset: int, now: int, seconds: int = 6) -> int:
    """An advancing tick a second. Returns the time after them."""
    for i in range(seconds):
        clock.observe("EURUSD", now + offset + i * 1000, now + i * 1000)
    return now + seconds * 1000


WINTER = int(datetime(2024, 1, 15, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize("offset", [3 * HOUR, 5 * HOUR, 0])
def test_a_time_zone_that_ticks_contradict_from_the_start_was_never_right(offset: int) -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    clock.observe("EURUSD", WINTER + offset, WINTER)
    assert clock.settled, "as far as anybody knows"
    clock.observe("EURUSD", WINTER + offset + 100, WINTER + 100)
    assert not clock.settled, "nothing leaves with an offset in doubt"
    assert abs(clock.skew_ms or 0) == abs(offset - 2 * HOUR)
    now = quiet(clock, offset, WINTER + 1000)
    assert (clock.offset_ms, clock.timezone, clock.epoch, clock.settled) == (offset, None, 0, True)
    assert clock.skew_ms == 0
    assert clock.to_utc(WINTER + offset - 40 * HOUR) == WINTER - 40 * HOUR
    live(clock, offset + HOUR, now)
    assert clock.offset_ms == offset + HOUR, "from then on it is inferred"


def test_a_broker_that_steps_on_other_days_than_its_zone_is_followed() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    now = quiet(clock, 2 * HOUR, WINTER)
    quiet(clock, 3 * HOUR, now)
    assert (clock.offset_ms, clock.epoch) == (3 * HOUR, 0)
    assert clock.to_utc(now + 2 * HOUR - 60_001) == now - 60_001, "before it stepped the zone was right"


def test_last_ticks_from_before_a_zones_step_do_not_prove_it_wrong() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    step = utc(2024, 10, 27, 1)
    for i in range(50):
        clock.observe(f"S{i}", step - 1000 + 3 * HOUR, step - 1000)
    for i in range(50):
        clock.observe(f"S{i}", step - 20 + 3 * HOUR, step + 30)
    live(clock, 2 * HOUR, step + 100)
    assert (clock.offset_ms, clock.timezone) == (2 * HOUR, "Europe/Athens")


def test_a_strange_tick_does_not_hold_up_the_others() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    now = live(clock, 2 * HOUR, WINTER)
    clock.observe("EURUSD", now + 3 * HOUR, now)
    assert not clock.settled
    clock.observe("EURUSD", now + 2 * HOUR + 7 * 60_000, now + 100)
    assert clock.settled


@pytest.mark.parametrize("real", [2 * HOUR, 3 * HOUR])
def test_between_a_zone_and_an_earlier_run_ticks_decide(real: int) -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    clock.restore([Segment(4, 0, 3 * HOUR)])
    clock.observe("EURUSD", WINTER + real, WINTER)
    assert (clock.offset_ms, clock.settled) == (3 * HOUR, False)
    live(clock, real, WINTER + 100)
    assert (clock.offset_ms, clock.settled) == (real, True)
    assert clock.epoch == (5 if real == 2 * HOUR else 4), "nothing is read again when nothing changed"
    assert clock.timezone == ("Europe/Athens" if real == 2 * HOUR else None)


def test_where_ticks_cannot_decide_the_zone_does() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    clock.restore([Segment(0, 0, 3 * HOUR)])
    live(clock, 2 * HOUR + 7 * 60_000, WINTER)
    assert (clock.offset_ms, clock.settled) == (2 * HOUR, True)
    assert clock.skew_ms == pytest.approx(7 * 60_000, abs=50)


def test_an_earlier_run_that_agrees_with_the_zone_leaves_nothing_to_decide() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    clock.restore([Segment(0, 0, 2 * HOUR)])
    clock.observe("EURUSD", WINTER + 2 * HOUR, WINTER)
    assert clock.settled


def test_the_cache_of_the_zone_is_bounded() -> None:
    clock = BrokerClock(timezone="Europe/Athens")
    for i in range(10_000):
        clock.offset_at(NOW + i * GRAIN_MS)
    assert clock.offset_at(utc(2024, 7, 1)) == 3 * HOUR


@given(st.integers(-48, 56), st.lists(st.integers(1, 5000), min_size=8, max_size=40), st.integers(0, 2000))
def test_inference_never_lies_about_a_steady_broker(quarters: int, gaps: list[int], latency: int) -> None:
    clock = BrokerClock()
    now, offset = NOW, quarters * GRAIN_MS
    for gap in gaps:
        now += gap
        clock.observe("EURUSD", now + offset, now + latency)
    assert clock.offset_ms == offset
    assert clock.epoch == 0

"""The halt machine: it tightens by itself and loosens only by a person."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.halt import Halt, HaltState, Origin, ResumeRefusal, new_day, reduce, resume, stop, stricter

ACTIVE = Halt()
RANK = [HaltState.ACTIVE, HaltState.REDUCING, HaltState.HALTED]


def stopped(origin: Origin = Origin.REMOTE) -> Halt:
    return stop(ACTIVE, reason="news", by="ann", at_msc=5, origin=origin)


def reduced(until: str | None = None, now: Halt = ACTIVE) -> Halt:
    return reduce(now, reason="loss", by="daily_loss", at_msc=7, origin=Origin.RULE, until_day=until)


def resumed(
    now: Halt,
    *,
    origin: Origin = Origin.REMOTE,
    survivors: bool = False,
    unknown: bool = False,
    force: bool = False,
    remote: bool = False,
) -> Halt | ResumeRefusal:
    return resume(
        now,
        reason="calm",
        by="bob",
        at_msc=9,
        origin=origin,
        survivors=survivors,
        unknown_intents=unknown,
        force=force,
        remote_allowed=remote,
    )


def test_a_stop_halts_in_one_step_from_everywhere() -> None:
    for state in (ACTIVE, reduced(), reduced("2024-05-01")):
        halted = stop(state, reason="news", by="ann", at_msc=5, origin=Origin.REMOTE)
        assert halted == Halt(state=HaltState.HALTED, reason="news", by="ann", at_msc=5, origin=Origin.REMOTE)


def test_a_second_stop_changes_nothing() -> None:
    first = stopped()
    assert stop(first, reason="again", by="bob", at_msc=6, origin=Origin.REMOTE) is first
    local = stopped(Origin.LOCAL)
    assert stop(local, reason="again", by="bob", at_msc=6, origin=Origin.LOCAL) is local


@pytest.mark.parametrize("origin", [Origin.REMOTE, Origin.RULE])
def test_a_stop_repeated_on_the_spot_is_resumed_only_there(origin: Origin) -> None:
    halted = stop(stopped(origin), reason="again", by="bob", at_msc=6, origin=Origin.LOCAL)
    assert (halted.reason, halted.by, halted.at_msc, halted.origin) == ("news", "ann", 5, Origin.LOCAL)
    assert resumed(halted) is ResumeRefusal.LOCAL_ONLY


def test_reducing_never_loosens_a_halt() -> None:
    halted = stopped()
    assert reduced(now=halted) is halted


@pytest.mark.parametrize(
    ("first", "second", "lasting"),
    [
        (None, None, None),
        (None, "2024-05-01", None),
        ("2024-05-01", None, None),
        ("2024-05-01", "2024-05-01", "2024-05-01"),
        ("2024-05-01", "2024-05-02", "2024-05-02"),
        ("2024-05-02", "2024-05-01", "2024-05-02"),
    ],
)
def test_the_longer_latch_holds(first: str | None, second: str | None, lasting: str | None) -> None:
    assert reduced(second, reduced(first)).until_day == lasting


def test_a_person_resumes() -> None:
    expected = Halt(state=HaltState.ACTIVE, reason="calm", by="bob", at_msc=9, origin=Origin.REMOTE)
    for state in (stopped(), stopped(Origin.RULE), reduced(), ACTIVE):
        assert resumed(state) == expected


@pytest.mark.parametrize(
    ("survivors", "unknown", "refusal"),
    [
        (True, False, ResumeRefusal.SURVIVORS),
        (True, True, ResumeRefusal.SURVIVORS),
        (False, True, ResumeRefusal.UNKNOWN_INTENTS),
    ],
)
def test_what_is_left_over_keeps_the_halt_unless_forced(survivors: bool, unknown: bool, refusal: ResumeRefusal) -> None:
    assert resumed(stopped(), survivors=survivors, unknown=unknown) is refusal
    assert isinstance(resumed(stopped(), survivors=survivors, unknown=unknown, force=True), Halt)


def test_a_local_stop_is_resumed_locally() -> None:
    assert resumed(stopped(Origin.LOCAL)) is ResumeRefusal.LOCAL_ONLY
    assert resumed(stopped(Origin.LOCAL), force=True) is ResumeRefusal.LOCAL_ONLY
    assert isinstance(resumed(stopped(Origin.LOCAL), origin=Origin.LOCAL), Halt)
    assert isinstance(resumed(stopped(Origin.LOCAL), remote=True), Halt)


@pytest.mark.parametrize(
    ("until", "day", "ends"),
    [
        ("2024-05-01", "2024-05-02", True),
        ("2024-05-01", "2024-05-01", False),
        ("2024-05-01", "2024-04-30", False),
        (None, "2099-01-01", False),
    ],
)
def test_only_a_daily_latch_ends_with_its_day(until: str | None, day: str, ends: bool) -> None:
    state = reduced(until)
    after = new_day(state, day=day, at_msc=11)
    assert (after.state is HaltState.ACTIVE) is ends
    assert ends or after is state


def test_no_new_day_ends_a_halt() -> None:
    halted = stopped()
    assert new_day(halted, day="2099-01-01", at_msc=1) is halted
    assert new_day(ACTIVE, day="2099-01-01", at_msc=1) is ACTIVE


def test_the_stricter_of_two_records_holds() -> None:
    for one, other in itertools.product((ACTIVE, reduced(), stopped()), repeat=2):
        held = stricter(one, other)
        assert RANK.index(held.state) == max(RANK.index(one.state), RANK.index(other.state))
        assert one.state is not other.state or held is one


origins = st.sampled_from(Origin)
days = st.sampled_from([None, "2024-05-01", "2024-05-02"])
steps = st.one_of(st.tuples(st.just("stop"), origins, st.none()), st.tuples(st.just("reduce"), origins, days))


@given(st.lists(steps, max_size=12), st.lists(st.sampled_from(["2024-05-01", "2024-05-02", "2024-05-03"]), max_size=3))
def test_without_a_person_a_halt_stays_and_nothing_loosens(
    changes: list[tuple[str, Origin, str | None]], dates: list[str]
) -> None:
    state = ACTIVE
    for kind, origin, until in changes:
        before = RANK.index(state.state)
        if kind == "stop":
            state = stop(state, reason="", by="", at_msc=0, origin=origin)
        else:
            state = reduce(state, reason="", by="", at_msc=0, origin=origin, until_day=until)
        assert RANK.index(state.state) >= before
    for day in dates:
        state = new_day(state, day=day, at_msc=0)
    if any(kind == "stop" for kind, _, _ in changes):
        assert state.state is HaltState.HALTED
    elif any(until is None for _, _, until in changes):
        assert state.state is HaltState.REDUCING

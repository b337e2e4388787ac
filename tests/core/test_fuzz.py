"""Generated signals through the wire and the guards: a small share; `.ci/run` takes more, `.ci/deep` a million."""

import re

import pytest
from support import fuzz, fuzz_cases

from mt5_bridge.core.guards import chain

SEED = 2026
CASES = 3000


def test_whatever_comes_is_decided_and_breaks_no_rule() -> None:
    seen = fuzz.run(SEED, range(CASES))
    assert seen.total() == CASES
    # They get past the wire, deep into the chain and through it: what never passes tests nothing.
    assert sum(times for what, times in seen.items() if what.startswith("approved")) > CASES / 10
    assert len([what for what in seen if what.startswith("denied")]) > 20
    assert len([what for what in seen if what.startswith("approved")]) > 8


def test_a_case_is_the_same_each_time() -> None:
    assert fuzz_cases.case(SEED, 5)[0] == fuzz_cases.case(SEED, 5)[0] != fuzz_cases.case(SEED, 6)[0]
    assert fuzz.check(SEED, 5) == fuzz.check(SEED, 5)


def test_what_fails_is_told_with_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "evaluate", lambda context: 1 // 0)
    with pytest.raises(fuzz.CaseError) as told:
        fuzz.run(SEED, range(CASES))
    found = re.search(r"fuzz\.py --seed (\d+) --number (\d+)", str(told.value))
    assert found is not None
    with pytest.raises(fuzz.CaseError):
        fuzz.check(int(found[1]), int(found[2]))


def test_a_guard_that_lets_too_much_pass_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    guards = tuple(guard for guard in chain.OPENING_GUARDS if guard.__name__ != "staleness")
    monkeypatch.setattr(chain, "OPENING_GUARDS", guards)
    with pytest.raises(fuzz.CaseError):
        fuzz.run(SEED, range(CASES))

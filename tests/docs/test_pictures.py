"""The pictures in docs/safety.md show every step that the code allows, and none else."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mt5_bridge.core import halt as machine
from mt5_bridge.core.halt import Halt, HaltState, Origin, ResumeRefusal
from mt5_bridge.core.intent import DONE, IntentState, may_move

PAGE = (Path(__file__).resolve().parents[2] / "docs/safety.md").read_text(encoding="utf-8")
ARROW = re.compile(r"^ +(\S+) --> (\S+)(?: : (.*))?$", re.MULTILINE)
GROUP = re.compile(r"state (\w+) \{(.*?)\}", re.DOTALL)
START = "[*]"


def picture(title: str) -> str:
    """The state diagram under a heading."""
    found = re.search(rf"^## {title}$.*?^```mermaid\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def arrows(title: str) -> list[tuple[str, str, str]]:
    """(from, to, label) of each arrow, groups of states spelt out."""
    text = picture(title)
    groups = {name: inside.split() for name, inside in GROUP.findall(text)}
    return [
        (one, other, label)
        for source, target, label in ARROW.findall(text)
        for one in groups.get(source, [source])
        for other in groups.get(target, [target])
    ]


def test_the_life_of_an_intent_is_that_of_the_code() -> None:
    drawn = [(one, other) for one, other, _ in arrows("The life of an intent") if one != START]
    assert len(drawn) == len(set(drawn))
    allowed = {(str(a), str(b)) for a, b in itertools.product(IntentState, IntentState) if may_move(a, b)}
    assert set(drawn) == allowed
    assert {name for arrow in drawn for name in arrow} == set(IntentState)


def test_an_intents_life_begins_with_sending_and_the_group_holds_what_is_done() -> None:
    text = picture("The life of an intent")
    assert [other for one, other, _ in arrows("The life of an intent") if one == START] == [IntentState.SENDING]
    assert {name: set(inside.split()) for name, inside in GROUP.findall(text)} == {"done": set(DONE)}


def latched() -> Iterator[Halt]:
    """Every kind of latch."""
    for state, origin, until in itertools.product(HaltState, Origin, (None, "2026-01-01", "2026-01-03")):
        if until is None or state is HaltState.REDUCING:
            yield Halt(state=state, origin=origin, until_day=until, reason="r", by="b", at_msc=1)


def steps(now: Halt) -> Iterator[tuple[str, Halt | ResumeRefusal]]:
    """Everything that can be done to a latch, and what comes of it."""
    for origin in Origin:
        who = {"reason": "why", "by": "who", "at_msc": 2, "origin": origin}
        yield "stop", machine.stop(now, **who)  # type: ignore[arg-type]  # named fields, as all four functions take them
        for until in (None, "2026-01-02"):
            yield "reduce", machine.reduce(now, until_day=until, **who)  # type: ignore[arg-type]
        for survivors, unknown, force, allowed in itertools.product((False, True), repeat=4):
            yield (
                "resume",
                machine.resume(
                    now,
                    survivors=survivors,
                    unknown_intents=unknown,
                    force=force,
                    remote_allowed=allowed,
                    **who,  # type: ignore[arg-type]
                ),
            )
    for day in ("2026-01-01", "2026-01-02", "2026-01-09"):
        yield "new_day", machine.new_day(now, day=day, at_msc=2)


def test_the_halt_machine_is_that_of_the_code() -> None:
    drawn = [arrow for arrow in arrows("The halt machine") if arrow[0] != START]
    assert len(drawn) == len(set(drawn))
    possible = {
        (str(now.state), str(new.state), step)
        for now in latched()
        for step, new in steps(now)
        if isinstance(new, Halt) and new.state is not now.state
    }
    assert set(drawn) == possible


def test_the_halt_machine_begins_as_a_new_bridge_does() -> None:
    assert [other for one, other, _ in arrows("The halt machine") if one == START] == [Halt().state]


@pytest.mark.parametrize("step", ["reduce", "stop", "resume", "new_day"])
def test_each_step_is_explained(step: str) -> None:
    assert f"| `{step}` |" in PAGE

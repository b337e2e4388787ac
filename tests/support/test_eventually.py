"""The waiting helpers themselves."""

import pytest
from support.eventually import eventually, poll_until, wait_for


async def test_returns_what_the_condition_gave_once_it_is_true() -> None:
    answers = iter([None, 0, "here"])
    assert await eventually(lambda: next(answers)) == "here"


async def test_awaits_an_asynchronous_condition() -> None:
    async def ready() -> bool:
        return True

    assert await eventually(ready)


async def test_an_assert_in_the_condition_counts_as_not_yet() -> None:
    seen: list[int] = []

    def enough() -> bool:
        seen.append(1)
        assert len(seen) > 2
        return True

    assert await eventually(enough)


async def test_says_what_was_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"a tick: not within 0.01 s; last seen \[\]"):
        await eventually(list, 0.01, why="a tick")


def test_without_a_loop() -> None:
    answers = iter([False, True])
    assert poll_until(lambda: next(answers))
    assert not poll_until(lambda: False, 0.01)
    with pytest.raises(AssertionError, match="condition"):
        wait_for(lambda: False, 0.01)

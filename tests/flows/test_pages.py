import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.flows import pages
from mt5_bridge.flows.pages import Mark

marks = st.builds(Mark, st.integers(0, 10**15), st.integers(-1, 10**18))


@given(marks)
def test_a_mark_comes_back_as_it_went(mark: Mark) -> None:
    assert pages.read_mark(pages.write_mark(mark)) == mark


@given(st.lists(st.text(max_size=50), max_size=60), st.integers(1, 500))
def test_as_much_as_fits_and_one_at_least(rows: list[str], most: int) -> None:
    told = asyncio.run(pages.fitting(rows, lambda row: row, most))
    count = len(told)
    assert told == rows[:count]
    assert count == len(rows) or count >= 1
    if count > 1:
        assert len(json.dumps(rows[:count], ensure_ascii=False, separators=(",", ":")).encode()) <= most + 2
    if 0 < count < len(rows):
        assert sum(len(json.dumps(row, ensure_ascii=False).encode()) + 1 for row in rows[: count + 1]) > most


@given(st.sets(st.integers(0, 10**6), max_size=80), st.integers(1, 20), st.sets(st.integers(0, 10**6), max_size=10))
def test_page_by_page_nothing_is_left_out_and_nothing_comes_twice(
    numbers: set[int], room: int, later: set[int]
) -> None:
    """Also while new things come in between: what was there from the first page on is told once."""
    things, told, after, rounds = sorted(numbers, reverse=True), [], None, 0
    while True:
        page = pages.page_of(
            things,
            None if after is None else int(after),
            key=lambda n: n,
            shape=lambda n: ["x" * (900_000 // room), n],
            write=str,
        )
        rows, cursor = asyncio.run(page)
        told += [row[1] for row in rows]
        rounds += 1
        if cursor is None:
            break
        assert rows
        after, things = cursor, [*things, *(later - set(things))]
    assert len(told) == len(set(told))
    assert set(numbers) <= set(told)
    assert rounds <= (len(numbers) + len(later)) // max(1, room - 1) + 2 if room > 1 else True


async def test_an_empty_list_is_one_page() -> None:
    nothing: list[Any] = []
    assert await pages.page_of(nothing, None, key=lambda n: n, shape=lambda n: n, write=str) == ([], None)


async def test_a_long_page_lets_others_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    assert len(await pages.fitting(range(10_000), lambda n: n)) == 10_000
    beside.cancel()
    assert turns >= 10_000 // pages.AT_ONCE

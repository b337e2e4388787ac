"""Libraries' own logging, led into ours."""

import logging
from collections.abc import Iterator

import pytest
from support.logged import logged, with_level

from mt5_bridge.log import stdlib
from mt5_bridge.log.stdlib import BURST, WINDOW_S, LibraryHandler


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with logged(with_level) as found:
        yield found


def record(text: str, *args: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("lib", level, __file__, 1, text, args, None)


def test_after_a_burst_the_rest_is_a_number(lines: list[str]) -> None:
    now = [0.0]
    handler = LibraryHandler(lambda: now[0])
    for number in range(BURST + 3):
        handler.emit(record("try %s", number))
    handler.emit(record("another"))
    assert handler.suppressed == 3
    now[0] = WINDOW_S
    handler.emit(record("try %s", 99))
    now[0] = 3 * WINDOW_S
    handler.emit(record("try %s", 100))
    tries = [f"ERROR lib: try {number}" for number in range(BURST)]
    assert lines == [*tries, "ERROR lib: another", "ERROR lib: try 99 (and 3 alike before it)", "ERROR lib: try 100"]


def test_a_record_that_does_not_fit_its_template_is_passed_on_as_it_is(lines: list[str]) -> None:
    LibraryHandler().emit(record("%d of %d", "x"))
    assert lines == ["ERROR lib: %d of %d ('x',)"]


def test_levels_of_libraries_own_making_and_braces(lines: list[str]) -> None:
    LibraryHandler().emit(record("{odd} {0}", level=25))
    assert lines == ["Level 25 lib: {odd} {0}"]


def test_an_exception_comes_along(lines: list[str]) -> None:
    made = record("failed")
    made.exc_info = (ValueError, ValueError("x"), None)
    LibraryHandler().emit(made)
    assert lines == ["ERROR lib: failed"]


def test_kinds_do_not_pile_up(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdlib, "_MAX_KEYS", 3)
    handler = LibraryHandler()
    for number in range(10):
        handler.emit(record(f"kind {number}"))
    assert len(handler._windows) <= 3
    assert len(lines) == 10

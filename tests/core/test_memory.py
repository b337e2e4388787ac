import gc
import weakref
from collections.abc import Iterator

import pytest

from mt5_bridge.core.memory import YOUNG, keep_what_is_there, let_go


class Knot:
    """Holds itself: only the collector can end it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def tied() -> "weakref.ref[Knot]":
    return weakref.ref(Knot())


@pytest.mark.usefixtures("collector")
def test_what_is_there_is_passed_over_and_what_comes_is_not() -> None:
    knot = Knot()
    kept = weakref.ref(knot)
    keep_what_is_there()
    assert gc.get_threshold()[0] == YOUNG
    del knot
    new = tied()
    gc.collect()
    assert new() is None
    assert kept() is not None, "the collector looks at what was kept"
    let_go()
    keep_what_is_there()
    assert kept() is None

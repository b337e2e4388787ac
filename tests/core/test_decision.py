"""The types of a decision."""

import pytest
from support.facts import READY

from mt5_bridge.core.decision import Limits, Readiness


def test_nothing_trades_by_default() -> None:
    assert not Limits().trading_enabled
    assert Limits().require_stop_loss
    assert Readiness().why_not == "no connection to the terminal or its trade server"


@pytest.mark.parametrize("field", Readiness.__struct_fields__)
def test_each_missing_thing_has_words_of_its_own(field: str) -> None:
    def without(missing: str) -> str | None:
        return Readiness(**{name: name != missing for name in Readiness.__struct_fields__}).why_not

    assert without(field)
    assert [name for name in Readiness.__struct_fields__ if without(name) == without(field)] == [field]


def test_ready_has_no_why_not() -> None:
    assert READY.why_not is None

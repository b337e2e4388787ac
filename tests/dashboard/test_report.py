"""The report of a stop."""

from typing import Any

import pytest

from mt5_bridge.dashboard.report import StopReport

POSITION = {"ticket": 1, "symbol": "X", "side": "BUY", "volume": 0.1}
ORDER = {"ticket": 2, "symbol": "Y", "order_type": "SELL_STOP", "volume": 0.2}
YES = {"success": True, "data": {"state": "halted", "at": "t-1", "durable": True}}


def halt(phase: str, **more: Any) -> dict[str, Any]:
    return {"state": "halted", "phase": phase, "at": "t-1", "by": "ann", **more}


def states(report: StopReport) -> dict[int, str]:
    told = report.told()
    assert told is not None
    return {row["ticket"]: row["state"] for row in told["rows"]}


def test_there_is_none_before_a_stop() -> None:
    report = StopReport()
    assert report.told() is None
    assert not report.changed({"state": "active", "phase": "latched"}, [], [], 1)
    assert not report.changed({"state": "halted", "phase": None}, [], [], 1)


def test_ticket_by_ticket() -> None:
    report = StopReport.asked("ann", [POSITION], [ORDER], 100)
    assert states(report) == {1: "waiting", 2: "waiting"}
    report.answered(YES, 112)
    assert report.phase == "latched"
    assert report.changed(halt("progress", cancelled=[2]), [], [], 120)
    assert states(report) == {1: "waiting", 2: "cancelled"}
    assert report.changed(halt("done", cancelled=[2], closed=[1], survivors=[9], detail="market closed"), [], [], 150)
    assert states(report) == {1: "closed", 2: "cancelled", 9: "survivor"}
    told = report.told()
    assert told is not None
    assert (told["answer_ms"], told["done_ms"], told["durable"], told["detail"]) == (12, 50, True, "market closed")
    assert told["rows"][1]["what"] == "sell stop"


def test_the_answer_may_come_last() -> None:
    report = StopReport.asked("ann", [], [], 100)
    report.changed(halt("done"), [], [], 110)
    report.answered({**YES, "data": {**YES["data"], "faults": ["odd"]}}, 111)  # type: ignore[dict-item]  # a dict
    told = report.told()
    assert told is not None
    assert (told["phase"], told["detail"]) == ("done", "odd")


def test_one_pressed_elsewhere_is_shown_too_and_a_second_begins_anew() -> None:
    report = StopReport()
    assert report.changed(halt("latched"), [POSITION], [], 100)
    assert states(report) == {1: "waiting"}
    assert report.changed(halt("latched", at="t-2"), [], [ORDER], 500)
    assert states(report) == {2: "waiting"}


@pytest.mark.parametrize(("error", "words"), [({"message": "m"}, "m"), ({"code": "c"}, "c"), (None, "no answer")])
def test_one_that_was_not_answered_says_why(error: Any, words: str) -> None:
    report = StopReport.asked("ann", [], [], 100)
    report.answered({"success": False, "error": error}, 101)
    told = report.told()
    assert told is not None
    assert (told["phase"], told["detail"]) == ("failed", words)

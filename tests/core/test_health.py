"""The heartbeat's one word."""

import msgspec
import pytest
from support.facts import READY

from mt5_bridge.core.health import Health, Verdict, judge

UP = {"terminal": True, "redpanda": True, "backend": True}


def test_all_is_well() -> None:
    assert judge(READY, UP, loop_stall_ms=499.9) == Verdict(Health.OK)


def test_a_channel_that_is_down_degrades() -> None:
    assert judge(READY, {**UP, "redpanda": False}) == Verdict(Health.DEGRADED, ("redpanda is down",))


def test_a_stalled_loop_degrades() -> None:
    assert judge(READY, UP, loop_stall_ms=700) == Verdict(Health.DEGRADED, ("the event loop stood still for 700 ms",))


def test_so_does_what_does_not_work_though_its_channel_is_up() -> None:
    assert judge(READY, UP, troubles=["topic t takes nothing"]) == Verdict(Health.DEGRADED, ("topic t takes nothing",))


@pytest.mark.parametrize(
    ("skew", "status"), [(None, "ok"), (60_000, "ok"), (61_000, "degraded"), (-90_000, "degraded")]
)
def test_ticks_far_from_the_clock_degrade(skew: int | None, status: str) -> None:
    assert judge(READY, UP, clock_skew_ms=skew).status == status


def test_what_keeps_orders_from_being_sent_comes_first() -> None:
    unready = msgspec.structs.replace(READY, reconciled=False)
    verdict = judge(unready, {**UP, "backend": False}, loop_stall_ms=700)
    assert verdict.status is Health.NOT_READY
    assert verdict.why[0] == "journal and terminal are not reconciled yet"
    assert len(verdict.why) == 3

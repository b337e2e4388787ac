import pytest

from mt5_bridge.core.intent import IntentState as S
from mt5_bridge.core.messages import OrderResult, Status
from mt5_bridge.flows.results import OrderStats, count, log, statuses


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([S.CLOSED, S.CLOSED], Status.CLOSED),
        ([S.CLOSED, S.REJECTED], Status.PARTIAL),
        ([S.PARTIAL], Status.PARTIAL),
        ([S.CLOSED, S.UNKNOWN], Status.UNKNOWN),
        ([S.SENDING], Status.UNKNOWN),
        ([S.ABANDONED, S.REJECTED], Status.ABANDONED),
        ([S.REJECTED], Status.REJECTED),
        ([S.SIMULATED, S.SIMULATED], Status.SIMULATED),
    ],
)
def test_the_status_of_several_legs(states: list[S], expected: Status) -> None:
    assert statuses(states) is expected


def test_every_status_is_counted_and_told() -> None:
    stats = OrderStats()
    for status in Status:
        told = OrderResult(signal_id="s1", status=status)
        count(stats, told)
        log(told)
    assert (stats.filled, stats.placed, stats.rejected, stats.denied, stats.simulated) == (3, 1, 2, 1, 1)
    assert stats.results == dict.fromkeys(map(str, Status), 1)
    assert stats.denials == {"": 1}

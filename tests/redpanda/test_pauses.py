"""How often a broker that refuses is tried again."""

from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.redpanda.pauses import Pauses


def test_what_waits_for_a_person_is_tried_ever_more_rarely() -> None:
    pauses = Pauses(RedpandaConfig(), lambda: 1.0)
    assert [pauses.after(0.0, lasting=True) for _ in range(5)] == [2.0, 4.0, 8.0, 15.0, 15.0]
    assert Pauses(RedpandaConfig(), lambda: 0.0).after(0.0, lasting=True) == 1.0


def test_what_passes_by_itself_is_tried_soon_and_ends_the_long_pauses() -> None:
    pauses = Pauses(RedpandaConfig(), lambda: 1.0)
    for _ in range(5):
        pauses.after(0.0, lasting=True)
    assert [pauses.after(0.0, lasting=False) for _ in range(2)] == [1.0, 1.0], "the failures before count"
    assert pauses.after(0.0, lasting=True) == 2.0
    assert pauses.failures == 8
    pauses.after(60.0, lasting=False)
    assert pauses.failures == 1

"""How long a fetch waits at the broker."""

from mt5_bridge.redpanda.patience import Patience


def test_a_fetch_waits_a_twentieth_of_the_silence_within_bounds() -> None:
    patience = Patience()
    assert [patience.wait_ms(idle) for idle in (0, 15, 400, 2000, 1e9)] == [1, 1, 20, 100, 100]


def test_a_broker_that_answers_a_wait_early_is_given_longer_ones() -> None:
    patience = Patience()
    patience.brought_records(100, 30.0)
    assert patience.answers_early
    assert patience.wait_ms(0) == 250


def test_records_that_were_there_already_and_short_waits_tell_nothing() -> None:
    patience = Patience()
    patience.brought_records(100, 2.0)
    patience.brought_records(49, 20.0)
    patience.brought_records(100, 60.0)
    assert not patience.answers_early


def test_a_broker_that_waits_to_the_end_is_polled_again() -> None:
    patience = Patience()
    patience.brought_records(100, 30.0)
    patience.brought_records(250, 251.0)
    assert patience.wait_ms(0) == 1

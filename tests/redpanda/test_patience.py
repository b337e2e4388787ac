"""How long a fetch waits at the broker."""

from mt5_bridge.redpanda.patience import Patience


def impatient() -> Patience:
    patience = Patience()
    patience.brought_records(patience.wait_ms(0), 51.0)
    return patience


def test_until_a_record_has_come_the_wait_is_just_long_enough_to_tell() -> None:
    assert [Patience().wait_ms(idle) for idle in (0, 1e9)] == [50, 50]


def test_where_no_wait_ends_early_it_is_a_twentieth_of_the_silence_within_bounds() -> None:
    assert [impatient().wait_ms(idle) for idle in (0, 15, 400, 2000, 1e9)] == [1, 1, 20, 100, 100]


def test_a_broker_that_answers_a_wait_early_is_given_longer_ones() -> None:
    for patience in (Patience(), impatient()):
        patience.brought_records(100, 30.0)
        assert patience.answers_early
        assert patience.wait_ms(0) == 250


def test_records_that_were_there_already_and_short_waits_tell_nothing() -> None:
    patience = Patience()
    for wait, took in ((100, 2.0), (49, 20.0), (100, 95.0)):
        patience.brought_records(wait, took)
    assert patience.answers_early is None


def test_a_broker_that_waits_to_the_end_is_polled_again() -> None:
    patience = Patience()
    patience.brought_records(100, 30.0)
    patience.brought_records(250, 251.0)
    assert patience.wait_ms(0) == 1

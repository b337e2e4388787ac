"""How long a fetch waits at the broker."""

from mt5_bridge.redpanda.patience import Patience


def impatient() -> Patience:
    """On a broker whose waits end empty, with the record there for the next fetch."""
    patience = Patience()
    patience.fetched(50, 50.4, records=False)
    patience.fetched(50, 0.8, records=True)
    return patience


def test_until_a_record_has_shown_it_the_wait_is_at_least_long_enough_to_tell() -> None:
    assert [Patience().wait_ms(idle) for idle in (0, 1500, 6000, 1e9)] == [50, 75, 300, 1000]


def test_where_no_wait_ends_early_it_is_a_twentieth_of_the_silence_within_bounds() -> None:
    assert [impatient().wait_ms(idle) for idle in (0, 15, 400, 2000, 1e9)] == [1, 1, 20, 100, 250]


def test_a_broker_that_answers_a_wait_early_is_given_longer_ones() -> None:
    for patience in (Patience(), impatient()):
        patience.fetched(100, 30.0, records=True)
        assert patience.answers_early
        assert patience.wait_ms(0) == 1000


def test_records_that_were_there_already_and_short_waits_tell_nothing() -> None:
    patience = Patience()
    for wait, took, records in (
        (50, 1.0, True),
        (49, 20.0, True),
        (20, 20.0, False),
        (20, 1.0, True),
        (50, 48.0, True),
    ):
        patience.fetched(wait, took, records=records)
    assert patience.answers_early is None


def test_a_broker_that_waits_to_the_end_in_vain_is_polled_again() -> None:
    patience = Patience()
    patience.fetched(100, 30.0, records=True)
    patience.fetched(1000, 1000.5, records=False)
    patience.fetched(1000, 0.7, records=True)
    assert patience.wait_ms(0) == 1


def test_a_record_that_arrives_soon_after_a_wait_in_vain_tells_nothing() -> None:
    """A broker that answers early would be asked hundreds of times a second, because of one record in ten."""
    patience = Patience()
    patience.fetched(1000, 1000.5, records=False)
    patience.fetched(1000, 40.0, records=True)
    assert patience.answers_early is None

"""The simulation must notice when the bridge is broken: each fault, put into it by hand, turns it red."""

import pytest
from support.simulation import mutants
from support.simulation.mutants import Mutant, mutated
from support.simulation.plan import Focus
from support.simulation.run import simulate

SEEDS = range(40)
"""Within so many seeds every mutant must be caught; the one that is known to catch it is tried first."""


def caught(mutant: Mutant, focus: Focus, promise: str, known: int) -> bool:
    """Whether there is a seed that shows that the promise is broken."""
    for seed in (known, *SEEDS):
        with mutated(mutant):
            outcome = simulate(seed, focus)
        if outcome.breach is not None and outcome.breach.startswith(f"{promise}:"):
            return True
    return False


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutant", "focus", "known", "promise"),
    [
        (mutants.partial_fill_asked_again, mutants.CROWD, 2, "P1"),
        (mutants.copies_are_signals_of_their_own, mutants.CROWD, 3, "offsets"),
        (mutants.sent_twice_on_unknown, mutants.CROWD, 5, "P2"),
        (mutants.no_halt_check, mutants.STOPS, 1, "P3"),
        (mutants.orders_not_taken_back, mutants.STOPS, 1, "P3"),
        (mutants.latch_in_memory_only, mutants.STOPS, 0, "P3"),
        (mutants.stop_file_not_looked_for, mutants.STOPS, 10, "P3"),
        (mutants.resume_lifts_what_came_after_it, mutants.STOPS, 0, "P3"),
        (mutants.late_fills_not_watched_for, mutants.ONE_STOP, 2, "P4"),
        (mutants.cursor_before_the_acknowledgement, mutants.ANYTHING, 8, "P5"),
        (mutants.latched_after_a_look_at_the_terminal, mutants.STOPS, 0, "P6"),
        (mutants.age_counted_from_receipt, mutants.CROWD, 3, "P7"),
        (mutants.no_age_next_to_the_send, mutants.CROWD, 6, "P7"),
        (mutants.signatures_not_looked_at, mutants.CROWD, 3, "P7"),
        (mutants.poison_thrown_away, mutants.CROWD, 0, "P7"),
        (mutants.offset_committed_early, mutants.CROWD, 0, "offsets"),
        (mutants.parts_of_a_flood_overtake, mutants.CROWD, 10, "offsets"),
        (mutants.none_is_flat, mutants.ANYTHING, 1, "P8"),
        (mutants.a_lost_connection_changes_nothing, mutants.CROWD_BEFORE_DEAF_EARS, 5, "P8"),
        (mutants.limits_counted_after_the_send, mutants.CROWD, 0, "P9"),
        (mutants.throttle_without_latch, mutants.FLOODS, 0, "P10"),
        (mutants.commands_not_remembered, mutants.PEOPLE, 2, "P11"),
        (mutants.connects_without_a_pause, mutants.ANYTHING, 0, "P11"),
        (mutants.managed_stops_go_both_ways, mutants.CROWD, 1, "stops"),
        (mutants.repeated_stop_beats_no_resume, mutants.STOPS, 0, "P3"),
    ],
)
def test_a_broken_bridge_is_noticed(mutant: Mutant, focus: Focus, known: int, promise: str) -> None:
    assert caught(mutant, focus, promise, known), f"{mutant.__doc__} Nothing of it shows in {len(SEEDS)} runs"

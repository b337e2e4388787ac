"""The simulation must notice when the bridge is broken: each fault, put into it by hand, turns it red."""

import pytest
from support.simulation import mutants
from support.simulation.mutants import Mutant, mutated
from support.simulation.run import simulate

SEEDS = range(80)
"""Within so many seeds every mutant must be caught; the one that is known to catch it is tried first."""


def caught(mutant: Mutant, promise: str, known: int) -> bool:
    """Whether there is a seed that shows that the promise is broken."""
    for seed in (known, *SEEDS):
        with mutated(mutant):
            outcome = simulate(seed)
        if outcome.breach is not None and outcome.breach.startswith(f"{promise}:"):
            return True
    return False


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutant", "known", "promise"),
    [
        (mutants.partial_fill_asked_again, 14, "P1"),
        (mutants.copies_are_signals_of_their_own, 13, "P1"),
        (mutants.sent_twice_on_unknown, 5, "P2"),
        (mutants.no_halt_check, 0, "P3"),
        (mutants.latch_in_memory_only, 9, "P3"),
        (mutants.stop_file_not_looked_for, 7, "P3"),
        (mutants.resume_lifts_what_came_after_it, 11, "P3"),
        (mutants.late_fills_not_watched_for, 5, "P4"),
        (mutants.cursor_before_the_acknowledgement, 8, "P5"),
        (mutants.latched_after_a_look_at_the_terminal, 1, "P6"),
        (mutants.age_counted_from_receipt, 2, "P7"),
        (mutants.no_age_next_to_the_send, 6, "P7"),
        (mutants.signatures_not_looked_at, 4, "P7"),
        (mutants.poison_thrown_away, 9, "P7"),
        (mutants.offset_committed_early, 0, "offsets"),
        (mutants.none_is_flat, 0, "P8"),
        (mutants.a_lost_connection_changes_nothing, 5, "P8"),
        (mutants.limits_counted_after_the_send, 5, "P9"),
        (mutants.throttle_without_latch, 13, "P10"),
        (mutants.commands_not_remembered, 10, "P11"),
        (mutants.connects_without_a_pause, 3, "P11"),
        (mutants.managed_stops_go_both_ways, 0, "stops"),
        (mutants.repeated_stop_beats_no_resume, 30, "P3"),
    ],
)
def test_a_broken_bridge_is_noticed(mutant: Mutant, known: int, promise: str) -> None:
    assert caught(mutant, promise, known), f"{mutant.__doc__} Nothing of it shows in {len(SEEDS)} runs"

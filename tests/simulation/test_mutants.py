"""The simulation must notice when the bridge is broken: each fault, put into it by hand, turns it red."""

import pytest
from support.simulation import mutants
from support.simulation.mutants import Mutant, mutated
from support.simulation.run import simulate

SEEDS = range(60)
"""Within so many seeds every mutant must be caught; the one that is known to catch it is tried first."""


def caught(mutant: Mutant, known: int) -> tuple[int, str]:
    """The first seed that breaks a promise, and which."""
    for seed in (known, *SEEDS):
        with mutated(mutant):
            outcome = simulate(seed)
        if outcome.breach is not None:
            return seed, outcome.breach
    raise AssertionError(f"{mutant.__doc__} Nothing of it shows in {len(SEEDS)} runs")

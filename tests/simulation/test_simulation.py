"""The whole bridge in a simulated world, from one number each time: every promise must hold, whatever happens.

python -m pytest tests/simulation                                             # a small share
SIMULATION_SECONDS=1800 python -m pytest tests/simulation -m wide             # as many as the time allows
SIMULATION_SEED=4711 python -m pytest tests/simulation/test_simulation.py -k promise    # one again
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.simulation.run import simulate
from support.simulation.wide import LANES, many

ROOT = Path(__file__).resolve().parents[2]
SHARE = 40
REGRESSIONS = {
    0: "",
}
"""Seeds that once broke a promise, and what they found. They show it as long as the world is simulated as it was then;
what they found has a test of its own beside the code."""


def seeds() -> list[int]:
    """The seed asked for, else the usual share."""
    asked = os.environ.get("SIMULATION_SEED")
    return list(range(SHARE)) if asked is None else [int(asked)]


@pytest.mark.parametrize("seed", seeds())
def test_every_promise_holds(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.breach is None, outcome.report()


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.breach is None, outcome.report()


@pytest.mark.wide
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lane", range(LANES))
def test_every_promise_holds_in_many_more_runs(lane: int) -> None:
    """As many seeds as SIMULATION_SECONDS allow, at least SIMULATION_LEAST, from SIMULATION_FIRST on."""
    outcomes = many(lane)
    print(f"lane {lane}: {outcomes.count} seeds, {outcomes.minutes:.0f} simulated minutes, {outcomes.fills} fills")  # noqa: T201 - how far it came is what the step is for
    assert outcomes.broken is None, outcomes.broken.report()


@pytest.mark.parametrize("seed", [3, 7])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)
    assert first == second
    assert first.trace != simulate(seed + 1).trace


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_seed_gives_the_same_run_in_any_process(hash_seed: str) -> None:
    """Nothing depends on where objects lie in memory, or in which order a set gives its names."""
    program = "from support.simulation.run import simulate; print(simulate(5).trace)"
    env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    ended = subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == simulate(5).trace

"""Many runs: as many as a time allows, shared out to as many lanes as there are cores."""

import os
import time
from dataclasses import dataclass

from support.simulation.run import Outcome, simulate

LANES = os.cpu_count() or 1
_SECONDS, _LEAST, _FIRST = 180.0, 500, 10_000


@dataclass
class Many:
    """What came of a lane's runs; `broken` is the first that broke a promise, and the last that was made."""

    count: int = 0
    minutes: float = 0.0
    fills: int = 0
    broken: Outcome | None = None


def many(lane: int) -> Many:
    """Every LANES-th seed from SIMULATION_FIRST on, until SIMULATION_SECONDS are over and SIMULATION_LEAST are done."""
    seconds = float(os.environ.get("SIMULATION_SECONDS", _SECONDS))
    least = int(os.environ.get("SIMULATION_LEAST", _LEAST))
    seed = int(os.environ.get("SIMULATION_FIRST", _FIRST)) + lane
    done = Many()
    began = time.monotonic()
    while done.count * LANES < least or time.monotonic() - began < seconds:
        outcome = simulate(seed)
        done.count += 1
        done.minutes += outcome.minutes
        done.fills += outcome.fills
        if outcome.breach is not None:
            done.broken = outcome
            break
        seed += LANES
    return done

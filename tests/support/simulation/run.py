"""A whole run from one number: lives of the bridge in a bad world, then calm, then the verdict.

outcome = simulate(seed)
assert outcome.breach is None, outcome.report()
"""

import asyncio
import gc
import traceback
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from loguru import logger
from support.simulation.life import in_world
from support.simulation.loop import WorldLoop
from support.simulation.plan import Focus, Run
from support.simulation.world import World

import mt5_bridge.simulator as paper
from mt5_bridge.simulator.trading.account import Account

_TOLD = 60


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        breach: the promise that was broken and how; None: all held.
        trace: hash of everything that happened.
        recent: the last lines of the protocol.
        minutes: how long it took in the simulated world.
        lives, sends, fills, signals: how much happened.
    """

    seed: int
    breach: str | None
    trace: str
    recent: tuple[str, ...]
    minutes: float
    lives: int
    sends: int
    fills: int
    signals: int
    turns: int

    def report(self) -> str:
        """For a person: what broke, and how to see it again."""
        lines = "\n".join(line[:400] for line in self.recent[-_TOLD:])
        return (
            f"seed {self.seed} breaks {self.breach}\n{lines}\n"
            f"again: SIMULATION_SEED={self.seed} python -m pytest tests/simulation/test_simulation.py -k promise"
        )


class _Tick:
    """The paper terminal's clock: the world's."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> int:
        return self._world.now_ms()


def simulate(seed: int, focus: Focus | None = None) -> Outcome:
    """One run, from the first start to the verdict."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        logger.disable("mt5_bridge")
        collecting = gc.isenabled()
        gc.disable()  # a sixth of a run's time; the garbage of one run is no burden
        try:
            with asyncio.Runner(loop_factory=WorldLoop) as runner:
                return runner.run(_simulate(seed, Path(name), focus))
        finally:
            logger.enable("mt5_bridge")
            if collecting:
                gc.enable()
            paper.configure({})


async def _simulate(seed: int, folder: Path, focus: Focus | None) -> Outcome:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorldLoop)
    world = World(seed, loop)
    run = Run(world, folder, focus)
    real = Account.commit

    def commit(account: Account, msc: int) -> None:
        change = account.ledger.change
        real(account, msc)
        if change:
            run.oracle.books_changed(change)

    paper_settings: dict[str, Any] = {name: value for name, value in run.env.items() if name.startswith("PAPER_")}
    paper.install(clock=_Tick(world), **paper_settings)
    with patch.object(Account, "commit", commit), in_world(world, run.broker, run.backend, lambda: run.life):
        try:
            assert paper.initialize(), paper.last_error()
            await run.whole()
        except Exception:  # noqa: BLE001  a fault of the simulation itself is told with its seed, too
            world.breach("simulation", traceback.format_exc())
        finally:
            if run.lives and run.life.disk.alive:
                await run.life.kill()
            paper.uninstall()
    return Outcome(
        seed=seed,
        breach=world.broken.result() if world.broken.done() else None,
        trace=world.trace,
        recent=tuple(world.recent),
        minutes=(world.monotonic() - world.began) / 60,
        lives=run.lives,
        sends=run.oracle.sends,
        fills=run.oracle.fills,
        signals=len(run.traffic.signals),
        turns=loop.turns,
    )

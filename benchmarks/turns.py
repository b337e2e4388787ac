"""Compare checkouts by turns: on a shared machine the hour makes more of a difference than most changes do.

python -m benchmarks.turns ../before .             # rounds of 150 signals at 100/s, then 300 at once
python -m benchmarks.turns --rounds 40 ../before .

A bridge runs from each checkout at the same time, each on a broker of its own (kfake where there is Go, else the
embedded one). Signals go to one after the other, a second or two at a time, in changing order, so that a slow minute
is slow for all. What is told are medians over the rounds, and the median of each round's ratio to the first checkout.
Of what shows in fewer than 30 rounds, nothing below 5 % is known.
"""

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from aiokafka import AIOKafkaConsumer

from benchmarks import rig, signals
from benchmarks.sender import SignalSender

PACED, AT_ONCE = 150, 300


@dataclass
class Side:
    """A checkout's bridge, and what was measured of it in each round."""

    root: Path
    daemon: rig.Daemon
    sender: SignalSender
    results: AIOKafkaConsumer
    p50_ms: list[float] = field(default_factory=list)
    executed_per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    async def turn(self, number: int) -> None:
        """One round of both."""
        waits = await signals.paced(self.daemon, self.sender, self.results, f"paced-{number}", PACED)
        self.p50_ms.append(median(waits))
        pids = [self.daemon.pid, *self.daemon.hosts()]
        before = rig.cpu_seconds(pids)
        self.executed_per_s.append(await signals.flood(self.sender, self.results, f"flood-{number}", AT_ONCE))
        self.cpu_ms.append((rig.cpu_seconds(pids) - before) / AT_ONCE * 1000)


def main() -> None:
    """Compare the checkouts named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description="Compare checkouts by turns.")
    parser.add_argument("roots", nargs="+", type=Path, metavar="CHECKOUT", help="the first is what others are held to")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    asyncio.run(_compare([root.resolve() for root in options.roots], options.rounds))


async def _compare(roots: Sequence[Path], rounds: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sides = [await _side(stack, root) for root in roots]
        for number in range(rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                await side.turn(number)
        for side in sides:
            print(_told(side, sides[0]))


async def _side(stack: contextlib.AsyncExitStack, root: Path) -> Side:
    fake = stack.enter_context(rig.kfake())
    bootstrap = fake if fake is not None else stack.enter_context(rig.broker())
    daemon = stack.enter_context(rig.daemon(bootstrap, root=root))
    sender = stack.enter_context(rig.signal_sender(bootstrap))
    results = await stack.enter_async_context(rig.consumer(bootstrap, "mt5_events"))
    await signals.ready(sender, results)
    return Side(root, daemon, sender, results)


def _told(side: Side, first: Side) -> str:
    figures = (
        ("p50 {:.2f} ms", side.p50_ms, first.p50_ms),
        ("{:.0f} executed/s", side.executed_per_s, first.executed_per_s),
        ("{:.2f} ms of CPU a signal", side.cpu_ms, first.cpu_ms),
    )
    told = [
        f"{text.format(median(own))} ({median(mine / its for mine, its in zip(own, others, strict=True)):.3f})"
        for text, own, others in figures
    ]
    return f"{side.root}: {', '.join(told)}"


if __name__ == "__main__":
    main()

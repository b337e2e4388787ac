"""Run the benchmarks, side by side in one session, and write `docs/benchmarks.md`.

python -m benchmarks                 # all, about ten minutes
python -m benchmarks --smoke         # all at a twentieth of the size, nothing written
python -m benchmarks --only signals
"""

import argparse
import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable

from loguru import logger

from benchmarks import (
    backlog,
    behind,
    decisions,
    emergency,
    footprint,
    gateway,
    kept,
    many,
    paper,
    rig,
    scale,
    signals,
    stalls,
    ticks,
)
from benchmarks.figures import Section, page

BENCHMARKS: dict[str, Callable[[float], Awaitable[Section]]] = {
    "ticks": ticks.run,
    "footprint": footprint.run,
    "many": many.run,
    "behind": behind.run,
    "signals": signals.run,
    "backlog": backlog.run,
    "decisions": decisions.run,
    "kept": kept.run,
    "scale": scale.run,
    "emergency": emergency.run,
    "stalls": stalls.run,
    "gateway": gateway.run,
    "paper": paper.run,
}
SMOKE = 0.05
LIMIT_S = 600


def main() -> int:
    """Exit code 0 when everything could be measured, whatever the figures; they are no test."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the bridge on real processes.")
    parser.add_argument("--smoke", action="store_true", help="small and quick, writes nothing")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="this one alone; writes nothing")
    options = parser.parse_args()
    logger.remove()
    sections: list[Section] = []
    failed = []
    for name in options.only or BENCHMARKS:
        began = time.perf_counter()
        try:
            section = asyncio.run(_bounded(BENCHMARKS[name](SMOKE if options.smoke else 1.0)))
        except Exception:  # noqa: BLE001 - one that cannot be measured keeps none of the others from it
            traceback.print_exc()
            failed.append(name)
            continue
        print(f"{section.title} ({time.perf_counter() - began:.0f} s)")
        for figure in section.figures:
            print("   ", figure.row(), flush=True)
        sections.append(section)
    if failed:
        print(f"could not be measured: {', '.join(failed)}")
        return 1
    if not options.smoke and not options.only:
        text = page(sections, "python -m benchmarks")
        (rig.ROOT / "docs/benchmarks.md").write_text(text, encoding="utf-8", newline="\n")
    return 0


async def _bounded(measuring: Awaitable[Section]) -> Section:
    async with asyncio.timeout(LIMIT_S):
        return await measuring


if __name__ == "__main__":
    sys.exit(main())

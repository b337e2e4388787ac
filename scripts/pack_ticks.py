"""Packs recorded ticks into the compact form that ships inside the package.

Usage: python scripts/pack_ticks.py FILE.csv ... --out mt5_bridge/simulator/ticks

A file's symbol is its name's first letters. The output repeats byte for byte: gzip carries no time and no name.

A replay begins with the file's first tick, and recordings often begin with minutes of silence. So the packed recording
begins where the market is busiest, and what came before that follows its end, just as in a looped replay.
"""

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mt5_bridge.simulator.market import tickfile
from mt5_bridge.simulator.market.catalogue import catalogue
from mt5_bridge.simulator.market.sources import Ticks

BUSY_MSC = 300_000
"""The recording begins with the busiest stretch of this length."""


def turned(ticks: Ticks) -> Ticks:
    """The ticks from their busiest place on, then those before it, every interval kept."""
    times, bids, asks = ticks
    within = np.searchsorted(times, times + BUSY_MSC) - np.arange(len(times))
    first = int(np.argmax(within))
    # As a loop has it, the pause between the last tick and the first is an ordinary one.
    length = int(times[-1] - times[0])
    period = length + max(1, length // max(1, len(times) - 1))
    later = np.concatenate((times[first:], times[:first] + period))
    return later, np.roll(bids, -first), np.roll(asks, -first)


def pack(path: Path) -> tuple[str, bytes]:
    """Returns the packed file's name and bytes."""
    symbol = path.name.split("-")[0].upper()
    spec = catalogue().get(symbol)
    recording = tickfile.read([path], spec.digits if spec else None)
    times, bids, asks = turned(recording.ticks)
    head = (
        f'{{"format":"ticks/1","symbol":"{symbol}","digits":{recording.digits},'
        f'"start_msc":{times[0]},"bid":{bids[0]},"count":{len(times)}}}\n'
    )
    columns = (np.diff(times, prepend=times[0]), np.diff(bids, prepend=bids[0]), asks - bids)
    body = b"".join(column.astype("<i4").tobytes() for column in columns)
    name = path.name.split(".")[0] + ".ticks.gz"
    return name, gzip.compress(head.encode() + body, compresslevel=9, mtime=0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Packs recorded ticks into the form that ships with the package.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.files:
        name, data = pack(path)
        (options.out / name).write_bytes(data)
        print(f"{options.out / name}: {len(data)} bytes")


if __name__ == "__main__":
    main()

"""Prices on a symbol's steps, where these are longer than the points its ticks are made in."""

import numpy as np

from mt5_bridge.simulator.market.sources import Extra, Source, Ticks


class GridSource:
    """Another source's ticks, with bids rounded down, asks up, and trades to the nearest step.

    Args:
        base: the source.
        step: the symbol's step of prices, in points.
    """

    def __init__(self, base: Source, step: int) -> None:
        self._base = base
        self._step = step
        self.first = base.first
        self.end = base.end

    def index(self, msc: int) -> int:
        return self._base.index(msc)

    def slice(self, lo: int, hi: int) -> Ticks:
        times, bids, asks = self._base.slice(lo, hi)
        step = self._step
        return times, np.maximum(bids // step * step, step), -(-asks // step) * step

    def extras(self, lo: int, hi: int) -> Extra | None:
        extra = self._base.extras(lo, hi)
        if extra is None:
            return None
        return extra._replace(lasts=(extra.lasts + self._step // 2) // self._step * self._step)


def on_grid(source: Source, step: int) -> Source:
    """The source itself where every point is a price."""
    return source if step == 1 else GridSource(source, step)

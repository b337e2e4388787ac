"""The package's functions that copy ticks and bars."""

from typing import Any

import numpy as np

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.functions import arguments as a
from mt5_bridge.simulator.functions.pipe import Pipe
from mt5_bridge.simulator.market import bars
from mt5_bridge.simulator.market.bars import MAX_BARS, Records
from mt5_bridge.simulator.market.serverclock import FOREVER_MSC
from mt5_bridge.simulator.terminal import BAD_PARAMS, TerminalError

_NO_BARS = (c.RES_E_FAIL, "Terminal: Call failed")


class Copies(Pipe):
    """`copy_ticks_*` and `copy_rates_*`."""

    def copy_ticks_from(self, *args: Any) -> Records:
        a.exactly(args, 4)
        count, flags = a.int32(args[2]), a.int32(args[3])
        name, start = a.text(args[0]), a.seconds(args[1])
        self.feed(name)
        if count <= 0:
            raise TerminalError(*BAD_PARAMS)
        return self._ticks(name, start * 1000, FOREVER_MSC, flags, count)

    def copy_ticks_range(self, *args: Any) -> Records:
        a.exactly(args, 4)
        flags = a.int32(args[3])
        name, start, stop = a.text(args[0]), a.seconds(args[1]), a.seconds(args[2])
        self.feed(name)
        return self._ticks(name, start * 1000, stop * 1000, flags)

    def copy_rates_from(self, *args: Any) -> Records:
        a.exactly(args, 4)
        timeframe, count = a.int32(args[1]), a.int32(args[3])
        name, until = a.text(args[0]), a.seconds(args[2])
        history = self._bars(name, timeframe, count)
        return history.last(timeframe, count, self.terminal.clock.now(), until_msc=until * 1000)

    def copy_rates_from_pos(self, *args: Any) -> Records:
        a.exactly(args, 4)
        timeframe, position, count = (a.int32(value) for value in args[1:])
        name = a.text(args[0])
        history = self._bars(name, timeframe, count)
        if position < 0:
            raise TerminalError(*BAD_PARAMS)
        if position < MAX_BARS:
            count = min(count, MAX_BARS - position)
            found = history.last(timeframe, count, self.terminal.clock.now(), skip=position)
            if len(found):
                return found
        raise TerminalError(*_NO_BARS)

    def copy_rates_range(self, *args: Any) -> Records:
        a.exactly(args, 4)
        timeframe = a.int32(args[1])
        name, start, stop = a.text(args[0]), a.seconds(args[2]), a.seconds(args[3])
        history = self._bars(name, timeframe, 1)
        found = history.between(timeframe, start * 1000, stop * 1000, self.terminal.clock.now())
        if len(found) >= MAX_BARS:
            raise TerminalError(*BAD_PARAMS)
        return found

    def _ticks(self, name: str, start: int, stop: int, flags: int, count: int | None = None) -> Records:
        """At most `count` ticks whose time is from `start` to `stop` (server time, ms), in the order they came."""
        if flags not in (c.COPY_TICKS_ALL, c.COPY_TICKS_INFO, c.COPY_TICKS_TRADE, 3):
            raise TerminalError(*BAD_PARAMS)
        market = self.terminal.market
        runs = market.shown(name, start, stop)
        if len(runs) == 1:
            return market.changes(name, *runs[0], flags, count)
        parts = [np.empty(0, bars.TICKS_DTYPE)]
        for lo, hi in runs:
            left = None if count is None else count - sum(map(len, parts))
            parts.append(market.changes(name, lo, hi, flags, left))
        return np.concatenate(parts)

    def _bars(self, name: str, timeframe: int, count: int) -> bars.BarHistory:
        self.terminal.require_session()
        if name not in self.terminal.market.feeds:
            raise TerminalError(*_NO_BARS)
        if timeframe not in bars.TIMEFRAMES or not 0 < count < MAX_BARS:
            raise TerminalError(*BAD_PARAMS)
        return self.terminal.market.bars(name)

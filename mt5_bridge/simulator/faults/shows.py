"""Faults in what is shown: lists that lag, prices that stand still, ticks that a market never made."""

from typing import Any

import numpy as np

from mt5_bridge.simulator.faults.effects import Call, FrozenQuotes, StaleHistory, StaleList
from mt5_bridge.simulator.faults.injector import Fault
from mt5_bridge.simulator.faults.struck import Struck, until
from mt5_bridge.simulator.market.bars import Records
from mt5_bridge.simulator.structs import SymbolInfo, Tick


def stale_list(struck: Struck, fault: Fault) -> None:
    """From now on a list of what is open or waiting is as it was before."""
    call = struck.call
    what = fault.kind.removesuffix("_lag")
    call.terminal.faults.effects.append(StaleList(until(struck, fault), call.functions, what))


def stale_history(struck: Struck, fault: Fault) -> None:
    """From now on the history is as it is now."""
    terminal = struck.call.terminal
    session, _ = terminal.synced()
    terminal.faults.effects.append(StaleHistory(until(struck, fault), session))


def freeze(struck: Struck, fault: Fault) -> None:
    """From now on prices stand still."""
    terminal = struck.call.terminal
    terminal.faults.effects.append(FrozenQuotes(until(struck, fault), struck.call.now, fault.symbol))


def zero_tick(_struck: Struck, _fault: Fault, result: Any) -> Any:
    """No price, as before the first tick."""
    if isinstance(result, Tick):
        return Tick((0, 0.0, 0.0, 0.0, 0, 0, 0, 0.0))
    return SymbolInfo.of({**result._asdict(), "time": 0, "bid": 0.0, "ask": 0.0, "spread": 0})


def duplicate_ticks(struck: Struck, fault: Fault, result: Any) -> Any:
    """Some ticks come twice."""
    if not _is_ticks(struck.call):
        return result
    ticks = np.repeat(result, np.where(_chosen(result["time_msc"], fault, struck), 2, 1))
    return ticks[: len(result)] if struck.call.name == "copy_ticks_from" else ticks


def shuffle_ticks(struck: Struck, fault: Fault, result: Any) -> Any:
    """Swaps ticks with the one before, in the same millisecond: a pair within one second, so that no call splits it."""
    if not _is_ticks(struck.call) or len(result) < 2:
        return result
    ticks: Records = result.copy()
    seconds = ticks["time"]
    chosen = np.flatnonzero(_chosen(ticks["time_msc"], fault, struck)[:-1] & (seconds[:-1] == seconds[1:]))
    after = -1
    for place in chosen.tolist():
        if place > after:
            ticks[[place, place + 1]] = ticks[[place + 1, place]]
            ticks["time_msc"][place] = ticks["time_msc"][place + 1]
            after = place + 1
    return ticks


def _is_ticks(call: Call) -> bool:
    return call.name.startswith("copy_ticks_")


def _chosen(times: Any, fault: Fault, struck: Struck) -> Any:
    """Which ticks are touched: by time and seed alone, so that asking again gives the same."""
    seed = np.uint64(struck.call.terminal.faults.seed & 0xFFFFFFFF)
    mixed = (times.astype(np.uint64) + seed) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    return (mixed >> np.uint64(40)).astype(np.float64) < fault.share * (1 << 24)

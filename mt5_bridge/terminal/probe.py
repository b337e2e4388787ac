"""Is the terminal well? One small look, every 30 s by the watch."""

import time
from collections.abc import Callable

from mt5_bridge.core.errors import MT5Error
from mt5_bridge.terminal.port import Priority, ProbeResult, Terminal


async def probe(mt5: Terminal, *, monotonic: Callable[[], float] = time.perf_counter) -> ProbeResult:
    """Ask for the account and the terminal.

    Args:
        mt5: any terminal.
        monotonic: seconds, fine enough for a latency.

    Returns:
        `connection_ok`: the terminal answers; `auth_ok`: an account is logged in; `data_feed_ok`: the terminal is
        connected to the broker's server; `latency_ms` of the first read.
    """
    begin = monotonic()
    try:
        account = await mt5.get_account_info(priority=Priority.NORMAL)
    except MT5Error:
        return ProbeResult(connection_ok=False, auth_ok=False, data_feed_ok=False, latency_ms=None)
    latency_ms = (monotonic() - begin) * 1000
    try:
        terminal = await mt5.get_terminal_info(priority=Priority.NORMAL)
    except MT5Error:
        return ProbeResult(connection_ok=True, auth_ok=account.login > 0, data_feed_ok=False, latency_ms=latency_ms)
    return ProbeResult(
        connection_ok=True, auth_ok=account.login > 0, data_feed_ok=terminal.connected, latency_ms=latency_ms
    )

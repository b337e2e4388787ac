"""The second host: ticks and bars of the past, so that a call of 45 s never stands before a stop."""

import asyncio
from collections.abc import Callable
from typing import Any

from loguru import logger

from mt5_bridge.core.errors import MT5AuthError, MT5Error, MT5StateError
from mt5_bridge.terminal.client import HostClient, decode
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.failures import breaks_connection
from mt5_bridge.terminal.link import open_session
from mt5_bridge.terminal.port import Priority, TerminalStats


class HistoryHost:
    """Started when needed, ended when idle.

    Args:
        config: the session's settings.
        stats: counters to add to.
        live: whether the live session is connected; without it nothing is started, so that a refused login is not
            tried from here.
    """

    def __init__(self, config: TerminalConfig, stats: TerminalStats, live: Callable[[], bool]) -> None:
        self._config = config
        self._stats = stats
        self._live = live
        self._client = HostClient(stats, self._died, python_path=config.python_path, backend=config.backend)
        self._opening = asyncio.Lock()
        self._open = False
        self._refused: MT5AuthError | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Its host runs."""
        return self._client.alive

    @property
    def pid(self) -> int | None:
        """Its process id, for the watch."""
        return self._client.pid

    def forget_refusal(self) -> None:
        """The live session logged in anew: trying again is allowed."""
        self._refused = None

    async def call(self, op: str, *args: Any, result: Any, priority: Priority, timeout: float) -> Any:
        """One operation, the host started first where needed.

        Raises:
            MT5Error: as for the live session.
        """
        await self._ensure_open()
        self._hold()
        try:
            return decode(await self._client.call(op, *args, priority=priority, timeout=timeout), result)
        except MT5Error as error:
            if breaks_connection(error):
                self._open = False
            raise
        finally:
            self._release()

    async def _ensure_open(self) -> None:
        async with self._opening:
            if self._ending is not None:
                await asyncio.wait([self._ending])
            if self._open:
                return
            if not self._live():
                raise MT5StateError("the terminal is not connected")
            if self._refused is not None:
                raise self._refused
            try:
                await open_session(self._client, self._config, "history")
            except MT5AuthError as error:
                self._refused = error
                raise
            self._open = True
            self._stats.history_starts += 1

    def _hold(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _release(self) -> None:
        self._hold()
        self._idle_timer = asyncio.get_running_loop().call_later(self._config.history_idle, self._idle)

    def _idle(self) -> None:
        if self._client.idle and self._ending is None:
            self._ending = asyncio.create_task(self._end(), name="history-host-end")

    async def _end(self) -> None:
        self._open = False
        await self._client.stop()
        self._ending = None

    def _died(self, reason: str) -> None:
        self._open = False
        logger.bind(event="history_host_died", reason=reason).warning("History host gone: {reason}", reason=reason)

    async def close(self) -> None:
        """End its host. Safe to call twice."""
        self._hold()
        if self._ending is not None:
            await asyncio.wait([self._ending])
        await self._end()

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest
from support.eventually import eventually
from support.fresh_fake import FAKE_PATH

from mt5_bridge.core.errors import MT5AuthError, MT5ConnectionError, MT5StateError, MT5TimeoutError
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.history import HistoryHost
from mt5_bridge.terminal.port import Priority, TerminalStats


@asynccontextmanager
async def history(*, idle: float = 60.0, live: bool = True, **settings: str) -> AsyncIterator[HistoryHost]:
    config = TerminalConfig(backend="fake_mt5", settings=settings, python_path=(FAKE_PATH,), history_idle=idle)
    host = HistoryHost(config, TerminalStats(), lambda: live)
    try:
        yield host
    finally:
        await host.close()


async def ask(host: HistoryHost, op: str = "rates", timeout: float = 10.0) -> bytes:
    args = ("EURUSD", 1, None, 2) if op == "rates" else (None, None)
    found: bytes = await host.call(op, *args, result=bytes, priority=Priority.LOW, timeout=timeout)
    return found


async def test_it_starts_when_needed_once_for_all() -> None:
    async with history() as host:
        assert not host.running
        one, other = await asyncio.gather(ask(host), ask(host))
        assert one == other
        assert host._stats.history_starts == 1


async def test_it_ends_when_idle_and_starts_again() -> None:
    async with history(idle=0.05) as host:
        await ask(host)
        await eventually(lambda: not host.running)
        await ask(host)
        assert host._stats.history_starts == 2


async def test_it_does_not_end_while_busy() -> None:
    async with history(idle=0.0, FAULT_positions_get="hang") as host:
        await ask(host)
        host._idle()
        with pytest.raises(MT5TimeoutError):
            await ask(host, "positions", timeout=0.2)
        await ask(host)


async def test_it_is_not_started_without_a_live_session() -> None:
    async with history(live=False) as host:
        with pytest.raises(MT5StateError):
            await ask(host)
        assert not host.running


async def test_a_refused_login_is_not_tried_again() -> None:
    async with history(FAULT_initialize="-6,ok") as host:
        for _ in range(3):
            with pytest.raises(MT5AuthError):
                await ask(host)
        host.forget_refusal()
        assert await ask(host)


async def test_a_broken_pipe_is_opened_again() -> None:
    async with history(FAULT_copy_rates="-10001,ok") as host:
        with pytest.raises(MT5ConnectionError):
            await ask(host)
        assert await ask(host)


async def test_a_dead_host_is_replaced() -> None:
    async with history() as host:
        await ask(host)
        pid = host.pid
        assert pid is not None
        psutil.Process(pid).kill()
        await eventually(lambda: not host.running)
        assert await ask(host)


async def test_closing_while_it_ends() -> None:
    async with history(idle=0.0) as host:
        await ask(host)
        await eventually(lambda: host._ending is not None or not host.running)
        await host.close()
        await host.close()

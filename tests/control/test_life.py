"""What counts as a sign of life."""

import asyncio
import time

import pytest
from support.simulated import simulated

from mt5_bridge.control import life as module
from mt5_bridge.control.life import Life


@simulated
async def test_a_pong_is_waited_for_as_long_as_the_backend_shows_life() -> None:
    """A slow reader answers late: the ping lies behind all that it has not read yet."""
    signs: list[None] = []
    life = Life(lambda: signs.append(None))
    loop = asyncio.get_running_loop()
    pong: asyncio.Future[float] = loop.create_future()
    waiting = asyncio.create_task(life.until(pong))
    for _ in range(20):
        await asyncio.sleep(module.PING_TIMEOUT - 1)
        life.sign()
        assert not waiting.done()
    assert len(signs) == 20
    last = loop.time()
    with pytest.raises(TimeoutError):
        await waiting
    assert module.PING_TIMEOUT <= loop.time() - last < module.PING_TIMEOUT + 0.1
    pong.set_result(0.1)
    await life.until(pong)


async def test_a_loop_that_stood_still_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_TIMEOUT", 0.2)
    pong: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(Life(lambda: None).until(pong))
    await asyncio.sleep(0)
    time.sleep(0.2 + module.STALL_S + 0.2)  # noqa: ASYNC251  the stall itself
    monkeypatch.setattr(module, "PING_TIMEOUT", 60.0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    pong.set_result(0.1)
    await waiting

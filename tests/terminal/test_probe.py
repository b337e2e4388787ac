import msgspec
import pytest
from support.fake_terminal import FakeTerminal

from mt5_bridge.core.errors import MT5TimeoutError
from mt5_bridge.terminal.port import ProbeResult
from mt5_bridge.terminal.probe import probe


async def test_a_healthy_terminal() -> None:
    times = iter([1.0, 1.002])
    result = await probe(FakeTerminal(), monotonic=lambda: next(times))
    assert (result.connection_ok, result.auth_ok, result.data_feed_ok) == (True, True, True)
    assert result.latency_ms == pytest.approx(2.0)


async def test_a_silent_terminal() -> None:
    terminal = FakeTerminal()
    terminal.failures["get_account_info"] = MT5TimeoutError("late")
    assert await probe(terminal) == ProbeResult(False, False, False, None)


async def test_no_broker_behind_the_terminal() -> None:
    terminal = FakeTerminal()
    terminal.terminal = msgspec.structs.replace(terminal.terminal, connected=False)
    assert not (await probe(terminal)).data_feed_ok


async def test_half_an_answer() -> None:
    terminal = FakeTerminal()
    terminal.failures["get_terminal_info"] = MT5TimeoutError("late")
    result = await probe(terminal)
    assert (result.connection_ok, result.data_feed_ok) == (True, False)

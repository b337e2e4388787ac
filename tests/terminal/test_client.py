import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from support.eventually import eventually
from support.fresh_fake import FAKE_PATH

from mt5_bridge.core.errors import MT5ConnectionError, MT5DataError, MT5Error, MT5StateError, MT5TimeoutError
from mt5_bridge.core.model import Deed, OrderRequest
from mt5_bridge.terminal import client as client_module
from mt5_bridge.terminal.client import HostClient, decode
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.frames import BEAT, BYE
from mt5_bridge.terminal.link import open_session
from mt5_bridge.terminal.port import Priority, TerminalStats
from mt5_bridge.terminal.process import HostProcess

HIGH, LOW, CRITICAL = Priority.HIGH, Priority.LOW, Priority.CRITICAL
DEAL = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, price=1.1)


class Bench:
    """A client with an open session on the fake terminal."""

    def __init__(self, preempt_after: float | None, settings: dict[str, str]) -> None:
        self.stats = TerminalStats()
        self.deaths: list[str] = []
        self.config = TerminalConfig(backend="fake_mt5", settings=settings, python_path=(FAKE_PATH,))
        self.client = HostClient(self.stats, self.deaths.append, preempt_after=preempt_after, python_path=(FAKE_PATH,))

    async def ask(self, op: str, *args: object, priority: Priority = HIGH, timeout: float = 20.0) -> msgspec.Raw:
        return await self.client.call(op, *args, priority=priority, timeout=timeout)

    def later(
        self, op: str, *args: object, priority: Priority = HIGH, timeout: float = 20.0
    ) -> asyncio.Task[msgspec.Raw]:
        return asyncio.create_task(self.ask(op, *args, priority=priority, timeout=timeout))

    async def busy(
        self, op: str, *args: object, priority: Priority = HIGH, timeout: float = 20.0
    ) -> asyncio.Task[msgspec.Raw]:
        """A call known to be in flight."""
        task = self.later(op, *args, priority=priority, timeout=timeout)
        await eventually(lambda: self.client.in_flight is not None and self.client.in_flight.op == op)
        return task


@asynccontextmanager
async def bench(preempt_after: float | None = None, **settings: str) -> AsyncIterator[Bench]:
    it = Bench(preempt_after, settings)
    try:
        await open_session(it.client, it.config, "live")
        yield it
    finally:
        await it.client.stop(timeout=0.2)


async def error_of(call: Awaitable[object]) -> MT5Error:
    with pytest.raises(MT5Error) as caught:
        await call
    return caught.value


async def test_calls_wait_for_each_other_by_priority() -> None:
    async with bench() as b:
        order: list[str] = []

        def note(name: str) -> Callable[[], None]:
            return lambda: order.append(name)

        async def call(name: str, priority: Priority) -> None:
            await b.client.call("account", priority=priority, timeout=5.0, on_sent=note(name))

        async with asyncio.TaskGroup() as group:
            for name, priority in [
                ("first", LOW),
                ("low", LOW),
                ("high", HIGH),
                ("critical", CRITICAL),
                ("high2", HIGH),
            ]:
                group.create_task(call(name, priority))
        assert order == ["first", "critical", "high", "high2", "low"]
        assert b.client.idle


async def test_the_loop_runs_while_a_call_hangs() -> None:
    async with bench(FAULT_positions_get="hang") as b:
        task = await b.busy("positions", None, None, timeout=0.4)
        beats = [time.perf_counter()]
        while not task.done():
            await asyncio.sleep(0.005)
            beats.append(time.perf_counter())
        error = await error_of(task)
        assert isinstance(error, MT5TimeoutError)
        assert max(later - earlier for earlier, later in pairwise(beats)) < 0.05
        assert b.stats.timeouts == 1
        assert "0.4 s" in b.deaths[0]


async def test_a_hung_order_is_sent_and_what_waits_is_not() -> None:
    async with bench(FAULT_order_send="hang") as b:
        order = await b.busy("send", None, None, DEAL, 0, timeout=0.3)
        waiting = b.later("account")
        assert (await error_of(order)).sent
        behind = await error_of(waiting)
        assert isinstance(behind, MT5ConnectionError)
        assert not behind.sent
        assert not b.client.alive


async def test_a_crash_in_order_send_is_sent() -> None:
    async with bench(FAULT_order_send="crash") as b:
        error = await error_of(b.ask("send", None, None, DEAL, 0))
        assert isinstance(error, MT5ConnectionError)
        assert error.sent
        assert b.stats.host_deaths == 1
        assert not (await error_of(b.ask("account"))).sent


async def test_a_killed_host_can_be_replaced_at_once() -> None:
    async with bench(FAULT_positions_get="hang") as b:
        task = await b.busy("positions", None, None)
        b.client.kill("the test wants it")
        assert (await error_of(task)).sent
        await open_session(b.client, b.config, "live")
        assert await b.ask("account")
        assert b.stats.host_starts == 2


async def test_a_call_that_waited_too_long_is_withdrawn_without_a_kill() -> None:
    async with bench(FAULT_positions_get="hang") as b:
        hung = await b.busy("positions", None, None)
        error = await error_of(b.ask("account", timeout=0.05))
        assert isinstance(error, MT5TimeoutError)
        assert not error.sent
        assert b.client.alive
        assert b.stats.queue_timeouts == 1
        b.client.kill("done")
        await error_of(hung)


async def test_a_caller_that_gives_up_takes_its_call_along_unless_it_is_in_flight() -> None:
    async with bench(FAULT_positions_get="hang") as b:
        hung = await b.busy("positions", None, None, timeout=0.3)
        waiting = b.later("account")
        await eventually(lambda: not b.client.idle)
        waiting.cancel()
        hung.cancel()
        await asyncio.wait([waiting, hung])
        assert b.client.in_flight is not None
        await eventually(lambda: bool(b.deaths))
        assert b.stats.calls == 3


async def test_an_answer_nobody_waits_for_leaves_the_way_free() -> None:
    async with bench() as b:
        sent = asyncio.Event()
        task = asyncio.create_task(b.client.call("account", priority=HIGH, timeout=5.0, on_sent=sent.set))
        await sent.wait()
        task.cancel()
        await asyncio.wait([task])
        assert await b.ask("account")


async def test_a_call_is_asked_once_more_when_its_turn_comes() -> None:
    async with bench() as b:
        open_door = [True]
        before = b.stats.calls
        first = b.later("account", priority=LOW)
        waiting = asyncio.create_task(b.client.call("account", priority=HIGH, timeout=5.0, may_go=lambda: open_door[0]))
        await asyncio.sleep(0)
        open_door[0] = False
        error = await error_of(waiting)
        assert isinstance(error, MT5StateError)
        assert not error.sent
        await first
        assert b.stats.calls == before + 1
        assert await b.client.call("account", priority=HIGH, timeout=5.0, may_go=lambda: True)


@pytest.mark.parametrize("taken_back", [True, False, None])
async def test_an_order_is_taken_back_until_the_moment_it_is_sent(tmp_path: Path, taken_back: bool | None) -> None:
    gate = tmp_path / "gate"
    async with bench(FAULT_account_info="ok,gate,ok", GATE=str(gate)) as b:

        async def order(word: bool | None) -> msgspec.Raw:
            asked = None if word is None else partial(bool, word)
            return await b.client.call("send", None, None, DEAL, 0, priority=HIGH, timeout=20.0, taken_back=asked)

        b.client.recall()  # there is none
        in_flight = asyncio.create_task(order(taken_back))
        await eventually(lambda: b.client.in_flight is not None)
        b.client.recall()
        await asyncio.to_thread(gate.touch)
        if taken_back:
            error = await error_of(in_flight)
            assert isinstance(error, MT5StateError)
            assert not error.sent
        else:
            assert decode(await in_flight, tuple)[2] == 1
        assert decode(await order(None), tuple)[2] == (1 if taken_back else 2), "so many orders of the terminal"


async def test_a_critical_call_kills_a_read_it_waits_behind() -> None:
    async with bench(preempt_after=0.1, FAULT_positions_get="hang") as b:
        read = await b.busy("positions", None, None)
        critical = b.later("account", priority=CRITICAL)
        assert isinstance(await error_of(read), MT5ConnectionError)
        assert not (await error_of(critical)).sent
        assert b.stats.preempted == 1


async def test_a_critical_call_does_not_kill_an_order_in_flight() -> None:
    async with bench(preempt_after=0.02, FAULT_order_send="hang") as b:
        order = await b.busy("send", None, None, DEAL, 0)
        error = await error_of(b.ask("account", priority=CRITICAL, timeout=0.2))
        assert isinstance(error, MT5TimeoutError)
        assert b.client.alive
        b.client.kill("done")
        await error_of(order)


async def test_stray_prints_do_not_corrupt_the_frames() -> None:
    async with bench(FAULT_account_info="print") as b:
        for _ in range(3):
            assert await b.ask("account")


async def test_a_defect_in_one_call_leaves_the_host_alive() -> None:
    async with bench(FAULT_positions_get="raise,ok") as b:
        error = await error_of(b.ask("positions", None, None))
        assert isinstance(error, MT5DataError)
        assert "a defect" in str(error)
        assert await b.ask("positions", None, None)


async def test_a_defect_after_order_send_was_called_is_sent() -> None:
    async with bench(FAULT_order_send="raise") as b:
        assert (await error_of(b.ask("send", None, None, DEAL, 0))).sent


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_WAITING", 2)
    async with bench(FAULT_positions_get="hang") as b:
        tasks = [await b.busy("positions", None, None), b.later("account"), b.later("account")]
        await eventually(lambda: len(b.client._queue) == 2)
        assert isinstance(await error_of(b.ask("account")), MT5StateError)
        b.client.fail_waiting("the terminal went away")
        for task in tasks[1:]:
            assert "went away" in str(await error_of(task))
        b.client.kill("done")
        await error_of(tasks[0])


async def test_stop_fails_what_is_pending_and_ends_a_hung_host() -> None:
    async with bench(FAULT_positions_get="hang") as b:
        task = await b.busy("positions", None, None)
        await b.client.stop(timeout=0.1)
        assert isinstance(await error_of(task), MT5StateError)
        assert b.client.pid is None
        assert b.deaths == []


async def test_an_answer_of_the_wrong_shape_is_no_answer() -> None:
    async with bench() as b:
        with pytest.raises(MT5DataError, match="cannot be right"):
            decode(await b.ask("account"), list[int])


async def test_without_a_host_nothing_is_sent() -> None:
    stats = TerminalStats()
    lone = HostClient(stats, lambda _: None)
    error = await error_of(lone.call("account", priority=HIGH, timeout=1.0))
    assert isinstance(error, MT5ConnectionError)
    assert not error.sent
    lone.kill("nothing to kill")
    await lone.stop()


async def test_a_host_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(MT5ConnectionError, match="cannot be started"):
        await HostClient(TerminalStats(), lambda _: None).start()


@pytest.mark.parametrize("payload", [b"\xc1", b"\x93\x63\xc0\xc0"])
async def test_a_host_that_talks_nonsense_is_killed(payload: bytes) -> None:
    async with bench(FAULT_positions_get="hang") as b:
        task = await b.busy("positions", None, None)
        b.client._received(payload)
        assert (await error_of(task)).sent
        assert not b.client.alive


async def test_a_host_that_hears_nothing_else_hears_a_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any request counts as one; beats stop with the host."""
    written: list[bytes] = []
    times: list[float] = []
    write = HostProcess.write

    def noted(self: HostProcess, frame: bytes | bytearray) -> None:
        written.append(bytes(frame))
        times.append(asyncio.get_running_loop().time())
        write(self, frame)

    monkeypatch.setattr(HostProcess, "write", noted)
    client = HostClient(TerminalStats(), lambda reason: None, python_path=(FAKE_PATH,), beat_s=0.2)
    await open_session(client, TerminalConfig(backend="fake_mt5", python_path=(FAKE_PATH,)), "live")
    beats = written.count(BEAT)
    until = asyncio.get_running_loop().time() + 0.5
    while asyncio.get_running_loop().time() < until:
        await client.call("account", priority=HIGH, timeout=50.0)
    await eventually(lambda: written.count(BEAT) >= beats + 2)
    silences = [now - last for frame, last, now in zip(written[1:], times, times[1:], strict=False) if frame == BEAT]
    assert min(silences) > 0.19, "a busy pipe needs none"
    await client.stop()
    assert written[-1] == BYE
    said = len(written)
    await asyncio.sleep(0.3)  # longer than a beat
    assert len(written) == said


async def test_a_stop_without_a_bye(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as b:
        process = b.client._process
        assert process is not None
        written: list[bytes | bytearray] = []
        monkeypatch.setattr(process, "write", written.append)
        await b.client.stop(bye=False)
        assert written == []

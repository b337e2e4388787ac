"""Commands, answers and results over a real WebSocket: floods, cuts, slow readers, restarts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.backend import Backend, Frame
from support.eventually import eventually
from support.fake_terminal import FakeTerminal
from support.flow_kit import FlowKit
from support.proxy import FaultyProxy

from mt5_bridge.control import life as life_module
from mt5_bridge.control.client import ControlClient
from mt5_bridge.control.config import ControlConfig
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.model import Deed, OrderRequest

LONG = 30.0
"""Seconds that are never needed unless something is wrong."""


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend() as made:
        yield made


@asynccontextmanager
async def joined(
    folder: Path, url: str, *, terminal: FakeTerminal | None = None, **options: Any
) -> AsyncIterator[tuple[FlowKit, ControlClient]]:
    """Every flow of a bridge, on a real socket."""
    async with FlowKit.open(folder, terminal=terminal) as kit:
        client = ControlClient(
            ControlConfig(url=url, **options),
            hello=lambda: b'{"type":"hello","data":{}}',
            on_frame=kit.control.on_frame,
            random=lambda: 0.0,
        )
        kit.control.attach(client)
        kit.run("commands", "frame-signals")
        outbox = asyncio.create_task(kit.outbox.run_websocket(client))
        running = asyncio.create_task(client.run())
        try:
            await client.wait_connected()
            yield kit, client
        finally:
            outbox.cancel()
            await client.stop(1.0)
            await asyncio.gather(running, outbox, return_exceptions=True)  # a crash of the kit ends them, too


def answers(backend: Backend) -> list[Frame]:
    return [frame for frame in backend.frames if frame["type"] == "command_result"]


def numbers(backend: Backend) -> list[int]:
    return [frame["data"]["n"] for frame in backend.frames if frame["type"] == "news"]


async def filled(client: ControlClient, frame: bytes) -> int:
    """Sends until there is no room; how many were taken."""
    taken = 0

    def refused() -> bool:
        nonlocal taken
        while client.send(frame):
            taken += 1
        return client.stats.outbound.refused > 2

    await eventually(refused, LONG, "a full queue")
    return taken


def _connected_again(client: ControlClient, times: int) -> bool:
    return client.stats.connections > times


async def announce(kit: FlowKit, *some: int, size: int = 0) -> None:
    for n in some:
        await kit.outbox.commit(kit.outbox.event("news", {"n": n, "text": "x" * size}, event_id=f"e{n}"))


# --- results


async def test_results_of_the_time_without_a_backend_come_once_and_in_order(tmp_path: Path, backend: Backend) -> None:
    async with joined(tmp_path, backend.url) as (kit, client):
        await announce(kit, *range(3))
        await eventually(lambda: numbers(backend) == [0, 1, 2], LONG)
        await backend.stop()
        await eventually(lambda: not client.connected, LONG)
        await announce(kit, *range(3, 120))
        await backend.start()
        await eventually(lambda: len(numbers(backend)) == 120, LONG)
        assert numbers(backend) == list(range(120))
        told = [frame["event_id"] for frame in backend.frames if frame["type"] == "news"]
        assert told == [f"e{n}" for n in range(120)]


async def test_cut_again_and_again_nothing_is_lost_and_the_order_stays(tmp_path: Path, backend: Backend) -> None:
    """What was sent without a pong is sent again: a consumer that drops repeated ids sees each once, in order."""
    async with joined(tmp_path, backend.url) as (kit, client):
        for cut in range(4):
            await announce(kit, *range(cut * 50, cut * 50 + 50))
            await eventually(lambda: numbers(backend), LONG)
            backend.cut()
            await eventually(partial(_connected_again, client, cut + 1), LONG)
        await eventually(lambda: set(numbers(backend)) == set(range(200)), LONG)
        seen = list(dict.fromkeys(numbers(backend)))
        assert seen == list(range(200))


async def test_a_full_queue_sends_no_result_twice(tmp_path: Path, backend: Backend) -> None:
    """The backend reads late: what found no room waits in the journal, what found some is not sent again."""
    async with joined(tmp_path, backend.url, max_frames=40) as (kit, client):
        await eventually(lambda: backend.frames, LONG)
        await kit.outbox.commit(*(kit.outbox.event("news", {"n": n}) for n in range(60)))
        await eventually(lambda: len(numbers(backend)) == 60, LONG)
        assert numbers(backend) == list(range(60))
        assert client.stats.connections == 1
        assert client.stats.outbound.refused > 0


async def test_quotes_are_conflated_and_results_never_for_a_backend_that_reads_slowly(
    tmp_path: Path, backend: Backend
) -> None:
    async with joined(tmp_path, backend.url) as (kit, client):
        await eventually(lambda: backend.frames, LONG)
        backend.pace = 0.002
        await announce(kit, *range(50))
        quotes = 0
        while len(numbers(backend)) < 50 or quotes < 3000:
            for symbol in range(10):
                quotes += 1
                client.send_latest(f"q{symbol}", json.dumps({"type": "quote", "data": {"q": quotes}}).encode())
            await asyncio.sleep(0)
        backend.pace = 0.0

        def newest() -> bool:
            told = [frame["data"]["q"] for frame in backend.frames if frame["type"] == "quote"]
            return sorted(told[-10:]) == list(range(quotes - 9, quotes + 1))

        await eventually(newest, LONG, "the last quote of each symbol")
        assert numbers(backend) == list(range(50))
        told = [frame for frame in backend.frames if frame["type"] == "quote"]
        assert len(told) < quotes / 2, "old quotes did not pile up on the way"
        assert client.stats.outbound.conflated > 0
        assert client.stats.connections == 1


# --- commands


async def test_a_command_answered_into_a_cut_line_is_done_once_and_answered_when_asked_again(
    tmp_path: Path, backend: Backend
) -> None:
    async with joined(tmp_path, backend.url) as (kit, client):
        kit.terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.3))
        ticket = next(iter(kit.terminal.positions))
        gate = asyncio.Event()

        async def wait(name: str) -> None:
            if name.startswith("commit") and "CommandAnswered" in name:
                await gate.wait()

        kit.journal.step = wait
        await backend.send("close_position", {"ticket": ticket, "volume": 0.1}, request_id="c1")
        await eventually(lambda: kit.terminal.positions[ticket].volume == 0.2, LONG)
        backend.cut()
        await eventually(lambda: client.stats.connections == 2, LONG)
        gate.set()
        answer = await backend.command("close_position", {"ticket": ticket, "volume": 0.1}, request_id="c1")
        assert answer["data"]["success"]
        assert answer["data"]["data"]["volume_filled"] == 0.1
        assert round(kit.terminal.positions[ticket].volume, 8) == 0.2


async def test_a_restart_between_command_and_answer(tmp_path: Path, backend: Backend) -> None:
    async with joined(tmp_path, backend.url) as (kit, _):
        terminal = kit.terminal
        terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.3))
        ticket = next(iter(terminal.positions))
        gone = asyncio.Event()

        async def die(name: str) -> None:
            if name.startswith("commit") and "CommandAnswered" in name:
                gone.set()
                await asyncio.get_running_loop().create_future()

        kit.journal.step = die
        await backend.send("close_position", {"ticket": ticket, "volume": 0.1}, request_id="c1")
        async with asyncio.timeout(LONG):
            await gone.wait()
        await kit.crash()
    assert not answers(backend)
    async with joined(tmp_path, backend.url, terminal=terminal) as (kit, _):
        answer = await backend.command(
            "close_position", {"ticket": ticket, "volume": 0.1}, request_id="c1", timeout=LONG
        )
        assert answer["data"]["success"]
        again = await backend.command("close_position", {"ticket": ticket, "volume": 0.1}, request_id="c1")
        assert again["data"] == answer["data"]
        assert round(terminal.positions[ticket].volume, 8) == 0.2


async def test_a_flood_is_bounded_and_a_stop_passes_it(tmp_path: Path, backend: Backend) -> None:
    async with joined(tmp_path, backend.url) as (kit, client):
        kit.terminal.holds["get_account_info"] = asyncio.Event()
        socket = await backend.connected()
        for n in range(3000):
            await socket.send(json.dumps({"type": "get_account", "data": {}, "request_id": n}))
        await socket.send('{"type":"emergency_stop","request_id":"stop"}')
        for n in range(3000, 4000):
            await socket.send(json.dumps({"type": "get_account", "data": {}, "request_id": n}))
        stopped = await backend.frame("command_result", where=lambda f: f.get("request_id") == "stop", timeout=LONG)
        assert stopped["data"]["success"]
        assert kit.latch.halt.state is HaltState.HALTED
        await eventually(lambda: len(answers(backend)) > 3400, LONG)
        codes = {f["data"]["error"]["code"] for f in answers(backend) if not f["data"]["success"]}
        assert codes == {"overloaded"}
        assert len(kit.control._tasks) < 600
        kit.terminal.holds.pop("get_account_info").set()
        await eventually(lambda: len(answers(backend)) == 4001, LONG, "each is answered")
        assert client.stats.connections == 1


async def test_the_answer_to_a_stop_overtakes_large_answers_for_a_slow_reader(tmp_path: Path, backend: Backend) -> None:
    async with joined(tmp_path, backend.url) as (_, client):
        await eventually(lambda: backend.frames, LONG)
        backend.reading.clear()
        page = json.dumps({"type": "command_result", "data": {"text": "x" * 800_000}}).encode()
        taken = await filled(client, page)
        await backend.send("emergency_stop", {}, request_id="stop")
        await eventually(lambda: client._outbound._urgent, LONG, "the answer")
        backend.reading.set()
        waited = len(client._outbound) - 1
        await eventually(lambda: len(answers(backend)) == taken + 1, LONG)
        place = [frame.get("request_id") for frame in answers(backend)].index("stop")
        assert place <= taken - waited + 2, "what waited came behind it"


# --- the line


async def test_a_line_that_swallows_everything_is_noticed_and_left(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither side hears that the line is gone; the results of that time come by the next one."""
    monkeypatch.setattr(life_module, "PING_INTERVAL", 0.2)
    monkeypatch.setattr(life_module, "PING_TIMEOUT", 0.2)
    async with FaultyProxy(backend.port) as proxy:
        url = f"ws://{proxy.bootstrap}/bridge"
        async with joined(tmp_path, url) as (kit, client):
            await announce(kit, 1)
            await eventually(lambda: numbers(backend) == [1], LONG)
            proxy.hang()
            await announce(kit, 2)
            await eventually(lambda: client.stats.half_open + client.stats.unconfirmed, LONG, "noticed")
            monkeypatch.setattr(life_module, "PING_TIMEOUT", LONG)
            proxy.heal()
            await eventually(lambda: 2 in numbers(backend), LONG)
            assert list(dict.fromkeys(numbers(backend))) == [1, 2]

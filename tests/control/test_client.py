"""The WebSocket client against real servers on the loopback, well-behaved and not."""

import asyncio
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from support.backend import Backend
from support.eventually import eventually
from support.logged import event, logged

from mt5_bridge.control import dial as dial_module
from mt5_bridge.control import life as life_module
from mt5_bridge.control.client import ControlClient
from mt5_bridge.control.config import ChannelState, ControlConfig, whereabouts
from mt5_bridge.core.errors import ChannelClosedError

TOKEN = "a-token"


def frame(type: str, **data: object) -> bytes:
    return msgspec.json.encode({"type": type, "data": data})


def hello() -> bytes:
    return frame("hello", bridge_id="test")


class Harness:
    """A running client and what it said."""

    def __init__(
        self, url: str, *, token: str | None = TOKEN, on_frame: Callable[[bytes], None] | None = None, **options: Any
    ) -> None:
        self.received: list[bytes] = []
        self.states: list[tuple[ChannelState, str]] = []
        config = ControlConfig(url=url, token=token, **options)
        self.client = ControlClient(
            config,
            hello=hello,
            on_frame=on_frame or self.received.append,
            on_state=lambda state, detail: self.states.append((state, detail)),
            random=lambda: 0.0,
        )

    async def up(self) -> ControlClient:
        await self.client.wait_connected()
        await eventually(lambda: self.client.state is ChannelState.CONNECTED, why="a connection")
        return self.client


@asynccontextmanager
async def running(url: str, **options: Any) -> AsyncIterator[Harness]:
    harness = Harness(url, **options)
    task = asyncio.create_task(harness.client.run())
    try:
        yield harness
    finally:
        await harness.client.stop(2.0)
        await task
    assert harness.client.state is not ChannelState.CONNECTED


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend(TOKEN) as server:
        yield server


async def test_hello_is_the_first_frame_and_the_token_is_sent(backend: Backend) -> None:
    async with running(backend.url) as harness:
        client = await harness.up()
        assert client.connected
        assert client.send(frame("account_info", login=1))
        await backend.frame("account_info")
    assert [f["type"] for f in backend.frames] == ["hello", "account_info"]
    assert backend.tokens == [f"Bearer {TOKEN}"]
    assert [state for state, _ in harness.states] == ["connecting", "connected", "disconnected"]


async def test_frames_are_handed_over_in_order_as_bytes(backend: Backend) -> None:
    async with running(backend.url) as harness:
        await harness.up()
        for number in range(100):
            await backend.send("heartbeat", {"number": number})
        socket = await backend.connected()
        await socket.send(b"\x00binary")
        await eventually(lambda: len(harness.received) == 101)
    assert all(type(received) is bytes for received in harness.received)
    assert [msgspec.json.decode(r)["data"]["number"] for r in harness.received[:-1]] == list(range(100))
    assert harness.received[-1] == b"\x00binary"
    assert harness.client.stats.frames_in == 101
    assert harness.client.last_seen_msc is not None


async def test_an_answer_from_within_the_receive_loop_follows_hello(backend: Backend) -> None:
    answers: list[bool] = []

    def answer(_: bytes) -> None:
        answers.append(harness.client.send(frame("command_result", success=True), urgent=True))

    async with running(backend.url, on_frame=answer) as harness:
        await backend.connected()
        await backend.send("emergency_stop")
        await backend.frame("command_result")
    assert answers == [True]
    assert backend.frames[0]["type"] == "hello"


async def test_without_connection_nothing_is_queued_but_the_newest_values(backend: Backend) -> None:
    await backend.stop()
    async with running(backend.url) as harness:
        client = harness.client
        assert not client.connected
        assert not client.send(frame("order_result"))
        with pytest.raises(ChannelClosedError):
            await client.send_confirmed(frame("order_result"))
        client.send_latest("account", frame("account_info", equity=1))
        client.send_latest("account", frame("account_info", equity=2))
        await backend.start()
        account = await backend.frame("account_info")
    assert account["data"] == {"equity": 2}
    assert [f["type"] for f in backend.frames] == ["hello", "account_info"]


async def test_confirmed_returns_when_the_backend_has_it(backend: Backend) -> None:
    async with running(backend.url) as harness:
        client = await harness.up()
        await asyncio.gather(*(client.send_confirmed(frame("order_result", n=n)) for n in range(50)))
        await eventually(lambda: len(backend.frames) == 51)
    assert [f["data"]["n"] for f in backend.frames[1:]] == list(range(50))


async def test_confirmed_fails_when_the_connection_ends_first(backend: Backend) -> None:
    async with running(backend.url) as harness:
        client = await harness.up()
        backend.reading.clear()
        filler = frame("history", bars="x" * 100_000)
        waiting = [asyncio.create_task(client.send_confirmed(filler)) for _ in range(60)]
        await eventually(lambda: client.stats.frames_out > 0)
        backend.cut()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    # A pong is the backend's library's word: it may have come for the first few, never for one behind one without.
    failed = [isinstance(result, ChannelClosedError) for result in results]
    assert failed == sorted(failed)
    assert sum(failed) >= 50


async def test_confirmed_gives_up_a_backend_that_reads_but_never_pongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life_module, "PING_TIMEOUT", 0.2)
    async with deaf_server() as url, running(url) as harness:
        client = await harness.up()
        with pytest.raises(ChannelClosedError, match="confirm"):
            await client.send_confirmed(frame("order_result"))
        await eventually(lambda: not client.connected)
        assert client.stats.unconfirmed == 1


async def test_comes_back_after_the_backend_returns(backend: Backend) -> None:
    async with running(backend.url) as harness:
        await harness.up()
        await backend.stop()
        await eventually(lambda: harness.client.state is not ChannelState.CONNECTED)
        await backend.start()
        await harness.up()
        await eventually(lambda: len(backend.frames) == 2)
    assert [f["type"] for f in backend.frames] == ["hello", "hello"]
    assert harness.client.stats.connections == 2


async def test_a_server_that_accepts_and_closes_gets_ten_connections_at_most(backend: Backend) -> None:
    backend.close_at_once = True
    # No jitter: the shortest waits the back-off can give, so the window alone must hold the line.
    async with running(backend.url):
        await eventually(lambda: len(backend.attempts) == 10, 8.0, why="ten attempts")
        began = backend.attempts[0]
        loop = asyncio.get_running_loop()
        await eventually(lambda: loop.time() - began > 3.0, 5.0)
        assert len(backend.attempts) == 10


async def test_a_redirect_is_not_followed(backend: Backend) -> None:
    backend.refuse = 302
    async with running(backend.url) as harness:
        await eventually(lambda: ("disconnected", "HTTP 302") in harness.states)
        assert len(backend.attempts) <= 3


async def test_403_is_a_refusal_too(backend: Backend) -> None:
    backend.refuse = 403
    async with running(backend.url) as harness:
        await eventually(lambda: harness.client.state is ChannelState.REFUSED)
        assert "403" in harness.client.detail


async def test_a_refused_token_is_tried_again_slowly(backend: Backend) -> None:
    async with running(backend.url, token="wrong") as harness:
        await eventually(lambda: harness.client.state is ChannelState.REFUSED)
        await eventually(lambda: len(backend.attempts) == 2, 6.0)
        assert backend.attempts[1] - backend.attempts[0] >= 3.9
        assert [state for state, _ in harness.states] == ["connecting", "refused"]
    assert harness.client.stats.refusals == 2


@pytest.fixture
def told() -> Iterator[list[str]]:
    with logged(event, "INFO") as found:
        yield found


async def test_a_backend_that_comes_and_goes_is_told_once_and_then_once_a_minute(
    backend: Backend, told: list[str]
) -> None:
    now = [0.0]
    config = ControlConfig(url=backend.url, token="wrong")
    client = ControlClient(config, hello=hello, on_frame=lambda frame: None, monotonic=lambda: now[0])
    for _ in range(100):
        assert await client._attempt() > 0
        now[0] += 1.0
    assert client.stats.refusals == 100
    assert told == ["backend_refused"] * 2
    await backend.stop()
    for _ in range(100):
        assert await client._attempt() > 0
        now[0] += 1.0
    assert 2 <= told.count("backend_unreachable") <= 3
    assert len(told) <= 5


def test_where_the_backend_is_is_told_without_secrets() -> None:
    config = ControlConfig(url="wss://me:hunter2@h.example:8443/x?token=hunter3", token=None)
    assert whereabouts(config.url) == "wss://h.example:8443/x"
    client = ControlClient(config, hello=lambda: b"", on_frame=lambda frame: None)
    assert client._where == "wss://h.example:8443/x"


async def test_retry_after_is_honoured(backend: Backend) -> None:
    backend.refuse, backend.retry_after = 429, "1"
    async with running(backend.url):
        await eventually(lambda: len(backend.attempts) == 2)
        assert backend.attempts[1] - backend.attempts[0] >= 0.9


async def test_a_server_that_never_answers_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_module, "OPEN_TIMEOUT", 0.1)
    async with silent_listener() as url, running(url) as harness:
        await eventually(lambda: any("timed out" in detail for _, detail in harness.states))


async def test_stop_does_not_wait_for_a_handshake() -> None:
    async with silent_listener() as url:
        harness = Harness(url)
        task = asyncio.create_task(harness.client.run())
        await eventually(lambda: harness.client.stats.attempts == 1)
        async with asyncio.timeout(1.0):
            await harness.client.stop(2.0)
            await task


async def test_cancelling_run_leaves_no_connection(backend: Backend) -> None:
    harness = Harness(backend.url)
    task = asyncio.create_task(harness.client.run())
    await harness.up()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not backend.sockets)


async def test_cancelling_run_during_the_handshake() -> None:
    async with silent_listener() as url:
        harness = Harness(url)
        task = asyncio.create_task(harness.client.run())
        await eventually(lambda: harness.client.stats.attempts == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_half_open_link_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life_module, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(life_module, "PING_TIMEOUT", 0.1)
    async with deaf_server() as url, running(url) as harness:
        await eventually(lambda: harness.client.stats.half_open > 0)
        await eventually(lambda: ("disconnected", "code 1006") in harness.states)


def test_half_open_is_noticed_within_twelve_seconds() -> None:
    assert life_module.PING_INTERVAL + life_module.PING_TIMEOUT + dial_module.CLOSE_TIMEOUT <= 12


async def test_pongs_count_as_life(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life_module, "PING_INTERVAL", 0.05)
    async with running(backend.url) as harness:
        await harness.up()
        await eventually(lambda: harness.client.last_seen_msc is not None)
        first = harness.client.last_seen_msc
        assert first is not None
        await eventually(lambda: (harness.client.last_seen_msc or 0) > first)
    assert harness.client.stats.frames_in == 0


async def test_a_backend_that_never_reads_costs_bounded_memory(backend: Backend) -> None:
    async with running(backend.url, max_frames=100, max_bytes=1 << 20) as harness:
        client = await harness.up()
        await backend.frame("hello")
        backend.reading.clear()
        chunk = frame("history", bars="x" * 10_000)
        tracemalloc.start()
        accepted = 0
        for _ in range(3000):
            accepted += client.send(chunk)
            client.send_latest("EURUSD", chunk)
            await asyncio.sleep(0)
        # The system's own socket buffers take some megabytes before the queue begins to fill.
        await eventually(lambda: client.stats.outbound.refused > 0)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert used < 4 << 20
        assert accepted < 3000
        backend.cut()


async def test_stop_sends_what_waits(backend: Backend) -> None:
    harness = Harness(backend.url)
    task = asyncio.create_task(harness.client.run())
    client = await harness.up()
    for number in range(500):
        assert client.send(frame("halt_changed", number=number))
    await client.stop(3.0)
    await task
    await eventually(lambda: len(backend.frames) == 501)


async def test_stop_is_bounded_when_the_backend_never_reads(backend: Backend) -> None:
    harness = Harness(backend.url)
    task = asyncio.create_task(harness.client.run())
    client = await harness.up()
    await backend.frame("hello")
    backend.reading.clear()
    filler = frame("history", bars="x" * 100_000)
    await eventually(lambda: not all(client.send(filler) for _ in range(50)), why="a full queue")
    with pytest.raises(ChannelClosedError, match="too many"):
        await client.send_confirmed(filler)
    async with asyncio.timeout(3.0):
        await client.stop(1.0)
        await task


async def test_stop_before_run_and_twice() -> None:
    harness = Harness("ws://127.0.0.1:9/")
    await harness.client.stop(1.0)
    await harness.client.stop(1.0)
    await harness.client.run()
    assert harness.client.stats.attempts == 0


async def test_a_flood_leaves_the_loop_to_others(backend: Backend) -> None:
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    async with running(backend.url) as harness:
        await harness.up()
        socket = await backend.connected()
        task = asyncio.create_task(other())
        for _ in range(2000):
            await socket.send("{}")
        await eventually(lambda: len(harness.received) == 2000)
        task.cancel()
    assert others > 50


async def test_a_frame_too_large_ends_the_connection_only(backend: Backend) -> None:
    async with running(backend.url, max_size=1000) as harness:
        await harness.up()
        await backend.send_raw(b"x" * 2000)
        await eventually(lambda: harness.client.stats.connections == 2)
        assert any("over the limit" in detail for _, detail in harness.states)
    assert harness.received == []


async def test_a_defect_in_the_handler_is_not_hidden(backend: Backend) -> None:
    def broken(_: bytes) -> None:
        raise RuntimeError("a defect")

    harness = Harness(backend.url, on_frame=broken)
    task = asyncio.create_task(harness.client.run())
    await harness.up()
    await backend.send("heartbeat")
    with pytest.raises(ExceptionGroup) as caught:
        await task
    assert caught.group_contains(RuntimeError, match="a defect")


async def test_wss_uses_the_context_given(backend: Backend) -> None:
    async with running(backend.url.replace("ws:", "wss:"), tls=ssl.create_default_context()) as harness:
        await eventually(lambda: [state for state, _ in harness.states] == ["connecting", "disconnected"])
    assert harness.client.stats.connections == 0


async def test_no_token_no_header() -> None:
    async with Backend() as open_backend, running(open_backend.url, token=None) as harness:
        await harness.up()
        assert open_backend.tokens == [None]


def test_the_token_is_not_in_the_repr() -> None:
    assert TOKEN not in repr(ControlConfig(url="ws://127.0.0.1/", token=TOKEN))


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:80", ""])
async def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="no WebSocket address"):
        Harness(url)


def test_an_address_that_is_none_is_not_shown() -> None:
    with pytest.raises(ValueError, match="no WebSocket address") as caught:
        Harness("ws://me:hunter2@h/#f")
    assert "hunter2" not in str(caught.value)


@asynccontextmanager
async def silent_listener() -> AsyncIterator[str]:
    """Accepts TCP and says nothing."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def deaf_server() -> AsyncIterator[str]:
    """Shakes hands, then reads everything and answers nothing, not even pings: a half-open link."""
    from websockets.http11 import Request
    from websockets.server import ServerProtocol

    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        try:
            while data := await reader.read(65536):
                if protocol.handshake_exc is None and not protocol.state.value:
                    protocol.receive_data(data)
                    for event in protocol.events_received():
                        assert isinstance(event, Request)
                        protocol.send_response(protocol.accept(event))
                    writer.writelines(protocol.data_to_send())
        except ConnectionError:
            return
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await talk(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await asyncio.gather(*tasks)
        await server.wait_closed()

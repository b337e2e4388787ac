import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from support.certificates import Authority
from support.eventually import eventually

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.gateway import http
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.server import GatewayServer, bind


class Part:
    """What begins and ends with the server."""

    def __init__(self) -> None:
        self.running = False
        self.broken = asyncio.Event()

    def start(self) -> "asyncio.Task[None]":
        self.running = True
        self.task = asyncio.create_task(self._run())
        return self.task

    async def _run(self) -> None:
        await self.broken.wait()
        raise ZeroDivisionError("a bug")

    async def stop(self, timeout: float) -> None:
        self.running = False
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def close(self) -> None:
        self.running = False


class Parts:
    def __init__(self) -> None:
        self.audit = Part()
        self.connections = Part()
        self.cache = Part()


def unexpected(error: BaseException) -> None:
    """There is no defect in these tests."""
    raise AssertionError(error)


@asynccontextmanager
async def serving(
    config: GatewayConfig, on_defect: Callable[[BaseException], None] = unexpected
) -> AsyncIterator[tuple[GatewayServer, FastAPI]]:
    app = FastAPI()
    app.state.gateway = Parts()
    app.state.hangs = 0
    hanging = asyncio.Event()

    @app.get("/x")
    async def x() -> str:
        return "x"

    @app.get("/hang")
    async def hang(request: Request) -> None:
        if "known" in request.url.query:
            request.scope["state"]["principal"] = "ann"
        app.state.hangs += 1
        await hanging.wait()

    @app.post("/echo")
    async def echo(body: dict[str, Any]) -> dict[str, Any]:
        return body

    server = GatewayServer(app, config, on_defect)
    await server.start()
    try:
        yield server, app
    finally:
        await server.stop(1.0)


async def test_it_serves_and_ends_in_order() -> None:
    async with serving(GatewayConfig(port=0)) as (server, app):
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            answer = await client.get("/x")
            assert answer.json() == "x"
            assert "server" not in answer.headers
        assert app.state.gateway.audit.running
        port = server.port
    assert not app.state.gateway.audit.running
    with pytest.raises(OSError):  # noqa: PT011  whichever the system has
        await asyncio.open_connection("127.0.0.1", port)
    await server.stop(1.0)


@pytest.mark.parametrize("part", ["audit", "connections"])
async def test_a_part_that_ends_by_itself_is_told_at_once(part: str) -> None:
    defects: list[BaseException] = []
    async with serving(GatewayConfig(port=0), defects.append) as (_, app):
        getattr(app.state.gateway, part).broken.set()
        await eventually(lambda: defects)
    assert [str(defect) for defect in defects] == ["a bug"]


async def test_a_port_that_is_taken_is_one_clear_line() -> None:
    async with serving(GatewayConfig(port=0)) as (server, _):
        with pytest.raises(SettingsError, match=r"MT5_BRIDGE_PORT: 127.0.0.1:\d+ cannot be listened at .*; end the"):
            await GatewayServer(FastAPI(), GatewayConfig(port=server.port), unexpected).start()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_of_another_machine_is_none(host: str) -> None:
    with pytest.raises(SettingsError, match=r"GATEWAY_HOST|MT5_BRIDGE_PORT"):
        bind(GatewayConfig(host=host, port=0))


async def test_what_hangs_does_not_hold_up_the_end() -> None:
    async with serving(GatewayConfig(port=0)) as (server, app):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: app.state.hangs == 1, 30)
        await server.stop(0.2)
        assert server._task is not None
        assert server._task.done()
        writer.close()
        with contextlib.suppress(OSError):
            await reader.read()


async def test_it_speaks_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    made = authority.issue("server", "IP:127.0.0.1")
    async with serving(GatewayConfig(port=0, tls_cert=made.certificate, tls_key=made.key)) as (server, _):
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(authority.certificate))
        async with httpx.AsyncClient(base_url=server.url, verify=context, trust_env=False) as client:
            assert (await client.get("/x")).json() == "x"
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{server.port}/x")


async def test_a_certificate_that_is_none_is_told_with_its_setting(tmp_path: Path) -> None:
    broken = tmp_path / "cert.pem"
    broken.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"GATEWAY_TLS_CERT: the certificate or its key cannot be used"):
        await GatewayServer(FastAPI(), GatewayConfig(port=0, tls_cert=broken), unexpected).start()
    locked = Authority(tmp_path).issue("locked", "IP:127.0.0.1", password="geheim")
    config = GatewayConfig(port=0, tls_cert=locked.certificate, tls_key=locked.key)
    with pytest.raises(SettingsError, match="GATEWAY_TLS_CERT"):
        await GatewayServer(FastAPI(), config, unexpected).start()


def test_localhost_is_where_most_programs_look_for_it() -> None:
    sock = bind(GatewayConfig(host="localhost", port=0))
    assert sock.getsockname()[0] == "127.0.0.1"
    sock.close()


# --- hostile clients


async def opened(server: GatewayServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the server hung up."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 60)
    return b""


async def test_heads_without_end_are_cut_off() -> None:
    async with serving(GatewayConfig(port=0)) as (server, _):
        for start in (b"GET /x HTTP/1.1\r\nHost: x\r\n", b"GET /"):
            reader, writer = await opened(server)
            writer.write(start)
            with contextlib.suppress(ConnectionError):
                for number in range(2000):
                    writer.write(b"x-%d: %s\r\n" % (number, b"y" * 100) if start.endswith(b"\n") else b"a" * 100)
                    await writer.drain()
            said = await ended(reader)
            assert said == b"" or said.startswith(b"HTTP/1.1 400")
            writer.close()


async def test_who_sends_no_request_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_WITHIN_S", 0.2)
    async with serving(GatewayConfig(port=0)) as (server, _):
        for start in (b"", b"GET /x HT", b"GET /x HTTP/1.1\r\nHost: x\r\nX: "):
            reader, writer = await opened(server)
            writer.write(start)
            assert await ended(reader) == b""
            writer.close()
        reader, writer = await opened(server)
        writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        said = b""
        while said.count(b'"x"') < 3:
            said += await asyncio.wait_for(reader.read(10_000), 60)
        writer.close()


async def test_many_requests_on_one_connection_are_no_long_head() -> None:
    async with (
        serving(GatewayConfig(port=0)) as (server, _),
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        for _ in range(40):
            answer = await client.post("/echo", json={"x": "y" * 3000}, headers={"X-Long": "z" * 1000})
            assert answer.status_code == 200


async def test_connections_are_bounded_and_who_is_idle_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.gateway.server.CONNECTIONS_BESIDE", 1)
    ask = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(GatewayConfig(port=0, max_connections=2)) as (server, app):
        pairs = [await opened(server) for _ in range(3)]
        for reader, writer in pairs:
            writer.write(ask)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for number in range(3):
            reader, writer = await opened(server)
            writer.write(ask)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await ended(pairs[number][0])
            pairs.append((reader, writer))
        for _, writer in pairs[3:]:
            writer.write(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: app.state.hangs == 3, 30)
        for number in range(3, 6):
            reader, writer = await opened(server)
            await ended(pairs[number][0])
            writer.write(b"GET /hang?known HTTP/1.1\r\nHost: x\r\n\r\n")
            await eventually(lambda most=number + 1: app.state.hangs == most, 30)  # type: ignore[misc]  # bound now
            pairs.append((reader, writer))
        reader, writer = await opened(server)
        assert await ended(reader) == b"", "nobody is idle"
        for _, each in (*pairs, (reader, writer)):
            each.close()


async def test_what_is_no_http_gets_400() -> None:
    async with serving(GatewayConfig(port=0)) as (server, _):
        for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00", b"EHLO x\r\n\r\n", b"GET /x HTTP/9.9\r\n\r\n"):
            reader, writer = await opened(server)
            writer.write(nonsense)
            assert (await ended(reader)).startswith(b"HTTP/1.1 400")
            writer.close()
        with socket.create_connection(("127.0.0.1", server.port)):
            pass

"""TLS with an authority of one's own and client certificates, against a real server; credentials that are replaced."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.backend import Backend
from support.certificates import Authority, Certificate
from support.eventually import eventually

from mt5_bridge.control.client import ControlClient
from mt5_bridge.control.config import ControlConfig
from mt5_bridge.control.security import Credentials, tls_context, why_unreachable
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings.tls import TlsFiles


@pytest.fixture(scope="module")
def server(authority: Authority) -> Certificate:
    return authority.issue("server", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def mine(authority: Authority) -> Certificate:
    return authority.issue("bridge", password="key-secret")


def serving(certificate: Certificate, *, clients: Authority | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if clients is not None:
        context.load_verify_locations(clients.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def connecting(
    url: str, files: TlsFiles | None = None, credentials: Callable[[], Awaitable[Credentials]] | None = None
) -> AsyncIterator[ControlClient]:
    config = ControlConfig(url=url, tls=None if files is None else tls_context(files))
    client = ControlClient(
        config, hello=lambda: b"{}", on_frame=lambda frame: None, credentials=credentials, random=lambda: 0.0
    )
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        await client.stop(2.0)
        await task


async def fault(client: ControlClient) -> str:
    def told() -> str:
        return client.detail if client.detail.startswith("TLS") else ""

    return await eventually(told, 20, "a fault of TLS")


# --- who the backend is


async def test_an_authority_of_ones_own_is_trusted(authority: Authority, server: Certificate) -> None:
    async with (
        Backend(tls=serving(server)) as backend,
        connecting(backend.url, TlsFiles(ca=str(authority.certificate))) as client,
    ):
        await client.wait_connected()
        await eventually(lambda: len(backend.frames) == 1)


async def test_without_it_the_backend_is_not_trusted_and_the_setting_is_named(server: Certificate) -> None:
    async with Backend(tls=serving(server)) as backend, connecting(backend.url) as client:
        assert "BACKEND_SSL_CA_FILE" in await fault(client)
        assert client.stats.connections == 0


async def test_another_authority_is_not_trusted(tmp_path: Path, server: Certificate) -> None:
    files = TlsFiles(ca=str(Authority(tmp_path).certificate))
    async with Backend(tls=serving(server)) as backend, connecting(backend.url, files) as client:
        assert "BACKEND_SSL_CA_FILE" in await fault(client)


async def test_an_expired_certificate_is_told_as_such(authority: Authority) -> None:
    expired = authority.issue("expired", "IP:127.0.0.1", expired=True)
    files = TlsFiles(ca=str(authority.certificate))
    async with Backend(tls=serving(expired)) as backend, connecting(backend.url, files) as client:
        told = await fault(client)
        assert "expired" in told
        assert "clock" in told


async def test_a_certificate_for_another_host_is_told_as_such(authority: Authority) -> None:
    other = authority.issue("other", "DNS:other.example")
    files = TlsFiles(ca=str(authority.certificate))
    async with Backend(tls=serving(other)) as backend, connecting(backend.url, files) as client:
        assert "BACKEND_WS_URL must name the host" in await fault(client)


async def test_a_backend_without_tls_is_told_as_such(authority: Authority) -> None:
    async with Backend() as backend:
        url = backend.url.replace("ws:", "wss:")
        async with connecting(url, TlsFiles(ca=str(authority.certificate))) as client:
            assert "must speak TLS" in await fault(client)


# --- who the bridge is


async def test_a_client_certificate_with_an_encrypted_key(
    authority: Authority, server: Certificate, mine: Certificate
) -> None:
    files = TlsFiles(
        ca=str(authority.certificate), cert=str(mine.certificate), key=str(mine.key), key_password="key-secret"
    )
    async with (
        Backend(tls=serving(server, clients=authority)) as backend,
        connecting(backend.url, files) as client,
    ):
        await client.wait_connected()
        socket = await backend.connected()
        peer = socket.transport.get_extra_info("peercert")
        assert (("commonName", "bridge"),) in peer["subject"]


async def test_a_key_in_the_certificates_own_file(authority: Authority, server: Certificate, mine: Certificate) -> None:
    files = TlsFiles(ca=str(authority.certificate), cert=str(mine.bundle))
    async with (
        Backend(tls=serving(server, clients=authority)) as backend,
        connecting(backend.url, files) as client,
    ):
        await client.wait_connected()
        assert (await backend.connected()).transport.get_extra_info("peercert")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_backend_that_asks_for_a_certificate_and_gets_none(
    authority: Authority, server: Certificate, version: ssl.TLSVersion
) -> None:
    context = serving(server, clients=authority)
    context.maximum_version = version
    files = TlsFiles(ca=str(authority.certificate))
    async with Backend(tls=context) as backend, connecting(backend.url, files) as client:
        assert "BACKEND_SSL_CERT_FILE" in await fault(client)


# --- files that cannot be used


def test_without_files_the_platform_decides() -> None:
    assert tls_context(TlsFiles()) is None


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"BACKEND_SSL_CA_FILE: .* give a PEM file with the backend's CA"):
        tls_context(TlsFiles(ca=str(tmp_path / "none.pem")))
    with pytest.raises(SettingsError, match="BACKEND_SSL_CERT_FILE"):
        tls_context(TlsFiles(cert=str(tmp_path / "none.pem")))


def test_the_token_is_not_in_the_repr() -> None:
    assert "a-token" not in repr(Credentials(token="a-token"))


def test_what_has_nothing_to_do_with_tls_is_told_as_it_is() -> None:
    assert why_unreachable(OSError("no route"), secure=True) == "no route"
    assert why_unreachable(EOFError(), secure=False) == "EOFError"


# --- replaced while running


async def test_a_token_that_was_replaced_is_used_at_the_next_connection() -> None:
    token = ["old"]

    async def credentials() -> Credentials:
        return Credentials(token=token[0])

    async with Backend("old") as backend, connecting(backend.url, credentials=credentials) as client:
        await client.wait_connected()
        await backend.stop()
        backend.token = token[0] = "new"
        await backend.start()
        await eventually(lambda: client.stats.connections == 2, 10)
        assert backend.tokens[-1] == "Bearer new"
        assert client.stats.refusals == 0


async def test_no_origin_is_sent() -> None:
    async with Backend() as backend, connecting(backend.url) as client:
        await client.wait_connected()
        assert backend.origins == [None]

"""Token and certificates that are replaced while the bridge runs."""

import asyncio
import threading
from pathlib import Path

import pytest
from support.backend import Backend
from support.certificates import Authority
from support.eventually import eventually

from mt5_bridge.app import renewal as module
from mt5_bridge.app.renewal import Renewal
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings import SecretStr, Settings, load


def loaded(folder: Path, **env: str) -> Settings:
    return load(
        env={"TERMINAL": "paper", "DATA_DIR": str(folder), "BACKEND_WS_URL": "ws://127.0.0.1:9/", **env}
    ).settings


async def test_the_token_as_it_stands_in_its_file_now(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("BACKEND_AUTH_TOKEN=first-token\nBACKEND_WS_URL=ws://127.0.0.1:9/\nTERMINAL=paper\n")
    start = load(env={"DATA_DIR": str(tmp_path)}, cwd=tmp_path)
    renewal = Renewal(start.settings, start.reread)
    assert (await renewal()).token == "first-token"
    dotenv.write_text(dotenv.read_text().replace("first", "second"))
    assert (await renewal()).token == "second-token"
    dotenv.write_text("BACKEND_AUTH_TOKEN=\n")
    assert (await renewal()).token is None
    assert start.reread is not None
    assert start.reread("HEARTBEAT_INTERVAL") == 5.0


async def test_a_file_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("BACKEND_AUTH_TOKEN=first-token\nBACKEND_WS_URL=ws://127.0.0.1:9/\nTERMINAL=paper\n")
    start = load(env={"DATA_DIR": str(tmp_path)}, cwd=tmp_path)
    renewal = Renewal(start.settings, start.reread)
    for half in (b"BACKEND_AUTH_TOK", b"\xff\xfe", b"BACKEND_AUTH_TOKEN=keyring\n"):
        dotenv.write_bytes(half)
        assert (await renewal()).token == "first-token"


async def test_a_keyring_that_fails_in_its_own_way_changes_nothing(tmp_path: Path) -> None:
    def reread(name: str) -> SecretStr:
        raise RuntimeError("no bus")

    renewal = Renewal(loaded(tmp_path, BACKEND_AUTH_TOKEN="first-token"), reread)
    assert (await renewal()).token == "first-token"


async def test_without_a_way_to_read_again_the_token_stays(tmp_path: Path) -> None:
    renewal = Renewal(loaded(tmp_path, BACKEND_AUTH_TOKEN="first-token"), None)
    assert (await renewal()).token == "first-token"


async def test_a_disk_that_hangs_holds_up_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_S", 0.05)
    go, asked = threading.Event(), []

    def reread(name: str) -> SecretStr:
        asked.append(name)
        go.wait(30)
        return SecretStr("second-token")

    renewal = Renewal(loaded(tmp_path, BACKEND_AUTH_TOKEN="first-token"), reread)
    for _ in range(3):
        assert (await renewal()).token == "first-token"
    assert asked == ["BACKEND_AUTH_TOKEN"], "one look at a time"
    go.set()

    async def renewed() -> bool:
        return (await renewal()).token == "second-token"

    await eventually(renewed)


async def test_certificates_are_read_anew(tmp_path: Path) -> None:
    first, second = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(first.certificate.read_bytes())
    renewal = Renewal(loaded(tmp_path, BACKEND_WS_URL="wss://127.0.0.1:9/", BACKEND_SSL_CA_FILE=str(ca)), None)
    before = (await renewal()).tls
    ca.write_bytes(second.certificate.read_bytes())
    after = (await renewal()).tls
    ca.write_text("half writt")
    kept = (await renewal()).tls
    assert before is not None
    assert after is not None
    assert before.get_ca_certs() != after.get_ca_certs()
    assert kept is after


def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    settings = loaded(tmp_path, BACKEND_WS_URL="wss://127.0.0.1:9/", BACKEND_SSL_CA_FILE=str(bad))
    with pytest.raises(SettingsError, match="BACKEND_SSL_CA_FILE"):
        Renewal(settings, None)


async def test_a_refused_bridge_finds_its_way_with_the_new_token(tmp_path: Path) -> None:
    """The whole way: .env on the disk, the client, a server that changes the token it wants."""
    from mt5_bridge.control.client import ControlClient
    from mt5_bridge.control.config import ControlConfig

    async with Backend("first-token") as backend:
        dotenv = tmp_path / ".env"
        dotenv.write_text(f"BACKEND_AUTH_TOKEN=first-token\nBACKEND_WS_URL={backend.url}\nTERMINAL=paper\n")
        start = load(env={"DATA_DIR": str(tmp_path)}, cwd=tmp_path)
        client = ControlClient(
            ControlConfig(url=backend.url, token="first-token"),
            hello=lambda: b"{}",
            on_frame=lambda frame: None,
            credentials=Renewal(start.settings, start.reread),
            random=lambda: 0.0,
        )
        task = asyncio.create_task(client.run())
        await client.wait_connected()
        backend.token = "second-token"
        dotenv.write_text(dotenv.read_text().replace("first", "second"))
        backend.cut()
        await eventually(lambda: client.stats.connections == 2, 10)
        assert client.stats.refusals == 0
        await client.stop(1.0)
        await task

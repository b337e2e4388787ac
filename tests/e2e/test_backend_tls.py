"""The daemon and a backend that trusts nobody: its own authority, client certificates, a token that is replaced."""

import asyncio
import ssl
from pathlib import Path

from support.backend import Backend
from support.certificates import Authority
from support.daemon import STANDARD, Daemon
from support.eventually import eventually


async def test_certificates_both_ways_and_a_token_replaced_while_it_runs(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    server, mine = authority.issue("server", "IP:127.0.0.1"), authority.issue("bridge", password="key-secret")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    async with Backend("first-token", tls=context) as backend:
        dotenv = tmp_path / ".env"
        dotenv.write_text("BACKEND_AUTH_TOKEN=first-token\n")
        env = {
            "BACKEND_AUTH_TOKEN": "",
            "BACKEND_WS_URL": backend.url,
            "BACKEND_SSL_CA_FILE": str(authority.certificate),
            "BACKEND_SSL_CERT_FILE": str(mine.certificate),
            "BACKEND_SSL_KEY_FILE": str(mine.key),
            "BACKEND_SSL_KEY_PASSWORD": "key-secret",
            "BACKEND_PERMISSIONS": "read",
        }
        daemon = Daemon(tmp_path, env, STANDARD)
        daemon.start()
        try:
            hello = (await backend.frame("hello", timeout=30.0))["data"]
            assert "get_status" in hello["capabilities"]
            assert "close_all" not in hello["capabilities"]
            answer = await backend.command("close_all", {}, request_id="c", timeout=30.0)
            assert answer["data"]["error"]["code"] == "forbidden"
            backend.token = "second-token"
            dotenv.write_text("BACKEND_AUTH_TOKEN=second-token\n")
            mark = len(backend.frames)
            backend.cut()
            await backend.frame("hello", after=mark, timeout=30.0)
            assert backend.tokens == ["Bearer first-token", "Bearer second-token"]
            await eventually(lambda: "BACKEND_AUTH_TOKEN has changed" in daemon.console, 10)
            await daemon.stop()
            assert "second-token" not in daemon.console
            assert "key-secret" not in daemon.console
        finally:
            await asyncio.to_thread(daemon.close)

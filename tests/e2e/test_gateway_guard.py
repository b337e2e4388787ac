"""The gateway's start, its stop, and what keeps trading safe: on a real daemon with the paper terminal."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from support.broker import free_port
from support.daemon import Daemon, cli, environment
from support.eventually import eventually
from support.gateway import TOKEN, bearer, jwt_for, served
from support.world import sending

from mt5_bridge.gateway.auth import Scope

HANGS = "faults:\n  - {function: order_send, kind: hang, when: after, nth: 1}\n"


async def test_a_stop_latches_while_the_terminal_hangs_and_needs_no_more_than_its_scope(tmp_path: Path) -> None:
    script = tmp_path / "faults.yaml"
    script.write_text(HANGS, encoding="utf-8")
    async with served(tmp_path, PAPER_FAULTS=str(script), RATE_LIMIT_REQUESTS="20", STOP_GRACE="30") as made:
        await made.start()
        ask = made.client
        order = {"symbol": "AUDUSD", "action": "BUY", "volume": 0.01, "stop_loss": 0.1, "signal_id": "hangs"}
        hanging = asyncio.create_task(ask.post("/signal", json=order, timeout=120.0))
        await eventually(lambda: sending(made.daemon.data), 60, "the order hangs in the terminal")
        while (await ask.get("/account")).status_code != 429:
            pass
        stopper = bearer(jwt_for(Scope.STOP))
        told = await ask.post("/emergency-stop", json={"reason": "drill"}, headers={**stopper, "X-Request-ID": "r1"})
        assert told.status_code == 200, told.text
        latched = told.json()["data"]
        assert (latched["state"], latched["reason"], latched["by"]) == ("halted", "drill", "ann")
        assert not hanging.done(), "it waited for no terminal"
        assert (await ask.post("/emergency-stop")).status_code == 200, "its rate does not count"
        assert (await ask.get("/account")).status_code == 429
        assert sending(made.daemon.data)

        async def audited() -> bool:
            code, text = await cli("audit", "--json", folder=tmp_path)
            return code == 0 and "POST /emergency-stop" in text and "request r1" in text

        await eventually(audited, 60, "the audit tells of it")
        made.daemon.kill()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        assert TOKEN not in made.daemon.console
        made.daemon.start(env={"PAPER_FAULTS": ""})
        await eventually(lambda: "Trading is still halted" in made.daemon.console, 60)
        await made.daemon.stop()


async def test_it_ends_in_order_whatever_is_open(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        await made.start()
        _, idle = await asyncio.open_connection("127.0.0.1", made.port)
        _, half = await asyncio.open_connection("127.0.0.1", made.port)
        half.write(
            b"POST /order HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n"
            + f"Authorization: Bearer {TOKEN}\r\n\r\n{{".encode()
        )
        await half.drain()
        assert (await made.client.get("/positions")).status_code == 200
        await made.daemon.stop()
        for each in (idle, half):
            each.close()


async def test_a_port_that_is_taken_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        env = {
            "GATEWAY_ENABLED": "true", "GATEWAY_TOKEN": TOKEN, "MT5_BRIDGE_PORT": str(port),
            "REDPANDA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        }  # fmt: skip
        daemon = Daemon(tmp_path, env)
        try:
            daemon.start()
            assert await daemon.exit_code(60) == 2
        finally:
            daemon.close()
        lines = [line for line in daemon.console.splitlines() if "ERROR" in line]
        assert len(lines) == 1
        assert f"MT5_BRIDGE_PORT: 127.0.0.1:{port} cannot be listened at" in lines[0]
        assert "Traceback" not in daemon.console


async def test_a_page_of_strangers_cannot_trade(tmp_path: Path) -> None:
    """As a browser sends it, over a real socket: P13."""
    async with served(tmp_path) as made:
        await made.start()
        order = {"symbol": "AUDUSD", "action": "BUY", "volume": 0.01, "stop_loss": 0.1, "signal_id": "evil"}
        attacks = (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Host": f"evil.example:{made.port}"},
            {"Host": f"evil.example:{made.port}", "Origin": f"http://evil.example:{made.port}"},
        )
        for headers in attacks:
            for path in ("/signal", "/emergency-stop"):
                answer = await made.client.post(path, json=order, headers=headers)
                assert answer.status_code in (400, 403), (headers, answer.text)
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
            answer = await made.client.get("/websocket/ws", headers={**upgrade, **key, **headers})
            assert answer.status_code in (400, 403), (headers, answer.text)
        preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = await made.client.options("/signal", headers=preflight)
        assert "access-control-allow-origin" not in answer.headers
        async with httpx.AsyncClient(base_url=made.url, trust_env=False) as nobody:
            assert (await nobody.post("/signal", json=order)).status_code == 401
        assert (await made.client.get("/health")).status_code == 200
        code, text = await cli("journal", "evil", folder=tmp_path)
        assert (code, text.strip()) == (1, "No signal evil in the journal")
        assert "halted" not in made.daemon.console
        await made.daemon.stop()


def test_a_daemon_without_a_gateway_pays_nothing_for_it() -> None:
    code = (
        "import sys, mt5_bridge.app.bridge, mt5_bridge.cli.commands\n"
        "new = {'fastapi', 'starlette', 'pydantic', 'uvicorn', 'limits', 'jwt', 'prometheus_client', 'httptools'}\n"
        "print(sorted(new & set(sys.modules)), sorted(m for m in sys.modules if m.startswith('mt5_bridge.gateway')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment({}), capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[] []"

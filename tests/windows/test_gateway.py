"""The gateway of a daemon on a Windows Python: it answers, it stops trading, it ends in order."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.broker import free_port
from support.eventually import wait_for
from websockets.asyncio.client import connect
from windows.test_daemon import START_S, STOP_S, bridge

TOKEN = "windows-gateway-secret"
AUTH = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def port() -> int:
    return free_port()


def settings(port: int) -> dict[str, str]:
    return {"GATEWAY_ENABLED": "true", "GATEWAY_TOKEN": TOKEN, "MT5_BRIDGE_PORT": str(port)}


def live(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


async def welcomed(port: int) -> dict[str, Any]:
    """The first frame of the WebSocket."""
    async with connect(f"ws://127.0.0.1:{port}/websocket/ws", additional_headers=AUTH, proxy=None) as socket:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), START_S))
        return frame


def test_answers_stops_and_ends_in_order(root: Path, tmp_path: Path, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    with bridge(root, tmp_path, **settings(port)) as running:
        running.wait_line("Journal and terminal agree", START_S)
        assert wait_for(lambda: live(url), START_S), running.output
        assert httpx.get(f"{url}/account").status_code == 401
        account = httpx.get(f"{url}/account", headers=AUTH, timeout=START_S).json()["account"]
        assert account["login"] == 5000001
        assert asyncio.run(welcomed(port))["type"] == "welcome"
        stopped = httpx.post(f"{url}/emergency-stop", headers=AUTH, timeout=START_S).json()
        assert stopped["data"]["state"] == "halted"
        assert running.wait_line("Trading is halted", START_S)
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output


def test_a_port_that_is_taken_is_one_line_and_exit_code_2(root: Path, tmp_path: Path, port: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with bridge(root, tmp_path / "a", **settings(port)) as first:
        assert wait_for(lambda: live(f"http://127.0.0.1:{port}"), START_S), first.output
        with bridge(root, tmp_path / "b", **settings(port)) as second:
            assert second.wait(START_S) == 2, second.output
        assert [line for line in second.lines if "MT5_BRIDGE_PORT" in line], second.output
        first.interrupt()
        assert first.wait(STOP_S) == 0, first.output

"""Liveness, readiness and health are three questions, none of which needs a token."""

import pytest
from support.fake_bridge_port import NOW_MS, gateway

from mt5_bridge.core.times import iso

NOBODY = {"Authorization": ""}


async def test_the_shape_of_the_documents() -> None:
    async with gateway() as client:
        told = (await client.http.get("/health", headers=NOBODY)).json()
        assert told.keys() == {"status", "service", "timestamp", "mt5_status"}
        assert (told["status"], told["service"]) == ("ok", "mt5-bridge")
        assert told["mt5_status"] == {"status": "connected", "server": "Fake-Demo", "last_update": iso(NOW_MS)}


async def test_before_the_account_was_read() -> None:
    async with gateway() as client:
        client.port.account, client.port.at_msc = None, 0
        client.port.told["channels"] = {}
        told = await client.ask("GET", "/health")
        assert told["mt5_status"] == {"status": "unknown", "server": None, "last_update": None}


@pytest.mark.parametrize(("status", "ready"), [("ok", True), ("degraded", True), ("not_ready", False)])
async def test_a_service_that_is_not_ready_is_alive(status: str, ready: bool) -> None:
    async with gateway() as client:
        client.port.told |= {"status": status, "halt": "halted"}
        answer = await client.http.get("/health/ready", headers=NOBODY)
        told = answer.json()
        assert (answer.status_code, told["ready"], told["status"]) == (200 if ready else 503, ready, status)
        assert told["halt"] == "halted", "a halt is no fault"
        live = await client.http.get("/health/live", headers=NOBODY)
        assert (live.status_code, live.json()["status"]) == (200, "alive")
        assert (await client.http.get("/health", headers=NOBODY)).status_code == 200

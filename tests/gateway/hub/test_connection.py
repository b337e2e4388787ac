"""Who gets in, and who has to go."""

import asyncio
import json

import pytest
from support.eventually import eventually
from support.hub_kit import TOKEN, hub_kit, token_of
from websockets.exceptions import InvalidStatus

from mt5_bridge.core.channels import Channel
from mt5_bridge.gateway import rates
from mt5_bridge.gateway.auth import Scope
from mt5_bridge.gateway.hub import connection
from mt5_bridge.gateway.hub.client import Close


async def test_a_header_lets_in_and_welcomes() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        (welcome,) = client.of("welcome")
        assert welcome["service"] == "mt5-bridge"
        assert welcome["account"] == 1001
        assert welcome["symbols"] == ["EURUSD", "GBPUSD"]
        assert welcome["scopes"] == ["admin", "read", "stop", "trade"]
        assert {"emergency_stop", "trading_signal", "mt5_command", "subscribe"} <= set(welcome["capabilities"])
        assert welcome["halt"]["state"] == "active"
        assert welcome["channels"] == [channel.value for channel in Channel]
        assert welcome["subscriptions"] == {"channels": [], "symbols": None}
        assert welcome["heartbeat_s"] == 5.0


async def test_a_first_frame_lets_in() -> None:
    async with hub_kit() as kit:
        client = await kit.client(None)
        await eventually(lambda: kit.hub.status()["unauthenticated"] == 1)
        assert client.frames == []
        await client.send("auth", {"token": token_of(Scope.STOP)})
        welcome = (await client.frame("welcome"))["data"]
        assert welcome["scopes"] == ["stop"]
        assert "close_position" not in welcome["capabilities"]
        assert {"emergency_stop", "reduce_only"} <= set(welcome["capabilities"])
        assert kit.hub.status()["unauthenticated"] == 0


@pytest.mark.parametrize(
    "first",
    [
        json.dumps({"type": "auth", "data": {"token": "nobody's"}}),
        json.dumps({"type": "auth", "data": {}}),
        json.dumps({"type": "subscribe", "data": {"channels": ["ticks"]}}),
        json.dumps({"type": "emergency_stop"}),
        "no JSON",
        b"\xff\xfe",
    ],
)
async def test_another_first_frame_does_not(first: str | bytes) -> None:
    async with hub_kit() as kit:
        client = await kit.client(None)
        await client.socket.send(first)
        code, _ = await client.closed()
        assert code == Close.UNAUTHORIZED
        assert client.frames == []
        assert kit.port.asked == []
        assert kit.hub.stats.unauthorized == 1


async def test_who_says_nothing_is_sent_away() -> None:
    async with hub_kit(auth_s=0.05) as kit:
        client = await kit.client(None)
        assert await client.closed() == (Close.AUTH_TIMEOUT, "no auth frame within 0.05 s")


async def test_who_leaves_before_saying_anything_leaves_nothing_behind() -> None:
    async with hub_kit() as kit:
        client = await kit.client(None)
        await client.close()
        await eventually(lambda: kit.hub.status()["unauthenticated"] == 0)


async def test_a_wrong_token_in_the_header_is_refused_at_the_handshake() -> None:
    async with hub_kit() as kit:
        with pytest.raises(InvalidStatus) as refused:
            await kit.client("wrong")
        assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"]
)
async def test_a_page_of_another_site_is_refused_whatever_token_it_has(origin: str) -> None:
    async with hub_kit() as kit:
        for token in (TOKEN, None):
            with pytest.raises(InvalidStatus) as refused:
                await kit.client(token, origin=origin)
            assert refused.value.response.status_code == 403


async def test_the_gateway_s_own_pages_and_allowed_ones_may_connect() -> None:
    async with hub_kit(allowed_origins=("https://desk.example",)) as kit:
        await kit.client(origin=f"http://127.0.0.1:{kit.server.port}")
        await kit.client(origin="https://desk.example")


async def test_a_foreign_host_name_is_refused() -> None:
    """As a page would ask whose name was made to point here."""
    async with hub_kit() as kit:
        kit.url = f"ws://rebound.example:{kit.server.port}/websocket/ws"
        with pytest.raises(InvalidStatus) as refused:
            await kit.client(host="127.0.0.1", port=kit.server.port)
        assert refused.value.response.status_code == 400


async def test_no_more_than_max_connections() -> None:
    async with hub_kit(max_connections=2) as kit:
        first, _ = await kit.client(), await kit.client()
        with pytest.raises(InvalidStatus) as refused:
            await kit.client()
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body)["code"] == "too_many_connections"
        assert refused.value.response.headers["Retry-After"] == "5"
        assert kit.hub.health()["status"] == "full"
        await first.close()
        await eventually(lambda: not kit.hub.full)
        await kit.client()


async def test_who_has_yet_to_say_who_it_is_takes_nobody_s_place() -> None:
    async with hub_kit(max_connections=2) as kit:
        late = [await kit.client(None) for _ in range(2)]
        await eventually(lambda: kit.hub.crowded)
        with pytest.raises(InvalidStatus) as refused:
            await kit.client(None)
        assert refused.value.response.status_code == 503
        await kit.client()
        await kit.client()
        await late[0].send("auth", {"token": TOKEN})
        assert (await late[0].closed())[0] == Close.FULL


async def test_a_connection_ends_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LEEWAY_S", 0.1 - 600)
    async with hub_kit() as kit:
        client = await kit.client(None)
        await client.send("auth", {"token": token_of(Scope.READ, ttl_s=600)})
        assert await client.closed() == (Close.UNAUTHORIZED, "expired_token")


async def test_a_token_shown_again_carries_on() -> None:
    async with hub_kit() as kit:
        client = await kit.client(token_of(Scope.READ))
        await client.send("auth", {"token": token_of(Scope.TRADE)})
        await client.frame("welcome", lambda frame: "trade" in frame["data"]["scopes"])
        await client.send("auth", {"token": token_of(Scope.ADMIN, subject="bob")})
        assert (await client.frame("error"))["data"]["code"] == "forbidden"
        await client.send("auth", {"token": "nobody's"})
        await client.frame("error", lambda frame: frame["data"]["code"] == "invalid_token")
        assert kit.hub.clients[0].principal.subject == "ann"
        assert Scope.ADMIN not in kit.hub.clients[0].principal.scopes


async def test_the_server_s_end_is_told() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        await kit.server.stop(2.0)
        code, _ = await client.closed()
        assert code == 1012


async def test_a_token_in_the_address_is_worth_nothing() -> None:
    async with hub_kit(auth_s=0.05) as kit:
        kit.url += f"?token={TOKEN}"
        client = await kit.client(None)
        assert (await client.closed())[0] == Close.AUTH_TIMEOUT


async def test_guessing_tokens_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "BAD_TOKENS_A_MINUTE", 3)
    async with hub_kit() as kit:
        codes = []
        for _ in range(4):
            client = await kit.client(None)
            await client.send("auth", {"token": "guess"})
            codes.append(await client.closed())
        assert codes[0] == (Close.UNAUTHORIZED, "invalid_token")
        assert codes[-1] == (Close.UNAUTHORIZED, "rate_limited")
        await asyncio.wait_for(kit.client(), 20)

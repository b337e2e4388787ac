"""What clients are told, and what they may ask."""

import asyncio
import json
from typing import Any

import pytest
from support.eventually import eventually
from support.hub_kit import Client, HubKit, hub_kit, token_of

from mt5_bridge.core.channels import Channel
from mt5_bridge.gateway.auth import Scope
from mt5_bridge.gateway.hub import inbound
from mt5_bridge.gateway.hub.client import Peer
from mt5_bridge.gateway.hub.rights import NEEDS

EVERYTHING = {"channels": [channel.value for channel in Channel]}


class Blocked:
    """A peer that cannot be written to for now."""

    ready = False

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def write(self, frames: bytes) -> None:
        self.peer.write(frames)

    def close(self, code: int, reason: str) -> None:
        self.peer.close(code, reason)


def tick(kit: HubKit, symbol: str, bid: float) -> None:
    kit.port.tell(Channel.TICKS, symbol, "tick_data", {"symbol": symbol, "bid": bid})


# --- what is told


async def test_each_hears_what_it_has_subscribed_to() -> None:
    async with hub_kit() as kit:
        every = await kit.client(subscribe=EVERYTHING)
        euro = await kit.client(subscribe={"symbols": ["EURUSD"]})
        events = await kit.client(subscribe={"channels": ["events"]})
        nothing = await kit.client()
        tick(kit, "EURUSD", 1.1)
        tick(kit, "GBPUSD", 1.3)
        kit.port.tell(Channel.EVENTS, "", "order_result", {"n": 1})
        kit.port.tell(Channel.HEALTH, "heartbeat", "heartbeat", {"status": "ok"})
        await every.frame("heartbeat")
        await events.frame("order_result")
        await euro.frame("tick_data")
        for client in (every, euro, events, nothing):
            await client.ask("heartbeat", request_id="h", result="heartbeat_response")
        assert [data["symbol"] for data in every.of("tick_data")] == ["EURUSD", "GBPUSD"]
        assert [data["symbol"] for data in euro.of("tick_data")] == ["EURUSD"]
        assert events.of("tick_data") == euro.of("order_result") == []
        assert [frame["type"] for frame in nothing.frames] == ["welcome", "heartbeat_response"]


async def test_the_bridge_is_listened_to_only_while_somebody_hears() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        assert kit.port.listeners == []
        await client.ask("subscribe", {"channels": ["ticks"]}, request_id="1")
        other = await kit.client(subscribe={"channels": ["events"]})
        assert len(kit.port.listeners) == 1
        await client.ask("unsubscribe", {"channels": ["ticks"]}, request_id="2")
        assert len(kit.port.listeners) == 1
        await other.close()
        await eventually(lambda: not kit.port.listeners)


async def test_who_comes_later_gets_the_picture_first() -> None:
    async with hub_kit() as kit:
        kit.port.picture = [(Channel.ACCOUNT, "account_info", b'{"type":"account_info","data":{"balance":1}}')]
        first = await kit.client(subscribe=EVERYTHING)
        await first.frame("account_info")
        tick(kit, "EURUSD", 1.1)
        tick(kit, "GBPUSD", 1.3)
        kit.port.tell(Channel.EVENTS, "", "order_result", {"n": 1})
        await first.frame("order_result")
        second = await kit.client(subscribe={"channels": ["account", "events"], "symbols": ["GBPUSD"]})
        await second.frame("account_info")
        await second.frame("tick_data")
        assert [data["symbol"] for data in second.of("tick_data")] == ["GBPUSD"]
        assert second.of("order_result") == []
        # The answer comes before what it promises, and what is known already is not told again.
        assert [frame["type"] for frame in second.frames[:2]] == ["welcome", "command_result"]
        await second.ask("subscribe", {"symbols": ["EURUSD"]}, request_id="more")
        await eventually(lambda: len(second.of("tick_data")) == 2)
        assert [data["symbol"] for data in second.of("tick_data")] == ["GBPUSD", "EURUSD"]


async def test_nothing_of_a_channel_follows_the_answer_that_ends_it() -> None:
    async with hub_kit() as kit:
        client = await kit.client(subscribe=EVERYTHING)
        left = await client.ask("unsubscribe", {"symbols": ["EURUSD"]}, request_id="1")
        assert left["data"] == {"channels": EVERYTHING["channels"], "symbols": ["GBPUSD"]}
        tick(kit, "EURUSD", 1.1)
        tick(kit, "GBPUSD", 1.3)
        await client.frame("tick_data")
        await client.ask("heartbeat", request_id="h", result="heartbeat_response")
        assert [data["symbol"] for data in client.of("tick_data")] == ["GBPUSD"]


async def test_what_waits_for_a_slow_client_goes_with_its_subscription() -> None:
    async with hub_kit() as kit:
        client = await kit.client(subscribe={"symbols": ["EURUSD", "GBPUSD"]})
        (slow,) = kit.hub.clients
        slow.peer = Blocked(slow.peer)
        tick(kit, "EURUSD", 1.1)
        tick(kit, "GBPUSD", 1.3)
        await eventually(lambda: len(slow.queue) == 2)
        await client.send("unsubscribe", {"symbols": ["EURUSD"]}, request_id="u")
        await eventually(lambda: slow.subscriptions.symbols == frozenset({"GBPUSD"}))
        slow.peer = slow.peer.peer
        slow.flush()
        await client.frame("tick_data")
        await client.ask("heartbeat", request_id="h", result="heartbeat_response")
        assert [data["symbol"] for data in client.of("tick_data")] == ["GBPUSD"]


async def test_who_shows_a_token_that_may_read_no_more_hears_no_more() -> None:
    async with hub_kit() as kit:
        client = await kit.client(token_of(Scope.READ, Scope.STOP), subscribe=EVERYTHING)
        await client.send("auth", {"token": token_of(Scope.STOP)})
        await client.frame("welcome", lambda frame: frame["data"]["scopes"] == ["stop"])
        tick(kit, "EURUSD", 1.1)
        await client.ask("heartbeat", request_id="h", result="heartbeat_response")
        assert client.of("tick_data") == []
        assert kit.port.listeners == []


async def test_who_reads_over_http_gets_nothing_from_before_what_was_done_here() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        drops = kit.cache_drops()
        await client.ask("get_positions", {}, request_id="1")
        assert kit.cache_drops() == drops
        await client.ask("close_position", {"ticket": 7}, request_id="2")
        assert kit.cache_drops() == drops + 1
        await client.send("trading_signal", {"symbol": "EURUSD", "action": "BUY"}, request_id=3)
        await client.frame("trading_signal_executed")
        assert kit.cache_drops() == drops + 2


async def test_events_come_in_order_and_unchanged() -> None:
    async with hub_kit() as kit:
        clients = [await kit.client(subscribe={"channels": ["events"]}) for _ in range(3)]
        for number in range(500):
            kit.port.tell(Channel.EVENTS, "", "order_result", number)
        for client in clients:
            await client.frame("order_result", lambda frame: frame["data"] == 499)
            assert client.of("order_result") == list(range(500))


async def test_a_broadcast_reaches_everyone() -> None:
    async with hub_kit() as kit:
        clients = [await kit.client(), await kit.client(token_of(Scope.STOP))]
        assert kit.hub.broadcast("ann", "maintenance") == 2
        for client in clients:
            assert (await client.frame("broadcast"))["data"] == {"by": "ann", "message": "maintenance"}


async def test_statistics_outlive_clients() -> None:
    async with hub_kit() as kit:
        client = await kit.client(token_of(Scope.READ), subscribe=EVERYTHING)
        tick(kit, "EURUSD", 1.1)
        await client.frame("tick_data")
        await client.socket.send("nonsense")
        await client.frame("error")
        status = kit.hub.status()
        (shown,) = status["clients"]
        assert (shown["by"], shown["scopes"], shown["remote"]) == ("ann", ["read"], "127.0.0.1")
        assert shown["subscriptions"]["channels"] == EVERYTHING["channels"]
        assert (shown["received"], shown["invalid"]) == (2, 1)
        assert status["subscriptions"]["ticks"] == 1
        assert status["listening"]
        before = kit.hub.totals()
        await client.close()
        await eventually(lambda: not kit.hub.clients)
        after = kit.hub.totals()
        assert after == before
        assert (after["connected"], after["peak"], after["sent"], after["frames"]) == (1, 1, 4, 1)


# --- what is asked


async def test_commands_are_answered_by_their_names() -> None:
    async with hub_kit() as kit:
        client = await kit.client(token_of(Scope.ADMIN))
        answer = await client.ask("close_position", {"ticket": 7}, request_id="c1")
        assert answer == {"command": "close_position", "success": True, "data": {"asked": "close_position"}}
        answer = await client.ask(
            "mt5_command", {"command": "positions_get"}, request_id="c2", result="mt5_command_result"
        )
        assert answer["command"] == "get_positions"
        assert await client.ask("account_info", {}, request_id="c3", result="account_info_processed")
        assert await client.ask("tick_data", {}, request_id="c4", result="tick_data_processed")
        assert kit.port.asked == [
            ("close_position", {"ticket": 7}, "ann", "c1"),
            ("get_positions", {}, "ann", "c2"),
        ]
        assert kit.hub.totals()["account_info_processed"] == kit.hub.totals()["tick_data_processed"] == 1


@pytest.mark.parametrize(
    ("params", "asked"), [({"ticket": 7}, {"ticket": 7}), ({}, {}), (None, {}), ({"deep": [1, {"x": None}]}, None)]
)
async def test_an_mt5_command_takes_its_params_along(params: Any, asked: Any) -> None:
    async with hub_kit() as kit:
        client = await kit.client(token_of(Scope.ADMIN))
        answer = await client.ask(
            "mt5_command", {"command": "close_position", "params": params}, request_id="c", result="mt5_command_result"
        )
        assert (answer["command"], answer["success"]) == ("close_position", True)
        assert kit.port.asked == [("close_position", params if asked is None else asked, "ann", "c")]


async def test_an_mt5_command_subscribes_and_its_wrong_params_are_told() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        for params, success in (({"symbols": ["EURUSD"]}, True), (None, True), (5, False), ({"channels": [1]}, False)):
            data = {"command": "subscribe", "params": params}
            answer = await client.ask("mt5_command", data, request_id=str(params), result="mt5_command_result")
            assert answer["success"] is success
        data = {"command": "close_position", "params": 5}
        answer = await client.ask("mt5_command", data, request_id="c", result="mt5_command_result")
        assert answer["error"]["code"] == "invalid_params"


async def test_a_signal_is_answered_by_its_result() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        signal = {"symbol": "EURUSD", "action": "BUY", "volume": 0.1}
        await client.send("trading_signal", signal, request_id=5, signature="00ff")
        result = await client.frame("trading_signal_executed", lambda frame: frame["request_id"] == 5)
        assert result["data"] == {"signal_id": "s1", "status": "filled", "signature": "00ff"}
        assert kit.port.asked == [("trading_signal", signal, "token", "5")]
        assert [(entry.who, entry.what, entry.detail) for entry in kit.kept.audited] == [
            ("gateway:token", "WebSocket trading_signal", "filled request 5")
        ]


async def test_what_acts_is_audited_and_what_reads_is_not() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        await client.ask("get_status", {}, request_id="1")
        await client.ask("close_all", {}, request_id="2")
        await client.ask("emergency_stop", {}, request_id="3")
        assert [entry.what for entry in kit.kept.audited] == ["WebSocket close_all", "WebSocket emergency_stop"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "close_position", "data": 5}, "invalid_params"),
        ({"type": "subscribe", "data": {"channels": ["news"]}}, "invalid_params"),
        ({"type": "subscribe", "data": {"symbols": [f"S{n}" for n in range(1001)]}}, "invalid_params"),
        ({"type": "subscribe", "data": {"symbols": ["S" * 65]}}, "invalid_params"),
        ({"type": "mt5_command", "data": {"command": "shutdown"}}, "unknown_command"),
        ({"type": "mt5_command", "data": 5}, "unknown_command"),
        ({"type": "format_disk", "data": {}}, "unknown_command"),
    ],
)
async def test_what_cannot_be_done_is_answered(frame: dict[str, Any], code: str) -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        await client.socket.send(json.dumps({**frame, "request_id": "r"}))
        answer = await client.frame(
            "mt5_command_result" if frame["type"] == "mt5_command" else "command_result",
            lambda each: each["request_id"] == "r",
        )
        assert answer["data"]["error"]["code"] == code
        assert kit.port.asked == []


async def test_a_wrapped_command_has_its_params() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        for params in ({"ticket": 7}, [1], "x", 5):
            data = {"command": "close_position", "params": params}
            await client.send("mt5_command", data, request_id=str(params))
        await client.ask("heartbeat", request_id="h", result="heartbeat_response")
        assert kit.port.asked == [("close_position", {"ticket": 7}, "token", str({"ticket": 7}))]
        refused = [frame for frame in client.of("mt5_command_result") if not frame["success"]]
        assert [frame["error"]["code"] for frame in refused] == ["invalid_params"] * 3


async def test_half_of_a_character_ends_nothing() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        half = r"\ud800"
        for frame in (
            {"type": "subscribe", "data": {"symbols": [half]}},
            {"type": "close_all", "data": {}, "request_id": half},
            {"type": half, "data": {}, "request_id": half},
        ):
            await client.socket.send(json.dumps(frame).replace(r"\\", "\\"))
        await client.ask("close_all", {}, request_id="1")
        assert [request_id for _, _, _, request_id in kit.port.asked] == ["1"]


async def test_answers_are_never_answered_and_errors_once_a_second() -> None:
    async with hub_kit() as kit:
        client = await kit.client()
        for nonsense in ('{"type":"error","data":{}}', '{"type":"command_result","data":{}}'):
            await client.socket.send(nonsense)
        for nonsense in ("{", '{"type":"news","data":{}}', "[]", "\x00", '{"type":5}'):
            await client.socket.send(nonsense)
        await client.ask("heartbeat", request_id="h", result="heartbeat_response")
        assert len(client.of("error")) == 1
        assert kit.hub.totals()["invalid"] == 5


async def test_each_message_needs_its_scope() -> None:
    async with hub_kit() as kit:
        for scope in Scope:
            client = await kit.client(token_of(scope))
            may = client.of("welcome")[0]["capabilities"]
            for name, needs in NEEDS.items():
                implied = scope is Scope.ADMIN or needs in (None, scope) or (scope, needs) == (Scope.TRADE, Scope.READ)
                assert (name in may) == implied
                await _is_answered(client, name, allowed=implied)
            await client.close()


async def _is_answered(client: Client, name: str, *, allowed: bool) -> None:
    data: dict[str, Any] = {"channels": ["ticks"]} if name in ("subscribe", "unsubscribe") else {}
    request_id = f"{name}-direct"
    await client.send(name, data, request_id=request_id)
    answer = await eventually(
        lambda: next((frame for frame in client.frames if frame.get("request_id") == request_id), None), 20.0
    )
    if name == "heartbeat":
        assert answer["type"] == "heartbeat_response"
    elif name == "trading_signal":
        assert answer["type"] == ("trading_signal_executed" if allowed else "error")
        assert allowed or answer["data"]["code"] == "forbidden"
    else:
        assert answer["data"]["success"] == allowed
        assert allowed or answer["data"]["error"]["code"] == "forbidden"


async def test_a_defect_of_the_bridge_is_an_answer() -> None:
    async with hub_kit() as kit:
        kit.port.error = RuntimeError("a bug")
        client = await kit.client()
        answer = await client.ask("get_status", {}, request_id="1")
        assert answer["error"]["code"] == "defect"
        await client.send("trading_signal", {"symbol": "EURUSD", "action": "BUY"}, request_id="2")
        error = await client.frame("error")
        assert (error["request_id"], error["data"]["code"]) == ("2", "defect")
        await client.ask("heartbeat", request_id="h", result="heartbeat_response")


async def test_only_so_many_commands_are_under_way() -> None:
    async with hub_kit() as kit:
        kit.port.hang = asyncio.Event()
        client = await kit.client()
        for number in range(inbound.MAX_AT_ONCE):
            await client.send("get_status", {}, request_id=number)
        refused = await client.ask("get_status", {}, request_id="one more")
        assert refused["error"]["code"] == "overloaded"
        await client.send("trading_signal", {}, request_id="a signal")
        assert (await client.frame("error"))["data"]["code"] == "overloaded"
        # Whatever is under way, a stop is not held up.
        stopped = await client.ask("emergency_stop", {}, request_id="stop")
        assert stopped["data"]["state"] == "halted"
        kit.port.hang.set()
        await eventually(lambda: len(client.of("command_result")) == inbound.MAX_AT_ONCE + 2)
        assert (await client.ask("get_status", {}, request_id="again"))["success"]


async def test_a_client_that_leaves_does_not_undo_what_it_asked() -> None:
    async with hub_kit() as kit:
        kit.port.hang = asyncio.Event()
        client = await kit.client()
        await client.send("close_all", {}, request_id="1")
        await eventually(lambda: kit.port.asked)
        await client.close()
        await eventually(lambda: not kit.hub.clients)
        kit.port.hang.set()
        await eventually(lambda: [entry.what for entry in kit.kept.audited] == ["WebSocket close_all"])


# --- the stop


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"emergency_stop"}',
        '{"type":"emergency_stop","data":{"reason":5,"scope":"galaxy"},"request_id":[1]}',
        '{"type":"mt5_command","data":{"command":"stop"}}',
        '{"type":"emergency_\\u0073top","data":{}}',
        '{"type":"emergency_stop","data":{"volume":NaN}}',
    ],
)
async def test_the_type_of_a_stop_is_enough(frame: str) -> None:
    async with hub_kit() as kit:
        client = await kit.client(token_of(Scope.STOP))
        await client.socket.send(frame)
        await eventually(lambda: kit.port.stopped == ["ann"])
        answer = await client.frame("mt5_command_result" if "mt5_command" in frame else "command_result")
        assert answer["data"]["data"]["state"] == "halted"
        assert ("faults" in answer["data"]["data"]) == ("galaxy" in frame or "NaN" in frame)


async def test_a_stop_needs_its_scope() -> None:
    async with hub_kit() as kit:
        client = await kit.client(token_of(Scope.TRADE))
        answer = await client.ask("emergency_stop", {}, request_id="1")
        assert answer["error"]["code"] == "forbidden"
        assert kit.port.stopped == []


async def test_no_rate_limits_a_stop_away() -> None:
    async with hub_kit(rate_limit_messages=5) as kit:
        client = await kit.client()
        for number in range(300):
            await client.send("get_status", {}, request_id=number)
        answer = await client.ask("emergency_stop", {"reason": "enough"}, request_id="stop")
        assert answer["data"]["state"] == "halted"
        assert kit.port.stopped == ["token"]
        (error,) = client.of("error")[:1]
        assert error["code"] == "rate_limited"
        assert len(kit.port.asked) < 100
        assert kit.hub.totals()["refused"] > 200


async def test_a_stop_comes_before_what_the_client_has_yet_to_read() -> None:
    async with hub_kit() as kit:
        client = await kit.client(subscribe={"channels": ["events"]})
        before = len(client.frames)
        asking = asyncio.create_task(client.ask("emergency_stop", {}, request_id="stop"))
        await asyncio.sleep(0)
        for number in range(50):
            kit.port.tell(Channel.EVENTS, "", "order_result", number)
        await asking
        await eventually(lambda: len(client.of("order_result")) == 50)
        assert len(client.frames) == before + 51

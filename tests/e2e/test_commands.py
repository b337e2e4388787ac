"""Commands over the socket: each answered once, by its request_id, and doing its work once."""

import asyncio
import json
from typing import Any

import pytest
from support.eventually import eventually
from support.world import World, price

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_reads(shared: World) -> None:
    status = await shared.ask("get_status")
    assert status["halt"] == "active"
    account = await shared.ask("get_account")
    assert account["login"] == 5000001
    for name in ("get_positions", "get_orders", "get_symbols"):
        assert isinstance(await shared.ask(name), list)
    await shared.flowing()
    ticks = await shared.ask("get_ticks", symbol="XAUUSD", count=5)
    assert len(ticks) == 5
    assert [t["time_msc"] for t in ticks] == sorted(t["time_msc"] for t in ticks)
    published = set(shared.topics.ticks_of("XAUUSD"))
    assert (await shared.ask("get_ticks", symbol="XAUUSD", from_msc=min(published)[0], count=3))[0]["time_msc"] == min(
        published
    )[0]
    rates = await shared.ask("get_rates", symbol="XAUUSD", timeframe="M1", count=3)
    assert len(rates) == 3
    assert {"time", "open", "high", "low", "close", "tick_volume"} <= set(rates[0])
    for kind in ("deals", "orders"):
        assert isinstance(await shared.ask("get_history", kind=kind), list)


async def test_history_tells_what_was_traded(shared: World) -> None:
    result = await shared.open()
    closed = await shared.command("close_position", {"ticket": result["position"]})
    assert closed["success"], closed
    deals = [d for d in await shared.ask("get_history", kind="deals") if d["magic"] == result["magic"]]
    assert [d["ticket"] for d in deals][:1] == [result["deal"]]
    orders = await shared.ask("get_history", kind="orders", symbol="XAUUSD")
    assert result["order"] in [o["ticket"] for o in orders]


@pytest.mark.parametrize(
    ("type", "data", "code"),
    [
        ("nope", {}, "unknown_command"),
        ("close_position", {}, None),
        ("close_position", {"ticket": "x"}, None),
        ("close_position", {"ticket": 12345}, "not_found"),
        ("modify_position", {"ticket": 12345, "stop_loss": 1.0}, "not_found"),
        ("cancel_order", {"ticket": 12345}, "not_found"),
        ("modify_order", {"ticket": 12345, "price": 1.0}, "not_found"),
        ("get_rates", {"symbol": "XAUUSD", "timeframe": "M7"}, None),
        ("get_ticks", {"symbol": "NOPE"}, None),
        ("resume_trading", {}, None),
        ("mt5_command", {"command": "rm_rf", "params": {}}, "unknown_command"),
    ],
)
async def test_refusals_say_why(shared: World, type: str, data: dict[str, Any], code: str | None) -> None:
    answer = await shared.command(type, data)
    assert answer["command"] == type
    assert answer["success"] is False
    assert answer["error"]["message"]
    assert code in (None, answer["error"]["code"]), answer


async def test_a_person_acts_on_tickets(shared: World) -> None:
    first = await shared.open("AUDUSD", volume=0.02)
    ticket = first["position"]
    stop = price(first["price"] * 0.99, "AUDUSD")
    assert (await shared.command("modify_position", {"ticket": ticket, "stop_loss": stop}))["success"]
    assert (await shared.command("close_position", {"ticket": ticket, "volume": 0.01}))["success"]
    held = await shared.ask("get_positions")
    assert [(p["ticket"], p["volume"], p["stop_loss"]) for p in held] == [(ticket, 0.01, stop)]
    at = price(first["price"] * 0.9, "AUDUSD")
    pending = await shared.signal("AUDUSD", "BUY_LIMIT", volume=0.01, price=at, stop_loss=price(at * 0.9, "AUDUSD"))
    moved = price(at * 0.99, "AUDUSD")
    assert (await shared.command("modify_order", {"ticket": pending["order"], "price": moved}))["success"]
    assert (await shared.command("cancel_order", {"ticket": pending["order"]}))["success"]
    closed = await shared.command("close_all", {"symbol": "AUDUSD"})
    assert closed["success"], closed
    assert await shared.ask("get_positions") == []
    assert await shared.ask("get_orders") == []


async def test_the_aliases_of_mt5_command(shared: World) -> None:
    for name in ("get_positions", "get_account"):
        answer = await shared.command("mt5_command", {"command": name, "params": {}})
        assert answer["success"], (name, answer)


async def test_a_repeated_request_id_acts_once_and_gets_the_first_answer(shared: World) -> None:
    result = await shared.open("AUDUSD", volume=0.03)
    request = {"ticket": result["position"], "volume": 0.01}
    first = await shared.backend.command("close_position", request, request_id="same")
    again = await shared.backend.command("close_position", request, request_id="same")
    assert first["data"] == again["data"]
    assert [p["volume"] for p in await shared.ask("get_positions")] == [0.02]
    assert (await shared.command("close_all"))["success"]


async def test_ten_repetitions_at_once_act_once(shared: World) -> None:
    result = await shared.open("AUDUSD", volume=0.05)
    request = {"ticket": result["position"], "volume": 0.01}
    mark = len(shared.backend.frames)
    await asyncio.gather(*(shared.backend.send("close_position", request, request_id="at-once") for _ in range(10)))

    def answers() -> list[Any]:
        came = [f for f in shared.backend.frames[mark:] if f["type"] == "command_result"]
        return [f["data"] for f in came if f["request_id"] == "at-once"]

    await eventually(lambda: len(answers()) == 10, 5.0, "ten answers")
    assert answers() == [answers()[0]] * 10
    assert [p["volume"] for p in await shared.ask("get_positions")] == [0.04]
    assert (await shared.command("close_all"))["success"]


async def test_reads_are_never_remembered(shared: World) -> None:
    first = await shared.backend.command("get_positions", request_id="read")
    result = await shared.open("AUDUSD")
    second = await shared.backend.command("get_positions", request_id="read")
    assert (first["data"]["data"], len(second["data"]["data"])) == ([], 1)
    await shared.signal("AUDUSD", "CLOSE", position=result["position"])


async def test_frames_that_are_no_commands(shared: World) -> None:
    """They are answered with `error`, at most one a second, or not at all; and the connection lives on."""
    connection = await shared.backend.connected()
    mark = len(shared.backend.frames)
    for frame in (b"no json", b"[]", b"{}", b'{"type":7,"data":{}}', b'{"type":"unheard_of","data":{}}', b"\x00" * 100):
        await shared.backend.send_raw(frame)
    for type in ("error", "command_result", "order_processed", "heartbeat_response", "some_result"):
        await shared.backend.send(type, {"success": False, "message": "echo"}, request_id="echo")
    await connection.send(json.dumps({"type": "unheard_of", "data": {}}).encode())
    assert await shared.state() == "active"
    answers = [f for f in shared.backend.frames[mark:] if f["type"] in ("error", "command_result")]
    assert [f for f in answers if f.get("request_id") == "echo"] == []
    assert 1 <= len([f for f in answers if f["type"] == "error"]) <= 2
    assert shared.backend.sockets == {connection}


async def test_a_command_without_request_id_works(shared: World) -> None:
    mark = len(shared.backend.frames)
    await shared.backend.send("get_account", {})
    answer = await shared.backend.frame("command_result", after=mark)
    assert answer["data"]["success"]


async def test_ticks_are_not_sent_over_the_socket_unless_asked(shared: World) -> None:
    await shared.flowing()
    assert [f for f in shared.backend.frames if f["type"] == "tick_data"] == []
    assert (await shared.command("subscribe", {"symbols": ["USDCHF"]}))["success"]
    await shared.topics.quote("USDCHF")
    assert (await shared.command("unsubscribe", {"symbols": ["USDCHF"]}))["success"]


async def test_a_heartbeat_is_answered(shared: World) -> None:
    assert (await shared.command("heartbeat"))["success"]


async def test_reducing_lets_only_out(shared: World) -> None:
    result = await shared.open("GBPUSD")
    assert (await shared.command("reduce_only", {"reason": "a pause"}))["success"]
    try:
        assert await shared.state() == "reducing"
        denied = await shared.signal("GBPUSD", "BUY", volume=0.01, stop_loss=result["stop_loss"])
        assert (denied["status"], denied["reason"]) == ("denied", "reducing")
        wider = price(result["stop_loss"] - 0.01, "GBPUSD")
        denied = await shared.signal("GBPUSD", "MODIFY", position=result["position"], stop_loss=wider)
        assert (denied["status"], denied["reason"]) == ("denied", "reducing")
        tighter = price(result["stop_loss"] + 0.001, "GBPUSD")
        allowed = await shared.signal("GBPUSD", "MODIFY", position=result["position"], stop_loss=tighter)
        assert allowed["status"] == "modified"
        assert (await shared.signal("GBPUSD", "CLOSE"))["status"] == "closed"
    finally:
        answer = await shared.command("resume_trading", {"reason": "over", "by": "a tester"})
    assert answer["success"], answer
    assert await shared.state() == "active"

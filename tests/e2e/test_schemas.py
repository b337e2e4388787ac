"""What a running bridge sends is what the published schemas say: every message, no field more and none less."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from support.backend import Backend, Frame
from support.daemon import STANDARD, Daemon
from support.schemas import ROOT, fault, types
from support.topics import Record, unique
from support.world import TOKEN, MakeWorld, World, price

ASYNCAPI: dict[str, Any] = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8"))


def check(frames: Iterable[Frame]) -> set[str]:
    """Validates all; returns the types seen."""
    seen: set[str] = set()
    for frame in frames:
        assert fault(f"from_bridge.{frame['type']}", frame, strict=True) is None
        seen.add(frame["type"])
    return seen


def check_record(record: Record) -> None:
    """Its headers, as the AsyncAPI document has them."""
    headers = ASYNCAPI["components"]["messages"][record.frame["type"]]["headers"]["properties"]
    assert set(record.headers) == set(headers)
    assert record.headers["schema"] == headers["schema"]["const"].encode()


async def ask(world: World, type: str, data: Any = None, *, refused: bool = False) -> Any:
    """A command that its schema lets pass; what it found."""
    message = {"type": type, "data": {} if data is None else data}
    assert fault(f"to_bridge.{type}", message) is None
    answer = await world.command(type, data)
    assert answer["success"] is not refused, answer
    return answer.get("data")


async def trade(world: World) -> None:
    """Signals and commands of every kind."""
    opened = await world.open("AUDUSD", volume=0.03)
    ticket, far = opened["position"], price(opened["price"] * 0.9, "AUDUSD")
    pending = await world.signal("AUDUSD", "BUY_LIMIT", volume=0.01, price=far, stop_loss=price(far * 0.9, "AUDUSD"))
    await ask(world, "modify_position", {"ticket": ticket, "stop_loss": far})
    await ask(world, "modify_order", {"ticket": pending["order"], "price": price(far * 0.99, "AUDUSD")})
    for name in ("get_positions", "get_orders", "get_symbols", "get_status", "get_account", "heartbeat"):
        await ask(world, name)
    await ask(world, "get_rates", {"symbol": "AUDUSD", "timeframe": "M1", "count": 3})
    await ask(world, "get_ticks", {"symbol": "AUDUSD", "count": 3})
    await ask(world, "cancel_order", {"ticket": pending["order"]})
    await ask(world, "close_position", {"ticket": ticket, "volume": 0.01})
    await ask(world, "mt5_command", {"command": "close_all_positions", "params": {"symbol": "AUDUSD"}})
    for kind in ("deals", "orders"):
        assert await ask(world, "get_history", {"kind": kind, "from": 1_700_000_000})
    await ask(world, "subscribe", {"symbols": ["EURUSD", "NOPE"]})
    await ask(world, "unsubscribe", {"symbols": ["EURUSD"]})
    await ask(world, "close_position", {"ticket": 12345}, refused=True)
    assert (await world.signal("AUDUSD", "BUY", volume=0.01))["reason"] == "no_stop_loss"
    assert (await world.signal("AUDUSD", "CLOSE"))["reason"] == "not_found"
    listed = await ask(world, "get_signals", {"count": 5})
    assert await ask(world, "get_signal", {"signal_id": listed[0]["signal_id"]})


async def test_hybrid(new_world: MakeWorld) -> None:
    async with new_world(HEARTBEAT_INTERVAL="0.5", ACCOUNT_INTERVAL="0.5") as world:
        await world.start()
        await world.flowing()
        await trade(world)
        await world.topics.send(b"no envelope", key="k", headers={"mine": b"1"})
        await world.backend.send_raw(b'{"type": "strange", "data": {}}')
        await world.backend.frame("error")
        await world.backend.frame("heartbeat")
        await world.open("AUDUSD")
        await ask(world, "emergency_stop", {"reason": "test", "by": "me"})
        await world.halted("done")
        await ask(world, "resume_trading", {"reason": "test", "by": "me"})
        await ask(world, "reduce_only", {"reason": "test"})
        await world.topics.event("connection_status")
        await world.topics.event("account_info")
        await world.daemon.stop()
        seen_there = check(world.backend.frames)
        seen_here = check(record.frame for record in (*world.topics.ticks, *world.topics.events))
        for record in (*world.topics.ticks[:100], *world.topics.events):
            check_record(record)
        [letter] = world.topics.dead
        wanted = ASYNCAPI["components"]["messages"]["dead_letter"]["headers"]["properties"]
        assert set(letter.headers) == {*wanted, "mine"}
        assert seen_here == {"tick_data", *ASYNCAPI["channels"]["mt5_events"]["messages"]}
        assert seen_there == types("from_bridge") - {"connection_status", "tick_data", "bar_data"}
        answered = {f["data"]["command"] for f in world.backend.frames if f["type"] == "command_result"}
        assert answered | {"mt5_command", "trading_signal"} == types("to_bridge")


async def test_standard(tmp_path: Path) -> None:
    async with Backend(TOKEN) as backend:
        daemon = Daemon(tmp_path, {"BACKEND_WS_URL": backend.url}, STANDARD)
        daemon.start()
        try:
            await backend.frame("tick_data", timeout=15.0)
            signal = {"signal_id": unique(), "symbol": "AUDUSD", "action": "BUY"}
            await backend.send("trading_signal", signal)
            await backend.frame("order_result")
            await daemon.stop()
        finally:
            daemon.close()
        assert {"hello", "tick_data", "order_result"} <= check(backend.frames)

"""What the daemon says by itself once it runs: on the socket, and on the topics."""

from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from support.eventually import eventually
from support.topics import Topics
from support.world import TOKEN, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOGIN = 5000001
ACCOUNT = {"login", "server", "currency", "leverage", "balance", "equity", "margin", "free_margin", "margin_level"}
ACCOUNT |= {"profit", "margin_mode", "trade_allowed"}
HEARTBEAT = {"status", "halt", "channels", "tick_age_ms", "clock_skew_ms", "rss_mb", "loop_stall_ms", "uptime_s"}
TICK = {"symbol", "bid", "ask", "last", "volume", "spread", "time", "time_msc", "flags", "seq"}


async def test_hello_comes_first_and_says_who_this_is(shared: World) -> None:
    first = shared.backend.frames[0]
    assert first["type"] == "hello"
    assert datetime.fromisoformat(first["timestamp"]).utcoffset() == UTC.utcoffset(None)
    hello = first["data"]
    assert {name: hello[name] for name in ("bridge_id", "mode", "account", "symbols")} == {
        "bridge_id": "e2e",
        "mode": "hybrid",
        "account": LOGIN,
        "symbols": ["AUDUSD", "GBPUSD", "XAUUSD"],
    }
    assert hello["halt"] == {"state": "active", "reason": "", "by": "", "at": None}
    assert {"emergency_stop", "get_status", "mt5_command", "trading_signal"} <= set(hello["capabilities"])
    assert shared.backend.tokens[0] == f"Bearer {TOKEN}"


async def test_account_positions_and_heartbeat_follow(shared: World) -> None:
    account = (await shared.backend.frame("account_info"))["data"]
    assert account.keys() >= ACCOUNT
    assert (account["login"], account["server"], account["margin_mode"]) == (LOGIN, "Paper-Demo", "hedging")
    positions = (await shared.backend.frame("positions"))["data"]
    assert isinstance(positions, list | dict)
    heartbeat = (await shared.backend.frame("heartbeat", timeout=10.0))["data"]
    assert heartbeat.keys() >= HEARTBEAT
    assert heartbeat["halt"] == "active"
    assert set(heartbeat["channels"]) == {"terminal", "redpanda", "backend"}


async def test_a_tick_on_the_topic(shared: World) -> None:
    await shared.flowing()
    record = shared.topics.ticks[-1]
    frame, tick = record.frame, record.data
    assert frame["type"] == "tick_data"
    assert tick.keys() == TICK
    assert record.key == tick["symbol"].encode()
    assert record.timestamp_ms == tick["time_msc"]
    assert datetime.fromisoformat(tick["time"]).timestamp() * 1000 == pytest.approx(tick["time_msc"])
    assert record.headers == {"schema": b"tick_data/1", "bridge": b"e2e", "account": str(LOGIN).encode()}
    assert 0 <= tick["spread"] < 1000


async def test_ticks_tell_utc_and_keep_their_order(shared: World) -> None:
    await shared.flowing()
    newest = shared.topics.ticks[-1]
    made = datetime.fromisoformat(newest.frame["timestamp"]).timestamp() * 1000
    assert 0 <= made - newest.data["time_msc"] < 2000
    for symbol in ("AUDUSD", "GBPUSD", "XAUUSD"):
        ticks = shared.topics.ticks_of(symbol)
        assert ticks == sorted(set(ticks))


async def test_a_symbols_partition_is_the_one_a_java_client_would_choose(shared: World, bootstrap: str) -> None:
    await shared.flowing()
    async with Topics(bootstrap) as other:
        producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 0})
        for symbol in ("AUDUSD", "GBPUSD", "XAUUSD"):
            producer.produce(other.tick_topic, b'{"type":"t","data":{}}', symbol)
        producer.flush(5)
        await eventually(lambda: len(other.ticks) == 3)
        expected = {record.key: record.partition for record in other.ticks}
    assert {record.key: record.partition for record in shared.topics.ticks} == expected


async def test_events_carry_the_login_as_key_and_the_same_id_in_every_copy(shared: World) -> None:
    result = await shared.open("GBPUSD")
    await shared.signal("GBPUSD", "CLOSE", target_signal_id=result["signal_id"])
    record = next(r for r in shared.topics.events if r.frame["type"] == "order_result")
    assert record.key == str(LOGIN).encode()
    assert record.headers["schema"] == b"order_result/1"
    frame = await shared.backend.frame("order_result", where=lambda f: f["data"] == record.data)
    assert frame["event_id"] == record.frame["event_id"]
    opened = await shared.topics.event("position_opened", lambda d: d["ticket"] == result["position"])
    closed = await shared.topics.event("position_closed", lambda d: d["ticket"] == result["position"])
    assert opened["signal_id"] == closed["signal_id"] == result["signal_id"]
    assert closed["reason"] == "signal"
    assert set(closed) >= {"price_close", "profit", "commission", "swap"}
    status = {d["channel"]: d["state"] for d in (f["data"] for f in shared.topics.of("connection_status"))}
    assert status["terminal"] == "connected"

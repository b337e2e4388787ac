"""What must not trade: each signal is answered once, and by its reason; what is no signal is put aside."""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE
from typing import Any

import pytest
from support.broker import free_port
from support.daemon import environment
from support.eventually import eventually
from support.topics import trading_signal, unique
from support.world import World, price

pytestmark = pytest.mark.asyncio(loop_scope="module")
SYMBOL = "GBPUSD"


async def good(world: World, **changes: Any) -> dict[str, Any]:
    """The fields of a BUY that would fill, and what a test makes of them."""
    bid = (await world.topics.quote(SYMBOL))["bid"]
    fields = {"symbol": SYMBOL, "action": "BUY", "volume": 0.01, "stop_loss": price(bid * 0.98, SYMBOL), **changes}
    return {name: value for name, value in fields.items() if value is not ...}


async def nothing_open(world: World) -> bool:
    return bool(await world.ask("get_positions") == [] and await world.ask("get_orders") == [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stop_loss": ...}, "no_stop_loss"),
        ({"symbol": "NOPE"}, "unknown_symbol"),
        ({"volume": 11}, "max_volume"),
        ({"volume": 0.001}, "below_min_volume"),
        ({"risk_percent": 101, "volume": ...}, "risk"),
        ({"stop_loss": 9.0}, "invalid_stops"),
        ({"action": "CLOSE", "volume": ...}, "not_found"),
        ({"action": "CANCEL", "order": 12345}, "not_found"),
        ({"action": "MODIFY", "position": 12345}, "not_found"),
        ({"action": "CLOSE_BY", "position": 12345, "order": 12346}, "not_found"),
        ({"action": "CLOSE", "target_signal_id": "never-seen"}, "not_found"),
        ({"action": "SELL_LIMIT", "price": 0.5, "stop_loss": 2.0}, "invalid"),
    ],
)
async def test_a_broken_rule_is_denied_with_its_reason(shared: World, changes: dict[str, Any], reason: str) -> None:
    result = await shared.signal(**await good(shared, **changes))
    assert (result["status"], result["reason"]) == ("denied", reason), result
    assert result["detail"]
    assert result["order"] is None
    assert await nothing_open(shared)


@pytest.mark.parametrize(
    ("created_s", "ttl_ms", "reason"),
    [(-60.0, None, "stale"), (60.0, None, "from_future"), (-2.0, 1000, "stale")],
)
async def test_old_and_future_signals(shared: World, created_s: float, ttl_ms: int | None, reason: str) -> None:
    changes = {"created_at": round((time.time() + created_s) * 1000), **({"ttl_ms": ttl_ms} if ttl_ms else {})}
    result = await shared.signal(**await good(shared, **changes))
    assert (result["status"], result["reason"]) == ("denied", reason)


async def test_an_old_record_without_created_at_is_stale(shared: World) -> None:
    signal_id = unique()
    value = trading_signal(signal_id, **await good(shared))
    await shared.topics.send(value, key=SYMBOL, timestamp_ms=round((time.time() - 60) * 1000))
    assert (await shared.topics.result(signal_id))["reason"] == "stale"


async def test_a_repeated_signal_trades_once_and_is_silent_on_the_topic(shared: World) -> None:
    fields = await good(shared)
    signal_id = unique()
    for _ in range(3):
        await shared.topics.signal(signal_id, **fields)
    result = await shared.topics.result(signal_id)
    assert result["status"] == "filled"
    closed = await shared.signal(SYMBOL, "CLOSE")  # keyed alike: the repetitions were read before it
    assert closed["status"] == "closed"
    assert closed["volume_filled"] == 0.01
    assert len(shared.topics.results(signal_id)) == 1

    # Over the socket the first answer comes again, be it from another channel.
    mark = len(shared.backend.frames)
    await shared.backend.send("trading_signal", {"signal_id": signal_id, **fields}, request_id="again")
    again = await shared.backend.frame("order_result", after=mark)
    assert again["event_id"] == shared.topics.results(signal_id)[0]["event_id"]
    assert await nothing_open(shared)


async def test_a_denied_id_is_spent_too(shared: World) -> None:
    signal_id = unique()
    await shared.topics.signal(signal_id, **await good(shared, stop_loss=...))
    assert (await shared.topics.result(signal_id))["status"] == "denied"
    await shared.topics.signal(signal_id, **await good(shared))
    assert (await shared.signal(SYMBOL, "CLOSE"))["reason"] == "not_found"
    assert len(shared.topics.results(signal_id)) == 1


@pytest.mark.parametrize(
    "value",
    [
        b"not json \xff\xfe",
        b"[]",
        b"{}",
        b"",
        b'{"type":"trading_signal"}',
        b'{"type":"trading_signal","data":7}',
        b'{"type":"command","data":{}}',
        b'{"type":"emergency_stop","data":{}}',
        trading_signal(None, SYMBOL, "HODL"),
        trading_signal(None, SYMBOL, "BUY", volume=0),
        trading_signal(None, SYMBOL, "BUY", volume=-1),
        trading_signal(None, SYMBOL, "BUY", volume="much"),
        b'{"type":"trading_signal","data":{"symbol":"GBPUSD","action":"BUY","volume":NaN}}',
        b'{"type":"trading_signal","data":{"symbol":"GBPUSD","action":"BUY","volume":1e999}}',
        b"[" * 100_000,
    ],
)
async def test_what_does_not_decode_becomes_a_dead_letter(shared: World, value: bytes) -> None:
    mark = len(shared.topics.dead)
    await shared.topics.send(value, key="any key", headers={"trace": b"abc"})
    letters = await eventually(lambda: shared.topics.dead[mark:], 5.0, "a dead letter")
    assert letters[0].raw == value
    assert letters[0].key == b"any key"
    assert letters[0].headers["reason"]
    assert await shared.state() == "active"


async def test_a_header_without_a_value_harms_nobody(shared: World) -> None:
    mark = len(shared.topics.dead)
    for value in (b"rubbish", trading_signal(unique(), SYMBOL, "BUY", volume=-1)):
        await shared.topics.send(value, headers={"signature": None, "trace": b"abc"})
    await eventually(lambda: len(shared.topics.dead) >= mark + 2, 5.0, "two dead letters")
    for letter in shared.topics.dead[mark:]:
        assert letter.headers["trace"] == b"abc"
        assert not letter.headers["signature"]
    assert await shared.state() == "active"


async def test_the_dead_letters_can_be_listed_and_looked_at(shared: World) -> None:
    mark = len(shared.topics.dead)
    value = trading_signal(None, SYMBOL, "BUY", volume=-1, comment="backend-secret \x1b[2J")
    await shared.topics.send(value, key="a key", headers={"trace": b"abc"})
    (letter,) = await eventually(lambda: shared.topics.dead[mark:], 5.0, "a dead letter")
    place = f"{letter.partition}:{letter.offset}"

    async def dlq(*arguments: str, **env: str) -> tuple[int | None, str, str]:
        command = (sys.executable, "-m", "mt5_bridge", "dlq", *arguments)
        process = await asyncio.create_subprocess_exec(
            *command, env=environment({**shared.daemon.env, **env}), stdout=PIPE, stderr=PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 60.0)
        return process.returncode, out.decode(), err.decode()

    code, out, err = await dlq("--json", "--limit", "1000")
    assert code == 0, err
    (listed,) = [each for each in json.loads(out) if each["place"] == place]
    assert (listed["reason"], listed["key"], listed["bytes"]) == ("invalid", "a key", len(value))
    assert listed["source"].startswith(f"{shared.topics.signal_topic}/")
    code, out, _ = await dlq(place)
    assert code == 0
    assert "  trace: abc" in out.splitlines()
    assert '"volume": -1' in out
    assert "backend-secret" not in out
    assert "\x1b" not in out
    code, out, err = await dlq(REDPANDA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    assert (code, out, len(err.strip().splitlines())) == (1, "", 1)
    assert await shared.state() == "active"


@pytest.mark.parametrize("fault", [{"volume": -1}, {"action": "HODL"}, {"stop_loss": "low"}, {"symbol": ""}])
async def test_an_undecodable_signal_with_an_id_is_answered_invalid(shared: World, fault: dict[str, Any]) -> None:
    signal_id = unique()
    await shared.topics.send(trading_signal(signal_id, **await good(shared, **fault)))
    result = await shared.topics.result(signal_id)
    assert (result["status"], result["reason"]) == ("denied", "invalid")
    await eventually(lambda: [r for r in shared.topics.dead if signal_id.encode() in r.raw], 5.0)
    # Records that do not decode never enter the inbox: the id is still good.
    await shared.topics.signal(signal_id, **await good(shared, volume=0.01))
    await eventually(lambda: [f for f in shared.topics.results(signal_id) if f["data"]["status"] == "filled"])
    await shared.signal(SYMBOL, "CLOSE")


async def test_tombstones_and_foreign_signals_are_skipped_and_counted(shared: World) -> None:
    before = (await shared.ask("get_status"))["counters"]["signals"]
    await shared.topics.send(None, key=SYMBOL)
    foreign = unique()
    await shared.topics.signal(foreign, **await good(shared, account="999"))
    assert (await shared.signal(SYMBOL, "CLOSE"))["reason"] == "not_found"
    after = (await shared.ask("get_status"))["counters"]["signals"]
    assert {name for name in ("tombstones", "foreign") if after[name] > before[name]} == {"tombstones", "foreign"}
    assert shared.topics.results(foreign) == []


async def test_ours_by_name(shared: World) -> None:
    for account in ("5000001", 5000001):
        result = await shared.signal(**await good(shared, account=account))
        assert result["status"] == "filled"
        await shared.signal(SYMBOL, "CLOSE", position=result["position"])


async def test_a_huge_record_is_put_aside_and_blocks_nobody(shared: World) -> None:
    mark = len(shared.topics.dead)
    huge = json.dumps({"type": "trading_signal", "data": {"symbol": SYMBOL, "pad": "x" * 950_000}}).encode()
    await shared.topics.send(huge, key=SYMBOL)
    assert (await shared.signal(SYMBOL, "CLOSE"))["reason"] == "not_found"
    letter = (await eventually(lambda: shared.topics.dead[mark:], 5.0, "a dead letter"))[0]
    assert letter.raw == huge or len(letter.raw) == 65536

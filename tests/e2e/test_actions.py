"""Every action of a signal, from the topic to the terminal and back."""

from typing import Any

import pytest
from support.eventually import eventually
from support.world import World, price

pytestmark = pytest.mark.asyncio(loop_scope="module")
SYMBOL = "AUDUSD"


async def position(world: World, ticket: int) -> dict[str, Any] | None:
    return next((p for p in await world.ask("get_positions") if p["ticket"] == ticket), None)


async def order(world: World, ticket: int) -> dict[str, Any] | None:
    return next((o for o in await world.ask("get_orders") if o["ticket"] == ticket), None)


@pytest.mark.parametrize("action", ["BUY", "SELL"])
async def test_opens_and_closes(shared: World, action: str) -> None:
    bid = (await shared.topics.quote(SYMBOL))["bid"]
    sign = 1 if action == "BUY" else -1
    stop, target = price(bid - sign * 0.01, SYMBOL), price(bid + sign * 0.01, SYMBOL)
    result = await shared.open(SYMBOL, action, volume=0.02, stop_loss=stop, take_profit=target, comment="who reads it")
    assert (result["retcode"], result["volume_filled"], result["attempts"]) == (10009, 0.02, 1)
    assert (result["stop_loss"], result["take_profit"]) == (stop, target)
    assert result["magic"] >> 32 == 235
    held = await position(shared, result["position"])
    assert held is not None
    assert (held["side"], held["volume"], held["stop_loss"], held["take_profit"], held["magic"]) == (
        action.lower(),
        0.02,
        stop,
        target,
        result["magic"],
    )

    part = await shared.signal(SYMBOL, "CLOSE", position=result["position"], volume=0.01)
    assert (part["status"], part["volume_filled"]) == ("closed", 0.01)
    rest = await shared.signal(SYMBOL, "CLOSE", target_signal_id=result["signal_id"])
    assert (rest["status"], rest["volume_filled"]) == ("closed", 0.01)
    assert await position(shared, result["position"]) is None
    gone = await shared.signal(SYMBOL, "CLOSE", position=result["position"])
    assert (gone["status"], gone["reason"]) == ("denied", "not_found")


async def test_closes_all_of_a_symbol_oldest_first(shared: World) -> None:
    tickets = [(await shared.open("GBPUSD"))["position"] for _ in range(3)]
    some = await shared.signal("GBPUSD", "CLOSE", volume=0.02)
    assert [leg["position"] for leg in some["legs"]] == tickets[:2]
    assert some["volume_filled"] == pytest.approx(0.02)
    all_left = await shared.signal("GBPUSD", "CLOSE")
    assert all_left["status"] == "closed"
    assert await shared.ask("get_positions") == []


@pytest.mark.parametrize(
    ("action", "side", "offset", "limit"),
    [
        ("BUY_LIMIT", 1, -0.01, None),
        ("SELL_LIMIT", -1, 0.01, None),
        ("BUY_STOP", 1, 0.01, None),
        ("SELL_STOP", -1, -0.01, None),
        ("BUY_STOP_LIMIT", 1, 0.01, 0.009),
        ("SELL_STOP_LIMIT", -1, -0.01, -0.009),
    ],
)
async def test_pendings_are_placed_modified_and_cancelled(
    shared: World, action: str, side: int, offset: float, limit: float | None
) -> None:
    bid = (await shared.topics.quote(SYMBOL))["bid"]
    at = price(bid + offset, SYMBOL)
    fields: dict[str, Any] = {"price": at, "stop_loss": price(at - side * 0.02, SYMBOL), "volume": 0.03}
    if limit is not None:
        fields["stop_limit_price"] = price(bid + limit, SYMBOL)
    placed = await shared.signal(SYMBOL, action, **fields)
    assert placed["status"] == "placed", placed
    held = await order(shared, placed["order"])
    assert held is not None
    await shared.topics.event("pending_changed", lambda d: d["ticket"] == placed["order"] and d["state"] == "placed")

    moved = price(at + offset / 10, SYMBOL)
    modified = await shared.signal(SYMBOL, "MODIFY", target_signal_id=placed["signal_id"], price=moved)
    assert modified["status"] == "modified", modified
    held = await order(shared, placed["order"])
    assert held is not None
    assert moved in (held.get("price"), held.get("price_open"))

    cancelled = await shared.signal(SYMBOL, "CANCEL", order=placed["order"])
    assert cancelled["status"] == "cancelled", cancelled
    assert await order(shared, placed["order"]) is None
    gone = await shared.topics.event(
        "pending_changed", lambda d: d["ticket"] == placed["order"] and d["state"] == "cancelled"
    )
    assert gone["signal_id"] == placed["signal_id"]


async def test_modifies_stop_and_target(shared: World) -> None:
    result = await shared.open(SYMBOL)
    stop, target = price(result["price"] - 0.005, SYMBOL), price(result["price"] + 0.005, SYMBOL)
    modified = await shared.signal(SYMBOL, "MODIFY", position=result["position"], stop_loss=stop, take_profit=target)
    assert modified["status"] == "modified"
    held = await position(shared, result["position"])
    assert held is not None
    assert (held["stop_loss"], held["take_profit"]) == (stop, target)
    again = await shared.signal(SYMBOL, "MODIFY", position=result["position"], stop_loss=stop)
    assert again["status"] == "modified"
    await shared.signal(SYMBOL, "CLOSE", position=result["position"])


async def test_closes_by_the_opposite(shared: World) -> None:
    long, short = await shared.open(SYMBOL, "BUY"), await shared.open(SYMBOL, "SELL")
    result = await shared.signal(SYMBOL, "CLOSE_BY", position=long["position"], order=short["position"])
    assert result["status"] == "closed", result
    await eventually(lambda: shared.topics.of("position_closed"), 5.0)
    assert await shared.ask("get_positions") == []


async def test_sizes_by_risk_when_no_volume_is_given(shared: World) -> None:
    bid = (await shared.topics.quote(SYMBOL))["bid"]
    result = await shared.signal(SYMBOL, "BUY", risk_percent=0.1, stop_loss=price(bid - 0.005, SYMBOL))
    assert result["status"] == "filled", result
    # 0.1 % of a million is 1,000; half a cent a lot is about 500, and volumes round down.
    assert 1.8 < result["volume_filled"] <= 2.0
    await shared.signal(SYMBOL, "CLOSE", position=result["position"])


async def test_a_close_waits_for_what_it_is_about(shared: World) -> None:
    """Both in one go: the second's target is in flight when it comes."""
    bid = (await shared.topics.quote(SYMBOL))["bid"]
    await shared.topics.signal("first-of-two", SYMBOL, "BUY", volume=0.01, stop_loss=price(bid - 0.01, SYMBOL))
    await shared.topics.signal("second-of-two", SYMBOL, "CLOSE", target_signal_id="first-of-two")
    assert (await shared.topics.result("first-of-two"))["status"] == "filled"
    assert (await shared.topics.result("second-of-two"))["status"] == "closed"


async def test_a_signal_over_the_socket_is_answered_by_its_result(shared: World) -> None:
    bid = (await shared.topics.quote(SYMBOL))["bid"]
    data = {"symbol": SYMBOL, "action": "BUY", "volume": 0.01, "stop_loss": price(bid - 0.01, SYMBOL)}
    await shared.backend.send("trading_signal", data, request_id="no-id")
    frame = await shared.backend.frame("order_result", where=lambda f: f["data"]["request_id"] == "no-id")
    assert frame["data"]["status"] == "filled"
    await shared.signal(SYMBOL, "CLOSE", position=frame["data"]["position"])

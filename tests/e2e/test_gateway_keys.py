"""`Idempotency-Key` over kill -9: what was done once is not done again, and another request is refused its key."""

import asyncio
from typing import Any

from support.broker import free_port
from support.gateway_client import Gateway, client, settings
from support.world import MakeWorld, World, price


async def order_of(rest: Gateway) -> dict[str, Any]:
    """An order of 0.01 lots of gold, its stop far away."""
    ticks = await rest.ask("POST", "/ticks", {"symbol": "XAUUSD", "count": 1})
    stop = price(ticks["ticks"][-1]["bid"] * 0.98, "XAUUSD")
    return {"symbol": "XAUUSD", "order_type": "BUY", "volume": 0.01, "sl": stop}


async def held(world: World) -> set[int]:
    """Tickets of the open positions, read from the terminal."""
    return {position["ticket"] for position in await world.ask("get_positions")}


async def outcome(rest: Gateway, order: dict[str, Any], key: str) -> dict[str, Any]:
    """The `order_result` of an order asked for again: filled, or certainly not.

    Killed before it was sent; or before it was decided, and when the next life came to it, it was too old, or another
    of the same symbol was still being looked up.
    """
    answer = await rest.send("POST", "/order", order, key=key)
    assert answer.status_code in (200, 409), answer.text
    result: dict[str, Any] = answer.json()["result"]
    ends = ("filled",) if answer.status_code == 200 else ("abandoned", "denied")
    assert result["status"] in ends
    assert result["status"] != "denied" or result["reason"] in ("stale", "unknown_outcome")
    return result


async def test_keys_hold_over_a_kill(new_world: MakeWorld) -> None:
    """Whoever got no answer asks again with the same keys: each is done once, before the kill or after it."""
    port = free_port()
    async with new_world(**settings(port)) as world, client(port) as rest:
        await world.start()
        order = await order_of(rest)
        first = await rest.ask("POST", "/order", order, key="an-order")
        closing = f"/positions/{(await rest.ask('POST', '/order', order, key='another'))['result']['position']}"
        closed = await rest.ask("DELETE", closing, key="a-close")
        keys = [f"order-{number}" for number in range(20)]
        under_way = [asyncio.create_task(rest.send("POST", "/order", order, key=key)) for key in keys]
        await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        world.daemon.kill()
        await asyncio.gather(*under_way, return_exceptions=True)
        await world.start()

        again = await rest.send("POST", "/order", order, key="an-order")
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
        assert again.json()["result"]["deal"] == first["result"]["deal"]
        assert (await rest.ask("DELETE", closing, key="a-close"))["result"] == closed["result"]
        other = await rest.ask("POST", "/order", {**order, "volume": 0.02}, key="an-order", status=422)
        assert other["code"] == "idempotency_key_reused"
        reused = await rest.ask("DELETE", f"/positions/{first['result']['position']}", key="an-order", status=422)
        assert reused["code"] == "idempotency_key_reused"

        results = [await outcome(rest, order, key) for key in keys]
        filled = {result["position"] for result in results if result["status"] == "filled"}
        assert await held(world) == filled | {first["result"]["position"]}
        assert [(await outcome(rest, order, key))["deal"] for key in keys] == [result["deal"] for result in results]
        assert await held(world) == filled | {first["result"]["position"]}
        await world.daemon.stop()

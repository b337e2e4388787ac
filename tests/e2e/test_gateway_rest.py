"""REST on a real daemon with the paper terminal: orders, stops, pages, the session, another account."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
from support.broker import free_port
from support.eventually import eventually
from support.gateway_client import Gateway, client, settings
from support.world import World, price, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAR = 0.02


class Served(NamedTuple):
    """A daemon and a client of its gateway."""

    world: World
    rest: Gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A running daemon with a gateway that may change the account; each test leaves it as it found it."""
    port = free_port()
    env: dict[str, Any] = settings(port, GATEWAY_ALLOW_CONNECT="true", RESUME_REMOTE="true")
    async with world(tmp_path_factory.mktemp("served"), bootstrap, **env) as made, client(port) as rest:
        await made.start()
        yield Served(made, rest)
        await made.daemon.stop()


async def wanted(rest: Gateway, symbol: str = "XAUUSD", **more: Any) -> dict[str, Any]:
    """An order of 0.01 lots, its stop far away."""
    ticks = await rest.ask("POST", "/ticks", {"symbol": symbol, "count": 1})
    stop = price(ticks["ticks"][-1]["bid"] * (1 - FAR), symbol)
    return {"symbol": symbol, "order_type": "BUY", "volume": 0.01, "sl": stop, **more}


async def bought(rest: Gateway, symbol: str = "XAUUSD", **more: Any) -> dict[str, Any]:
    """The `order_result` of a position that was opened."""
    answer = await rest.ask("POST", "/order", await wanted(rest, symbol, **more))
    assert answer["success"]
    result: dict[str, Any] = answer["result"]
    assert result["status"] == "filled", result
    return result


async def tickets(rest: Gateway, kind: str = "positions") -> list[int]:
    """Of open positions, or of pending orders."""
    return [row["ticket"] for row in (await rest.get(f"/{kind}"))[kind]]


async def test_an_order_is_filled_changed_and_closed(served: Served) -> None:
    rest = served.rest
    result = await bought(rest, comment="by hand")
    ticket = result["position"]
    told = await served.world.topics.result(result["signal_id"])
    assert (told["status"], told["position"]) == ("filled", ticket)
    assert ticket in await tickets(rest)
    stop = price(result["stop_loss"] * 1.001, "XAUUSD")
    changed = await rest.ask("PATCH", f"/positions/{ticket}", {"sl": stop})
    assert changed["result"]["status"] == "modified"
    held = {row["ticket"]: row for row in (await rest.get("/positions?symbol=XAUUSD"))["positions"]}
    assert held[ticket]["stop_loss"] == stop
    closed = await rest.ask("DELETE", f"/positions/{ticket}")
    assert closed["result"]["status"] == "closed"
    assert ticket not in await tickets(rest)
    deals = (await rest.get("/history/deals?symbol=XAUUSD&limit=1000"))["deals"]
    assert result["deal"] in [deal["ticket"] for deal in deals]


async def test_a_pending_order_is_placed_moved_and_cancelled(served: Served) -> None:
    rest = served.rest
    order = await wanted(rest, "AUDUSD", order_type="BUY_LIMIT")
    at = price(order["sl"] * 1.005, "AUDUSD")
    placed = await rest.ask("POST", "/order", {**order, "price": at})
    ticket = placed["result"]["order"]
    assert placed["result"]["status"] == "placed"
    assert ticket in await tickets(rest, "orders")
    moved = price(at * 0.999, "AUDUSD")
    assert (await rest.ask("PATCH", f"/orders/{ticket}", {"price": moved}))["result"]["status"] == "modified"
    assert (await rest.ask("DELETE", f"/orders/{ticket}"))["result"]["status"] == "cancelled"
    assert ticket not in await tickets(rest, "orders")
    missing = await rest.ask("DELETE", f"/orders/{ticket}", status=404)
    assert missing["code"] == "not_found"


async def test_the_guards_are_those_of_every_signal(served: Served) -> None:
    rest = served.rest
    order = await wanted(rest)
    del order["sl"]
    assert (await rest.ask("POST", "/order", order, status=422))["code"] == "no_stop_loss"
    refused = await rest.ask("POST", "/order", {**order, "sl": 1.0, "volume": 1000}, status=422)
    assert refused["code"] in ("max_volume", "risk")
    assert refused["result"]["status"] == "denied"
    assert (await rest.ask("POST", "/order", {**order, "symbol": "NOPE"}, status=404))["code"] == "unknown_symbol"


async def test_a_signal_sent_again_gets_its_first_result(served: Served) -> None:
    rest = served.rest
    order = await wanted(rest)
    signal = {"signal_id": "rest-1", "symbol": "XAUUSD", "action": "BUY", "volume": 0.01, "stop_loss": order["sl"]}
    first = await rest.ask("POST", "/signal", signal)
    again = await rest.ask("POST", "/signal", signal)
    assert again["result"]["deal"] == first["result"]["deal"]
    closed = await rest.ask("POST", "/signal", {"symbol": "XAUUSD", "action": "CLOSE", "target_signal_id": "rest-1"})
    assert closed["result"]["status"] == "closed"


async def test_ten_at_once_with_one_key_are_one_order(served: Served) -> None:
    rest = served.rest
    order = await wanted(rest)
    before = await tickets(rest)
    answers = await asyncio.gather(*(rest.ask("POST", "/order", order, key="ten") for _ in range(10)))
    assert len({answer["result"]["deal"] for answer in answers}) == 1
    opened = set(await tickets(rest)) - set(before)
    assert opened == {answers[0]["result"]["position"]}
    await rest.ask("DELETE", f"/positions/{opened.pop()}")


async def test_many_who_want_the_same_ticks_ask_once(served: Served) -> None:
    rest = served.rest
    answers = await asyncio.gather(
        *(rest.ask("POST", "/ticks", {"symbol": "AUDUSD", "count": 5 + number % 3}) for number in range(30))
    )
    assert {answer["count"] for answer in answers} == {5, 6, 7}
    assert [tick["symbol"] for tick in answers[0]["ticks"]] == ["AUDUSD"] * 5


async def test_pages_go_on_where_the_last_one_ended(served: Served) -> None:
    rest = served.rest
    names: list[str] = []
    path = "/symbols?limit=7"
    while path:
        page = await rest.get(path)
        names += [row["name"] for row in page["symbols"]]
        path = f"/symbols?limit=7&cursor={page['next']}" if page["next"] else ""
    assert names == sorted(set(names))
    assert {"XAUUSD", "AUDUSD", "GBPUSD"} <= set(names)
    one = await rest.get("/history/orders?limit=1")
    if one["next"]:
        other = await rest.get(f"/history/orders?limit=1&cursor={one['next']}")
        assert other["orders"] != one["orders"]
    bars = await rest.get("/rates?symbol=XAUUSD&timeframe=M1&count=5")
    assert [bar["timeframe"] for bar in bars["rates"]] == ["M1"] * 5


async def test_a_stop_halts_and_a_person_still_closes(served: Served) -> None:
    rest = served.rest
    result = await bought(rest)
    stopped = await rest.ask("POST", "/emergency-stop", {"reason": "a test", "close_positions": False})
    assert stopped["data"]["state"] == "halted"
    denied = await rest.ask("POST", "/order", await wanted(rest), status=409)
    assert denied["code"] == "halted"
    closed = await rest.ask("DELETE", f"/positions/{result['position']}")
    assert closed["result"]["status"] == "closed"
    await eventually_resumed(rest)
    await rest.ask("DELETE", f"/positions/{(await bought(rest))['position']}")


async def eventually_resumed(rest: Gateway) -> None:
    """Lifts the halt as soon as the stop has come to its end."""

    async def resumed() -> bool:
        answer = await rest.send("POST", "/resume", {"reason": "over", "by": "a tester"})
        if answer.status_code == 200:
            assert answer.json()["halt"]["state"] == "active"
            return True
        assert answer.json()["code"] in ("survivors", "unsettled"), answer.text
        return False

    await eventually(resumed, 20.0, "an end of the halt")


async def test_a_stop_closes_what_is_open(served: Served) -> None:
    rest = served.rest
    result = await bought(rest)
    await rest.ask("POST", "/emergency-stop", {"reason": "a test"})
    await served.world.halted("done", timeout=30.0)
    assert result["position"] not in await tickets(rest)
    await eventually_resumed(rest)


async def test_the_session_ends_and_begins_on_a_persons_word(served: Served) -> None:
    rest = served.rest
    hosts = served.world.daemon.hosts()
    ended = await rest.ask("POST", "/disconnect")
    assert ended["connected"] is False
    assert (await rest.ask("POST", "/disconnect"))["detail"].startswith("it was disconnected")
    assert (await rest.get("/health"))["mt5_status"]["status"] == "disconnected"
    assert (await rest.get("/account"))["stale"] is True
    refused = await rest.ask("POST", "/ticks", {"symbol": "XAUUSD", "count": 1}, status=503)
    assert refused["code"] == "terminal_unavailable"
    await eventually(lambda: not any(host.is_running() for host in hosts), 10.0, "the hosts' end")
    begun = await rest.ask("POST", "/connect", {"login": 5000001, "server": "Paper-Demo"})
    assert (begun["connected"], begun["account"]) == (True, 5000001)
    assert (await rest.ask("POST", "/connect"))["detail"].startswith("it was connected")
    await rest.ask("DELETE", f"/positions/{(await bought(rest))['position']}")


async def test_a_stop_connects_the_terminal_that_it_needs(served: Served) -> None:
    rest = served.rest
    result = await bought(rest)
    await rest.ask("POST", "/disconnect")
    mark = len(served.world.backend.frames)
    await rest.ask("POST", "/emergency-stop", {"reason": "a test"})
    await served.world.halted("done", timeout=30.0, after=mark)
    assert result["position"] not in await tickets(rest)
    await eventually_resumed(rest)


async def trades(rest: Gateway, login: int) -> None:
    """Waits until the bridge trades an account."""

    async def ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = await rest.send("GET", "/account")
            if answer.status_code == 200:
                told = answer.json()
                return bool(told["account"]["login"] == login and not told["stale"])
        return False

    await eventually(ready, 90.0, f"the bridge trades {login}")


async def test_another_account_is_tried_and_gone_over_to(served: Served) -> None:
    rest = served.rest
    first = await bought(rest)
    kept, ours = first["position"], first["signal_id"]
    begun = await rest.ask("POST", "/connect", {"login": 5000777, "password": "secret-of-777"}, status=202)
    assert begun["account"] == 5000777
    await trades(rest, 5000777)
    other = (await rest.ask("POST", "/order", await wanted(rest)))["result"]
    assert other["status"] == "filled"
    wrong = await rest.ask("POST", "/connect", {"login": 5000777, "password": "not it"}, status=409)
    assert wrong["code"] == "login_refused"
    assert (await rest.get("/account"))["account"]["login"] == 5000777
    assert "secret-of-777" not in served.world.daemon.console
    for ticket in await tickets(rest):
        await rest.ask("DELETE", f"/positions/{ticket}")
    await rest.ask("POST", "/connect", {"login": 5000001, "password": "paper"}, status=202)
    await trades(rest, 5000001)
    assert await tickets(rest) == [kept]
    await rest.ask("DELETE", f"/positions/{kept}")
    # By signal: another account's tickets may be the same.
    backend = served.world.backend
    await backend.frame("position_closed", where=lambda f: f["data"]["signal_id"] == ours, timeout=20.0)
    told = [f for f in backend.frames if f.get("data") and f["type"].startswith("position_")]
    for signal in (ours, other["signal_id"]):
        types = [f["type"] for f in told if f["data"]["signal_id"] == signal]
        assert types == ["position_opened", "position_closed"]

"""What readers get: the bridge's picture without a call to the terminal, everything else once for all."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, create_model
from support.eventually import eventually
from support.fake_bridge_port import NOW_MS, FakePort, gateway, order_result, pending, position, symbol

from mt5_bridge.core.errors import MT5StateError
from mt5_bridge.core.messages import OrderResult
from mt5_bridge.gateway import models, reads

NAMES = ("AUDUSD.m", "EURUSD", "EURUSD.x", "GBPUSD", "XAUUSD")


def page_of(rows: list[Any], following: str | None = None) -> Any:
    """A handler that answers with rows."""
    return lambda asked: {"data": rows} if following is None else {"data": rows, "next": following}


def symbols(port: FakePort) -> None:
    """The port's terminal has these symbols, told in two pages."""
    first, rest = [symbol(name) for name in NAMES[:2]], [symbol(name) for name in NAMES[2:]]
    port.answers["get_symbols"] = lambda asked: {"data": rest} if asked.get("cursor") else {"data": first, "next": "c"}


def fits(model: Any, told: dict[str, Any]) -> None:
    """What is told is what the OpenAPI says, field by field."""
    strict: type[BaseModel] = create_model("Strict", __base__=model)
    strict.model_validate(told, extra="forbid")


async def test_the_account_as_the_documents_have_it() -> None:
    async with gateway() as client:
        told = await client.ask("GET", "/account")
        fits(models.AccountAnswer, told)
        assert (told["success"], told["account"]["login"], told["stale"]) == (True, 1001, False)
        assert client.port.asked == []


async def test_the_account_before_the_first_read_is_not_ready() -> None:
    async with gateway() as client:
        client.port.account = None
        response = await client.http.get("/account")
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "2"
        assert response.json()["code"] == "not_ready"


@pytest.mark.parametrize(("reconciled", "age_ms", "stale"), [(True, 0, False), (False, 0, True), (True, 6000, True)])
async def test_an_old_picture_is_told_as_one(reconciled: bool, age_ms: int, stale: bool) -> None:
    async with gateway() as client:
        client.port.reconciled, client.port.at_msc = reconciled, NOW_MS - age_ms
        for path in ("/account", "/positions", "/orders"):
            assert (await client.ask("GET", path))["stale"] is stale


async def test_positions_and_orders_in_pages() -> None:
    async with gateway() as client:
        client.port.positions = tuple(position(ticket) for ticket in (2, 3, 5, 8))
        client.port.orders = tuple(pending(ticket) for ticket in (1, 4))
        first = await client.ask("GET", "/positions?limit=3")
        fits(models.PositionsAnswer, first)
        assert ([row["ticket"] for row in first["positions"]], first["count"], first["next"]) == ([2, 3, 5], 3, "5")
        last = await client.ask("GET", "/positions?limit=3&cursor=5")
        assert ([row["ticket"] for row in last["positions"]], last["next"]) == ([8], None)
        orders = await client.ask("GET", "/orders")
        fits(models.OrdersAnswer, orders)
        assert [row["ticket"] for row in orders["orders"]] == [1, 4]


async def test_of_one_symbol_by_the_name_that_people_use() -> None:
    async with gateway() as client:
        symbols(client.port)
        client.port.positions = (position(1), position(2, "AUDUSD.m"))
        told = await client.ask("GET", "/positions?symbol=AUDUSD")
        assert [row["ticket"] for row in told["positions"]] == [2]
        assert (await client.ask("GET", "/positions?symbol=NOPE", status=404))["code"] == "unknown_symbol"


async def test_who_reads_after_a_write_gets_what_was_written() -> None:
    async with gateway() as client:
        port = client.port
        assert (await client.ask("GET", "/positions"))["count"] == 0

        async def fresh() -> None:
            port.positions = (position(9),)

        port.on_refresh = fresh
        await client.ask("POST", "/order", {"symbol": "EURUSD", "order_type": "BUY", "volume": 0.1, "sl": 1.0})
        both = await asyncio.gather(client.ask("GET", "/positions"), client.ask("GET", "/account"))
        assert both[0]["count"] == 1
        assert port.refreshes == 1


async def test_a_terminal_that_cannot_be_read_after_a_write_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "REFRESH_S", 0.01)
    async with gateway() as client:
        order = {"symbol": "EURUSD", "order_type": "BUY", "volume": 0.1, "sl": 1.0}

        async def fail() -> None:
            raise MT5StateError("gone")

        for fault in (fail, asyncio.Event().wait):
            client.port.on_refresh = fault  # type: ignore[assignment]  # what it returns is nobody's matter
            await client.ask("POST", "/order", order)
            told = await client.ask("GET", "/positions")
            assert (told["success"], told["stale"]) == (True, True)  # it is from before the write, however young
        assert client.port.refreshes == 2
        client.port.read += 1
        client.app.state.gateway.cache.drop("positions")
        assert (await client.ask("GET", "/positions"))["stale"] is False


async def test_symbols_are_asked_for_once_and_told_in_pages() -> None:
    async with gateway() as client:
        symbols(client.port)
        names: list[str] = []
        cursor = ""
        while True:
            page = await client.ask("GET", f"/symbols?limit=2{cursor}")
            fits(models.SymbolsAnswer, page)
            names += [row["name"] for row in page["symbols"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert tuple(names) == NAMES
        one = await client.ask("GET", "/symbols/XAUUSD")
        fits(models.SymbolAnswer, one)
        assert (await client.ask("GET", "/symbols/AUDUSD"))["symbol"]["name"] == "AUDUSD.m"
        assert client.port.names() == ["get_symbols", "get_symbols"]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("NOPE", 404, "unknown_symbol"), ("EURUS", 404, "unknown_symbol"), ("EUR/USD", 404, "unknown_symbol")],
)
async def test_a_symbol_that_is_none(name: str, status: int, code: str) -> None:
    async with gateway() as client:
        symbols(client.port)
        assert (await client.ask("GET", f"/symbols/{name}", status=status))["code"] == code


async def test_an_ambiguous_symbol() -> None:
    async with gateway() as client:
        client.port.answers["get_symbols"] = page_of([symbol("EURUSD.a"), symbol("EURUSD.b")])
        assert (await client.ask("GET", "/symbols/EURUSD", status=422))["code"] == "ambiguous_symbol"


async def test_bars() -> None:
    prices = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0}
    counts = {"tick_volume": 1, "spread": 1, "real_volume": 0}
    bar = {"symbol": "EURUSD", "timeframe": "M1", "time": "2026-01-05T10:00:00.000Z", **prices, **counts}
    async with gateway() as client:
        client.port.answers["get_rates"] = page_of([bar], "1767600000000")
        path = "/rates?symbol=EURUSD&timeframe=M1&count=1&from=2026-01-05T10:00:00Z"
        told = await client.ask("GET", path)
        fits(models.RatesAnswer, told)
        assert told["next"] == "1767600000000"
        await client.ask("GET", path)
        asked = {"symbol": "EURUSD", "timeframe": "M1", "count": 1, "from": "2026-01-05T10:00:00Z"}
        assert [data for _, data, *_ in client.port.asked] == [asked]
        await client.ask("GET", "/rates?symbol=EURUSD&timeframe=M7", status=422)


def tick(number: int) -> dict[str, Any]:
    when = {"time": "2026-01-05T10:00:00.000Z", "time_msc": NOW_MS + number}
    return {"symbol": "EURUSD", "bid": 1.1, "ask": 1.2, "last": 0.0, "volume": 0.0, "spread": 1, **when, "flags": 6,
            "seq": 0}  # fmt: skip


async def test_the_newest_ticks_are_shared_by_who_wants_nearly_as_many() -> None:
    async with gateway() as client:
        client.port.answers["get_ticks"] = lambda asked: {
            "data": [tick(number) for number in range(int(asked["count"]))],
            "next": "1:0",
        }
        for count in (1, 7, 10):
            told = await client.ask("POST", "/ticks", {"symbol": "EURUSD", "count": count})
            fits(models.TicksAnswer, told)
            assert [row["time_msc"] - NOW_MS for row in told["ticks"]] == list(range(10))[-count:]
            assert told["next"] == "1:0"
        assert [data["count"] for _, data, *_ in client.port.asked] == [10]
        await client.ask("POST", "/ticks", {"symbol": "EURUSD", "count": 11})
        await client.ask("POST", "/ticks", {"symbol": "EURUSD", "count": 1001})
        await client.ask("POST", "/ticks", {"symbol": "EURUSD", "count": 7, "from_msc": 5})
        assert [data["count"] for _, data, *_ in client.port.asked] == [10, 100, 1001, 7]


async def test_a_thousand_who_want_the_same_ask_once() -> None:
    async with gateway() as client:
        client.port.answers["get_ticks"] = page_of([tick(1)])
        client.port.gate.clear()
        body = {"symbol": "EURUSD", "count": 1}
        readers = [asyncio.create_task(client.ask("POST", "/ticks", body)) for _ in range(100)]
        await eventually(lambda: client.port.asked, 10.0, "the question")
        client.port.gate.set()
        assert {told["count"] for told in await asyncio.gather(*readers)} == {1}
        assert client.port.names() == ["get_ticks"]
        assert client.app.state.gateway.cache.stats()["ticks"]["misses"] == 1


def deal(ticket: int) -> dict[str, Any]:
    money = dict.fromkeys(("profit", "swap", "commission", "fee"), 0.0)
    when = {"time": "2026-01-05T10:00:00.000Z", "time_msc": 1767607200000}
    return {"ticket": ticket, "order": 1, "position": 1, "symbol": "EURUSD", "type": 0, "entry": "in", "volume": 0.1,
            "price": 1.1, **money, **when, "magic": 1, "comment": ""}  # fmt: skip


async def test_history_in_pages_that_go_on_behind_the_last_row() -> None:
    async with gateway() as client:
        client.port.answers["get_history"] = page_of([deal(1), deal(2), deal(3)], "later:9")
        told = await client.ask("GET", "/history/deals?limit=2&symbol=EURUSD&from=2026-01-05&to=2026-01-06")
        fits(models.DealsAnswer, told)
        assert ([row["ticket"] for row in told["deals"]], told["next"]) == ([1, 2], "1767607200000:2")
        assert (await client.ask("GET", "/history/deals?limit=3"))["next"] == "later:9"
        client.port.answers["get_history"] = page_of([pending(7)])
        orders = await client.ask("GET", "/history/orders?cursor=1767607200000:2")
        fits(models.PastOrdersAnswer, orders)
        assert client.port.asked[-1][1] == {"kind": "orders", "cursor": "1767607200000:2"}


@pytest.mark.parametrize(
    ("code", "status"),
    [("terminal_unavailable", 503), ("invalid_params", 422), ("unknown_symbol", 404), ("not_ready", 503)],
)
async def test_what_the_terminal_refuses_is_a_problem_and_not_kept(code: str, status: int) -> None:
    async with gateway() as client:
        client.port.answers["get_rates"] = lambda asked: {"error": {"code": code, "message": "no"}}
        path = "/rates?symbol=EURUSD&timeframe=M1"
        assert (await client.ask("GET", path, status=status))["code"] == code
        client.port.answers["get_rates"] = page_of([])
        assert (await client.ask("GET", path))["rates"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/positions?cursor=x", "/positions?limit=0", "/positions?limit=1001", "/orders?limit=a", "/symbols?limit=0",
        "/rates?symbol=EURUSD", "/rates?timeframe=M1", "/rates?symbol=EURUSD&timeframe=M1&count=0",
        "/history/deals?cursor=1", "/history/orders?limit=-1", f"/symbols/{'x' * 65}", "/positions?symbol=",
    ],
)  # fmt: skip
async def test_what_cannot_be_meant(path: str) -> None:
    async with gateway() as client:
        told = await client.ask("GET", path, status=422)
        assert told["code"] == "invalid"
        assert client.port.asked == []


async def test_the_root_says_how_the_dashboard_is_started() -> None:
    async with gateway() as client:
        response = await client.http.get("/", headers={"Authorization": ""})
        assert response.status_code == 200
        assert "mt5-bridge dashboard" in response.text
        assert response.headers["content-type"].startswith("text/html")


def test_models_of_structs_have_their_fields() -> None:
    assert set(models.model_of(OrderResult).model_fields) == set(order_result())

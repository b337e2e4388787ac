"""A real daemon trades and is scraped: what it measures is what happened, and a request's id leads to its deal."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from support.backend import Frame
from support.broker import free_port
from support.daemon import cli
from support.eventually import eventually
from support.monitoring import alert_expressions, dashboard_expressions, names_in
from support.topics import unique
from support.world import FAR, World, price, world

from mt5_bridge.gateway.catalogue import FAMILIES, Kind

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "a-token-for-the-metrics-of-a-real-daemon"
Samples = dict[tuple[str, ...], float]


class Scraped:
    """A daemon with a broker, a backend and a gateway, that is scraped."""

    def __init__(self, world: World, http: httpx.AsyncClient) -> None:
        self.world = world
        self.http = http

    async def samples(self) -> Samples:
        """Name and labels' values → value, without our prefix."""
        answer = await self.http.get("/metrics")
        assert answer.status_code == 200, answer.text
        return {
            (sample.name.removeprefix("mt5_bridge_"), *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def log(self) -> list[dict[str, Any]]:
        """The log for machines."""
        lines = (self.world.daemon.data / "mt5_bridge.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines]

    async def line(self, **fields: Any) -> dict[str, Any]:
        """The first line of the log with these fields."""

        def found() -> dict[str, Any] | None:
            return next((x for x in self.log() if fields.items() <= x.items()), None)

        return await eventually(found, 20, str(fields))

    async def stop_loss(self, symbol: str) -> float:
        """A price far below the market."""
        return price((await self.world.topics.quote(symbol))["bid"] * (1 - FAR), symbol)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scraped(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scraped]:
    port = free_port()
    settings: dict[str, Any] = {
        "GATEWAY_ENABLED": "true",
        "GATEWAY_TOKEN": TOKEN,
        "MT5_BRIDGE_PORT": str(port),
        "RATE_LIMIT_REQUESTS": "1000000",
        "BARS": "M1",
        "MAX_DAILY_LOSS_PCT": "50",
        "LOG_LEVEL": "DEBUG",
    }
    async with world(tmp_path_factory.mktemp("scraped"), bootstrap, **settings) as made:
        await made.start()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30, trust_env=False
        ) as http:
            # Each test may be the only one: what shows only once it has happened has happened.
            opened = await made.open("XAUUSD")
            assert (await made.signal("XAUUSD", "BUY", volume=0.01))["reason"] == "no_stop_loss"
            assert (await made.command("close_position", {"ticket": opened["position"]}))["success"]
            yield Scraped(made, http)
        await made.daemon.stop()


def grown(before: Samples, after: Samples, *name: str) -> float:
    return after.get(name, 0) - before.get(name, 0)


async def test_the_numbers_are_what_happened(scraped: Scraped) -> None:
    world = scraped.world
    await world.flowing()
    before = await scraped.samples()
    opened = [await world.open("AUDUSD") for _ in range(3)]
    denied = await world.signal("AUDUSD", "BUY", volume=0.01)
    assert (denied["status"], denied["reason"]) == ("denied", "no_stop_loss")
    again = opened[0]["signal_id"]
    await world.topics.signal(again, "AUDUSD", "BUY", volume=0.01)
    await world.topics.send(b"this is no signal")
    closed = await world.command("close_position", {"ticket": opened[0]["position"]})
    assert closed["success"], closed

    async def told() -> Samples | None:
        now = await scraped.samples()
        settled = grown(before, now, "dead_letters_total") == 1 and now["positions",] == 2
        return now if settled and grown(before, now, "signals_duplicate_total") == 1 else None

    after = await eventually(told, 30, "the counters of what was sent")
    assert grown(before, after, "results_total", "filled") == 3
    assert grown(before, after, "results_total", "closed") == 1
    assert grown(before, after, "results_total", "denied") == 1
    assert grown(before, after, "denials_total", "no_stop_loss") == 1
    assert grown(before, after, "order_sends_total") == 4
    assert grown(before, after, "order_send_seconds_count") == grown(before, after, "signal_to_send_seconds_count") == 4
    assert grown(before, after, "signals_received_total", "redpanda") == 6
    assert grown(before, after, "signals_accepted_total") == 5, "four signals and a command"
    assert grown(before, after, "command_seconds_count", "close_position") == 1
    assert grown(before, after, "day_trades") == 3
    assert (after["halt_state", "active"], after["halt_state", "halted"], after["ready",]) == (1, 0, 1)
    assert {after["channel_up", name] for name in ("terminal", "redpanda", "backend")} == {1}
    waited = sum(r["latency_ms"] for r in opened)
    sent = grown(before, after, "signal_to_send_seconds_sum") * 1000
    assert sent <= waited + 60_000, "from arrival to send is a part of the whole"
    assert (await world.command("close_all", {}))["success"]


async def test_every_tick_of_the_topic_is_counted(scraped: Scraped) -> None:
    """Both are read while ticks flow: what is counted before the topic is looked at must be there."""
    counted = (await scraped.samples())["ticks_published_total",]

    def there() -> bool:
        return sum(len(scraped.world.topics.ticks_of(name)) for name in ("AUDUSD", "GBPUSD", "XAUUSD")) >= counted

    await eventually(there, 30, f"{counted} ticks on the topic")
    later = await scraped.samples()
    assert later["tick_age_seconds_count",] <= later["ticks_published_total",]
    assert later["last_tick_timestamp_seconds",] > 1_000_000_000
    assert later["tick_gaps_total",] == 0


async def test_an_emergency_stop_shows(scraped: Scraped) -> None:
    before = await scraped.samples()
    answer = await scraped.http.post("/emergency-stop", json={"reason": "drill"})
    assert answer.status_code == 200, answer.text
    try:
        halted = await scraped.samples()
        assert (halted["halt_state", "halted"], halted["halt_state", "active"]) == (1, 0)
        assert grown(before, halted, "emergency_stops_total") == 1
        assert grown(before, halted, "command_seconds_count", "emergency_stop") == 1
        result = await scraped.world.signal("AUDUSD", "BUY", volume=0.01)
        assert result["reason"] == "halted"
        assert grown(before, await scraped.samples(), "denials_total", "halted") == 1
        await scraped.world.halted("done", timeout=30)
    finally:
        resumed = await scraped.world.command("resume_trading", {"reason": "over", "by": "a tester"})
    assert resumed["success"], resumed


async def test_a_request_s_id_leads_from_http_to_the_deal(scraped: Scraped) -> None:
    signal_id, correlation, key = unique(), f"http-{unique()}", f"key-{unique()}"
    body = {
        "signal_id": signal_id,
        "symbol": "GBPUSD",
        "action": "BUY",
        "volume": 0.01,
        "stop_loss": await scraped.stop_loss("GBPUSD"),
    }
    answer = await scraped.http.post(
        "/signal", json=body, headers={"X-Request-ID": correlation, "Idempotency-Key": key}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"] == correlation
    result: Frame = await scraped.world.topics.result(signal_id)
    assert (result["status"], result["signal_id"]) == ("filled", signal_id)

    request = await scraped.line(event="gateway_request", correlation_id=correlation)
    assert [request[name] for name in ("method", "route", "status", "level")] == ["POST", "/signal", 200, "INFO"]
    assert (request["by"], request["idempotency_key"]) == ("token", key)
    order = await scraped.line(event="order_result", correlation_id=correlation)
    assert (order["signal_id"], order["deal"], order["position"]) == (signal_id, result["deal"], result["position"])
    assert order["magic"] == result["magic"]

    for asked in (signal_id, correlation, key):
        code, story = await cli("journal", asked, folder=scraped.world.daemon.folder)
        assert code == 0, story
        assert f"HTTP request {correlation}" in story
        assert "from gateway (token)" in story
        assert key in story
        assert f"deal {result['deal']}" in story

    ticket = result["position"]
    closing = f"http-{unique()}"
    answer = await scraped.http.delete(f"/positions/{ticket}", headers={"X-Request-ID": closing})
    assert answer.status_code == 200, answer.text
    gone = await scraped.line(event="position_closed", ticket=ticket)
    assert (gone["signal_id"], gone["reason"]) == (signal_id, "command")
    code, story = await cli("journal", closing, folder=scraped.world.daemon.folder)
    assert code == 0, story
    assert f"deal {gone['deal']}" in story
    assert "by token" in story


async def test_status_prints_the_gateway_s_address(scraped: Scraped) -> None:
    code, told = await cli("status", folder=scraped.world.daemon.folder)
    assert code == 0, told
    assert f"gateway: {str(scraped.http.base_url).rstrip('/')}" in told


async def test_every_metric_of_catalogue_rules_and_dashboard_is_there(scraped: Scraped) -> None:
    await scraped.http.get("/account")
    await scraped.http.get("/account", headers={"Authorization": "Bearer wrong"})
    text = (await scraped.http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, family in FAMILIES.items():
        told = families[name.removesuffix("_total") if family.kind is Kind.COUNTER else name]
        assert told.type == family.kind, name
    real = {sample.name for family in families.values() for sample in family.samples}
    for where, expression in [*alert_expressions(), *dashboard_expressions()]:
        used = names_in(expression)
        assert used <= real, f"{where}: {sorted(used - real)}"


async def test_health_and_readiness(scraped: Scraped) -> None:
    nobody = {"Authorization": ""}
    health = (await scraped.http.get("/health", headers=nobody)).json()
    assert health["mt5_status"]["status"] == "connected"
    assert (await scraped.http.get("/health/live", headers=nobody)).status_code == 200
    assert (await scraped.http.get("/health/ready", headers=nobody)).json()["ready"] is True
    status = (await scraped.http.get("/status")).json()
    assert status["components"]["redpanda"]["status"] == "connected"
    assert status["cache"]["account"]["hits"] + status["cache"]["account"]["misses"] >= 0
    assert status["performance"]["orders"]["order_send"]["count"] >= 1

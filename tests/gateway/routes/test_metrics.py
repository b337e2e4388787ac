"""What Prometheus gets, and what people get who have none."""

import httpx
from prometheus_client.parser import text_string_to_metric_families
from support.fake_bridge_port import Client, gateway

from mt5_bridge.core.histogram import Histogram


def samples(answer: httpx.Response) -> dict[tuple[str, ...], float]:
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def scrape(client: Client) -> dict[tuple[str, ...], float]:
    return samples(await client.http.get("/metrics"))


async def test_the_bridge_s_figures_and_the_gateway_s_own() -> None:
    async with gateway() as client:
        client.port.measured = {"mt5_bridge_positions": [((), 2)]}
        await client.ask("GET", "/account")
        await client.ask("GET", "/account")
        await client.ask("GET", "/nothing/here", status=404)
        await client.http.get("/account", headers={"Authorization": "Bearer wrong"})
        told = await scrape(client)
        assert told["mt5_bridge_positions",] == 2
        assert told["mt5_bridge_gateway_requests_total", "GET", "/account", "200"] == 2
        assert told["mt5_bridge_gateway_requests_total", "GET", "other", "404"] == 1
        assert told["mt5_bridge_gateway_refused_total", "invalid_token"] == 1
        assert told["mt5_bridge_gateway_requests_in_flight",] == 1, "this one"
        assert told["mt5_bridge_gateway_request_seconds_count", "GET", "/account"] == 2
        assert told["mt5_bridge_gateway_websocket_clients",] == 0
        hits = [
            told[name, "symbols"]
            for name in ("mt5_bridge_gateway_cache_hits_total", "mt5_bridge_gateway_cache_misses_total")
        ]
        assert hits == [0, 0]


async def test_needs_the_scope_to_read() -> None:
    async with gateway() as client:
        for path in ("/metrics", "/performance/metrics", "/status"):
            answer = await client.http.get(path, headers={"Authorization": ""})
            assert answer.status_code == 401, path
            assert answer.headers["content-type"] == "application/problem+json"


async def test_prometheus_may_ask_for_its_newer_format() -> None:
    async with gateway() as client:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        answer = await client.http.get("/metrics", headers=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


async def test_performance_without_prometheus() -> None:
    async with gateway() as client:
        sent = Histogram()
        sent.observe(0.004)
        client.port.measured = {"mt5_bridge_signal_to_send_seconds": [((), sent)]}
        told = await client.ask("GET", "/performance/metrics")
        assert told["orders"]["signal_to_send"] == {"count": 1, "mean_ms": 4.0, "p50_ms": 5.0, "p99_ms": 5.0}
        assert told["http"]["in_flight"] == 1

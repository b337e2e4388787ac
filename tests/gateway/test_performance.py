from mt5_bridge.core.figures import Figures
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.gateway.performance import Latency, latency, performance


def of(*values: float) -> Histogram:
    histogram = Histogram((0.001, 0.01, 0.1))
    for value in values:
        histogram.observe(value)
    return histogram


def test_what_never_happened_has_no_latency() -> None:
    assert latency() == latency(of()) == Latency(count=0, mean_ms=None, p50_ms=None, p99_ms=None)


def test_histograms_are_added_up() -> None:
    assert latency(of(0.0005), of(0.005, 0.006)) == Latency(count=3, mean_ms=3.833, p50_ms=10.0, p99_ms=10.0)


def test_beyond_the_last_bucket_nothing_is_claimed() -> None:
    told = latency(of(0.0005, 5.0))
    assert (told.p50_ms, told.p99_ms) == (1.0, None)


def test_a_bridge_that_measured_nothing() -> None:
    told = performance({})
    assert (told.ticks.published, told.http.requests, told.process.uptime_s) == (0, 0, 0.0)
    assert told.orders.results == {}


def test_series_become_maps() -> None:
    figures: Figures = {
        "mt5_bridge_results_total": [(("filled",), 2), (("denied",), 1)],
        "mt5_bridge_gateway_requests_total": [(("GET", "/status", "200"), 3), (("GET", "other", "404"), 1)],
        "mt5_bridge_gateway_request_seconds": [(("GET", "/status"), of(0.005)), (("GET", "other"), of(0.0001))],
        "mt5_bridge_command_seconds": [(("get_status",), of(0.0001))],
        "mt5_bridge_resident_memory_bytes": [((), 51_234_567)],
    }
    told = performance(figures)
    assert told.orders.results == {"filled": 2, "denied": 1}
    assert (told.http.requests, told.http.latency.count) == (4, 2)
    assert list(told.http.routes) == ["GET /status", "GET other"]
    assert told.commands["get_status"].p50_ms == 1.0
    assert told.process.rss_mb == 51.2

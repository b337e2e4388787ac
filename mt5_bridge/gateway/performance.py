"""How fast the bridge is, out of its figures, in the shapes of `/status` and `/performance/metrics`."""

from typing import Any

from pydantic import BaseModel, Field

from mt5_bridge.core.figures import Figures
from mt5_bridge.core.histogram import Histogram


class Latency(BaseModel):
    """How long something took, since the start of the daemon."""

    count: int
    mean_ms: float | None = Field(description="Null: it never happened.")
    p50_ms: float | None = Field(description="Upper bound of the bucket that holds it; null also beyond the last one.")
    p99_ms: float | None


class Ticks(BaseModel):
    """The tick path."""

    published: int
    age: Latency
    missed_slots: int
    gaps: int


class Orders(BaseModel):
    """The way from a signal to its order."""

    signal_to_send: Latency
    order_send: Latency
    results: dict[str, int] = Field(description="By status.", examples=[{"filled": 3, "denied": 1}])
    denials: dict[str, int] = Field(description="By reason.", examples=[{"spread": 1}])


class Http(BaseModel):
    """The gateway's own requests."""

    requests: int
    in_flight: int
    latency: Latency
    routes: dict[str, Latency] = Field(description="By method and route.")


class Process(BaseModel):
    """The daemon's process."""

    uptime_s: float
    rss_mb: float
    cpu_s: float
    loop_stalls: int
    loop_stall_worst_ms: float


class Performance(BaseModel):
    """How fast the bridge is."""

    ticks: Ticks
    orders: Orders
    commands: dict[str, Latency] = Field(description="By command, from its turn to its answer.")
    journal_commit: Latency
    http: Http
    process: Process


def performance(figures: Figures) -> Performance:
    """Out of the bridge's and the gateway's figures."""
    requests = _histograms(figures, "gateway_request_seconds")
    return Performance(
        ticks=Ticks(
            published=_count(figures, "ticks_published_total"),
            age=latency(*_histograms(figures, "tick_age_seconds").values()),
            missed_slots=_count(figures, "tick_missed_slots_total"),
            gaps=_count(figures, "tick_gaps_total"),
        ),
        orders=Orders(
            signal_to_send=latency(*_histograms(figures, "signal_to_send_seconds").values()),
            order_send=latency(*_histograms(figures, "order_send_seconds").values()),
            results=_counts(figures, "results_total"),
            denials=_counts(figures, "denials_total"),
        ),
        commands={" ".join(name): latency(one) for name, one in _histograms(figures, "command_seconds").items()},
        journal_commit=latency(*_histograms(figures, "journal_commit_seconds").values()),
        http=Http(
            requests=sum(_counts(figures, "gateway_requests_total").values()),
            in_flight=_count(figures, "gateway_requests_in_flight"),
            latency=latency(*requests.values()),
            routes={" ".join(labels): latency(one) for labels, one in sorted(requests.items())},
        ),
        process=Process(
            uptime_s=_number(figures, "uptime_seconds"),
            rss_mb=round(_number(figures, "resident_memory_bytes") / 1e6, 1),
            cpu_s=round(_number(figures, "cpu_seconds_total"), 2),
            loop_stalls=_count(figures, "loop_stalls_total"),
            loop_stall_worst_ms=round(_number(figures, "loop_stall_worst_seconds") * 1000, 1),
        ),
    )


def latency(*histograms: Histogram) -> Latency:
    """What histograms of the same bounds say together."""
    if not histograms or not (count := sum(one.count for one in histograms)):
        return Latency(count=0, mean_ms=None, p50_ms=None, p99_ms=None)
    together = Histogram(histograms[0].bounds)
    together.counts = [sum(row) for row in zip(*(one.counts for one in histograms), strict=True)]
    together.sum = sum(one.sum for one in histograms)
    mean = round(together.sum / count * 1000, 3)
    return Latency(count=count, mean_ms=mean, p50_ms=_bound(together, 0.5), p99_ms=_bound(together, 0.99))


def _bound(histogram: Histogram, part: float) -> float | None:
    bound = histogram.quantile(part)
    return None if bound is None or bound == float("inf") else round(bound * 1000, 3)


def _series(figures: Figures, name: str) -> list[tuple[tuple[str, ...], Any]]:
    return list(figures.get(f"mt5_bridge_{name}", ()))


def _histograms(figures: Figures, name: str) -> dict[tuple[str, ...], Histogram]:
    return dict(_series(figures, name))


def _counts(figures: Figures, name: str) -> dict[str, int]:
    return {" ".join(labels): int(value) for labels, value in _series(figures, name)}


def _number(figures: Figures, name: str) -> float:
    return float(sum(value for _, value in _series(figures, name)))


def _count(figures: Figures, name: str) -> int:
    return int(_number(figures, name))

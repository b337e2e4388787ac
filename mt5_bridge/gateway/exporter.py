"""Figures in the words of Prometheus, by its own library and a registry of our own: nothing but the catalogue."""

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mt5_bridge.core.figures import Figures
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.gateway.catalogue import FAMILIES, Family, Kind

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class Page(Collector):
    """What one scrape is told. Made in the loop: histograms are read here, so that no thread looks on as they grow."""

    def __init__(self, figures: Figures) -> None:
        self._metrics = [_metric(FAMILIES[name], figures[name]) for name in FAMILIES if name in figures]

    def collect(self) -> Iterator[Metric]:
        """As the library asks for it."""
        return iter(self._metrics)


async def render(figures: Figures, accept: str) -> tuple[bytes, str]:
    """The page and its content type: OpenMetrics where the asker takes it, else Prometheus' older text format.

    Args:
        figures: what is measured; a name that the catalogue lacks is left out.
        accept: the request's Accept header.
    """
    # Asked in words of our own: what the library makes of a malformed Accept header is a defect.
    encode, content_type = choose_encoder(OPEN_METRICS if "application/openmetrics-text" in accept else "")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Page(figures))
    # In a thread: a thousand lines are some ms of work, and ticks and orders share this loop.
    return await asyncio.to_thread(encode, registry), content_type


def _metric(family: Family, series: list[tuple[tuple[str, ...], float | Histogram]]) -> Metric:
    about = f"{family.meaning} Unit: {family.unit}." if family.unit else family.meaning
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, about, labels=family.labels)
        for labels, value in series:
            assert isinstance(value, Histogram)
            buckets = [
                ("+Inf" if bound == float("inf") else str(bound), float(count)) for bound, count in value.cumulative()
            ]
            histogram.add_metric(labels, buckets, value.sum)
        return histogram
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = kind(family.name, about, labels=family.labels)
    for labels, value in series:
        assert not isinstance(value, Histogram)
        metric.add_metric(labels, value)
    return metric


def _bound(value: float) -> str:
    return "+Inf" if value == float("inf") else str(value)

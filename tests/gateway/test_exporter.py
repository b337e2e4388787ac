"""What Prometheus' own parser reads out of a page is what was measured."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from mt5_bridge.core.figures import Figures
from mt5_bridge.core.histogram import Histogram
from mt5_bridge.gateway.catalogue import FAMILIES, Kind
from mt5_bridge.gateway.exporter import render

OPEN = "application/openmetrics-text; version=1.0.0"


def whole(values: list[float]) -> Figures:
    """Every metric of the catalogue, each with two series where it has labels."""
    found: Figures = {}
    for family in FAMILIES.values():
        names = [tuple(f'{label}-{n}"\\\n' for label in family.labels) for n in range(2 if family.labels else 1)]
        histogram = Histogram()
        for value in values:
            histogram.observe(value)
        found[family.name] = [(labels, histogram if family.kind is Kind.HISTOGRAM else 3.5) for labels in names]
    return found


@settings(max_examples=5)
@given(st.lists(st.floats(0, 100), max_size=5))
async def test_both_formats_say_the_same(values: list[float]) -> None:
    figures = whole(values)
    for accept, parse in (("", plain_text), (OPEN, open_metrics)):
        page, content_type = await render(figures, accept)
        assert content_type.startswith(accept.partition(";")[0] or "text/plain")
        read = {family.name: family for family in parse(page.decode())}
        for name, series in figures.items():
            family = FAMILIES[name]
            told = read[name.removesuffix("_total") if family.kind is Kind.COUNTER else name]
            assert told.type == family.kind
            for labels, value in series:
                wanted = dict(zip(family.labels, labels, strict=True))
                mine = [s for s in told.samples if {k: v for k, v in s.labels.items() if k != "le"} == wanted]
                if isinstance(value, Histogram):
                    buckets = [(float(s.labels["le"]), s.value) for s in mine if s.name.endswith("_bucket")]
                    assert buckets == list(value.cumulative())
                    assert [s.value for s in mine if s.name.endswith("_count")] == [value.count]
                    [total] = [s.value for s in mine if s.name.endswith("_sum")]
                    assert math.isclose(total, value.sum)
                else:
                    assert [s.value for s in mine] == [value]


async def test_what_has_nothing_to_say_is_not_there() -> None:
    page, _ = await render({"mt5_bridge_positions": [((), 2.0)]}, "")
    text = page.decode()
    assert text.splitlines()[-1] == "mt5_bridge_positions 2.0"
    assert "python_" not in text, "no collectors of the library's own"
    assert text.count("# TYPE") == 1


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from(
            ["application/openmetrics-text", "text/plain", ";", " version=", "1.0.0", "x", ",", "escaping="]
        ),
        max_size=6,
    )
)
async def test_a_malformed_accept_header_is_no_defect(parts: list[str]) -> None:
    accept = "".join(parts)
    _, content_type = await render({}, accept)
    assert content_type.startswith("application/openmetrics-text") == ("application/openmetrics-text" in accept)


async def test_a_name_that_is_in_no_catalogue_is_left_out() -> None:
    assert await render({"mt5_bridge_made_up": [((), 1.0)]}, "") == (b"", (await render({}, ""))[1])

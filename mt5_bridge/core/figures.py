"""What is measured on its way to whoever shows it: values by the name of their metric. Pure."""

from collections.abc import Iterable, Mapping

from mt5_bridge.core.histogram import Histogram

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order in which it names them."""

Value = float | Histogram
Figures = dict[str, list[tuple[Labels, Value]]]
"""Name → its series. A metric that has nothing to say now is left out, never 0."""


def one(value: Value | None) -> list[tuple[Labels, Value]]:
    """A metric without labels; none where there is no value."""
    return [] if value is None else [((), value)]


def by_label(values: Mapping[str, Value]) -> list[tuple[Labels, Value]]:
    """A series for each value of one label."""
    return [((name,), value) for name, value in values.items()]


def state_set(states: Iterable[str], now: str, *before: str) -> list[tuple[Labels, Value]]:
    """1 for the state that holds, 0 for the others; one that is not among them is added.

    Args:
        states: all there are.
        now: the one that holds.
        before: values of labels that stand before the state's.
    """
    return [((*before, state), float(state == now)) for state in dict.fromkeys((*states, now))]


def kept(figures: Figures) -> Figures:
    """Without the metrics that have nothing to say."""
    return {name: series for name, series in figures.items() if series}

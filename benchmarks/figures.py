"""What a benchmark gives back, and how the figures read on paper."""

import math
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        what: what was measured, in a few words.
        value: in `unit`.
        unit: for example `ticks/s`, `ms`, `MiB`, `x`.
        budget: what it must reach, None for a figure that only explains another.
        at_least: the budget is a floor (a rate) and not a ceiling (a time, a size).
    """

    what: str
    value: float
    unit: str
    budget: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the budget is met; None without one."""
        if self.budget is None:
            return None
        return self.value >= self.budget if self.at_least else self.value <= self.budget

    def row(self) -> str:
        """A line of the table in `docs/benchmarks.md`."""
        limit = "" if self.budget is None else f"{'≥' if self.at_least else '≤'} {shown(self.budget)} {self.unit}"
        verdict = {None: "", True: "yes", False: "**short**"}[self.met]
        return f"| {self.what} | {shown(self.value)} {self.unit} | {limit} | {verdict} |"


@dataclass(frozen=True)
class Section:
    """The figures of one benchmark.

    Attributes:
        title: its heading.
        method: what was run and how, so that a reader can judge the figures.
    """

    title: str
    method: str
    figures: tuple[Figure, ...]


def shown(value: float) -> str:
    """A number with the digits that matter."""
    if not math.isfinite(value):
        return "none"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` of all values do not exceed (nearest rank); infinite without values.

    A benchmark that measured nothing must not look like one that met its budget.
    """
    ordered: Sequence[float] = sorted(values)
    if not ordered:
        return math.inf
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def page(sections: Sequence[Section], command: str) -> str:
    """The whole of `docs/benchmarks.md`."""
    lines = [
        "# Benchmarks",
        "",
        "Written by the benchmarks themselves; to run them again:",
        "",
        f"    {command}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({processor()}), {platform.system()}, "
        f"Python {platform.python_version()}. Broker, daemon, terminal host and the measuring program share these "
        "cores; peers run in the same session against the same broker.",
    ]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.method, ""]
        lines += ["| what | measured | budget | met |", "| --- | ---: | ---: | --- |"]
        lines += [figure.row() for figure in section.figures]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or sys.platform
    return platform.processor() or sys.platform

"""What Prometheus and Grafana are told in docker/: the expressions of rules and dashboards, and the names in them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
ALERTS = DOCKER / "prometheus" / "alerts.yml"
DASHBOARDS = sorted((DOCKER / "grafana" / "dashboards").glob("*.json"))
_NAME = re.compile(r"\bmt5_bridge_[a-z0-9_]+\b")


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    loaded = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def alert_expressions() -> Iterator[tuple[str, str]]:
    """(alert, expression)."""
    for rule in rules():
        yield rule["alert"], rule["expr"]


def dashboard(path: Path) -> dict[str, Any]:
    """One dashboard."""
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    """(dashboard and panel, expression), those of annotations and variables, too."""
    for path in DASHBOARDS:
        board = dashboard(path)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]
        for note in board["annotations"]["list"]:
            yield f"{path.name}: {note['name']}", note["expr"]
        for variable in board["templating"]["list"]:
            yield f"{path.name}: ${variable['name']}", variable["query"]["query"]


def names_in(expression: str) -> set[str]:
    """Our metrics in an expression, as samples are named."""
    return set(_NAME.findall(expression))

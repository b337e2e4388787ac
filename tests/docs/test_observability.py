"""docs/observability.md names every alert, and every field that the log lines have. Its metrics are generated."""

import re
from pathlib import Path

from support.monitoring import rules

from mt5_bridge.gateway.catalogue import FAMILIES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    [found] = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_alert_is_explained_in_order() -> None:
    named = re.findall(r"^\| `(\w+)` \|", section("Alerts"), re.MULTILINE)
    assert named == [rule["alert"] for rule in rules()]


def test_every_metric_is_there_with_type_unit_and_meaning() -> None:
    rows = [
        [cell.strip() for cell in row.split("|")]
        for row in re.findall(r"^\| (`mt5_bridge_.*) \|$", section("Every metric"), re.MULTILINE)
    ]
    assert {row[0].strip("`"): (row[1], row[2], row[4]) for row in rows} == {
        name: (str(family.kind), family.unit, family.meaning) for name, family in FAMILIES.items()
    }


def test_metrics_named_in_the_text_exist() -> None:
    text = PAGE.split("## Every metric")[0]
    named = set(re.findall(r"`((?:mt5_bridge_)?[a-z_]+_(?:total|seconds|bytes|ratio))`", text))
    assert named
    assert {name if name.startswith("mt5_bridge_") else f"mt5_bridge_{name}" for name in named} <= FAMILIES.keys()

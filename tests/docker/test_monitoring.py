"""Prometheus' rules and Grafana's dashboards, as far as they can be judged without either.

`.ci/run` has a real Prometheus judge them, too (`tests/monitoring`); that each metric named here exists is asked of a
running daemon (`tests/e2e/test_metrics.py`).
"""

import re
from typing import Any

import pytest
import yaml
from support.monitoring import DASHBOARDS, DOCKER, alert_expressions, dashboard, dashboard_expressions, names_in, rules

from mt5_bridge.gateway.catalogue import FAMILIES, Kind

BOARD = dashboard(DASHBOARDS[0])
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
PROVISIONING = DOCKER / "grafana" / "provisioning"


def yaml_of(name: str) -> Any:
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml_of("docker-compose.yml")
    return loaded


@pytest.mark.parametrize(("where", "expression"), [*alert_expressions(), *dashboard_expressions()])
def test_each_expression_asks_for_what_is_measured(where: str, expression: str) -> None:
    used = names_in(expression)
    assert used or "up{" in expression
    for name in used:
        stem = re.sub(r"_(bucket|count|sum)$", "", name)
        family = FAMILIES.get(name) or FAMILIES[stem]
        assert (family.kind is Kind.HISTOGRAM) == (family.name != name), name
        labels = set(re.findall(rf"{name}{{([^}}]*)}}", expression)[:1])
        asked = {label for text in labels for label in re.findall(r"(\w+)\s*[=!]~?", text)}
        assert asked <= {*family.labels, "instance", "le"}, name
        if family.kind is Kind.COUNTER:
            assert re.search(rf"(rate|increase|changes)\({name}", expression), f"{name} only grows"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_each_rule_says_what_it_is_and_how_bad(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert rule["annotations"]["description"].endswith(".")
    assert "{{ $labels." in rule["annotations"]["summary"], "which bridge"


def test_what_must_be_alarmed_is() -> None:
    names = {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    assert len(names) == len(rules())
    wanted = {"BridgeHalted", "TerminalDown", "Survivors", "UnknownIntents", "JournalFailing", "BridgeDown"}
    assert wanted <= {name for name, severity in names.items() if severity == "critical"}
    assert {"SignalLag", "TicksLate", "NoTicks", "DenialStorm"} <= names.keys()


def test_each_rule_is_tried_both_ways() -> None:
    """The trial itself is promtool's."""
    tried: dict[bool, list[str]] = {True: [], False: []}
    for test in yaml_of("prometheus/alerts.test.yml")["tests"]:
        for case in test.get("promql_expr_test", ()):
            [name] = re.findall(r'alertname="(\w+)"', case["expr"])
            tried[bool(case["exp_samples"])].append(name)
    names = sorted(rule["alert"] for rule in rules())
    assert sorted(tried[True]) == sorted(tried[False]) == names


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time", "refresh"} <= BOARD.keys()
    assert BOARD.get("id") is None, "an id of somebody's own Grafana"
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        assert panel["title"]
        assert panel["type"] in ("stat", "timeseries", "bargauge")
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + n) for n in range(len(panel["targets"]))]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
            assert target["legendFormat"]
            assert "$instance" in target["expr"], "which bridge is chosen above"


def test_no_panel_lies_upon_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert 0 <= at["x"] <= at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (panel["title"], taken.get((x, y)))
                taken[x, y] = panel["title"]


def test_grafana_finds_prometheus_and_the_dashboards(compose: dict[str, Any]) -> None:
    [source] = yaml_of("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    [provider] = yaml_of("grafana/provisioning/dashboards/mt5-bridge.yml")["providers"]
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{DASHBOARDS[0].name}"


def test_prometheus_finds_the_rules_and_the_token(compose: dict[str, Any]) -> None:
    service, config = compose["services"]["prometheus"], yaml_of("prometheus/prometheus.yml")
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert config["rule_files"] == [mounts["./prometheus/alerts.yml"]]
    assert f"--config.file={mounts['./prometheus/prometheus.yml']}" in service["command"]
    [bridge] = [job for job in config["scrape_configs"] if job["job_name"] == "mt5-bridge"]
    assert bridge["authorization"]["credentials_file"] == f"/run/secrets/{service['secrets'][0]}"
    assert bridge["static_configs"][0]["targets"] == ["host.docker.internal:8001"]
    assert service["secrets"][0] in compose["secrets"]
    assert any(line.startswith("host.docker.internal:") for line in service["extra_hosts"])


def test_nobody_can_change_anything_in_grafana(compose: dict[str, Any]) -> None:
    told = compose["services"]["grafana"]["environment"]
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert told["GF_AUTH_DISABLE_LOGIN_FORM"] == told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"

"""The compose file, as far as it can be judged without an engine: listeners, topics, limits, pins."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def flag(compose: dict[str, Any], name: str) -> str:
    command = compose["services"]["redpanda"]["command"]
    [value] = [part.partition("=")[2] for part in command if part.startswith(f"--{name}=")]
    return str(value)


def listeners(text: str) -> dict[str, tuple[str, int]]:
    found = re.findall(r"(\w+)://([\w.]+):(\d+)", text)
    return {name: (host, int(port)) for name, host, port in found}


def test_every_image_is_pinned_to_a_version(compose: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in compose["services"].items() if "build" not in service}
    assert set(images) == {"redpanda", "topics", "console", "prometheus", "grafana"}
    assert all(re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", image) for image in images.values()), images
    assert images["redpanda"] == images["topics"]


def test_outside_is_told_loopback_and_containers_the_service_name(compose: dict[str, Any]) -> None:
    listening, told = listeners(flag(compose, "kafka-addr")), listeners(flag(compose, "advertise-kafka-addr"))
    assert told == {"internal": ("redpanda", 9092), "external": ("127.0.0.1", 19092)}
    assert {name: port for name, (_, port) in listening.items()} == {name: port for name, (_, port) in told.items()}
    assert "127.0.0.1:19092:19092" in compose["services"]["redpanda"]["ports"]


def test_nothing_is_published_beyond_this_machine(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published), published
    assert len({port.split(":")[1] for port in published}) == len(published)


def test_containers_use_the_internal_listener(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["console"]["environment"]["KAFKA_BROKERS"] == "redpanda:9092"
    assert services["topics"]["environment"]["RPK_BROKERS"] == "redpanda:9092"
    assert services["backend"]["environment"]["REDPANDA_BOOTSTRAP_SERVERS"] == "redpanda:9092"


def test_memory_fits_a_trading_pc(compose: dict[str, Any]) -> None:
    assert flag(compose, "smp") == "1"
    assert flag(compose, "memory") == "512M"
    services = {name: service for name, service in compose["services"].items() if name != "topics"}
    limits = {name: int(service["mem_limit"].removesuffix("m")) for name, service in services.items()}
    watching = {name for name, service in services.items() if service.get("profiles") == ["monitoring"]}
    assert sum(limit for name, limit in limits.items() if name not in watching) <= 1536
    assert sum(limits[name] for name in watching) <= 768, "who wants to watch as well"


def test_the_rest_waits_for_a_healthy_broker(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert "rpk cluster health" in services["redpanda"]["healthcheck"]["test"][1]
    for name in ("topics", "console", "backend"):
        assert services[name]["depends_on"]["redpanda"]["condition"] == "service_healthy", name
    assert services["backend"]["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_data_outlives_the_container(compose: dict[str, Any]) -> None:
    assert compose["services"]["redpanda"]["volumes"] == ["redpanda:/var/lib/redpanda/data"]
    assert "redpanda" in compose["volumes"]


def test_topics_are_the_contract_s(compose: dict[str, Any]) -> None:
    environment = compose["services"]["topics"]["environment"]
    defaults = {
        name: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for name, value in environment.items() if name != "RPK_BROKERS"
    }
    assert defaults == {
        "REDPANDA_TICK_TOPIC": "tick_data",
        "REDPANDA_BAR_TOPIC": "bar_data",
        "REDPANDA_EVENT_TOPIC": "mt5_events",
        "REDPANDA_SIGNAL_TOPIC": "trading_signals",
    }


def test_create_topics_asks_for_all_of_them(tmp_path: Path) -> None:
    rpk = tmp_path / "rpk"
    rpk.write_text('#!/bin/bash\nprintf "%s\\n" "$*"\n')
    rpk.chmod(0o755)
    names = {"TICK": "t", "BAR": "b", "EVENT": "e", "SIGNAL": "s"}
    done = subprocess.run(
        ["bash", "-eu", str(DOCKER / "create-topics.sh")],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "RPK_BROKERS": "redpanda:9092",
            **{f"REDPANDA_{name}_TOPIC": value for name, value in names.items()},
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    asked = [line.split() for line in done.stdout.splitlines()]
    assert [words[words.index("brokers=redpanda:9092") + 1] for words in asked] == ["t", "b", "e", "s", "s.dlq"]
    assert all("--if-not-exists" in words for words in asked)
    week = str(7 * 24 * 3600 * 1000)
    assert f"retention.ms={week}" in asked[0]


def test_the_backend_s_image_copies_what_exists() -> None:
    dockerfile = (DOCKER / "backend.Dockerfile").read_text(encoding="utf-8")
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = [word for line in re.findall(r"^COPY (.+)$", dockerfile, re.M) for word in line.split()[:-1]]
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name.split("/")[0] in allowed, f"{name} is kept out by .dockerignore"


def test_the_backend_s_image_runs_what_its_requirements_allow(compose: dict[str, Any]) -> None:
    dockerfile = (DOCKER / "backend.Dockerfile").read_text(encoding="utf-8")
    [command] = re.findall(r"^CMD (\[.*\])$", dockerfile, re.M)
    arguments = json.loads(command)[1:]
    [port] = re.findall(r"^EXPOSE (\d+)$", dockerfile, re.M)
    assert arguments[-1] == f"0.0.0.0:{port}"
    assert compose["services"]["backend"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    script = (
        "import runpy, sys; sys.modules['confluent_kafka'] = None; runpy.run_module('mt5_bridge', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments[2:], "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--listen" in done.stdout

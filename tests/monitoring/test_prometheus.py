"""A real Prometheus with the shipped rules watches a real daemon; and its tool judges what is shipped."""

import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from support.broker import free_port
from support.eventually import eventually
from support.monitoring import DOCKER, dashboard_expressions
from support.world import World, world

TOKEN = "a-token-for-prometheus-0123456789"
RULES = DOCKER / "prometheus"


def judged(promtool: Path, *arguments: str, cwd: Path = RULES, content: bytes | None = None) -> str:
    """What promtool says; it must be content."""
    done = subprocess.run(
        [promtool, *arguments],
        cwd=cwd,
        input=content,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    told = done.stdout.decode()
    assert done.returncode == 0, told
    return told


def configuration(folder: Path, targets: list[str]) -> Path:
    """The shipped one for these targets, its files in a folder, all in a hurry."""
    config: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / "alerts.yml")]
    bridge = config["scrape_configs"][0]
    bridge["static_configs"] = [{"targets": targets}]
    token = folder / "token"
    token.write_text(TOKEN, encoding="utf-8")
    bridge["authorization"]["credentials_file"] = str(token)
    config["scrape_configs"] = [bridge]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_the_rules_fire_when_they_must_and_are_quiet_otherwise(promtool: Path) -> None:
    assert "SUCCESS" in judged(promtool, "test", "rules", "alerts.test.yml")


def test_the_configuration_is_one(promtool: Path, tmp_path: Path) -> None:
    judged(promtool, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
    judged(promtool, "check", "config", str(configuration(tmp_path, ["127.0.0.1:8001"])))
    shipped: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    shipped["rule_files"] = [str(RULES / "alerts.yml")]
    shipped["scrape_configs"][0]["authorization"]["credentials_file"] = str(tmp_path / "token")
    whole = tmp_path / "shipped.yml"
    whole.write_text(yaml.safe_dump(shipped), encoding="utf-8")
    judged(promtool, "check", "config", str(whole))


@asynccontextmanager
async def watched(folder: Path, bootstrap: str) -> AsyncIterator[tuple[World, str]]:
    """A daemon with a gateway, and its address."""
    port = free_port()
    gateway = {"GATEWAY_ENABLED": "true", "GATEWAY_TOKEN": TOKEN, "MT5_BRIDGE_PORT": str(port)}
    settings: dict[str, Any] = {**gateway, "RATE_LIMIT_REQUESTS": "1000000", "BARS": "M1", "MAX_DAILY_LOSS_PCT": "50"}
    async with world(folder, bootstrap, **settings) as made:
        await made.start()
        yield made, f"127.0.0.1:{port}"
        await made.daemon.stop()


@contextmanager
def running(prometheus: Path, config: Path) -> Iterator[str]:
    """A Prometheus of the test's own; its address."""
    port = free_port()
    with (config.parent / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={config}",
                f"--storage.tsdb.path={config.parent / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=config.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def asked(expression: str) -> str:
    """A dashboard's expression as Grafana would send it."""
    return expression.replace("$__rate_interval", "30s").replace("$instance", ".*")


async def test_a_daemon_that_trades_is_watched(
    promtool: Path, prometheus: Path, bootstrap: str, tmp_path: Path
) -> None:
    async with watched(tmp_path, bootstrap) as (world, address):
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        config = configuration(tmp_path, [address])
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            page = await http.get(f"http://{address}/metrics", headers=bearer)
            judged(promtool, "check", "metrics", content=page.content)
            with running(prometheus, config) as url:

                async def query(expression: str) -> list[dict[str, Any]]:
                    try:
                        answer = await http.get(f"{url}/api/v1/query", params={"query": expression})
                    except httpx.TransportError:
                        return []
                    if answer.status_code == 503:
                        return []  # it is starting
                    assert answer.status_code == 200, (expression, answer.text)
                    found: list[dict[str, Any]] = answer.json().get("data", {}).get("result", [])
                    return found

                await eventually(lambda: query('up{job="mt5-bridge"} == 1'), 60, "the daemon is scraped")
                assert (await world.open())["status"] == "filled"
                assert (await world.signal("AUDUSD", "BUY", volume=0.01))["reason"] == "no_stop_loss"
                assert (await world.command("get_account"))["success"]
                await eventually(lambda: query("mt5_bridge_positions == 1"), 60, "the position is seen")
                for where, expression in dashboard_expressions():
                    if not expression.startswith("label_values"):
                        await query(asked(expression))  # Prometheus must understand it; not all have something to show
                        assert not re.search(r"\$", asked(expression)), where
                assert await query(asked('mt5_bridge_account_equity{instance=~"$instance"}'))
                assert not await query('ALERTS{alertname="BridgeHalted"}')

                stopped = await http.post(f"http://{address}/emergency-stop", headers=bearer, json={})
                assert stopped.status_code == 200, stopped.text
                firing = 'ALERTS{alertname="BridgeHalted", alertstate="firing"}'
                [alert] = await eventually(lambda: query(firing), 60, "the alarm")
                assert alert["metric"]["severity"] == "critical"
                assert alert["metric"]["instance"] == address

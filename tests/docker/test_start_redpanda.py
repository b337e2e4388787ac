"""`start-redpanda.sh` against a `docker` that only notes down what it is asked."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ["start-redpanda.sh", "docker/create-topics.sh", ".ci/run", ".ci/deep"]

FAKE = """#!/bin/bash
printf '%s\\n' "$*" >> "$CALLS"
printf '%s\\n' "${COMPOSE_PROFILES:--}" >> "$CALLS.profiles"
for word in $REFUSED; do [[ "$*" == *"$word"* ]] && exit 1; done
exit 0
"""


@dataclass
class Docker:
    """A folder with the fake in it."""

    folder: Path

    def run(self, *arguments: str, refused: str = "", path: str = "", **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/bash", str(ROOT / "start-redpanda.sh"), *arguments],
            env={
                "PATH": path or f"{self.folder}:/usr/bin:/bin",
                "CALLS": str(self.folder / "calls"),
                "REFUSED": refused,
                **env,
            },
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return [line.split("docker-compose.yml ")[-1] for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    fake = tmp_path / "docker"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    return Docker(tmp_path)


def test_up_waits_for_the_broker_then_the_topics_then_starts_the_rest(docker: Docker) -> None:
    done = docker.run()
    assert done.returncode == 0, done.stderr
    assert docker.calls[2:] == [
        "up --detach --wait --wait-timeout 180 redpanda",
        "run --rm --no-deps topics",
        "up --detach --remove-orphans",
    ]
    assert "127.0.0.1:19092" in done.stdout
    assert "8765" not in done.stdout


@pytest.mark.parametrize("arguments", [["--backend"], ["up", "--backend"]])
def test_the_backend_comes_on_request(docker: Docker, arguments: list[str]) -> None:
    done = docker.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "BACKEND_WS_URL=ws://127.0.0.1:8765" in done.stdout


@pytest.mark.parametrize("arguments", [["--monitoring"], ["up", "--backend", "--monitoring"]])
def test_monitoring_comes_on_request_and_with_a_token(docker: Docker, arguments: list[str]) -> None:
    done = docker.run(*arguments)
    assert (done.returncode, "METRICS_TOKEN" in done.stderr) == (2, True)
    done = docker.run(*arguments, METRICS_TOKEN="a-token")
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:3000" in done.stdout
    assert ("BACKEND_WS_URL" in done.stdout) == ("--backend" in arguments)
    profiles = (docker.folder / "calls.profiles").read_text().split()
    assert profiles[-1] == ("backend,monitoring" if "--backend" in arguments else "monitoring")


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("status", "--profile backend --profile monitoring ps"),
        ("logs", "logs --tail 200 redpanda topics"),
        ("down", "--profile backend --profile monitoring down"),
        ("wipe", "--profile backend --profile monitoring down --volumes"),
    ],
)
def test_the_other_verbs(docker: Docker, verb: str, call: str) -> None:
    assert docker.run(verb).returncode == 0
    assert docker.calls[2:] == [call]


@pytest.mark.parametrize(
    ("refused", "said"),
    [("version", "no 'compose' command"), ("info", "engine does not answer")],
)
def test_says_what_is_missing_about_docker(docker: Docker, refused: str, said: str) -> None:
    done = docker.run(refused=refused)
    assert done.returncode == 3
    assert said in done.stderr


def test_without_docker_says_what_to_install(docker: Docker, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "dirname").symlink_to(str(shutil.which("dirname")))
    done = docker.run(path=str(bare))
    assert done.returncode == 3
    assert "docker is not installed" in done.stderr


def test_a_broker_that_never_gets_healthy(docker: Docker) -> None:
    done = docker.run(refused="--wait-timeout")
    assert done.returncode == 1
    assert "not become healthy" in done.stderr


def test_an_unknown_verb_gets_the_usage(docker: Docker) -> None:
    done = docker.run("sideways")
    assert done.returncode == 2
    assert "start-redpanda.sh [up]" in done.stderr
    assert docker.run("up", "--frontend").returncode == 2


def test_help(docker: Docker) -> None:
    done = docker.run("--help")
    assert done.returncode == 0
    assert "wipe" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_has_nothing_to_say(script: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [str(shellcheck), str(ROOT / script)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

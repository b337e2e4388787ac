"""`mt5-bridge dashboard` as a program."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from mt5_bridge.dashboard import run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "8010"], "HOST:PORT"),
        (["--listen", "127.0.0.1:x"], "HOST:PORT"),
        (["--listen", "0.0.0.0:8010"], "--allow-public"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--url", "ws://x", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mt5_bridge.dashboard.app", None)
    assert run.main(["--url", "ws://x", "--listen", "127.0.0.1:0"]) == 1
    assert "mt5-bridge[dashboard]" in capsys.readouterr().err


def test_it_serves_until_its_input_ends(tmp_path: Path) -> None:
    arguments = ["--url", "ws://127.0.0.1:9/", "--listen", "127.0.0.1:0", "--no-browser", "--until-eof"]
    with subprocess.Popen(
        [sys.executable, "-m", "mt5_bridge", "dashboard", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[2]), "DASHBOARD_TOKEN": "t"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["dashboard"]
        page, _, code = address.partition("enter#")
        assert len(code) > 20
        with urllib.request.urlopen(f"{page}login", timeout=30) as answer:  # noqa: S310 - our own
            assert "Log in" in answer.read().decode()
        process.stdin.close()
        assert process.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run.main(["--url", "ws://x", "--listen", f"127.0.0.1:{port}"]) == 1
    assert "cannot listen" in capsys.readouterr().err

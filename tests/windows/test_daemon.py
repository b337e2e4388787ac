"""The daemon on a Windows Python: starts on the paper terminal, says what it does, stops in order."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from windows.kit import driver

START_S = 60.0
STOP_S = 10.0
"""What the contract gives the daemon to stop, whatever is down."""

NO_BROKER = "127.0.0.1:9"


@contextmanager
def bridge(root: Path, folder: Path, entry: str = "hybrid_bridge.py", **settings: str) -> Iterator[driver.Running]:
    env = {
        "PYTHONPATH": driver.native(root),
        "DATA_DIR": driver.native(folder / "data"),
        "TERMINAL": "paper",
        "SYMBOLS": "EURUSD",
        "REDPANDA_BOOTSTRAP_SERVERS": NO_BROKER,
        **settings,
    }
    with driver.start(driver.native(root / entry), cwd=folder, env=env) as running:
        yield running


def test_starts_on_the_paper_terminal_and_stops_in_order_without_a_broker(root: Path, tmp_path: Path) -> None:
    with bridge(root, tmp_path) as running:
        running.wait_line("Terminal connected", START_S)
        running.wait_line("Journal and terminal agree", START_S)
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output
        assert "Stopped" in running.output
    assert (tmp_path / "data/mt5_bridge.log").read_text(encoding="utf-8")
    events = [
        json.loads(line) for line in (tmp_path / "data/mt5_bridge.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert events


def test_a_second_instance_on_the_folder_is_refused(root: Path, tmp_path: Path) -> None:
    with bridge(root, tmp_path) as first:
        first.wait_line("Terminal connected", START_S)
        with bridge(root, tmp_path) as second:
            assert second.wait(START_S) == 4, second.output
        first.interrupt()
        assert first.wait(STOP_S) == 0, first.output


def test_a_wrong_setting_is_one_line_and_exit_code_2(root: Path, tmp_path: Path) -> None:
    with bridge(root, tmp_path, MAX_RISK_PERCENT="2,5") as running:
        assert running.wait(START_S) == 2, running.output
    [line] = [line for line in running.lines if "MAX_RISK_PERCENT" in line]
    assert "2,5" in line


def test_no_terminal_there_is_exit_code_3(root: Path, tmp_path: Path) -> None:
    settings = {"TERMINAL": "mt5", "MT5_LOGIN": "1", "MT5_PASSWORD": "x", "MT5_SERVER": "Nowhere-Demo"}
    with bridge(root, tmp_path, **settings) as running:
        assert running.wait(START_S) == 3, running.output
    assert "-10003" in running.output


@pytest.mark.parametrize("entry", ["run_bridge.py"])
def test_standard_mode_without_a_backend_names_the_setting(root: Path, tmp_path: Path, entry: str) -> None:
    with bridge(root, tmp_path, entry) as running:
        assert running.wait(START_S) == 2, running.output
    assert "BACKEND_WS_URL" in running.output

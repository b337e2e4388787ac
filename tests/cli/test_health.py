"""Looks at the machine."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import run_bridge
from mt5_bridge.cli import health
from run_bridge import HealthChecker, validate_mt5_path


def test_resources(tmp_path: Path) -> None:
    figures = HealthChecker(tmp_path / "not" / "there").check_system_resources()
    assert figures["status"] in ("ok", "warning")
    assert 0 <= figures["cpu_percent"] <= 100
    assert 0 < figures["memory_percent"] <= 100
    assert figures["disk_free"] > 0


def test_a_machine_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(percent=97.0, available=1))
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(percent=99.0, free=1))
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 100.0)
    figures = HealthChecker().check_system_resources()
    assert figures["status"] == "warning"
    assert len(figures["warnings"]) == 3


def test_the_terminals_process(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {1: "init", 2: None, 3: "Terminal64.exe"}

    class Process:
        def __init__(self, pid: int) -> None:
            self._name = names[pid]

        def name(self) -> str:
            if self._name is None:
                raise psutil.AccessDenied(2)
            return self._name

    monkeypatch.setattr(psutil, "pids", lambda: list(names))
    monkeypatch.setattr(psutil, "Process", Process)
    assert HealthChecker().check_mt5_process() is True
    names[3] = "explorer.exe"
    assert HealthChecker().check_mt5_process() is False


def test_the_terminals_path(tmp_path: Path) -> None:
    program = tmp_path / "terminal64.exe"
    assert not validate_mt5_path(str(program))
    program.write_bytes(b"MZ")
    assert validate_mt5_path(str(program))
    assert validate_mt5_path(program)
    (tmp_path / "metaeditor64.exe").write_bytes(b"MZ")
    assert not validate_mt5_path(tmp_path / "metaeditor64.exe")
    assert not validate_mt5_path(tmp_path)
    assert not validate_mt5_path(None)
    assert not validate_mt5_path("")


def test_no_folder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert health._existing(Path("x")).is_absolute()


def test_the_names_people_import() -> None:
    assert run_bridge.__all__ == ["HealthChecker", "validate_mt5_path"]

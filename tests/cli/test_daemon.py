"""Starting the daemon: exit codes, overrides, and what it must not load."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mt5_bridge import cli
from mt5_bridge.cli import daemon
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings import Loaded

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The daemon's own start, replaced; `answer` may be a code or an error."""
    stand_in = SimpleNamespace(answer=0, loaded=None)

    def run_bridge(loaded: Loaded) -> int:
        stand_in.loaded = loaded
        if isinstance(stand_in.answer, BaseException):
            raise stand_in.answer
        return int(stand_in.answer)

    monkeypatch.setitem(sys.modules, "mt5_bridge.app", SimpleNamespace(run_bridge=run_bridge))
    return stand_in


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("answer", "code"), [(0, 0), (1, 1), (3, 3), (4, 4), (KeyboardInterrupt(), 0), (SettingsError("X: is wrong"), 2)]
)
def test_exit_codes(bridge: SimpleNamespace, answer: Any, code: int) -> None:
    bridge.answer = answer
    assert daemon.run_daemon() == code


@pytest.mark.usefixtures("home")
def test_mode_and_overrides_are_the_strongest(bridge: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODE", "standard")
    monkeypatch.setenv("TICK_HZ", "1")
    assert daemon.main(["--mode", "hybrid", "--set", "tick_hz=2"]) == 0
    assert bridge.loaded.settings.mode == "hybrid"
    assert bridge.loaded.settings.tick_hz == 2
    monkeypatch.setenv("BACKEND_WS_URL", "ws://127.0.0.1:1/")
    assert daemon.run_daemon() == 0
    assert bridge.loaded.settings.mode == "standard"


def run(script: str, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "HOME", "TEMP", "TMP")}
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), "DATA_DIR": str(cwd / "data"), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("script", ["hybrid_bridge.py", "run_bridge.py"])
def test_the_entry_scripts_tell_what_is_wrong_and_end(tmp_path: Path, script: str) -> None:
    done = run(str(ROOT / script), cwd=tmp_path, TERMINAL="paper", TICK_HZ="fast")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("ERROR TICK_HZ: 'fast' is not a number")
    assert "Traceback" not in done.stderr


def test_the_entry_scripts_take_no_arguments(tmp_path: Path) -> None:
    done = run(str(ROOT / "hybrid_bridge.py"), "--trade", cwd=tmp_path, TERMINAL="paper")
    assert (done.returncode, done.stdout) == (2, "")
    assert "takes no arguments" in done.stderr
    done = run(str(ROOT / "hybrid_bridge.py"), "--help", cwd=tmp_path, TERMINAL="paper")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_cannot_be_written_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, no folder")
    done = run(str(ROOT / "hybrid_bridge.py"), cwd=tmp_path, TERMINAL="paper")
    assert done.returncode == 2
    assert "DATA_DIR: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_module_is_a_program(tmp_path: Path) -> None:
    done = run("-m", "mt5_bridge", "--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mt5-bridge ")


def test_the_daemon_does_not_load_what_it_does_not_need(tmp_path: Path) -> None:
    code = (
        "import sys, mt5_bridge.cli.daemon, mt5_bridge.settings, mt5_bridge.app\n"
        "print([n for n in ('typer', 'rich', 'pydantic', 'numpy', 'yaml') if n in sys.modules])"
    )
    assert run("-c", code, cwd=tmp_path).stdout == "[]\n"


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--trade", 2)])
def test_an_argument_is_no_setting(
    bridge: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, argument: str, code: int
) -> None:
    def leave(code: int) -> None:  # the real one would end this process
        raise SystemExit(code)

    monkeypatch.setattr(daemon, "leave", leave)
    with pytest.raises(SystemExit) as ended:
        daemon.entry("hybrid", [argument])
    assert ended.value.code == code
    assert bridge.loaded is None


@pytest.mark.usefixtures("home")
def test_an_entry_script_ends_with_the_bridges_code(bridge: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge.answer = 4
    left: list[int] = []
    monkeypatch.setattr(daemon, "leave", left.append)
    daemon.entry("hybrid", [])
    assert left == [4]
    assert bridge.loaded.settings.mode == "hybrid"


def test_the_program_ends_with_the_commands_code(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(daemon, "leave", left.append)
    monkeypatch.setattr(sys, "argv", ["mt5-bridge", "--version"])
    cli.entry()
    assert left == [0]


def test_leaving_waits_for_no_thread(tmp_path: Path) -> None:
    code = (
        "import threading, mt5_bridge.cli.daemon as d\n"
        "d.LEAVE_S = 0.1\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "d.leave(3)"
    )
    assert run("-c", code, cwd=tmp_path).returncode == 3

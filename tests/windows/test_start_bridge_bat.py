"""`start_bridge.bat` as a trader meets it: a window, a keyboard, and a reason when it does not run."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from windows.kit import driver
from windows.kit.console import CTRL_C, Console

START_S = 90.0
PYTHON = r"C:\bridge\venv\Scripts\python.exe"
BAT = "start_bridge.bat"
NEEDED = [BAT, "scripts", "hybrid_bridge.py", "run_bridge.py", ".env.example", "requirements"]


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """What the trader unpacked; the package itself is found through PYTHONPATH."""
    place = tmp_path / "MT5 Bridge"
    place.mkdir()
    for name in NEEDED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / name)
    return place


@pytest.fixture
def window(root: Path, folder: Path) -> Iterator[Callable[..., Console]]:
    """Opens the batch file in a console, with a Python on the PATH that has everything already."""
    opened: list[Console] = []

    def open_window(*arguments: str, by_cmd: bool = True, **settings: str) -> Console:
        # Wine's cmd dies of Ctrl+C at once, and the window with it, while that of Windows waits for its program:
        # without it in between, the keyboard reaches the same programs.
        batch = ["cmd", "/c", driver.native(folder / BAT)]
        command = batch if by_cmd else [PYTHON, driver.native(folder / "scripts/start_bridge.py")]
        env = {
            "WINEPATH": r"C:\bridge\venv\Scripts",
            "MT5_BRIDGE_PYTHON": PYTHON,
            "PYTHONPATH": driver.native(root),
            "DATA_DIR": driver.native(folder / "data"),
            "REDPANDA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "SYMBOLS": "EURUSD",
            **settings,
        }
        console = Console([*command, *arguments], cwd=folder, env=env)
        opened.append(console)
        return console

    yield open_window
    for console in opened:
        console.close()


def test_first_start_asks_then_says_that_there_is_no_terminal(window: Callable[..., Console], folder: Path) -> None:
    console = window()
    console.type("12345", after="account number")
    console.type("a password", after="Password")
    console.type("Broker-Demo", after="server")
    console.wait_for("-10003", START_S)
    console.type("", after="continue...")
    assert console.wait() == 3, console.shown
    assert "a password" not in console.shown
    written = (folder / ".env").read_text(encoding="utf-8")
    assert "MT5_LOGIN=12345" in written
    assert "MT5_SERVER=Broker-Demo" in written


def test_runs_until_ctrl_c_and_closes_without_a_pause(window: Callable[..., Console]) -> None:
    console = window("hybrid", by_cmd=False, TERMINAL="paper")
    console.type(CTRL_C, after="Journal and terminal agree")
    assert console.wait(30) == 0, console.shown
    assert "Stopped" in console.shown
    assert "ended as asked" in console.shown
    assert "is not running" not in console.shown


def test_a_wrong_setting_keeps_the_window_open_with_the_reason(window: Callable[..., Console]) -> None:
    console = window(TERMINAL="paper", MAX_RISK_PERCENT="2,5")
    console.wait_for("MAX_RISK_PERCENT", START_S)
    console.wait_for("not running (code 2)")
    console.type("", after="continue...")
    assert console.wait() == 2, console.shown
    assert "starts again" not in console.shown


def test_standard_mode_asks_for_the_backend(window: Callable[..., Console], folder: Path) -> None:
    console = window("standard", by_cmd=False, TERMINAL="paper")
    console.type("ws://127.0.0.1:9/ws", after="WebSocket address")
    console.type(CTRL_C, after="Journal and terminal agree")
    assert console.wait(30) == 0, console.shown
    assert "BACKEND_WS_URL=ws://127.0.0.1:9/ws" in (folder / ".env").read_text(encoding="utf-8")


def test_an_unknown_argument_gets_the_usage(window: Callable[..., Console]) -> None:
    console = window("sideways")
    console.wait_for("Usage: start_bridge", START_S)
    console.type("", after="continue...")
    assert console.wait() == 2, console.shown


def test_without_python_says_what_to_install(window: Callable[..., Console]) -> None:
    console = window(WINEPATH=r"C:\nowhere")
    console.wait_for("Python was not found", START_S)
    console.type("", after="continue...")
    assert console.wait() == 2, console.shown

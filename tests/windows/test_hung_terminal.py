"""The real wheel, blocked in a terminal that never answers: the daemon stays awake, answers, and stops in time."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from windows.kit import build, driver
from windows.test_daemon import START_S, STOP_S, bridge

FAKE = r"C:\fake\terminal64.exe"


@pytest.fixture
def hung_terminal(root: Path) -> Iterator[None]:
    """A copy of Python named like the terminal, with the pipe the wheel looks for."""
    source = Path(sys.base_prefix) if driver.ON_WINDOWS else build.DRIVE_C / "Python311"
    folder = Path("C:/fake") if driver.ON_WINDOWS else build.DRIVE_C / "fake"
    if not (folder / "terminal64.exe").exists():
        shutil.copytree(source, folder, dirs_exist_ok=True)
        shutil.copy(folder / "python.exe", folder / "terminal64.exe")
    script = driver.native(root / "tests/windows/kit/hung_terminal.py")
    with driver.start(script, FAKE, "300", cwd=root, program=FAKE) as running:
        running.wait_line("pipe open", 30)
        yield


@pytest.mark.usefixtures("hung_terminal")
def test_the_daemon_answers_and_stops_while_the_terminal_hangs(root: Path, tmp_path: Path) -> None:
    settings = {
        "TERMINAL": "mt5",
        "MT5_PATH": FAKE,
        "MT5_LOGIN": "1",
        "MT5_PASSWORD": "x",
        "MT5_SERVER": "Nowhere-Demo",
    }
    with bridge(root, tmp_path, **settings) as running:
        running.wait_line("Terminal connecting", START_S)
        began = time.monotonic()
        code, output = driver.run(
            "-m",
            "mt5_bridge",
            "status",
            cwd=tmp_path,
            env={"PYTHONPATH": driver.native(root), "DATA_DIR": driver.native(tmp_path / "data")},
        )
        assert code == 0, output
        assert "connecting" in output
        assert time.monotonic() - began < START_S
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output

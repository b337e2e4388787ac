"""Ctrl+Break on a Windows Python: an emergency stop where that is set, an ordinary end where it is not."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from windows.kit import driver
from windows.test_daemon import NO_BROKER, START_S, STOP_S

HALTED = "Trading is halted: Ctrl+Break (by console)"
MOMENTS = ("loading", "Journal and terminal agree")


def pressed(root: Path, folder: Path, moment: str, *, emergency: bool) -> AbstractContextManager[driver.Running]:
    """The daemon as its user starts it, in which the key is pressed at that moment."""
    env = {
        "PYTHONPATH": driver.native(root),
        "DATA_DIR": driver.native(folder / "data"),
        "TERMINAL": "paper",
        "SYMBOLS": "EURUSD",
        "REDPANDA_BOOTSTRAP_SERVERS": NO_BROKER,
        "BREAK_IS_EMERGENCY": str(emergency).lower(),
    }
    script = driver.native(root / "tests/windows/kit/pressed.py")
    return driver.start(script, moment, driver.native(root / "hybrid_bridge.py"), cwd=folder, env=env)


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_is_an_emergency_stop_where_that_is_set(root: Path, tmp_path: Path, moment: str) -> None:
    with pressed(root, tmp_path, moment, emergency=True) as running:
        running.wait_line("pressed with", START_S)
        running.wait_line(HALTED, START_S)
        running.wait_line("Emergency stop done", START_S)
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output
    with pressed(root, tmp_path, "nothing it ever says", emergency=False) as running:
        running.wait_line("Trading is still halted", START_S)
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_is_an_ordinary_end_where_it_is_not(root: Path, tmp_path: Path, moment: str) -> None:
    with pressed(root, tmp_path, moment, emergency=False) as running:
        running.wait_line("pressed with", START_S)
        assert running.wait(START_S) == 0, running.output
    assert "halted" not in running.output

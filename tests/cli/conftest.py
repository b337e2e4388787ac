"""A folder of the test's own to run commands in, with no settings from outside."""

import os
from pathlib import Path

import pytest

from mt5_bridge.settings import SPECS
from mt5_bridge.settings.names import ALIASES


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: paper terminal, data in `data`."""
    for name in [*SPECS, *ALIASES]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERMINAL", "paper")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    assert os.environ["TERMINAL"] == "paper"
    return tmp_path

"""The scripts, importable as they import each other."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As when Python runs a script: its own folder comes first."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in ("setup_env", "start_bridge"):
        sys.modules.pop(name, None)

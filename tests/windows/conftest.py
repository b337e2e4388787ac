"""The Windows Python that the tests of this folder drive: built under Wine, or the one that runs them on Windows."""

import sys
from pathlib import Path

import pytest
from windows.kit import build

# A typed console is a pseudo-terminal, which only Wine's side of the world has.
collect_ignore = ["test_start_bridge_bat.py"] if sys.platform == "win32" else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker, and starts Windows programs, which takes its time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.windows)


@pytest.fixture(scope="session", autouse=True)
def windows_python() -> None:
    """Build the home under Wine, or find it up to date; fails, with the tools' names, where Wine is missing."""
    if sys.platform != "win32":
        assert build.main() == 0, "no Wine to run Windows programs with: see tests/windows/kit/build.py"


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return build.ROOT
